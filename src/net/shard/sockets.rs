//! One shard's sockets, by the watcher's key, as the flush writes into them.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use rustls::ServerConfig;

use crate::delivery::keys::WatcherKey;
use crate::delivery::sink::Sink;
use crate::net::shard::transport::{Incoming, Tls, TlsScratch, Transport};
use crate::stream::directory::Directory;
use crate::stream::link::{Arrival, Inlet};

/// A memory file is replaced after so many bytes. It is never rewritten: the kernel may still be sending from its pages.
const SEGMENT_BYTES_MAX: u64 = 4 << 20;

/// How long a flush may go on before sockets are read and accepted again.
const TURN_MAX: Duration = Duration::from_millis(2);

/// The first shard that meets a failing `sendfile` logs it.
static SAY_ONCE: Once = Once::new();

struct Segment {
    file: OwnedFd,
    end: u64,
}

/// Whether an error says that the network failed: not that nothing is to be done now, nor that the peer has closed.
fn is_failure(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    !matches!(error.kind(), WouldBlock | Interrupted | BrokenPipe | ConnectionReset | ConnectionAborted)
}

pub struct Sockets {
    sockets: Vec<Option<TcpStream>>,
    /// Beside each socket, where TLS is spoken; empty elsewhere.
    transports: Vec<Transport>,
    desk: TlsScratch,
    /// Connections with records that wait for room. The caller watches their sockets for it.
    pub full: Vec<WatcherKey>,
    inlet: Inlet,
    directory: Arc<Directory>,
    segment: Option<Segment>,
    /// `sendfile` has not failed at a sound socket.
    can_send_files: bool,
    /// Offset and length of what was staged last.
    staged: (u64, usize),
    /// Connections whose network failed, and that nobody has closed.
    failed: Vec<WatcherKey>,
    pub turn_began: Instant,
}

impl Sockets {
    pub fn new(inlet: Inlet, directory: Arc<Directory>) -> Self {
        Self {
            sockets: Vec::new(),
            transports: Vec::new(),
            desk: TlsScratch::default(),
            full: Vec::new(),
            inlet,
            directory,
            segment: None,
            can_send_files: true,
            staged: (0, 0),
            failed: Vec::new(),
            turn_began: Instant::now(),
        }
    }

    /// `tls`: it is spoken on this connection.
    pub fn insert(&mut self, key: WatcherKey, socket: TcpStream, tls: Option<&Arc<ServerConfig>>) {
        if self.sockets.len() <= key.index() {
            self.sockets.resize_with(key.index() + 1, || None);
        }
        self.sockets[key.index()] = Some(socket);
        if let Some(config) = tls {
            let tls = Tls::new(config.clone()).expect("the configuration was made for TLS");
            if self.transports.len() <= key.index() {
                self.transports.resize_with(key.index() + 1, || Transport::Plain);
            }
            self.transports[key.index()] = Transport::Tls(Box::new(tls));
        }
    }

    pub fn remove(&mut self, key: WatcherKey) -> Option<TcpStream> {
        self.speak_plainly(key);
        self.failed.retain(|failed| *failed != key);
        self.sockets.get_mut(key.index())?.take()
    }

    /// From now on this connection speaks no TLS.
    pub fn speak_plainly(&mut self, key: WatcherKey) {
        if let Some(transport) = self.transports.get_mut(key.index()) {
            *transport = Transport::Plain;
        }
    }

    /// TLS on this connection, its socket, and the room to work in.
    fn tls(&mut self, key: WatcherKey) -> Option<(&mut Tls, &mut TcpStream, &mut TlsScratch)> {
        let Some(Transport::Tls(tls)) = self.transports.get_mut(key.index()) else {
            return None;
        };
        let socket = self.sockets[key.index()].as_mut().expect("TLS has a socket under it");
        Some((tls, socket, &mut self.desk))
    }

    /// Whether the network has failed on a connection. One that its peer has closed or reset has not.
    pub fn has_failed(&self, key: WatcherKey) -> bool {
        let socket = self.sockets.get(key.index()).and_then(Option::as_ref);
        let pending = socket.and_then(|socket| socket.take_error().ok().flatten());
        pending.is_some_and(|error| is_failure(&error)) || self.failed.contains(&key)
    }

    fn note<T>(&mut self, key: WatcherKey, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(is_failure) {
            self.failed.push(key);
        }
        result
    }

    /// Reads once, a buffer at most.
    pub fn read(&mut self, key: WatcherKey, buffer: &mut [u8]) -> io::Result<Incoming> {
        let result = self.read_once(key, buffer);
        self.note(key, result)
    }

    fn read_once(&mut self, key: WatcherKey, buffer: &mut [u8]) -> io::Result<Incoming> {
        if let Some((tls, socket, desk)) = self.tls(key) {
            let incoming = tls.read(socket, buffer, desk);
            if tls.has_unsent() {
                self.full.push(key);
            }
            return incoming;
        }
        match self.socket(key).read(buffer)? {
            0 => Ok(Incoming::End),
            count => Ok(Incoming::Bytes { count, is_full: count == buffer.len() }),
        }
    }

    /// The handshake of TLS is still under way.
    pub fn is_shaking_hands(&self, key: WatcherKey) -> bool {
        matches!(self.transports.get(key.index()), Some(Transport::Tls(tls)) if tls.is_shaking_hands())
    }

    /// The socket has room: sends the records that waited for it. False: it is full again.
    pub fn push(&mut self, key: WatcherKey) -> bool {
        // The next read or write reports a socket that failed.
        self.tls(key).is_none_or(|(tls, socket, _)| tls.push(socket).unwrap_or(true))
    }

    /// Ignores what this peer sends from now on.
    pub fn silence(&mut self, key: WatcherKey) {
        if let Some((tls, ..)) = self.tls(key) {
            tls.break_off();
        }
    }

    /// Shuts the write side, after the closing alert of TLS. False: records still wait for room.
    pub fn shut(&mut self, key: WatcherKey) -> io::Result<bool> {
        if let Some((tls, socket, _)) = self.tls(key) {
            tls.say_goodbye();
            if !tls.push(socket)? {
                self.full.push(key);
                return Ok(false);
            }
        }
        self.socket(key).shutdown(Shutdown::Write).map(|()| true)
    }

    /// Bytes that the kernel took, where encryption makes them differ from those that the watcher was sent.
    pub fn sealed_bytes_out(&self, key: WatcherKey) -> Option<u64> {
        match self.transports.get(key.index()) {
            Some(Transport::Tls(tls)) => Some(tls.sent()),
            _ => None,
        }
    }

    /// Encrypts for one watcher.
    fn write_sealed(&mut self, key: WatcherKey, slices: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let (tls, socket, desk) = self.tls(key)?;
        let result = tls.write(socket, slices, desk);
        if tls.has_unsent() {
            self.full.push(key);
        }
        Some(result)
    }

    pub fn get(&mut self, key: WatcherKey) -> Option<&mut TcpStream> {
        self.sockets.get_mut(key.index())?.as_mut()
    }

    pub fn inlet(&self) -> &Inlet {
        &self.inlet
    }

    fn socket(&mut self, key: WatcherKey) -> &mut TcpStream {
        self.get(key).expect("a watcher has a socket")
    }

    /// Writes a copy of what was staged, since `sendfile` failed. The socket may be broken, or the system may forbid it (in
    /// some sandboxes); then it is not tried again.
    #[cold]
    fn copy_staged(&mut self, watcher: WatcherKey, refused: Errno) -> io::Result<usize> {
        let (offset, bytes) = self.staged;
        let segment = self.segment.as_ref().expect("what is staged is in a segment");
        let mut copy = vec![0; bytes];
        let read = rustix::io::pread(&segment.file, &mut copy[..], offset)?;
        let written = self.socket(watcher).write(&copy[..read]);
        // A socket that takes the copy, or is only full, is sound: then sendfile itself fails.
        let is_sound =
            written.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true);
        if is_sound && std::mem::take(&mut self.can_send_files) {
            SAY_ONCE.call_once(|| {
                tracing::warn!(
                    "sendfile fails here ({refused}): events are copied into each socket from now on"
                );
            });
        }
        written
    }

    fn write_segment(&mut self, slices: &[IoSlice<'_>], bytes: usize) -> io::Result<()> {
        let is_full =
            self.segment.as_ref().is_none_or(|segment| segment.end + bytes as u64 > SEGMENT_BYTES_MAX);
        if is_full {
            let file = rustix::fs::memfd_create("luxcast frames", MemfdFlags::CLOEXEC)?;
            self.segment = Some(Segment { file, end: 0 });
        }
        let segment = self.segment.as_mut().expect("a segment was made where there was none");
        let start = segment.end;
        let written = rustix::io::pwritev(&segment.file, slices, start)?;
        segment.end += written as u64;
        if written != bytes {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.staged = (start, bytes);
        Ok(())
    }
}

impl Sink for Sockets {
    fn write(&mut self, watcher: WatcherKey, bytes: &[u8]) -> io::Result<usize> {
        let sealed = self.write_sealed(watcher, &[IoSlice::new(bytes)]);
        let result = sealed.unwrap_or_else(|| self.socket(watcher).write(bytes));
        self.note(watcher, result)
    }

    fn write_vectored(&mut self, watcher: WatcherKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let sealed = self.write_sealed(watcher, slices);
        let result = sealed.unwrap_or_else(|| self.socket(watcher).write_vectored(slices));
        self.note(watcher, result)
    }

    fn stage(&mut self, slices: &[IoSlice<'_>], bytes: usize) -> bool {
        // With TLS each connection has records of its own. Without memory for the file the bytes are written to each
        // socket: slower, never wrong.
        self.transports.is_empty() && self.can_send_files && self.write_segment(slices, bytes).is_ok()
    }

    fn write_staged(&mut self, watcher: WatcherKey) -> io::Result<usize> {
        let (mut offset, bytes) = self.staged;
        let socket = self.sockets[watcher.index()].as_ref().expect("a watcher has a socket");
        let segment = self.segment.as_ref().expect("what is staged is in a segment");
        match rustix::fs::sendfile(socket, &segment.file, Some(&mut offset), bytes) {
            Ok(taken) => Ok(taken),
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => Err(errno.into()),
            Err(errno) => {
                let result = self.copy_staged(watcher, errno);
                self.note(watcher, result)
            }
        }
    }

    fn cpu_nanos(&mut self) -> u64 {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn published(&mut self) -> u64 {
        self.directory.published()
    }

    fn hold_history(&mut self) {
        self.inlet.link.hold();
    }

    fn next_arrival(&mut self) -> Option<Arrival> {
        self.inlet.next()
    }

    fn is_time_up(&mut self) -> bool {
        self.turn_began.elapsed() >= TURN_MAX
    }
}
