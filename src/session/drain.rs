//! The way to a shard's end: what is published is served, everybody is told goodbye, the last are waited for.
//!
//! Times are milliseconds of one monotonic clock.

/// The least and the usual greatest wait before reconnecting after a drain.
const RETRY_MILLIS_MIN: u64 = 500;
const RETRY_MILLIS_SPREAD_MIN: u64 = 4_500;
/// Operators who have asked have so long after the goodbye to take the answer.
const OPERATORS_MILLIS: u64 = 100;
/// After the goodbye, how often it is looked whether the other shards' connections have left as well.
const LOOK_MILLIS: u64 = 50;

/// What a drain asks of one shard.
#[derive(Clone, Copy, Debug)]
pub struct DrainOrder {
    /// How long slow clients are served before the goodbye.
    pub serve_millis: u64,
    /// How long the last are waited for after that.
    pub linger_millis: u64,
    /// Connections of all shards.
    pub connections: usize,
    pub shards: usize,
}

pub struct Drain {
    order: DrainOrder,
    serve_until: u64,
    end_at: u64,
    has_said_goodbye: bool,
    operators_until: u64,
}

/// Who is still there, for [`Drain::is_over`].
pub struct StillThere {
    /// Of any shard.
    pub connections: usize,
    /// An operator waits for an answer.
    pub is_operator_served: bool,
}

impl Drain {
    pub fn new(order: DrainOrder, now: u64) -> Self {
        let serve_until = now + order.serve_millis;
        let end_at = serve_until + order.linger_millis;
        Self { order, serve_until, end_at, has_said_goodbye: false, operators_until: end_at }
    }

    /// Milliseconds until there is something to do, whatever comes.
    pub fn until_next(&self, now: u64) -> u64 {
        match self.has_said_goodbye {
            true => self.end_at.saturating_sub(now).min(LOOK_MILLIS),
            false => self.serve_until.saturating_sub(now),
        }
    }

    /// True once: all is served, or the time for that is over. The caller says goodbye.
    pub fn is_goodbye(&mut self, now: u64, is_served: impl FnOnce() -> bool) -> bool {
        if self.has_said_goodbye || (now < self.serve_until && !is_served()) {
            return false;
        }
        self.has_said_goodbye = true;
        self.operators_until = self.end_at.min(now + OPERATORS_MILLIS);
        true
    }

    /// Milliseconds after which each client of this shard is asked to reconnect: those of all shards are spread evenly.
    pub fn retries(&self, shard: usize) -> impl Iterator<Item = u64> + use<> {
        let (connections, shards) = (self.order.connections.max(1) as u64, self.order.shards as u64);
        let spread = RETRY_MILLIS_SPREAD_MIN.max(self.order.connections as u64 / 2);
        (0..).map(move |client| {
            let place = (shard as u64 + client * shards) % connections;
            RETRY_MILLIS_MIN + spread * place / connections
        })
    }

    /// Everybody has left, or the time is up. Until then the shard accepts those who come, to say why they cannot stay.
    pub fn is_over(&self, now: u64, still_there: impl FnOnce() -> StillThere) -> bool {
        let is_empty = || {
            let StillThere { connections, is_operator_served } = still_there();
            connections == 0 && (now >= self.operators_until || !is_operator_served)
        };
        self.has_said_goodbye && (now >= self.end_at || is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::{Drain, DrainOrder, StillThere};

    fn drain(connections: usize) -> Drain {
        Drain::new(DrainOrder { serve_millis: 5_000, linger_millis: 1_000, connections, shards: 2 }, 100)
    }

    fn still_there(connections: usize, is_operator_served: bool) -> StillThere {
        StillThere { connections, is_operator_served }
    }

    #[test]
    fn goodbye_is_said_once_when_all_is_served_or_the_time_is_over() {
        let mut early = drain(10);
        assert_eq!(early.until_next(100), 5_000);
        assert!(!early.is_goodbye(200, || false));
        assert!(!early.is_over(200, || still_there(0, false)), "nobody leaves without a goodbye");
        assert!(early.is_goodbye(300, || true));
        assert!(!early.is_goodbye(300, || true));
        assert_eq!(early.until_next(300), 50);
        assert_eq!(early.until_next(6_090), 10);
        let mut late = drain(10);
        assert!(!late.is_goodbye(5_099, || false));
        assert!(late.is_goodbye(5_100, || false));
    }

    #[test]
    fn it_is_over_when_all_have_left_or_the_time_is_up() {
        let mut drain = drain(10);
        drain.is_goodbye(300, || true);
        assert!(!drain.is_over(300, || still_there(1, false)));
        assert!(drain.is_over(300, || still_there(0, false)));
        assert!(!drain.is_over(399, || still_there(0, true)), "its answer is on its way");
        assert!(drain.is_over(400, || still_there(0, true)));
        assert!(!drain.is_over(6_099, || still_there(1, true)));
        assert!(drain.is_over(6_100, || still_there(1, true)));
    }

    #[test]
    fn the_clients_of_all_shards_come_back_spread_over_the_time() {
        for (connections, longest) in [(10, 5_000), (100_000, 50_500)] {
            let drain = drain(connections);
            let of_shard = |shard| drain.retries(shard).take(connections / 2).collect::<Vec<_>>();
            let mut all = [of_shard(0), of_shard(1)].concat();
            all.sort_unstable();
            assert_eq!(all[0], 500);
            assert!(all[connections - 1] < longest);
            let step = (longest - 500) / connections as u64;
            assert!(all.windows(2).all(|two| two[1] - two[0] <= step + 1));
        }
        let uneven = drain(3);
        assert!(uneven.retries(1).take(5).all(|millis| (500..5_000).contains(&millis)));
    }
}
