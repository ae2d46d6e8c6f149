//! What was gathered, in the form in which it is sent: as it lies in the batches, compressed, or for HTTP answers in chunks.
//! What is not as in the batches is made once for all watchers at one place.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;
use memchr::memchr;

use crate::delivery::compressor::{Compressor, Reader, StreamId};
use crate::delivery::counts::Saving;
use crate::delivery::cursor::{Cursor, Gathered, place_behind};
use crate::delivery::keys::CohortKey;
use crate::delivery::outbox::RestForm;
use crate::delivery::watcher::Watcher;
use crate::stream::batch::Batch;
use crate::stream::topic::Handle;
use crate::wire::deflater::Deflater;
use crate::wire::framing::Framing;

/// One event in the bytes.
struct Place {
    seq: u64,
    /// What of it is as in its batch: the object in a chunk, the frame of an event that is not compressed. Empty: nothing.
    copied: Range<u32>,
    /// Its end, or the end of its chunk.
    end: u32,
    /// Bytes of its frame as it would be for others, if it is compressed; else 0.
    plain: u32,
}

/// What is made is kept for the next gather, as long as it is no more than this: four portions of a cohort.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Room that is kept for what cohorts are sent next.
pub const COHORT_BYTES_MAX: usize = 2 * KEPT_BYTES_MAX;

/// Events in another form, by their numbers. A gather is most often the one before it and what came since, so they are
/// kept.
#[derive(Default)]
pub struct Framed {
    framing: Framing,
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// Those of `places` that were gathered last.
    gathered: Range<usize>,
    window: Option<Window>,
}

/// Blocks of a log that are kept for those who are served alone, at most. Most of them have a few tens of KiB.
const BLOCKS_MAX: usize = 32;
/// Room that one block may keep, and all of them together.
const BLOCK_BYTES_MAX: usize = 512 << 10;
const BLOCKS_BYTES_MAX: usize = 4 << 20;

/// What was last made for those who are served alone, each time from another place on.
#[derive(Default)]
pub struct FramedBlocks {
    /// The one used last is at the end.
    blocks: Vec<Framed>,
}

/// Who can read what is compressed in one stream.
struct Window {
    stream: StreamId,
    cohort: CohortKey,
    /// Members that were sent everything compressed from here on. None: those who begin with the stream.
    from: Option<u64>,
}

/// Where a short write left a watcher.
pub struct Stopped<'a> {
    /// Behind the event in which the write stopped.
    pub cursor: Cursor,
    /// Events sent, the one in which the write stopped included.
    pub messages: u64,
    /// The rest of that event, or of its object: its batch, and the byte range in it.
    pub rest: Option<(&'a Arc<Batch>, Range<u32>)>,
    pub form: RestForm,
    /// What comes behind that.
    pub behind: &'a [u8],
    /// Of the events sent.
    pub saving: Saving,
}

/// Slices in one write at most; the kernel takes 1,024.
pub const SLICES_MAX: usize = 256;

/// The bytes to send of what was gathered.
pub struct Outgoing<'a> {
    pub gathered: &'a Gathered,
    /// None: the frames as they are.
    framed: Option<&'a Framed>,
    pub bytes: usize,
    /// Bytes that were compressed for it.
    pub compressed: usize,
    /// What of it is compressed.
    pub saving: Saving,
    /// Members that were sent everything compressed from this index on can read it.
    readable_from: u64,
}

impl<'a> Outgoing<'a> {
    /// The frames as they are.
    #[inline]
    pub fn plain(gathered: &'a Gathered) -> Self {
        Self {
            gathered,
            framed: None,
            bytes: gathered.bytes,
            compressed: 0,
            saving: Saving::default(),
            readable_from: u64::MAX,
        }
    }

    /// `reader` is whoever else is sent this must be like.
    #[inline]
    pub fn of(
        gathered: &'a Gathered,
        framing: Framing,
        framed: &'a mut Framed,
        compressor: &mut Compressor,
        reader: &Reader<'_>,
    ) -> Self {
        if framing == Framing::WebSocket || gathered.pieces.is_empty() {
            return Self::plain(gathered);
        }
        let before = compressor.taken_in();
        framed.frame(gathered, framing, compressor, reader);
        let compressed = (compressor.taken_in() - before) as usize;
        Self {
            gathered,
            bytes: framed.chosen().len(),
            compressed,
            saving: framed.saving_of(framed.gathered.clone()),
            readable_from: framed.window.as_ref().map_or(u64::MAX, |window| window.from.unwrap_or(0)),
            framed: Some(framed),
        }
    }

    /// Whether this member can read it.
    #[inline]
    pub fn suits(&self, watcher: &Watcher) -> bool {
        self.readable_from == u64::MAX || watcher.compressed_from() <= self.readable_from
    }

    #[inline]
    pub fn add_slices(&self, slices: &mut ArrayVec<IoSlice<'a>, SLICES_MAX>) {
        let gathered = self.gathered;
        match self.framed {
            None => slices.extend(gathered.pieces.iter().map(|piece| IoSlice::new(gathered.slice_of(piece)))),
            Some(framed) => slices.push(IoSlice::new(framed.chosen())),
        }
    }

    /// The new place of a watcher at `cursor` whose socket took only `taken < bytes` bytes.
    pub fn stopped_at(&self, cursor: Cursor, taken: usize) -> Stopped<'a> {
        if let Some(framed) = self.framed {
            return framed.stopped_at(self.gathered, cursor, taken);
        }
        let stopped = self.gathered.stopped_at(cursor, taken);
        Stopped {
            cursor: stopped.cursor,
            messages: stopped.messages,
            rest: stopped.rest,
            form: RestForm::AsItIs,
            behind: &[],
            saving: Saving::default(),
        }
    }
}

impl FramedBlocks {
    /// The block that this gather begins in, else the one that was not used for longest. The gather has an event.
    pub fn pick(&mut self, gathered: &Gathered, framing: Framing, reader: &Reader<'_>) -> &mut Framed {
        let first = gathered.first_seq();
        let found = self.blocks.iter().rposition(|block| block.find(first, framing, reader).is_some());
        match found {
            Some(place) => self.blocks[place..].rotate_left(1),
            None if self.blocks.len() == BLOCKS_MAX => {
                self.blocks.rotate_left(1);
                self.blocks[BLOCKS_MAX - 1].cut(0);
            }
            None => self.blocks.push(Framed::default()),
        }
        self.blocks.last_mut().expect("there is one")
    }

    /// Lets go of what the block used last has, if that is more than one may keep. Then of those that were not used for
    /// longest, until the others have room.
    pub fn trim(&mut self) {
        self.blocks.last_mut().expect("one was just used").trim(BLOCK_BYTES_MAX);
        let mut room = 0;
        let kept = self.blocks.iter().rev().take_while(|block| {
            room += block.room();
            room <= BLOCKS_BYTES_MAX
        });
        let count = kept.count();
        self.blocks.drain(..self.blocks.len() - count);
    }
}

impl Framed {
    /// Forgets what it has, and lets go of its room, if that is more than this.
    #[inline]
    pub fn trim(&mut self, bytes_max: usize) {
        if self.room() > bytes_max {
            self.cut(0);
            (self.bytes, self.places) = (Vec::new(), Vec::new());
        }
    }

    #[inline]
    fn room(&self) -> usize {
        self.bytes.capacity() + self.places.capacity() * size_of::<Place>()
    }

    /// What is compressed of these places.
    fn saving_of(&self, places: Range<usize>) -> Saving {
        let mut saving = Saving::default();
        if !self.framing.is_compressed() {
            return saving;
        }
        let mut start = self.end_of(places.start);
        for place in &self.places[places] {
            if place.plain > 0 {
                saving.before += place.plain as usize;
                saving.after += place.end as usize - start;
            }
            start = place.end as usize;
        }
        saving
    }

    /// Has each event that was gathered in its form. There is at least one.
    fn frame(
        &mut self,
        gathered: &Gathered,
        framing: Framing,
        compressor: &mut Compressor,
        reader: &Reader<'_>,
    ) {
        let events = gathered.pieces.iter().flat_map(|piece| {
            let handle = &gathered.handles[piece.handle as usize];
            (piece.first..=piece.last).map(move |event| (handle, event))
        });
        let begin = self.find(gathered.first_seq(), framing, reader).unwrap_or_else(|| {
            self.cut(0);
            (self.framing, self.window) = (framing, None);
            0
        });
        let mut at = begin;
        for (handle, event) in events {
            let seq = handle.batch.seq(event);
            if self.places.get(at).is_none_or(|place| place.seq != seq) {
                // Others may have been wanted between them.
                self.cut(at);
                let copied = match framing {
                    Framing::Deflate if Deflater::takes(handle.batch.object(event)) => {
                        self.compress(handle, event, compressor, reader)
                    }
                    _ => self.write(handle, event, compressor),
                };
                let is_compressed = framing.is_compressed() && copied.is_empty();
                let plain = if is_compressed { handle.batch.span(event..event + 1).len() as u32 } else { 0 };
                self.places.push(Place { seq, copied, end: self.bytes.len() as u32, plain });
            }
            at += 1;
        }
        self.gathered = begin..at;
    }

    /// The place of the event with the number `first`, if what is kept from there on can be sent.
    fn find(&self, first: u64, framing: Framing, reader: &Reader<'_>) -> Option<usize> {
        if self.framing != framing || self.bytes.len() > KEPT_BYTES_MAX {
            return None;
        }
        let place = self.places.binary_search_by_key(&first, |place| place.seq).ok()?;
        let Some(window) = &self.window else { return Some(place) };
        let suits = match (reader.compressed_from, window.from) {
            (Some(sent), Some(from)) => sent <= from,
            (None, None) => place == 0,
            _ => false,
        };
        (suits && window.cohort == reader.cohort).then_some(place)
    }

    /// Appends an event that stands for itself.
    fn write(&mut self, handle: &Handle, event: u32, compressor: &mut Compressor) -> Range<u32> {
        let (batch, start) = (&handle.batch, self.bytes.len());
        let object = batch.object(event);
        let copied = match self.framing {
            Framing::DeflateAlone if Deflater::takes(object) => {
                compressor.write_alone(object, &mut self.bytes);
                start..start
            }
            Framing::Sse | Framing::Ndjson => self.framing.write_event(object, &mut self.bytes),
            _ => {
                self.bytes.extend_from_slice(&batch.bytes()[batch.span(event..event + 1)]);
                start..self.bytes.len()
            }
        };
        copied.start as u32..copied.end as u32
    }

    /// Appends an event that may refer to those before it.
    fn compress(
        &mut self,
        handle: &Handle,
        event: u32,
        compressor: &mut Compressor,
        reader: &Reader<'_>,
    ) -> Range<u32> {
        let is_open = self.window.as_ref().is_some_and(|window| compressor.is_open(window.stream));
        if !is_open {
            let run = handle.run();
            let index = run.at + u64::from(event - run.first);
            // Whoever could read it so far still can.
            let known = self.window.as_ref().map_or(reader.compressed_from, |window| window.from);
            let (stream, begin) = compressor.begin(reader, index, known);
            let from = self.window.as_ref().map_or(known.map(|_| begin), |window| window.from);
            self.window = Some(Window { stream, cohort: reader.cohort, from });
        }
        compressor.write(handle.batch.object(event), &mut self.bytes);
        let end = self.bytes.len() as u32;
        end..end
    }

    /// Keeps only the first `count` events.
    fn cut(&mut self, count: usize) {
        if count == self.places.len() {
            return;
        }
        self.bytes.truncate(self.end_of(count));
        self.places.truncate(count);
        if let Some(window) = &mut self.window {
            // The stream has more than what is kept.
            window.stream = StreamId::default();
        }
    }

    /// Where the first `count` events end.
    fn end_of(&self, count: usize) -> usize {
        count.checked_sub(1).map_or(0, |last| self.places[last].end as usize)
    }

    /// Those of the gather.
    fn chosen(&self) -> &[u8] {
        &self.bytes[self.end_of(self.gathered.start)..self.end_of(self.gathered.end)]
    }

    /// The new place of a watcher at `cursor` whose socket took only `taken` bytes.
    fn stopped_at<'a>(&'a self, gathered: &'a Gathered, cursor: Cursor, taken: usize) -> Stopped<'a> {
        let taken = self.end_of(self.gathered.start) + taken;
        let places = &self.places[self.gathered.clone()];
        let whole = places.partition_point(|place| place.end as usize <= taken);
        let is_cut = taken > self.end_of(self.gathered.start + whole);
        let sent = whole + usize::from(is_cut);
        let mut stopped = Stopped {
            cursor,
            messages: sent as u64,
            rest: None,
            form: RestForm::AsItIs,
            saving: self.saving_of(self.gathered.start..self.gathered.start + sent),
            behind: &[],
        };
        let Some(last) = places[..sent].last() else { return stopped };
        let (handle, event) = gathered.event_at(sent - 1);
        stopped.cursor = place_behind(handle, event);
        if !is_cut {
            return stopped;
        }
        stopped.behind = &self.bytes[taken..last.end as usize];
        let batch = &handle.batch;
        if last.copied.contains(&(taken as u32)) {
            let end = batch.span(event..event + 1).end as u32;
            stopped.behind = &self.bytes[last.copied.end as usize..last.end as usize];
            let rest = end - (last.copied.end - taken as u32)..end;
            if self.framing.is_http()
                && memchr(b'\r', &batch.bytes()[rest.start as usize..rest.end as usize]).is_some()
            {
                stopped.form = RestForm::WithoutReturns;
            }
            stopped.rest = Some((batch, rest));
        }
        stopped
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES_MAX, BLOCKS_BYTES_MAX, BLOCKS_MAX, Framed, FramedBlocks};

    #[test]
    fn blocks_keep_no_more_room_than_they_may() {
        let mut blocks = FramedBlocks::default();
        for used in 1..=BLOCKS_MAX {
            blocks
                .blocks
                .push(Framed { bytes: Vec::with_capacity(BLOCK_BYTES_MAX - used), ..Framed::default() });
            blocks.trim();
            let rooms: Vec<usize> = blocks.blocks.iter().map(Framed::room).collect();
            // Those used last are there.
            let kept = used.min(BLOCKS_BYTES_MAX / BLOCK_BYTES_MAX);
            let expected: Vec<usize> = (used - kept + 1..=used).map(|used| BLOCK_BYTES_MAX - used).collect();
            assert_eq!(rooms, expected);
        }
        blocks.blocks.push(Framed { bytes: Vec::with_capacity(BLOCK_BYTES_MAX + 1), ..Framed::default() });
        blocks.trim();
        assert_eq!(blocks.blocks.last().map(Framed::room), Some(0));
    }
}
