//! One merge for a watcher of many jobs: events are gathered job by job and sent in the order of their numbers.

use crate::delivery::counts::Saving;
use crate::delivery::cursor::{Cursor, Gathered, place_behind};
use crate::delivery::keys::SubscriptionSlot;
use crate::stream::topic::Handle;

/// One event of a merge.
pub struct Merged {
    pub seq: u64,
    /// Place in [`Merge::sources`].
    pub source: u32,
    /// Place in [`Merge::handles`].
    pub handle: u32,
    pub event: u32,
}

/// Where an event ends.
#[derive(Clone, Copy)]
pub struct MergedEnd {
    /// In the bytes to send.
    pub sent: usize,
    /// Of all events up to here.
    pub saving: Saving,
}

/// What one subscription adds to a merge.
pub struct Source {
    pub subscription: SubscriptionSlot,
    /// Its place after the events sent so far.
    pub at: Cursor,
    /// Its place once all gathered events are sent.
    pub next: Cursor,
    /// Nothing is left up to the tail.
    pub is_all: bool,
}

/// Buffers of one merge, used again for the next.
#[derive(Default)]
pub struct Merge {
    pub sources: Vec<Source>,
    pub handles: Vec<Handle>,
    pub merged: Vec<Merged>,
    /// Where each event ends in the bytes to send.
    pub ends: Vec<MergedEnd>,
}

impl Merge {
    pub fn add<'a>(
        &mut self,
        subscription: SubscriptionSlot,
        at: Cursor,
        ahead: impl Iterator<Item = &'a Handle>,
        gathered: &Gathered,
    ) {
        let source = self.sources.len() as u32;
        self.push_ahead(ahead);
        let first = self.handles.len() as u32;
        self.handles.extend(gathered.handles.iter().cloned());
        for piece in &gathered.pieces {
            let batch = &gathered.handles[piece.handle as usize].batch;
            let events = (piece.first..=piece.last).map(|event| (batch.seq(event), event));
            let handle = first + piece.handle;
            self.merged.extend(events.map(|(seq, event)| Merged { seq, source, handle, event }));
        }
        self.sources.push(Source { subscription, at, next: gathered.next, is_all: gathered.is_all });
    }

    /// Nothing is known of a job beyond its place, but for what is ahead.
    pub fn add_ahead<'a>(
        &mut self,
        subscription: SubscriptionSlot,
        at: Cursor,
        ahead: impl Iterator<Item = &'a Handle>,
    ) {
        self.push_ahead(ahead);
        self.sources.push(Source { subscription, at, next: at, is_all: true });
    }

    fn push_ahead<'a>(&mut self, ahead: impl Iterator<Item = &'a Handle>) {
        let source = self.sources.len() as u32;
        for handle in ahead {
            let seq = handle.batch.first_seq();
            self.merged.push(Merged { seq, source, handle: self.handles.len() as u32, event: 0 });
            self.handles.push(handle.clone());
        }
    }

    /// The first `sent` events were sent: their sources are behind them.
    pub fn move_on(&mut self, sent: usize) {
        for event in &self.merged[..sent] {
            let at = place_behind(&self.handles[event.handle as usize], event.event);
            let source = &mut self.sources[event.source as usize];
            // A kept event is before the place that was taken after its gap.
            if at.seq > source.at.seq {
                source.at = at;
            }
        }
    }

    pub fn clear(&mut self) {
        self.sources.clear();
        self.handles.clear();
        self.merged.clear();
        self.ends.clear();
    }
}
