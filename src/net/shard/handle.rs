//! What other threads ask of a shard.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use mio::net::TcpStream;

use crate::access::admission::NewConnection;
use crate::delivery::keys::WatcherKey;
use crate::delivery::owned_body::OwnedBody;
use crate::net::shard::connection_report::ConnectionReport;
use crate::net::shard::live_config::LiveConfig;
use crate::session::drain::DrainOrder;
use crate::wire::http::Refusal;
use crate::wire::receipt::Receipt;

pub enum Command {
    /// A socket to serve, or to turn away.
    Accept(TcpStream, NewConnection),
    /// Report every connection, a slice a turn.
    Survey(Sender<Vec<ConnectionReport>>),
    /// The answer for a connection, or why there is none.
    Answer { key: WatcherKey, answer: Result<OwnedBody, Refusal> },
    /// Ingest has room for more of a request's body.
    Room { key: WatcherKey },
    /// What became of a request that publishes.
    Published { key: WatcherKey, answer: Result<Receipt, Refusal> },
    /// Use these settings from now on.
    Renew(Arc<LiveConfig>),
    /// The stream that this daemon shares with others is away, or there again: watchers are told.
    Announce { is_away: bool },
    /// Serve what is published, then say goodbye and end.
    Drain(DrainOrder),
}

/// The outside end of a shard.
#[derive(Clone)]
pub struct ShardHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    /// Its connections, and those on their way to it.
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
        // A shard that has ended needs no more commands.
        if self.commands.send(command).is_ok() {
            self.wake();
        }
    }
}
