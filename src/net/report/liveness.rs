//! Checks whether the shards and the ingest thread begin a turn when they are woken.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::access::admission::Admission;
use crate::metrics::Counters;
use crate::net::ingest::handle::IngestWaker;
use crate::net::shard::handle::ShardHandle;

/// The time in which a woken thread begins its next turn, even on a loaded machine.
const TURN_MAX: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Liveness {
    pub shards: Vec<ShardHandle>,
    pub ingest: Arc<IngestWaker>,
    pub counters: Arc<Counters>,
    pub admission: Arc<Admission>,
}

impl Liveness {
    /// The number of turns of each thread so far: the shards, then ingest.
    pub fn turns(&self) -> Vec<u64> {
        let of_shards = self.counters.shards.iter().map(|shard| shard.turns.get());
        of_shards.chain([self.counters.ingest.turns.get()]).collect()
    }

    /// Wakes each thread, so that it begins a turn unless it hangs.
    pub fn wake(&self) {
        self.shards.iter().for_each(ShardHandle::wake);
        self.ingest.wake();
    }

    /// The names of the threads that have begun no turn since `before` ([`Liveness::turns`]).
    pub fn silent_since(&self, before: &[u64]) -> Vec<String> {
        let silent = before.iter().zip(self.turns()).enumerate().filter(|(_, (before, now))| *before == now);
        silent.map(|(index, _)| self.name(index)).collect()
    }

    /// The first thread that begins no turn when it is woken. Waits for up to a second if one hangs.
    pub fn stalled_thread(&self) -> Option<String> {
        let before = self.turns();
        self.wake();
        let until = Instant::now() + TURN_MAX;
        loop {
            let silent = self.silent_since(&before).into_iter().next()?;
            if Instant::now() >= until {
                return Some(silent);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the daemon drains. Threads then end one after the other, and take no more turns.
    pub fn is_ending(&self) -> bool {
        self.admission.is_draining()
    }

    fn name(&self, index: usize) -> String {
        match index < self.counters.shards.len() {
            true => format!("shard-{index}"),
            false => "ingest".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mio::{Poll, Token, Waker};

    use super::Liveness;
    use crate::access::address_limits::AddressLimits;
    use crate::access::admission::{Admission, AdmissionLimits};
    use crate::metrics::Counters;
    use crate::net::ingest::handle::IngestWaker;

    #[test]
    fn threads_that_have_not_turned_are_named() {
        let poll = Poll::new().unwrap();
        let of_address = AddressLimits { connections_max: 0, handshakes_per_second: 0 };
        let liveness = Liveness {
            shards: Vec::new(),
            ingest: Arc::new(IngestWaker::new(Waker::new(poll.registry(), Token(0)).unwrap(), 1)),
            counters: Arc::new(Counters::new(2)),
            admission: Arc::new(Admission::new(AdmissionLimits { connections_max: 1, of_address })),
        };
        let before = liveness.turns();
        assert_eq!(liveness.silent_since(&before), ["shard-0", "shard-1", "ingest"]);
        liveness.counters.shards[1].turns.add(1);
        liveness.counters.ingest.turns.add(5);
        assert_eq!(liveness.silent_since(&before), ["shard-0"]);
        assert!(liveness.silent_since(&liveness.turns()).len() == 3 && !liveness.is_ending());
    }
}
