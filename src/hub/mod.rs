//! One shard's watchers: their cursors, cohorts, filters, limits. No sockets and no clock here.

pub mod address;
pub mod cohort;
pub mod cursor;
pub mod echo;
pub mod endpoint;
pub mod filter;
pub mod flush;
pub mod laggard;
pub mod line;
pub mod many;
mod mark;
pub mod origin;
pub mod outlet;
pub mod policy;
mod questions;
pub mod refusals;
pub mod session;
pub mod visitors;
pub mod watcher;
pub mod watchers;
pub mod ways;
pub mod wheel;
