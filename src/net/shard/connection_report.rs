//! One connection as its shard sees it.

use std::net::{IpAddr, SocketAddr};

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
    /// Compression was agreed on.
    pub is_compressed: bool,
    pub age_millis: u64,
    pub description: Description,
}
