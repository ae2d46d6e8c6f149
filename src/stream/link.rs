//! The link from the sequencer to one shard: a bounded channel of batches and a coalesced wake.
//!
//! The sequencer never waits for a shard: if the channel is full, it asks for a scan of everything watched instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::stream::batch::Batch;

/// Batches that wait for one shard, at most. A shard takes them every few hundred sends, and the history cannot reuse
/// their memory while they wait.
const BATCHES_MAX: usize = 256;

/// Nothing is needed: no reading watcher lags.
pub const NOTHING_NEEDED: u64 = u64::MAX;

/// The sequencer's end, shared with the shard.
pub struct Link {
    sender: Sender<Arc<Batch>>,
    /// Set when a batch found no room. No batch is sent then until the shard has taken the flag.
    scan_all: AtomicBool,
    /// Set while the shard runs. The shard clears it before it sleeps, and then looks once more.
    is_awake: AtomicBool,
    /// The oldest number that the shard's reading watchers still need (`overrun = wait`), apart from what was offered
    /// and is not served yet.
    needed: AtomicU64,
    /// The oldest number that newcomers need: watchers not known yet to read.
    newcomers_needed: AtomicU64,
    /// The shard has served everything offered up to this number.
    served: AtomicU64,
    /// Everything offered beyond that is in `offered_from..=offered_to`. Batches that this shard does not watch are not
    /// offered, so not needed here. Only the sequencer's thread uses these two.
    offered_from: AtomicU64,
    offered_to: AtomicU64,
}

/// What a shard's watchers need (`overrun = wait`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Everything offered up to this number was sent to its watchers, except to laggards. None: no more than reported
    /// before.
    pub served: Option<u64>,
    /// The oldest number needed by laggards that read or have room in their sockets.
    pub readers: u64,
    /// The oldest number that newcomers need: watchers not known yet to read.
    pub newcomers: u64,
}

/// What [`Link::offer`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shard {
    Awake,
    /// It sleeps, and the caller wakes it.
    Asleep,
}

impl Link {
    /// Offers a published batch to the shard.
    pub fn offer(&self, batch: &Arc<Batch>) -> Shard {
        if self.served.load(Ordering::SeqCst) >= self.offered_to.load(Ordering::Relaxed) {
            self.offered_from.store(batch.first_seq(), Ordering::Relaxed);
        }
        self.offered_to.store(batch.last_seq(), Ordering::Relaxed);
        if !self.scan_all.load(Ordering::SeqCst)
            && let Err(TrySendError::Full(_)) = self.sender.try_send(batch.clone())
        {
            self.scan_all.store(true, Ordering::SeqCst);
        }
        self.rouse()
    }

    /// Asks the shard to look at everything it watches: it has something to tell its watchers that is in no batch.
    pub fn ask_for_scan(&self) -> Shard {
        self.scan_all.store(true, Ordering::SeqCst);
        self.rouse()
    }

    fn rouse(&self) -> Shard {
        match self.is_awake.swap(true, Ordering::SeqCst) {
            true => Shard::Awake,
            false => Shard::Asleep,
        }
    }

    /// The oldest number that watchers known to read need, or may need. For the sequencer's thread.
    pub fn needed(&self) -> u64 {
        let served = self.served.load(Ordering::SeqCst);
        let unserved = match served >= self.offered_to.load(Ordering::Relaxed) {
            true => NOTHING_NEEDED,
            false => self.offered_from.load(Ordering::Relaxed).max(served + 1),
        };
        unserved.min(self.needed.load(Ordering::SeqCst))
    }

    pub fn newcomers_needed(&self) -> u64 {
        self.newcomers_needed.load(Ordering::SeqCst)
    }

    /// A watcher is about to begin in the past: nothing is dropped until the shard reports its position.
    pub fn hold(&self) {
        self.needed.store(0, Ordering::SeqCst);
    }

    /// Reports what is needed from now on. True: it has changed.
    pub fn report_needs(&self, needs: Needs) -> bool {
        let Needs { served, readers, newcomers } = needs;
        // What a watcher needs counts throughout, while it moves between newcomers and readers or begins to lag.
        let newcomers_before = self.newcomers_needed.fetch_min(newcomers, Ordering::SeqCst);
        let before = self.needed.swap(readers, Ordering::SeqCst);
        self.newcomers_needed.store(newcomers, Ordering::SeqCst);
        let served_before = served.map(|served| self.served.swap(served, Ordering::SeqCst));
        (before, newcomers_before, served_before) != (readers, newcomers, served)
    }
}

/// What a shard finds at its end.
pub enum Arrival {
    Batch(Arc<Batch>),
    /// Batches were left out, or a hole was published: everything watched may have something new.
    ScanAll,
}

/// The shard's end.
#[derive(Clone)]
pub struct Inlet {
    receiver: Receiver<Arc<Batch>>,
    pub link: Arc<Link>,
}

impl Inlet {
    /// The next arrival. A scan comes before every batch sent after the one left out.
    pub fn next(&self) -> Option<Arrival> {
        if self.link.scan_all.swap(false, Ordering::SeqCst) {
            return Some(Arrival::ScanAll);
        }
        self.receiver.try_recv().ok().map(Arrival::Batch)
    }

    /// Notes that the shard is about to sleep. False: something arrived meanwhile, and it must not.
    pub fn fall_asleep(&self) -> bool {
        self.link.is_awake.store(false, Ordering::SeqCst);
        self.receiver.is_empty() && !self.link.scan_all.load(Ordering::SeqCst)
    }

    pub fn wake_up(&self) {
        self.link.is_awake.store(true, Ordering::SeqCst);
    }
}

pub fn link() -> (Arc<Link>, Inlet) {
    link_of(BATCHES_MAX)
}

/// A link with room for `batches`.
pub fn link_of(batches: usize) -> (Arc<Link>, Inlet) {
    let (sender, receiver) = bounded(batches);
    let link = Arc::new(Link {
        sender,
        scan_all: AtomicBool::new(false),
        is_awake: AtomicBool::new(true),
        needed: AtomicU64::new(NOTHING_NEEDED),
        newcomers_needed: AtomicU64::new(NOTHING_NEEDED),
        served: AtomicU64::new(0),
        offered_from: AtomicU64::new(0),
        offered_to: AtomicU64::new(0),
    });
    (link.clone(), Inlet { receiver, link })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Arrival, NOTHING_NEEDED, Needs, Shard, link_of};
    use crate::stream::batch::Batch;

    fn batch_of(seq: u64) -> Arc<Batch> {
        let mut batch = Batch::default();
        batch.begin(seq);
        Arc::new(batch)
    }

    #[test]
    fn a_shard_does_not_need_what_it_was_not_offered() {
        let (link, _inlet) = link_of(4);
        let (readers, newcomers) = (NOTHING_NEEDED, NOTHING_NEEDED);
        assert_eq!(link.needed(), NOTHING_NEEDED);
        link.offer(&batch_of(5_000));
        assert_eq!(link.needed(), 5_000, "it has not served that yet");
        link.offer(&batch_of(5_010));
        assert!(link.report_needs(Needs { served: Some(5_000), readers, newcomers }));
        assert_eq!(link.needed(), 5_001);
        link.hold();
        assert_eq!(link.needed(), 0);
        assert!(link.report_needs(Needs { served: Some(5_010), readers, newcomers }));
        assert_eq!(link.needed(), NOTHING_NEEDED);
        assert!(link.report_needs(Needs { served: None, readers: 4_000, newcomers }));
        assert!(!link.report_needs(Needs { served: None, readers: 4_000, newcomers }));
        link.offer(&batch_of(6_000));
        assert_eq!(link.needed(), 4_000);
    }

    #[test]
    fn a_full_channel_becomes_a_scan_that_comes_before_later_batches() {
        let (link, inlet) = link_of(1);
        let batch = batch_of(1_000);
        link.offer(&batch);
        link.offer(&batch); // no room
        link.offer(&batch); // must not overtake the scan
        assert!(matches!(inlet.next(), Some(Arrival::ScanAll)));
        assert!(matches!(inlet.next(), Some(Arrival::Batch(_))));
        assert!(inlet.next().is_none());
        link.offer(&batch);
        assert!(matches!(inlet.next(), Some(Arrival::Batch(_))));
    }

    #[test]
    fn only_a_sleeping_shard_is_woken_and_only_once() {
        let (link, inlet) = link_of(4);
        let batch = batch_of(1_000);
        assert_eq!(link.offer(&batch), Shard::Awake);
        assert!(!inlet.fall_asleep(), "something waits");
        assert!(inlet.next().is_some());
        assert!(inlet.fall_asleep());
        assert_eq!(link.offer(&batch), Shard::Asleep);
        assert_eq!(link.offer(&batch), Shard::Awake);
    }
}
