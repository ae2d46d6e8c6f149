//! What the history must not drop yet, and whether there is room beside it (`overrun = wait`).

use crate::stream::link::NOTHING_NEEDED;
use crate::stream::sequencer::Sequencer;

impl Sequencer {
    /// Whether the batch that would be dropped next has to stay.
    pub(super) fn is_oldest_needed(&self) -> bool {
        if self.keep_from == NOTHING_NEEDED {
            return false;
        }
        let log = self.directory.all.log.lock();
        log.oldest().is_some_and(|oldest| oldest.last_seq() >= self.keep_from)
    }

    /// Whether taking in `bytes` more would drop an event with a number of at least `needed`.
    pub fn would_drop(&self, needed: u64, bytes: usize) -> bool {
        let used = self.history.taken_up() + self.directory.dialect_bytes() + bytes;
        let mut over = used.saturating_sub(self.history.limit());
        let log = self.directory.all.log.lock();
        for handle in log.handles() {
            if over == 0 {
                return false;
            }
            if handle.batch.last_seq() >= needed {
                return true;
            }
            over = over.saturating_sub(handle.batch.cost());
        }
        false
    }
}
