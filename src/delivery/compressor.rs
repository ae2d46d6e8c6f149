//! The compressor of a shard, and the log as its dictionary.
//!
//! A message is in the window of a connection exactly if it was sent to it compressed (RFC 7692, 7.2.2). All members of a
//! cohort were sent the same events of one log. So what stands before an event there is its dictionary, for all of them,
//! and no window is kept for anybody. The one thing to know of a watcher is from where on in its log it was sent all that
//! it wants compressed: [`Watcher::compressed_from`](crate::delivery::watcher::Watcher::compressed_from).

use crate::delivery::filter::Selector;
use crate::delivery::keys::CohortKey;
use crate::stream::batch::Batch;
use crate::stream::topic::{Handle, Log, Topic};
use crate::wire::deflater::{Deflater, WINDOW_BITS, WINDOW_BITS_ALONE};

/// A dictionary, at most: twice as much would save less than one byte in twenty.
const DICTIONARY_BYTES: usize = 2 << 10;
/// Handles and chunks of handles that are looked at for it, at most; and events that are not wanted.
const LOOKS_MAX: u32 = 64;
const UNWANTED_MAX: u32 = 256;

/// For whom something is compressed.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub cohort: CohortKey,
    pub topic: &'a Topic,
    pub selector: &'a Selector,
    /// From this index of the log on, it was sent all that it wants compressed. None: it reads another log now, so nothing
    /// that it was sent is of use.
    pub compressed_from: Option<u64>,
}

/// What is compressed without a break, of one dictionary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamId(u64);

#[derive(Default)]
pub struct Compressor {
    deflater: Option<Box<Deflater>>,
    alone: Option<Box<Deflater>>,
    dictionary: Dictionary,
    /// The stream that the next message would go on with, while it is open.
    open: StreamId,
    newest: u64,
    /// Bytes of messages, so far.
    taken_in: u64,
}

impl Compressor {
    /// Begins a stream before the event at `index`, of what the log has before it from `from` on. Returns where the
    /// dictionary begins.
    pub fn begin(&mut self, reader: &Reader<'_>, index: u64, from: Option<u64>) -> (StreamId, u64) {
        let begin = self.dictionary.find(&reader.topic.log.lock(), reader.selector, index, from);
        self.open_stream();
        (self.open, begin)
    }

    /// Begins a stream that refers to nothing before it.
    pub fn begin_anew(&mut self) {
        self.dictionary.clear();
        self.open_stream();
    }

    fn open_stream(&mut self) {
        let deflater = self.deflater.get_or_insert_with(|| Box::new(Deflater::new(WINDOW_BITS)));
        deflater.begin(self.dictionary.bytes());
        self.newest += 1;
        self.open = StreamId(self.newest);
    }

    /// Whether the next message would go on with this stream.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.open == stream
    }

    /// Appends the frame of the next message of the open stream.
    pub fn write(&mut self, message: &[u8], out: &mut Vec<u8>) {
        self.taken_in += message.len() as u64;
        self.deflater.as_mut().expect("a stream was begun").write_frame(message, out);
    }

    /// Appends the frame of a message that refers to no other. No stream is broken off by it.
    pub fn write_alone(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let alone = self.alone.get_or_insert_with(|| Box::new(Deflater::new(WINDOW_BITS_ALONE)));
        alone.begin(&[]);
        alone.write_frame(message, out);
        self.taken_in += message.len() as u64;
    }

    /// Bytes of messages compressed so far.
    pub fn taken_in(&self) -> u64 {
        self.taken_in
    }
}

/// The end of what stands before an event, filled from its end.
#[derive(Default)]
struct Dictionary {
    buffer: Box<[u8]>,
    start: usize,
}

impl Dictionary {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn clear(&mut self) {
        self.start = self.buffer.len();
    }

    /// Takes the wanted events before `index` that are compressed, from `from` on; none without it. Returns the index of
    /// the first of them, else `index`. Looks back a bounded way, so who wants little may have a short one.
    fn find(&mut self, log: &Log, selector: &Selector, index: u64, from: Option<u64>) -> u64 {
        if self.buffer.is_empty() {
            self.buffer = vec![0; DICTIONARY_BYTES].into();
        }
        self.clear();
        let mut begin = index;
        let Some(from) = from.filter(|&from| from < index) else { return begin };
        let (mut looks, mut unwanted) = (LOOKS_MAX, UNWANTED_MAX);
        log.walk_back(index, selector.mask, &mut looks, |handle, _| {
            for at in (from.max(handle.run().at)..index.min(handle.run().end())).rev() {
                let (batch, event) = event_at(handle, at);
                if !selector.is_all() && !selector.wants(batch, event) {
                    unwanted -= 1;
                    if unwanted == 0 {
                        return false;
                    }
                    continue;
                }
                let object = batch.object(event);
                if Deflater::takes(object) {
                    self.put_before(object);
                    begin = at;
                }
                if self.start == 0 {
                    return false;
                }
            }
            handle.run().at > from
        });
        begin
    }

    /// As much of its end as fits.
    fn put_before(&mut self, object: &[u8]) {
        let taken = object.len().min(self.start);
        let start = self.start - taken;
        self.buffer[start..self.start].copy_from_slice(&object[object.len() - taken..]);
        self.start = start;
    }
}

fn event_at(handle: &Handle, index: u64) -> (&Batch, u32) {
    let run = handle.run();
    (&handle.batch, run.first + (index - run.at) as u32)
}
