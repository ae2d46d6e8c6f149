//! What was gathered, in the form in which it is sent: as it lies in the batches, or for HTTP answers in chunks, which are
//! made once for all watchers at one place.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::delivery::cursor::{Cursor, Gathered, place_behind};
use crate::stream::batch::Batch;
use crate::wire::framing::Framing;

/// One event in the bytes.
struct Place {
    /// Its object; before it comes the chunk's beginning.
    object: Range<u32>,
    /// The end of the chunk.
    end: u32,
    /// In [`Gathered::handles`].
    handle: u32,
    event: u32,
}

/// The buffers serve the next gather too.
#[derive(Default)]
pub struct Framed {
    bytes: Vec<u8>,
    places: Vec<Place>,
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
            return Self { gathered, bytes: framed.bytes.len(), framed: Some(framed) };
        }
        Self { gathered, framed: None, bytes: gathered.bytes }
    }

    #[inline]
    pub fn add_slices(&self, slices: &mut ArrayVec<IoSlice<'a>, SLICES_MAX>) {
        let gathered = self.gathered;
        match self.framed {
            None => slices.extend(gathered.pieces.iter().map(|piece| IoSlice::new(gathered.slice_of(piece)))),
            Some(framed) => slices.push(IoSlice::new(&framed.bytes)),
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
    /// Puts each event that was gathered into a chunk.
    fn frame(&mut self, gathered: &Gathered, framing: Framing) {
        self.bytes.clear();
        self.places.clear();
        for piece in &gathered.pieces {
            let batch = &gathered.handles[piece.handle as usize].batch;
            for event in piece.first..=piece.last {
                let object = framing.write_event(batch.object(event), &mut self.bytes);
                self.places.push(Place {
                    object: object.start as u32..object.end as u32,
                    end: self.bytes.len() as u32,
                    handle: piece.handle,
                    event,
                });
            }
        }
    }

    /// The new place of a watcher at `cursor` whose socket took only `taken` bytes.
    fn stopped_at<'a>(&'a self, gathered: &'a Gathered, cursor: Cursor, taken: usize) -> Stopped<'a> {
        let whole = self.places.partition_point(|place| place.end as usize <= taken);
        let begun_at = whole.checked_sub(1).map_or(0, |last| self.places[last].end as usize);
        let is_cut = taken > begun_at;
        let sent = whole + usize::from(is_cut);
        let handle_of = |place: &Place| &gathered.handles[place.handle as usize];
        let mut stopped = Stopped { cursor, messages: sent as u64, rest: None, behind: &[] };
        let Some(last) = self.places[..sent].last() else { return stopped };
        stopped.cursor = place_behind(handle_of(last), last.event);
        if !is_cut {
            return stopped;
        }
        stopped.behind = &self.bytes[taken..last.end as usize];
        let batch = &handle_of(last).batch;
        let unsent = taken as u32..last.object.end;
        // It is as it was, unless a blank became another one.
        if last.object.contains(&(taken as u32)) && batch.object(last.event).ends_with(self.slice(&unsent)) {
            let end = batch.span(last.event..last.event + 1).end as u32;
            stopped.behind = &self.bytes[last.object.end as usize..last.end as usize];
            stopped.rest = Some((batch, end - unsent.len() as u32..end));
        }
        stopped
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }
}
