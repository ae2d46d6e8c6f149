//! One connection as its shard sees it, and a request for all of them.

use std::net::{IpAddr, SocketAddr};

use crossbeam_channel::Sender;

use crate::delivery::inspect::Description;
use crate::session::endpoint::View;

/// One connection, as its shard sees it.
pub struct ConnectionReport {
    pub peer: Option<SocketAddr>,
    /// The same as the peer's, but behind a trusted proxy.
    pub client: IpAddr,
    pub shard: usize,
    pub phase: &'static str,
    pub view: Option<View>,
    pub age_millis: u64,
    pub description: Description,
}

/// A request that is being answered.
pub(super) struct Survey {
    pub(super) next: usize,
    pub(super) answer: Sender<Vec<ConnectionReport>>,
}

impl Survey {
    pub fn new(answer: Sender<Vec<ConnectionReport>>) -> Self {
        Self { next: 0, answer }
    }
}
