//! The listeners, all in shard 0. It accepts a bounded number per turn, and gives each socket to the shard with the fewest
//! connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::net::{TcpListener, TcpStream};
use rustix::event::{EventfdFlags, eventfd};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::access::admission::{Admission, Counted, NewConnection, TurnAway};
use crate::access::client_address::Proxies;
use crate::net::listen::accept_error::{is_out_of_descriptors, is_transient};
use crate::net::shard::handle::{Command, ShardHandle};
use crate::session::endpoint::Offer;
use crate::tick::Tick;

/// Most connections that wait to be accepted. The kernel may have a lower limit.
const BACKLOG: i32 = 4096;
/// Most connections accepted in one turn, so that open connections keep their latency when many come at once.
const ACCEPTS_PER_TURN: usize = 64;
/// The kernel takes more bytes when fewer than this are unsent. A larger value would only make a slow watcher's events
/// older. Bytes sent but not acknowledged are bounded by the kernel (`tcp_wmem`, 4 MiB). A fixed send buffer would be too
/// small: a history of 58 MB then took 15.7 s over a round trip of 100 ms, and takes 2.8 s without. A reader that stops
/// holds the same memory either way, and is disconnected after `stalled_seconds`.
const NOTSENT_LOWAT_BYTES: u32 = 128 << 10;

/// Binds one address. Accepted sockets inherit the options, which saves calls for each.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    prepare(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Takes over a socket that the service manager has bound.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    prepare(&SockRef::from(&listener))?;
    Ok(TcpListener::from_std(listener))
}

fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)
}

/// The outcome of [`Listener::accept`].
pub enum Accepted {
    /// No connection waited.
    Nobody,
    /// All that waited are accepted.
    All,
    /// More may wait: the caller tries again in the next turn.
    More,
    /// No descriptor or memory is left: the caller tries again after a while.
    Exhausted,
}

/// One listening socket.
pub struct ListeningSocket {
    pub socket: TcpListener,
    pub offer: Offer,
    /// The service manager has passed it, and it outlives the daemon.
    pub is_passed: bool,
}

pub struct Listener {
    pub sockets: Vec<ListeningSocket>,
    shards: Vec<ShardHandle>,
    admission: Arc<Admission>,
    /// A reserved descriptor. When no other is left, a waiting connection is accepted on it and gets a refusal.
    spare: Option<OwnedFd>,
}

impl Listener {
    pub fn new(sockets: Vec<ListeningSocket>, shards: Vec<ShardHandle>, admission: Arc<Admission>) -> Self {
        Self { sockets, shards, admission, spare: spare() }
    }

    /// Accepts up to `ACCEPTS_PER_TURN` connections from each socket. Those for shard 0 itself go to `keep`, without a
    /// command and a wake.
    pub fn accept(
        &mut self,
        proxies: &Proxies,
        now: Tick,
        mut keep: impl FnMut(TcpStream, NewConnection),
    ) -> Accepted {
        let (mut is_all, mut is_any) = (true, false);
        self.refill_spare();
        for index in 0..self.sockets.len() {
            let ListeningSocket { offer, is_passed, .. } = self.sockets[index];
            if is_passed && !offer.is_of_operators() && self.admission.is_draining() {
                // New watchers wait for the next daemon.
                continue;
            }
            for count in 0.. {
                if count == ACCEPTS_PER_TURN {
                    is_all = false;
                    break;
                }
                match self.sockets[index].socket.accept() {
                    Ok((socket, address)) => {
                        is_any = true;
                        let connection = self.admit(offer, address, proxies, now);
                        self.hand_over(socket, connection, &mut keep);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_out_of_descriptors(&error) => match self.accept_on_spare(index) {
                        Some(Ok((socket, address))) => {
                            let connection = self.admit(offer, address, proxies, now);
                            self.hand_over(socket, connection, &mut keep);
                        }
                        // Without a free descriptor, accept(2) fails before it looks for a waiting connection.
                        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                        _ => {
                            self.admission.note_short();
                            return Accepted::Exhausted;
                        }
                    },
                    Err(error) if is_transient(&error) => {}
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        return Accepted::Exhausted;
                    }
                }
            }
        }
        if !self.refill_spare() {
            // Somebody else has taken the descriptor that a turned-away connection gave back.
            self.admission.note_short();
            return Accepted::Exhausted;
        }
        match (is_all, is_any) {
            (false, _) => Accepted::More,
            (true, true) => Accepted::All,
            (true, false) => Accepted::Nobody,
        }
    }

    /// Adds a new connection to the counts. Operators have places of their own, and make room among themselves.
    fn admit(&mut self, offer: Offer, address: SocketAddr, proxies: &Proxies, now: Tick) -> NewConnection {
        match self.refill_spare() {
            _ if offer.is_of_operators() => {
                NewConnection { address: address.ip(), counted: Counted::AsOperator, turn_away: None }
            }
            true => self.admission.admit_socket(address.ip(), proxies, now),
            false => self.refuse_for_spare(address),
        }
    }

    /// Reserves a descriptor if none is. False: none is left; another connection has taken the one that was given back.
    fn refill_spare(&mut self) -> bool {
        if self.spare.is_none() {
            self.spare = spare();
        }
        self.spare.is_some()
    }

    /// Turns away a connection that was accepted on the reserved descriptor.
    fn refuse_for_spare(&self, address: SocketAddr) -> NewConnection {
        let turn_away = match self.admission.is_draining() {
            true => TurnAway::Draining,
            false => TurnAway::NoDescriptor,
        };
        NewConnection { address: address.ip(), counted: self.admission.refuse(), turn_away: Some(turn_away) }
    }

    /// Accepts a connection on the reserved descriptor, which comes back when that connection ends. None: another
    /// connection still has it.
    fn accept_on_spare(&mut self, index: usize) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        drop(self.spare.take()?);
        let accepted = self.sockets[index].socket.accept();
        if accepted.is_err() {
            self.spare = spare();
        }
        Some(accepted)
    }

    fn hand_over(
        &self,
        socket: TcpStream,
        connection: NewConnection,
        keep: &mut impl FnMut(TcpStream, NewConnection),
    ) {
        if connection.counted == Counted::Not {
            // It is closed at once, and counts for no shard.
            return keep(socket, connection);
        }
        let connections = |shard: &ShardHandle| shard.connections.load(Ordering::Relaxed);
        // This shard runs until the end, and operators are few.
        let shards = match connection.counted {
            Counted::AsOperator => &self.shards[..1],
            _ => &self.shards,
        };
        let fewest = shards.iter().enumerate().min_by_key(|(_, shard)| connections(shard));
        let (index, shard) = fewest.expect("there is a shard");
        shard.connections.fetch_add(1, Ordering::Relaxed);
        match index {
            0 => keep(socket, connection),
            _ => shard.send(Command::Accept(socket, connection)),
        }
    }
}

/// Opens a descriptor that serves only as a reserve. None: no descriptor is left.
fn spare() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}
