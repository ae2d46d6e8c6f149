//! Whether every thread that serves turns around when it is woken.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::access::admission::Admission;
use crate::metrics::Counters;
use crate::net::ingest::handle::IngestWaker;
use crate::net::shard::handle::ShardHandle;

/// A thread that was woken has begun its next turn by then, however loaded the machine is.
const TURN_MAX: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Liveness {
    pub shards: Vec<ShardHandle>,
    pub ingest: Arc<IngestWaker>,
    pub counters: Arc<Counters>,
    pub admission: Arc<Admission>,
}

impl Liveness {
    /// How often each thread has turned so far: the shards, and ingest.
    pub fn turns(&self) -> Vec<u64> {
        let of_shards = self.counters.shards.iter().map(|shard| shard.turns.get());
        of_shards.chain([self.counters.ingest.turns.get()]).collect()
    }

    /// Makes each turn around that is not stuck.
    pub fn wake(&self) {
        self.shards.iter().for_each(ShardHandle::wake);
        self.ingest.wake();
    }

    /// The threads that have not turned since then, by name.
    pub fn silent_since(&self, before: &[u64]) -> Vec<String> {
        let silent = before.iter().zip(self.turns()).enumerate().filter(|(_, (before, now))| *before == now);
        silent.map(|(index, _)| self.name(index)).collect()
    }

    /// The first thread that does not begin a turn when it is woken. One that hangs is waited for.
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

    /// Threads end one after the other: their silence means nothing.
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
    fn who_has_not_turned_is_named() {
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
