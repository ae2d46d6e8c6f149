//! Arrival times of events at the daemon, shown for events without a timestamp of their own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::cli::connection::Way;

/// Limit for the daemon's answer; nothing is shown meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Asks for the arrivals in a range of numbers: pairs of number and Unix milliseconds, sorted.
type Source = Box<dyn FnMut(u64, u64) -> Option<Vec<(u64, i64)>>>;

pub struct Arrivals {
    source: Source,
    /// How far the daemon's clock is ahead of ours.
    ahead_ms: i64,
    /// The newest event when the connection began: later ones are live.
    newest: u64,
    /// Past arrivals as the daemon reports them, asked for once a connection.
    past: Option<Vec<(u64, i64)>>,
}

impl Arrivals {
    pub fn new(source: Source) -> Self {
        Self { source, ahead_ms: 0, newest: 0, past: None }
    }

    /// Asks the daemon itself, if there is a way to reach it.
    pub fn of(way: Option<Way>) -> Self {
        Self::new(Box::new(move |from, to| {
            let target = format!("/console/arrivals?from={from}&to={to}");
            let body = way.as_ref()?.get(&target, Instant::now() + ANSWER_LIMIT).ok()?;
            #[derive(Deserialize)]
            struct Reply {
                arrivals: Vec<(u64, i64)>,
            }
            let reply: Reply = serde_json::from_slice(&body).ok()?;
            Some(reply.arrivals)
        }))
    }

    /// Starts a connection; the daemon's newest event and its clock at that moment are given.
    pub fn note_connected(&mut self, newest: u64, server_unix_ms: Option<i64>) {
        self.newest = newest;
        self.ahead_ms = server_unix_ms.map_or(0, |server| server - unix_ms());
        self.past = None;
    }

    /// The arrival in Unix milliseconds; `None` if unknown.
    pub fn of_event(&mut self, stream_seq: u64) -> Option<i64> {
        if stream_seq > self.newest {
            return Some(unix_ms() + self.ahead_ms);
        }
        let (source, newest) = (&mut self.source, self.newest);
        let past = self.past.get_or_insert_with(|| source(stream_seq, newest).unwrap_or_default());
        let later = past.partition_point(|(seq, _)| *seq <= stream_seq);
        later.checked_sub(1).map(|place| past[place].1)
    }
}

/// 0 for a clock before 1970.
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::{Arrivals, unix_ms};

    #[test]
    fn past_arrivals_come_from_the_daemon_once_and_live_ones_from_the_clock() {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let note = asked.clone();
        let mut arrivals = Arrivals::new(Box::new(move |from, to| {
            note.borrow_mut().push((from, to));
            Some(vec![(11, 1_000), (13, 2_000)])
        }));
        arrivals.note_connected(20, Some(unix_ms() + 3_600_000));
        let past = [10, 11, 12, 13, 20].map(|seq| arrivals.of_event(seq));
        assert_eq!(past, [None, Some(1_000), Some(1_000), Some(2_000), Some(2_000)]);
        assert_eq!(*asked.borrow(), [(10, 20)]);
        let live = arrivals.of_event(21).unwrap() - unix_ms();
        assert!((3_590_000..=3_610_000).contains(&live), "{live}");
        arrivals.note_connected(30, None);
        assert_eq!(arrivals.of_event(29), Some(2_000));
        assert_eq!(*asked.borrow(), [(10, 20), (29, 30)]);
    }

    #[test]
    fn a_daemon_without_arrivals_is_asked_once() {
        let mut times = 0;
        let mut arrivals = Arrivals::new(Box::new(move |_, _| {
            times += 1;
            assert_eq!(times, 1);
            None
        }));
        arrivals.note_connected(5, None);
        assert_eq!([1, 2, 3].map(|seq| arrivals.of_event(seq)), [None; 3]);
    }
}
