//! One shard's sockets, by the watcher's key, as the flush writes into them.

use std::io::{self, IoSlice, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustix::fs::MemfdFlags;
use rustix::time::{ClockId, clock_gettime};

use crate::hub::outlet::Outlet;
use crate::stream::directory::Directory;
use crate::stream::link::{Arrival, Inlet};

/// A memory file is replaced when so much has been written to it: it is never rewritten, since the kernel may
/// still be sending from its pages.
const SEGMENT_BYTES_MAX: u64 = 4 << 20;

/// A turn's share of the thread before sockets are looked after again.
const TURN_MAX: Duration = Duration::from_millis(2);

struct Segment {
    file: OwnedFd,
    end: u64,
}

pub struct Sockets {
    sockets: Vec<Option<TcpStream>>,
    inlet: Inlet,
    directory: Arc<Directory>,
    segment: Option<Segment>,
    /// Where what was staged last begins, and its length.
    staged: (u64, usize),
    pub turn_began: Instant,
}

impl Sockets {
    pub fn new(inlet: Inlet, directory: Arc<Directory>) -> Self {
        Self {
            sockets: Vec::new(),
            inlet,
            directory,
            segment: None,
            staged: (0, 0),
            turn_began: Instant::now(),
        }
    }

    pub fn insert(&mut self, key: u32, socket: TcpStream) {
        if self.sockets.len() <= key as usize {
            self.sockets.resize_with(key as usize + 1, || None);
        }
        self.sockets[key as usize] = Some(socket);
    }

    pub fn remove(&mut self, key: u32) -> Option<TcpStream> {
        self.sockets.get_mut(key as usize)?.take()
    }

    pub fn get(&mut self, key: u32) -> Option<&mut TcpStream> {
        self.sockets.get_mut(key as usize)?.as_mut()
    }

    pub fn inlet(&self) -> &Inlet {
        &self.inlet
    }

    fn socket(&mut self, key: u32) -> &mut TcpStream {
        self.get(key).expect("a watcher has a socket")
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

impl Outlet for Sockets {
    fn write(&mut self, watcher: u32, bytes: &[u8]) -> io::Result<usize> {
        self.socket(watcher).write(bytes)
    }

    fn write_vectored(&mut self, watcher: u32, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket(watcher).write_vectored(slices)
    }

    fn stage(&mut self, slices: &[IoSlice<'_>], bytes: usize) -> bool {
        // Without memory for the file the bytes are written to each socket: slower, never wrong.
        self.write_segment(slices, bytes).is_ok()
    }

    fn write_staged(&mut self, watcher: u32) -> io::Result<usize> {
        let (mut offset, bytes) = self.staged;
        let socket = self.sockets[watcher as usize].as_ref().expect("a watcher has a socket");
        let segment = self.segment.as_ref().expect("what is staged is in a segment");
        Ok(rustix::fs::sendfile(socket, &segment.file, Some(&mut offset), bytes)?)
    }

    fn cpu_nanos(&mut self) -> u64 {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn published(&mut self) -> u64 {
        self.directory.published()
    }

    fn next_arrival(&mut self) -> Option<Arrival> {
        self.inlet.next()
    }

    fn is_time_up(&mut self) -> bool {
        self.turn_began.elapsed() >= TURN_MAX
    }
}
