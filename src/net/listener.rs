//! The listeners, all in shard 0: accepts in bounded portions, each socket for the shard with the fewest.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mio::net::{TcpListener, TcpStream};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::hub::address::Proxies;
use crate::hub::visitors::{AddressLimits, TooMany, Visitors};
use crate::hub::wheel::Tick;
use crate::net::inbox::{Command, Guest, ShardHandle, TurnAway, is_out_of_descriptors, is_transient};

/// Connections that wait to be accepted, at most; the kernel lowers it to its own limit.
const BACKLOG: i32 = 4096;
/// Accepted in one turn: connected clients keep their latency in a storm.
const ACCEPTS_PER_TURN: usize = 64;
/// Unsent bytes that the kernel holds per socket: more would only make a slow watcher's past longer.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// The kernel asks for more when fewer than this are unsent.
const NOTSENT_LOWAT_BYTES: u32 = 128 << 10;

/// Binds one address. Options are inherited by accepted sockets, which saves calls for each.
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

/// Takes over a socket that somebody else has bound.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    prepare(&SockRef::from(&listener))?;
    Ok(TcpListener::from_std(listener))
}

fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)
}

/// How many may come in.
#[derive(Clone, Copy, Debug)]
pub struct DoorLimits {
    pub connections_max: usize,
    pub of_address: AddressLimits,
}

/// Who may come in: counts over all shards.
pub struct Door {
    connections_max: AtomicUsize,
    connections: AtomicUsize,
    visitors: Mutex<Visitors>,
    is_draining: AtomicBool,
    /// No descriptor was left for a connection, and none has been closed since.
    is_short: AtomicBool,
}

impl Door {
    pub fn new(limits: DoorLimits) -> Self {
        Self {
            connections_max: AtomicUsize::new(limits.connections_max),
            connections: AtomicUsize::new(0),
            visitors: Mutex::new(Visitors::new(limits.of_address)),
            is_draining: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
        }
    }

    /// From now on these hold; whoever is in stays.
    pub fn set_limits(&self, limits: DoorLimits) {
        self.connections_max.store(limits.connections_max, Ordering::Relaxed);
        self.visitors.lock().limits = limits.of_address;
    }

    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn connections_max(&self) -> usize {
        self.connections_max.load(Ordering::Relaxed)
    }

    /// Counts a connection in; whoever serves it counts it out. None: it may stay.
    fn enter(&self) -> Option<TurnAway> {
        let connections = self.connections.fetch_add(1, Ordering::Relaxed);
        if self.is_draining() {
            Some(TurnAway::Draining)
        } else if connections >= self.connections_max.load(Ordering::Relaxed) {
            Some(TurnAway::Full)
        } else {
            None
        }
    }

    /// Counts a connection in at its address, if that has not too many.
    pub fn admit(&self, address: IpAddr, now: Tick) -> Result<(), TooMany> {
        self.visitors.lock().enter(address, now)
    }

    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Counts a connection out whose socket is closed, also at its address, if it was counted there. True: its
    /// descriptor is waited for.
    pub fn leave(&self, address: Option<IpAddr>) -> bool {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = address {
            self.visitors.lock().leave(address);
        }
        self.is_short() && self.is_short.swap(false, Ordering::Relaxed)
    }
}

/// How an accept turn ended.
pub enum Accepted {
    /// Nobody had come.
    Nobody,
    /// Everybody who waited.
    All,
    /// More may wait: again next turn.
    More,
    /// No descriptor or memory is left: again after a while.
    Exhausted,
}

pub struct Listener {
    pub sockets: Vec<TcpListener>,
    /// By place in `sockets`: it outlives the daemon.
    is_passed: Vec<bool>,
    shards: Vec<ShardHandle>,
    door: Arc<Door>,
    /// A descriptor to give up when none is left, so that who waits is told instead of left waiting.
    spare: Option<OwnedFd>,
}

impl Listener {
    /// `sockets`: each, and whether it outlives the daemon.
    pub fn new(sockets: Vec<(TcpListener, bool)>, shards: Vec<ShardHandle>, door: Arc<Door>) -> Self {
        let (sockets, is_passed) = sockets.into_iter().unzip();
        Self { sockets, is_passed, shards, door, spare: spare() }
    }

    /// Accepts a portion. What is for shard 0 itself is handed to `keep`, without a detour through its commands and
    /// a wake of its own loop.
    pub fn accept(
        &mut self,
        proxies: &Proxies,
        now: Tick,
        mut keep: impl FnMut(TcpStream, Guest),
    ) -> Accepted {
        let (mut is_all, mut is_any) = (true, false);
        if self.spare.is_none() {
            self.spare = spare();
        }
        for place in 0..self.sockets.len() {
            if self.is_passed[place] && self.door.is_draining() {
                // Whoever comes now is the next daemon's.
                continue;
            }
            for count in 0.. {
                if count == ACCEPTS_PER_TURN {
                    is_all = false;
                    break;
                }
                match self.sockets[place].accept() {
                    Ok((socket, address)) => {
                        is_any = true;
                        let guest = self.meet(address.ip(), proxies, now);
                        self.hand_over(socket, guest, &mut keep);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_out_of_descriptors(&error) => match self.accept_on_spare(place) {
                        Some(Ok((socket, address))) => {
                            let turn_away = self.door.enter().or(Some(TurnAway::NoDescriptor));
                            let guest = Guest { address: address.ip(), is_counted: false, turn_away };
                            self.hand_over(socket, guest, &mut keep);
                        }
                        // Without a descriptor the kernel says so before it looks whether anybody waits.
                        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                        _ => {
                            self.door.is_short.store(true, Ordering::Relaxed);
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
        match (is_all, is_any) {
            (false, _) => Accepted::More,
            (true, true) => Accepted::All,
            (true, false) => Accepted::Nobody,
        }
    }

    fn meet(&self, address: IpAddr, proxies: &Proxies, now: Tick) -> Guest {
        let turn_away = self.door.enter();
        if turn_away.is_some() || proxies.are_trusted(address) {
            return Guest { address, is_counted: false, turn_away };
        }
        let admitted = self.door.admit(address, now);
        Guest { address, is_counted: admitted.is_ok(), turn_away: admitted.err().map(TurnAway::TooMany) }
    }

    /// Gives the spare descriptor to one who waits. It comes back when that connection has ended. None: another has
    /// it still.
    fn accept_on_spare(&mut self, place: usize) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        drop(self.spare.take()?);
        let accepted = self.sockets[place].accept();
        if accepted.is_err() {
            self.spare = spare();
        }
        Some(accepted)
    }

    fn hand_over(&self, socket: TcpStream, guest: Guest, keep: &mut impl FnMut(TcpStream, Guest)) {
        let connections = |shard: &ShardHandle| shard.connections.load(Ordering::Relaxed);
        let fewest = self.shards.iter().enumerate().min_by_key(|(_, shard)| connections(shard));
        let (index, shard) = fewest.expect("there is a shard");
        shard.connections.fetch_add(1, Ordering::Relaxed);
        match index {
            0 => keep(socket, guest),
            _ => shard.send(Command::Adopt(socket, guest)),
        }
    }
}

/// A descriptor of nothing; none if there is none left.
fn spare() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}
