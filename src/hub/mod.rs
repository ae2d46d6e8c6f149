//! One shard's watchers: their cursors, cohorts, filters, limits. No sockets and no clock here.

pub mod cohort;
pub mod cursor;
pub mod describe;
pub mod endpoint;
pub mod filter;
pub mod flush;
pub mod laggard;
pub mod many;
pub mod outlet;
pub mod policy;
pub mod session;
pub mod watcher;
pub mod watchers;
pub mod wheel;
