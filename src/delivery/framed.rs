//! What was gathered, in the form in which it is sent: as it lies in the batches, or for HTTP answers in chunks, which are
//! made once for all watchers at one place.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::delivery::cursor::{Cursor, Gathered, place_behind};
use crate::stream::batch::Batch;
use crate::stream::topic::Handle;
use crate::wire::framing::Framing;

/// One event in the bytes.
struct Place {
    seq: u64,
    /// Its object; before it comes the chunk's beginning.
    object: Range<u32>,
    /// The end of the chunk.
    end: u32,
}

/// Chunks that are kept for the next gather, as long as they are no more than this: four portions of a cohort.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Events in chunks, by their numbers. A gather is most often the one before it and what came since, so chunks are kept.
#[derive(Default)]
pub struct Framed {
    framing: Framing,
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// Those of `places` that were gathered last.
    gathered: Range<usize>,
}

/// Where a short write left a watcher.
pub struct Stopped<'a> {
    /// Behind the event in which the write stopped.
    pub cursor: Cursor,
    /// Events sent, the one in which the write stopped included.
    pub messages: u64,
    /// The rest of that event, or of its object: its batch, and the byte range in it.
    pub rest: Option<(&'a Arc<Batch>, Range<u32>)>,
    /// What comes behind that.
    pub behind: &'a [u8],
}

/// Slices in one write at most; the kernel takes 1,024.
pub const SLICES_MAX: usize = 256;

/// The bytes to send of what was gathered.
pub struct Outgoing<'a> {
    pub gathered: &'a Gathered,
    /// None: the frames as they are.
    framed: Option<&'a Framed>,
    pub bytes: usize,
}

impl<'a> Outgoing<'a> {
    #[inline]
    pub fn of(gathered: &'a Gathered, framing: Framing, framed: &'a mut Framed) -> Self {
        if framing.is_http() {
            framed.frame(gathered, framing);
            return Self { gathered, bytes: framed.chunks().len(), framed: Some(framed) };
        }
        Self { gathered, framed: None, bytes: gathered.bytes }
    }

    #[inline]
    pub fn add_slices(&self, slices: &mut ArrayVec<IoSlice<'a>, SLICES_MAX>) {
        let gathered = self.gathered;
        match self.framed {
            None => slices.extend(gathered.pieces.iter().map(|piece| IoSlice::new(gathered.slice_of(piece)))),
            Some(framed) => slices.push(IoSlice::new(framed.chunks())),
        }
    }

    /// The new place of a watcher at `cursor` whose socket took only `taken < bytes` bytes.
    pub fn stopped_at(&self, cursor: Cursor, taken: usize) -> Stopped<'a> {
        if let Some(framed) = self.framed {
            return framed.stopped_at(self.gathered, cursor, taken);
        }
        let stopped = self.gathered.stopped_at(cursor, taken);
        Stopped { cursor: stopped.cursor, messages: stopped.messages, rest: stopped.rest, behind: &[] }
    }
}

impl Framed {
    /// Has each event that was gathered in a chunk.
    fn frame(&mut self, gathered: &Gathered, framing: Framing) {
        let mut events = gathered.pieces.iter().flat_map(|piece| {
            let batch = &gathered.handles[piece.handle as usize].batch;
            (piece.first..=piece.last).map(move |event| (batch, event))
        });
        let Some(first) = events.clone().next().map(|(batch, event)| batch.seq(event)) else {
            self.gathered = 0..0;
            return;
        };
        let is_kept = self.framing == framing && self.bytes.len() <= KEPT_BYTES_MAX;
        let begin = self.places.binary_search_by_key(&first, |place| place.seq).ok().filter(|_| is_kept);
        self.framing = framing;
        let begin = begin.unwrap_or_else(|| {
            self.cut(0);
            0
        });
        let mut at = begin;
        for (batch, event) in events.by_ref() {
            let seq = batch.seq(event);
            if self.places.get(at).is_none_or(|place| place.seq != seq) {
                // Others may have been wanted between them.
                self.cut(at);
                let object = framing.write_event(batch.object(event), &mut self.bytes);
                let object = object.start as u32..object.end as u32;
                self.places.push(Place { seq, object, end: self.bytes.len() as u32 });
            }
            at += 1;
        }
        self.gathered = begin..at;
    }

    /// Keeps only the first `count` events.
    fn cut(&mut self, count: usize) {
        self.bytes.truncate(self.end_of(count));
        self.places.truncate(count);
    }

    /// Where the first `count` events end.
    fn end_of(&self, count: usize) -> usize {
        count.checked_sub(1).map_or(0, |last| self.places[last].end as usize)
    }

    /// Those of the gather.
    fn chunks(&self) -> &[u8] {
        &self.bytes[self.end_of(self.gathered.start)..self.end_of(self.gathered.end)]
    }

    /// The new place of a watcher at `cursor` whose socket took only `taken` bytes.
    fn stopped_at<'a>(&'a self, gathered: &'a Gathered, cursor: Cursor, taken: usize) -> Stopped<'a> {
        let taken = self.end_of(self.gathered.start) + taken;
        let places = &self.places[self.gathered.clone()];
        let whole = places.partition_point(|place| place.end as usize <= taken);
        let is_cut = taken > self.end_of(self.gathered.start + whole);
        let sent = whole + usize::from(is_cut);
        let mut stopped = Stopped { cursor, messages: sent as u64, rest: None, behind: &[] };
        let Some(last) = places[..sent].last() else { return stopped };
        let (handle, event) = event_at(gathered, sent - 1);
        stopped.cursor = place_behind(handle, event);
        if !is_cut {
            return stopped;
        }
        stopped.behind = &self.bytes[taken..last.end as usize];
        let batch = &handle.batch;
        let unsent = taken as u32..last.object.end;
        // It is as it was, unless a blank became another one.
        if last.object.contains(&(taken as u32)) && batch.object(event).ends_with(self.slice(&unsent)) {
            let end = batch.span(event..event + 1).end as u32;
            stopped.behind = &self.bytes[last.object.end as usize..last.end as usize];
            stopped.rest = Some((batch, end - unsent.len() as u32..end));
        }
        stopped
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }
}

/// The event at this place of what was gathered: its handle, and its index in the batch.
fn event_at(gathered: &Gathered, mut place: usize) -> (&Handle, u32) {
    for piece in &gathered.pieces {
        let count = (piece.last - piece.first) as usize + 1;
        if place < count {
            return (&gathered.handles[piece.handle as usize], piece.first + place as u32);
        }
        place -= count;
    }
    panic!("so many events were gathered");
}
