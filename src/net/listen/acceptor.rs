//! When the listeners are checked: on their events, or by the clock if many connections come or no descriptor is left.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::access::admission::{Admission, NewConnection};
use crate::access::client_address::Proxies;
use crate::metrics::ShardCounters;
use crate::net::clock::Moment;
use crate::net::listen::listener::{Accepted, Listener};

/// Time until the next accept after the descriptors have run out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two log lines about that.
const EXHAUSTED_LOG_MILLIS: u64 = 1_000;
/// In a storm, all connections that come within this time are accepted together, with one wake for all.
const STORM_PAUSE: Duration = Duration::from_millis(1);

pub struct Acceptor {
    listener: Listener,
    registry: Registry,
    admission: Arc<Admission>,
    /// The token of the first listener. Those of the others follow.
    token: usize,
    /// A connection may wait at a listener.
    may_accept: bool,
    /// The listeners are not checked before this time, unless a descriptor that is waited for becomes free.
    look_at: Option<Instant>,
    /// It waits for a descriptor, which any connection that ends gives back.
    is_exhausted: bool,
    exhausted_log_at: u64,
    /// The listeners are not watched, because many connections come: they are checked by the clock.
    is_storm: bool,
    accepted_at: Option<Instant>,
}

impl Acceptor {
    /// Registers the listeners, under `token` and the tokens behind it.
    pub fn new(
        listener: Listener,
        registry: Registry,
        admission: Arc<Admission>,
        token: usize,
    ) -> io::Result<Self> {
        let mut acceptor = Self {
            listener,
            registry,
            admission,
            token,
            may_accept: false,
            look_at: None,
            is_exhausted: false,
            exhausted_log_at: 0,
            is_storm: false,
            accepted_at: None,
        };
        acceptor.watch()?;
        Ok(acceptor)
    }

    fn watch(&mut self) -> io::Result<()> {
        for (index, socket) in self.listener.sockets.iter_mut().enumerate() {
            self.registry.register(&mut socket.socket, Token(self.token + index), Interest::READABLE)?;
        }
        Ok(())
    }

    /// A listener has an event.
    pub fn note_event(&mut self) {
        self.may_accept = true;
    }

    /// Whether the next turn must not wait.
    pub fn is_busy(&self) -> bool {
        self.may_accept && self.look_at.is_none()
    }

    /// How long until the listeners are checked by the clock.
    pub fn until_look(&self, now: Instant) -> Option<Duration> {
        self.look_at.map(|at| at.saturating_duration_since(now))
    }

    /// Whether it is time to accept.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let has_descriptor = self.is_exhausted && !self.admission.is_short();
        if has_descriptor || self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.is_exhausted = false;
            self.may_accept = true;
        }
        self.is_busy()
    }

    /// Accepts a bounded number of connections. `keep` takes those of this shard.
    pub fn accept(
        &mut self,
        proxies: &Proxies,
        moment: Moment,
        counters: &ShardCounters,
        keep: impl FnMut(TcpStream, NewConnection),
    ) {
        match self.listener.accept(proxies, moment.tick(), keep) {
            Accepted::Nobody => {
                self.may_accept = false;
                self.end_storm(moment.instant);
            }
            Accepted::All => {
                self.may_accept = false;
                self.pause_in_storm(moment.instant);
            }
            Accepted::More => {}
            Accepted::Exhausted => {
                counters.accepts_failed.add(1);
                self.wait_for_descriptor(moment, counters.accepts_failed.get());
            }
        }
    }

    fn wait_for_descriptor(&mut self, moment: Moment, failed: u64) {
        self.is_exhausted = self.admission.is_short();
        self.look_at = Some(moment.instant + EXHAUSTED_PAUSE);
        if moment.now.millis >= self.exhausted_log_at {
            self.exhausted_log_at = moment.now.millis + EXHAUSTED_LOG_MILLIS;
            tracing::warn!(failed, "no descriptor or memory is left for new connections; trying again");
        }
    }

    /// Stops checking the listeners for a moment if clients come in quick succession.
    fn pause_in_storm(&mut self, now: Instant) {
        let last = self.accepted_at.replace(now);
        if !self.is_storm && last.is_some_and(|last| now < last + STORM_PAUSE) {
            self.is_storm = true;
            for socket in &mut self.listener.sockets {
                let watched = self.registry.deregister(&mut socket.socket);
                watched.expect("a listener is watched");
            }
        }
        if self.is_storm {
            self.look_at = Some(now + STORM_PAUSE);
        }
    }

    /// Has the listeners watched again. If somebody has come meanwhile, there is an event at once (epoll_ctl(2)).
    fn end_storm(&mut self, now: Instant) {
        if !self.is_storm {
            return;
        }
        match self.watch() {
            Ok(()) => self.is_storm = false,
            Err(error) => {
                // Until then they are looked at by the clock. One of several may be watched already.
                tracing::warn!("cannot watch the listeners again: {error}; trying again");
                for socket in &mut self.listener.sockets {
                    let _ = self.registry.deregister(&mut socket.socket);
                }
                self.look_at = Some(now + EXHAUSTED_PAUSE);
            }
        }
    }
}
