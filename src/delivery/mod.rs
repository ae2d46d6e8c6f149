//! One shard's fan-out: what each client watches, its position, and what it is sent next. Pure state: no sockets and no
//! clock.
#![doc = include_str!("README.md")]

pub mod audience;
pub mod cohort;
mod compressor;
pub mod copy_or_sendfile;
pub mod counts;
pub mod cursor;
pub mod dirty;
pub mod effort;
pub mod filter;
pub mod flush;
mod framed;
pub mod inspect;
pub mod keys;
pub mod masks;
pub mod merge;
pub mod multi_job;
pub mod multi_job_flush;
pub mod outbox;
pub mod owned_body;
pub mod pass_holes;
pub mod past;
pub mod past_jobs;
mod past_readers;
pub mod pending;
pub mod progress;
pub mod run_queue;
mod send;
mod send_merged;
pub mod sink;
pub mod slow_consumers;
pub mod start;
pub mod subscription;
pub mod table;
pub mod watcher;
pub mod watchers;
