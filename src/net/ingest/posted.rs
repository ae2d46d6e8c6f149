//! The lines of one HTTP request on their way from its shard to ingest. To ingest it is a publisher's connection: bounded,
//! read when ingest can take more, with an end.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use crate::access::patterns::Patterns;
use crate::access::rights::Rights;
use crate::delivery::keys::WatcherKey;

/// What a shard reads of a request at once. More is read only if there is room for all of it.
pub const PORTION_BYTES: usize = 64 << 10;
/// Bytes of one request that may wait for ingest: the shard puts a portion in while ingest takes the one before.
const BYTES_MAX: usize = 2 * PORTION_BYTES;
/// Bytes of all requests that may wait. Beyond that a request has a portion at most.
const ALL_BYTES_MAX: usize = 32 << 20;

/// No publisher of ingest stands for the request yet, or none any more.
const NOT_YET: usize = usize::MAX;
const NO_MORE: usize = usize::MAX - 1;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// It is whole.
    Whole,
    /// Nothing more comes: what has no newline is no line.
    Cut,
}

/// Who sends a request, and what for.
pub struct PostedFrom {
    pub shard: usize,
    pub key: WatcherKey,
    pub address: IpAddr,
    /// None: it may publish for every job and flow.
    pub rights: Option<Arc<Rights>>,
    /// So many control lines stand for fields of its head.
    pub greeting_lines: usize,
}

pub struct Posted {
    pub from: PostedFrom,
    desk: Arc<PostedDesk>,
    flow: Mutex<Flow>,
    /// The publisher that stands for it in ingest.
    publisher: AtomicUsize,
}

#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    /// So many of them were taken.
    taken: usize,
    end: Option<BodyEnd>,
    /// The last byte that came is not the end of a line.
    is_within_line: bool,
    /// Ingest knows that something has come, and has not found the end of it.
    is_reported: bool,
    /// The shard waits for room.
    wants_room: bool,
    /// When the last bytes came.
    heard_at: Option<Instant>,
}

/// Where shards report requests to ingest. Each is in the channel once at most, so connections bound it.
pub struct PostedDesk {
    reports: Sender<Arc<Posted>>,
    pub pending: Receiver<Arc<Posted>>,
    bytes: AtomicUsize,
}

impl Default for PostedDesk {
    fn default() -> Self {
        let (reports, pending) = unbounded();
        Self { reports, pending, bytes: AtomicUsize::new(0) }
    }
}

impl PostedDesk {
    /// Bytes of all requests that wait for ingest.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// For the shard.
impl Posted {
    pub fn new(desk: &Arc<PostedDesk>, from: PostedFrom) -> Arc<Self> {
        let publisher = AtomicUsize::new(NOT_YET);
        Arc::new(Self { from, desk: desk.clone(), flow: Mutex::default(), publisher })
    }

    /// Whether there is room for a portion. If not, the shard will be told once there is.
    pub fn has_room_or_waits(&self) -> bool {
        let mut flow = self.flow.lock();
        let bytes_max = if self.desk.bytes() < ALL_BYTES_MAX { BYTES_MAX } else { PORTION_BYTES };
        let has_room = flow.bytes.len() - flow.taken + PORTION_BYTES <= bytes_max;
        flow.wants_room |= !has_room;
        has_room
    }

    /// Adds what `write` appends. True: ingest is to be woken.
    pub fn add(self: &Arc<Self>, now: Instant, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut flow = self.flow.lock();
        if flow.taken > 0 {
            let taken = std::mem::take(&mut flow.taken);
            flow.bytes.drain(..taken);
        }
        let before = flow.bytes.len();
        write(&mut flow.bytes);
        let more = flow.bytes.len() - before;
        if more > 0 {
            flow.is_within_line = !flow.bytes.ends_with(b"\n");
            flow.heard_at = Some(now);
        }
        self.desk.bytes.fetch_add(more, Ordering::Relaxed);
        more > 0 && self.report(&mut flow)
    }

    /// The body is over. True: ingest is to be woken.
    pub fn end(self: &Arc<Self>, end: BodyEnd) -> bool {
        let mut flow = self.flow.lock();
        if flow.end.is_some() {
            return false;
        }
        flow.end = Some(end);
        if end == BodyEnd::Whole && flow.is_within_line {
            // The last line of a body that is whole is whole.
            flow.bytes.push(b'\n');
            self.desk.bytes.fetch_add(1, Ordering::Relaxed);
        }
        self.report(&mut flow)
    }

    fn report(self: &Arc<Self>, flow: &mut Flow) -> bool {
        let is_new = !std::mem::replace(&mut flow.is_reported, true);
        // Ingest that has ended needs no reports.
        is_new && self.desk.reports.send(self.clone()).is_ok()
    }
}

/// For ingest.
impl Posted {
    /// The publisher that stands for it. None: there is none any more.
    pub fn publisher(&self, make: impl FnOnce() -> usize) -> Option<usize> {
        match self.publisher.load(Ordering::Relaxed) {
            NO_MORE => None,
            NOT_YET => {
                let publisher = make();
                self.publisher.store(publisher, Ordering::Relaxed);
                Some(publisher)
            }
            publisher => Some(publisher),
        }
    }

    /// No publisher stands for it any more.
    pub fn forget(&self) {
        self.publisher.store(NO_MORE, Ordering::Relaxed);
    }

    /// Reads as from a socket. `note_room` is called if the shard waits for the room that is now there.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is there now, and a report will come when there is.
    pub fn read(&self, buffer: &mut [u8], note_room: impl FnOnce()) -> io::Result<usize> {
        let mut flow = self.flow.lock();
        let count = buffer.len().min(flow.bytes.len() - flow.taken);
        if count == 0 && !buffer.is_empty() && flow.end.is_none() {
            flow.is_reported = false;
            // Whoever is silent for long holds nothing.
            flow.bytes = Vec::new();
            return Err(ErrorKind::WouldBlock.into());
        }
        buffer[..count].copy_from_slice(&flow.bytes[flow.taken..flow.taken + count]);
        flow.taken += count;
        if flow.taken == flow.bytes.len() {
            flow.taken = 0;
            flow.bytes.clear();
        }
        self.desk.bytes.fetch_sub(count, Ordering::Relaxed);
        if flow.wants_room && flow.bytes.len() - flow.taken + PORTION_BYTES <= BYTES_MAX {
            flow.wants_room = false;
            drop(flow);
            note_room();
        }
        Ok(count)
    }

    /// Whether its client has sent nothing for so long, and all that waits is the middle of a line. If the shard waits for
    /// room, that is not the client's fault.
    pub fn has_stopped_within_line(&self, now: Instant, patience: Duration) -> bool {
        let flow = self.flow.lock();
        flow.is_within_line
            && !flow.wants_room
            && flow.end.is_none()
            && flow.heard_at.is_some_and(|at| now.saturating_duration_since(at) > patience)
            && memchr::memchr(b'\n', &flow.bytes[flow.taken..]).is_none()
    }

    /// The name under which its lines are taken once.
    pub fn account_of(&self, name: &str) -> Box<str> {
        self.from.rights.as_ref().map_or_else(|| name.into(), |rights| rights.account_of(name))
    }

    /// The ids that its lines may have; None: all.
    pub fn covered(&self) -> Option<&Patterns> {
        self.from.rights.as_ref().map(|rights| &rights.scopes.publish)
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        let flow = self.flow.get_mut();
        self.desk.bytes.fetch_sub(flow.bytes.len() - flow.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{BYTES_MAX, BodyEnd, PORTION_BYTES, Posted, PostedDesk, PostedFrom};
    use crate::delivery::keys::WatcherKey;

    fn posted(desk: &Arc<PostedDesk>) -> Arc<Posted> {
        let key = WatcherKey::from_bits(0);
        Posted::new(
            desk,
            PostedFrom {
                shard: 0,
                key,
                address: Ipv4Addr::LOCALHOST.into(),
                rights: None,
                greeting_lines: 0,
            },
        )
    }

    fn read(posted: &Posted, bytes_max: usize) -> Result<Vec<u8>, ErrorKind> {
        let mut buffer = vec![0; bytes_max];
        let count = posted.read(&mut buffer, || panic!("nobody waits")).map_err(|error| error.kind())?;
        Ok(buffer[..count].to_vec())
    }

    #[test]
    fn bytes_are_reported_once_until_they_are_read() {
        let desk = Arc::new(PostedDesk::default());
        let posted = posted(&desk);
        assert!(!posted.add(Instant::now(), |_| {}), "nothing has come");
        assert!(posted.add(Instant::now(), |out| out.extend_from_slice(b"ab")));
        assert!(!posted.add(Instant::now(), |out| out.extend_from_slice(b"cd")), "ingest has not looked yet");
        assert_eq!((desk.pending.len(), desk.bytes()), (1, 4));
        assert_eq!(read(&posted, 3), Ok(b"abc".to_vec()));
        assert_eq!(read(&posted, 3), Ok(b"d".to_vec()));
        assert_eq!(read(&posted, 3), Err(ErrorKind::WouldBlock));
        assert_eq!(posted.flow.lock().bytes.capacity(), 0, "nothing is held for what may come");
        assert!(posted.add(Instant::now(), |out| out.push(b'e')), "it has looked, and waits");
        assert!(!posted.end(BodyEnd::Whole), "that is reported");
        assert_eq!(read(&posted, 9), Ok(b"e\n".to_vec()), "the last line is whole");
        assert_eq!(read(&posted, 9), Ok(Vec::new()));
        assert!(!posted.end(BodyEnd::Cut), "it has one end");
        let (taken, lines) = (self::posted(&desk), self::posted(&desk));
        taken.add(Instant::now(), |out| out.push(b'a'));
        assert_eq!(read(&taken, 9), Ok(b"a".to_vec()));
        taken.end(BodyEnd::Whole);
        assert_eq!(read(&taken, 9), Ok(b"\n".to_vec()), "also one that ingest has already");
        lines.add(Instant::now(), |out| out.extend_from_slice(b"a\n"));
        lines.end(BodyEnd::Whole);
        assert_eq!(read(&lines, 9), Ok(b"a\n".to_vec()));
        assert_eq!(desk.bytes(), 0);
    }

    #[test]
    fn what_is_cut_off_stays_cut_off() {
        let desk = Arc::new(PostedDesk::default());
        let posted = posted(&desk);
        posted.add(Instant::now(), |out| out.extend_from_slice(b"{}\n{"));
        posted.end(BodyEnd::Cut);
        assert_eq!(read(&posted, 9), Ok(b"{}\n{".to_vec()));
        assert_eq!(read(&posted, 9), Ok(Vec::new()));
    }

    #[test]
    fn a_client_that_stops_within_a_line_is_told_from_one_that_waits_for_us() {
        let desk = Arc::new(PostedDesk::default());
        let posted = posted(&desk);
        let start = Instant::now();
        let patience = Duration::from_millis(500);
        let has_stopped =
            |millis| posted.has_stopped_within_line(start + Duration::from_millis(millis), patience);
        assert!(!has_stopped(600), "nothing has come");
        posted.add(start, |out| out.extend_from_slice(b"{}\n{"));
        assert!(!has_stopped(600), "a whole line waits");
        assert_eq!(read(&posted, 3), Ok(b"{}\n".to_vec()));
        assert!(!has_stopped(500) && has_stopped(501));
        assert_eq!(read(&posted, 3), Ok(b"{".to_vec()));
        assert!(has_stopped(501), "also if ingest has it");
        posted.add(start + Duration::from_millis(400), |out| out.resize(BYTES_MAX, b'x'));
        assert!(!has_stopped(600) && has_stopped(901));
        assert!(!posted.has_room_or_waits());
        assert!(!has_stopped(901), "more of it may have come");
    }

    #[test]
    fn a_shard_waits_for_room_and_is_told_once() {
        let desk = Arc::new(PostedDesk::default());
        let posted = posted(&desk);
        for _ in 0..BYTES_MAX / PORTION_BYTES {
            assert!(posted.has_room_or_waits());
            posted.add(Instant::now(), |out| out.resize(out.len() + PORTION_BYTES, b'x'));
        }
        assert!(!posted.has_room_or_waits());
        let told = std::cell::Cell::new(0);
        let read = |count: usize| posted.read(&mut vec![0; count], || told.set(told.get() + 1)).unwrap();
        assert_eq!((read(PORTION_BYTES - 1), told.get()), (PORTION_BYTES - 1, 0));
        assert_eq!((read(1), told.get()), (1, 1));
        assert_eq!((read(1), told.get()), (1, 1));
        assert!(posted.has_room_or_waits());
        // It is dropped with bytes that nobody has read.
        drop(posted);
        while desk.pending.try_recv().is_ok() {}
        assert_eq!(desk.bytes(), 0);
    }
}
