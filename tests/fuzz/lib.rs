//! What the fuzz targets call, each from one line. The functions are those that the tests of the crate itself call.

// The simulation's modules name each other from the root of their crate, and not all of them is used here.
#[path = "../simulation/client.rs"]
mod client;
#[path = "../simulation/feed.rs"]
mod feed;
#[path = "../simulation/join.rs"]
mod join;
#[path = "../simulation/oracle.rs"]
mod oracle;
#[path = "../simulation/plan.rs"]
mod plan;
#[path = "../simulation/schedule.rs"]
pub mod schedule;
#[path = "../simulation/shard.rs"]
mod shard;
#[path = "../simulated/mod.rs"]
mod simulated;
#[path = "../simulation/stream.rs"]
mod stream;
#[path = "../simulation/wait.rs"]
mod wait;
#[path = "../simulation/wish.rs"]
mod wish;

pub mod checks;
