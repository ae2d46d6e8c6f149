//! What other threads ask of a shard.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use mio::net::TcpStream;

use crate::access::admission::NewConnection;
use crate::delivery::keys::WatcherKey;
use crate::delivery::owned_body::OwnedBody;
use crate::net::shard::connection_report::ConnectionReport;
use crate::net::shard::live_config::LiveConfig;
use crate::wire::http::Refusal;

pub enum Command {
    /// A socket to serve, or to turn away.
    Accept(TcpStream, NewConnection),
    /// Tell of every connection, a slice a turn.
    Survey(Sender<Vec<ConnectionReport>>),
    /// What a connection has asked for, or why it cannot have it.
    Answer { key: WatcherKey, answer: Result<OwnedBody, Refusal> },
    /// Judge by these from now on.
    Renew(Arc<LiveConfig>),
    /// Serve what is published for at most `serve`, then say goodbye, `index` of `of` shards.
    Drain { serve: Duration, linger: Duration, connections: usize, of: usize },
}

/// The outside end of a shard.
#[derive(Clone)]
pub struct ShardHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    /// Connections that it has, or that are on their way to it.
    pub connections: Arc<AtomicUsize>,
}

impl ShardHandle {
    pub fn new(waker: Arc<Waker>) -> (Self, Receiver<Command>) {
        let (commands, receiver) = unbounded();
        (Self { commands, waker, connections: Arc::new(AtomicUsize::new(0)) }, receiver)
    }

    /// Wakes the shard's loop.
    pub fn wake(&self) {
        // An eventfd that can't be written would mean that nothing is delivered any more.
        self.waker.wake().expect("a shard's waker works");
    }

    pub fn send(&self, command: Command) {
        // A shard that has ended needs nothing any more.
        if self.commands.send(command).is_ok() {
            self.wake();
        }
    }
}
