//! All that is not a shard: what goes on between any two steps of one, and what it may ask.

use super::rng::Rng;
use super::socket_plan::SocketPlan;

pub trait Others {
    fn rng(&mut self) -> &mut Rng;

    fn sockets(&self) -> SocketPlan;

    /// Lets them do something, or not.
    fn interleave(&mut self);

    /// The newest number that watchers may see.
    fn published(&self) -> u64;

    /// Whether somebody has woken a shard since it last looked.
    fn is_woken(&self, shard: usize) -> bool;

    fn clear_woken(&mut self, shard: usize);

    fn trace(&self, text: impl FnOnce() -> String);
}
