//! What other threads ask of a shard.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use mio::net::TcpStream;
use rustls::ServerConfig;

use crate::access::address_limits::TooMany;
use crate::access::allowed_hosts::Hosts;
use crate::access::client_address::Proxies;
use crate::access::keyring::Auth;
use crate::delivery::keys::WatcherKey;
use crate::delivery::owned_body::OwnedBody;
use crate::delivery::progress::Patience;
use crate::net::listen::certificate::Certificate;
use crate::net::shard::survey::ConnectionReport;
use crate::session::limits::SessionLimits;
use crate::wire::http::Refusal;

/// Why an accepted socket is turned away before its request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnAway {
    Full,
    TooMany(TooMany),
    Draining,
    NoDescriptor,
}

impl TurnAway {
    pub fn refusal(self) -> Refusal {
        match self {
            TurnAway::Full => Refusal::full("no room for another connection (connections_max)"),
            TurnAway::NoDescriptor => Refusal::full("no room for another connection (file limit)"),
            TurnAway::TooMany(what) => what.refusal(),
            TurnAway::Draining => Refusal::draining(),
        }
    }
}

/// Among whom a socket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Among all connections. Among those of an address not yet: a trusted proxy will tell whose it is.
    InAll,
    /// Among all, and among those of its address.
    WithAddress,
    /// Among the operators, who have a listener and places of their own.
    AsOperator,
    /// Among the few that have their answer and may ask on.
    AsIdle,
    /// Among the few that are told why they are refused, or are done otherwise.
    AsRefused,
    /// Nowhere: there is no room for that either.
    Not,
}

/// Somebody who has come.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection {
    pub address: IpAddr,
    pub counted: Counted,
    pub turn_away: Option<TurnAway>,
}

/// What connections are judged by: read from the settings, shared by all shards, replaced as a whole by a reload.
pub struct LiveConfig {
    /// Who may watch what.
    pub auth: Auth,
    pub limits: SessionLimits,
    pub patience: Patience,
    pub allowed_origins: Vec<String>,
    pub hosts: Hosts,
    pub proxies: Proxies,
    /// For the handshakes of new connections, where TLS is spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// That of `tls`.
    pub certificate: Option<Certificate>,
}

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

/// The kernel's word for "no descriptor left".
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

/// Whether an accept failed for that one alone: the peer gave up, or a signal came (accept(2)).
pub fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
