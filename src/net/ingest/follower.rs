//! Follows the shared stream (`bus`): what a message of it has becomes events, gaps, and what is known of publishers.
//! Counts and logs are left to those who follow.

use crate::bus::accounts::Accounts;
use crate::bus::chunk::Chunk;
use crate::bus::numbers::PLACES;
use crate::bus::verdict::{Hole, HoleReason};
use crate::bus::writer::Passed;
use crate::net::bus::handle::Received;
use crate::stream::now::Now;
use crate::stream::sequencer::{Sequencer, Taken};
use crate::wire::line::{LineError, PADDING};

pub struct Follower {
    accounts: Accounts,
    accounts_millis: u64,
    line_bytes_max: usize,
    block: Vec<u8>,
    /// What is folded tells of jobs, too: nothing was passed on yet, and nothing is lost.
    learns_jobs: bool,
}

/// What has come of a message. Of one that was only folded, all counts are 0.
#[derive(Debug)]
pub struct Followed<'a> {
    /// Lines that are no good events, and headers that no client can read.
    pub refused: u64,
    /// Of these, lines that are longer or deeper than the stream allows, or too many for one message. Each is a gap.
    pub out_of_bounds: u64,
    /// Lines that the stream had before, and that were left out.
    pub repeated: u64,
    /// How often an event had no room for its job or flow, because all that are known are watched.
    pub displaced: u64,
    pub passed: Passed<'a>,
}

impl Follower {
    /// Lines of publishers are remembered for `accounts_millis` of the stream's time. Lines of more than `line_bytes_max`
    /// bytes are lost: that is the stream's bound, and not one of a daemon.
    pub fn new(accounts_millis: u64, line_bytes_max: usize) -> Self {
        let accounts = Accounts::new(accounts_millis);
        Self { accounts, accounts_millis, line_bytes_max, block: Vec::new(), learns_jobs: true }
    }

    /// Of a pass over the stream, for which jobs are only names.
    pub fn of_pass(accounts_millis: u64, line_bytes_max: usize) -> Self {
        Self { learns_jobs: false, ..Self::new(accounts_millis, line_bytes_max) }
    }

    /// The last line of a publisher that the stream has; 0: it is unknown, or has been silent for too long.
    pub fn accepted(&self, token: &str) -> u64 {
        self.accounts.accepted(token)
    }

    /// Takes the next message: the hole before it and its lines go to the sequencer. If it is only folded, the sequencer
    /// learns what it says of jobs and flows, and has none of its events.
    ///
    /// # Panics
    /// If its numbers are not above all that the sequencer has had.
    pub fn take<'a>(&mut self, received: &'a Received, now: Now, sequencer: &mut Sequencer) -> Followed<'a> {
        let payload = (*received.payload).as_ref();
        let mut chunk = Chunk::read(received.headers(), payload, self.line_bytes_max);
        let folded = self.accounts.fold(chunk.source.as_ref(), received.time_nanos / 1_000_000);
        let source = chunk.source.as_ref().map(|source| (source.token, folded.accepted));
        let stream_seq = received.first + chunk.len().max(1) as u64 - 1;
        let passed = Passed { message: received.message, stream_seq, source };
        sequencer.tell_flows(std::mem::take(&mut chunk.flows));
        let now = Now { unix_micros: (received.time_nanos / 1_000) as i64, ..now };
        if received.is_folded {
            if self.learns_jobs {
                self.recall(&chunk, folded.repeated, received.first, now, sequencer);
            }
            return Followed { refused: 0, out_of_bounds: 0, repeated: 0, displaced: 0, passed };
        }
        self.learns_jobs = false;
        if let Some(hole) = received.hole {
            lose(hole, sequencer);
        }
        let crowded_out = sequencer.topic_index.crowded_out;
        let bad_headers = u64::from(received.headers.is_none());
        let mut refused = chunk.refused + chunk.cut + bad_headers;
        let mut out_of_bounds = chunk.cut;
        let mut next = 0;
        for (place, line) in chunk.lines(folded.repeated) {
            let number = received.first + place as u64;
            if number != next {
                sequencer.begin_at(number).expect("the numbers of the stream rise");
                sequencer.begin_turn(now, payload.len());
            }
            match self.take_line(line, sequencer) {
                Ok(Taken::Event(_)) => next = number + 1,
                Err(error @ (LineError::TooLong | LineError::TooDeep)) => {
                    // It may be an event, and its publisher may count on it.
                    out_of_bounds += 1;
                    // The chunk has counted those that are too long.
                    refused += u64::from(error == LineError::TooDeep);
                    sequencer.lose_to(number).expect("the numbers of the stream rise");
                }
                Ok(Taken::Control(_)) | Err(_) => refused += 1,
            }
        }
        if chunk.is_cut {
            let last = received.first + PLACES as u64 - 1;
            sequencer.lose_to(last).expect("the numbers of the stream rise");
        }
        let displaced = sequencer.topic_index.crowded_out - crowded_out;
        Followed { refused, out_of_bounds, repeated: folded.repeated as u64, displaced, passed }
    }

    /// Nothing is left of a line that is too long.
    fn take_line<'a>(
        &'a mut self,
        line: &[u8],
        sequencer: &'a mut Sequencer,
    ) -> Result<Taken<'a>, LineError> {
        if line.is_empty() {
            return Err(LineError::TooLong);
        }
        set_block(&mut self.block, line);
        sequencer.take_line(&mut self.block, line.len())
    }

    /// Lets the sequencer know of a message from before the first that is passed on; `first`: its first number.
    fn recall(
        &mut self,
        chunk: &Chunk<'_>,
        repeated: usize,
        first: u64,
        now: Now,
        sequencer: &mut Sequencer,
    ) {
        // Nothing is left of a line that is too long.
        for (place, line) in chunk.lines(repeated).filter(|(_, line)| !line.is_empty()) {
            set_block(&mut self.block, line);
            sequencer.recall_line(line, &mut self.block, first + place as u64, now);
        }
    }

    /// Takes numbers that nobody gets ([`Report::Skip`](crate::net::bus::handle::Report::Skip)). After a restart, what
    /// is known of publishers comes again.
    ///
    /// # Panics
    /// If the numbers are not above all that the sequencer has had.
    pub fn skip(&mut self, hole: Hole, sequencer: &mut Sequencer) {
        self.learns_jobs = false;
        if hole.why == HoleReason::Restart {
            self.accounts = Accounts::new(self.accounts_millis);
        }
        lose(hole, sequencer);
    }
}

/// Makes `block` the line, with padding behind it.
fn set_block(block: &mut Vec<u8>, line: &[u8]) {
    block.clear();
    block.extend_from_slice(line);
    block.resize(line.len() + PADDING, 0);
}

/// Lets watchers know of a hole.
fn lose(hole: Hole, sequencer: &mut Sequencer) {
    let lost = match hole.why {
        HoleReason::Restart => sequencer.restart_at(hole.to),
        HoleReason::Expired => sequencer.lose_to(hole.to),
    };
    lost.expect("the numbers of the stream rise");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Followed, Follower};
    use crate::bus::header_block::HeaderBlock;
    use crate::bus::verdict::{Hole, HoleReason};
    use crate::net::bus::handle::Received;
    use crate::stream::directory::{Directory, EarlierRuns};
    use crate::stream::now::Now;
    use crate::stream::numbers::SEQ_MIN;
    use crate::stream::sequencer::{Limits, Sequencer, Step};
    use crate::stream::topic::{Topic, TopicKind};

    const NOW: Now = Now { millis: 1, unix_micros: 1 };

    fn limits(jobs_max: usize) -> Limits {
        Limits {
            history_bytes: 1 << 20,
            history_millis: 1 << 40,
            job_idle_millis: 1 << 40,
            metrics_millis: 0,
            jobs_max,
            depth_max: 8,
        }
    }

    fn sequencer() -> Sequencer {
        Sequencer::new(Arc::new(Directory::new(SEQ_MIN, 10)), Vec::new(), limits(10))
    }

    fn number(message: u64, place: u64) -> u64 {
        SEQ_MIN + message * 1_024 + place
    }

    /// The lines have the numbers `first` and above of a publisher `p`.
    fn received(message: u64, first: u64, lines: &[&'static str]) -> Received {
        let bytes = lines.join("\n").into_bytes();
        Received {
            message,
            first: number(message, 0),
            time_nanos: message * 1_000_000_000,
            bytes: bytes.len() as u64,
            is_folded: false,
            hole: None,
            headers: Some(HeaderBlock {
                message_id: Some(format!("p:{first}").into()),
                lines: Some(format!("{first}-{}", first + lines.len() as u64 - 1).into()),
                from: None,
            }),
            payload: Box::new(bytes),
        }
    }

    /// The numbers of the events that these flows have.
    fn flows(sequencer: &mut Sequencer, names: &[&str]) -> Vec<Vec<u64>> {
        sequencer.end_turn();
        while sequencer.step() != Step::Done {}
        let read = |name: &&str| {
            let Some(key) = sequencer.topic_index.find_flow(name) else { return Vec::new() };
            let log = sequencer.topic_index.entry(key).topic.log.lock();
            let seqs = log.handles().flat_map(|handle| {
                let run = *handle.run();
                (run.first..run.first + run.count).map(|event| handle.batch.seq(event) - SEQ_MIN)
            });
            seqs.collect()
        };
        names.iter().map(read).collect()
    }

    /// Two daemons that remember different flows of a job read the same.
    #[test]
    fn what_a_daemon_remembers_of_a_job_places_none_of_its_events() {
        const NAMED: &str = r#"{"type":"x","job_id":"j","flow_id":"F"}"#;
        const IN_DATA: &str = r#"{"type":"x","job_id":"j","data":{"flow_id":"G"}}"#;
        const PLAIN: &str = r#"{"type":"x","job_id":"j"}"#;
        const TOLD: &str = r#"{"op":"flows","flows":{"j":"H","k":"F"}}"#;
        let placed = |before: &[&'static str]| {
            let (mut follower, mut sequencer) = (Follower::new(1_000_000, 1_000), sequencer());
            sequencer.is_shared = true;
            let without_headers = |message, lines: &[&'static str]| Received {
                headers: Some(HeaderBlock::default()),
                ..received(message, 1, lines)
            };
            follower.take(&without_headers(1, before), NOW, &mut sequencer);
            for (message, lines) in
                [(2, &[PLAIN, NAMED, PLAIN][..]), (3, &[IN_DATA, PLAIN]), (4, &[TOLD, PLAIN, NAMED, IN_DATA])]
            {
                follower.take(&without_headers(message, lines), NOW, &mut sequencer);
            }
            let flow = sequencer.flow_of("j");
            let mut placed = flows(&mut sequencer, &["F", "G", "H"]);
            placed.iter_mut().for_each(|numbers| numbers.retain(|number| *number >= 2 * 1_024));
            (placed, flow.as_deref().map(str::to_owned))
        };
        let at = |message: u64, place: u64| number(message, place) - SEQ_MIN;
        let expected = vec![vec![at(2, 1), at(4, 1)], vec![at(3, 0)], vec![at(4, 0), at(4, 1), at(4, 2)]];
        for before in [&[PLAIN][..], &[NAMED], &[IN_DATA], &[TOLD, PLAIN]] {
            assert_eq!(placed(before), (expected.clone(), Some("H".to_owned())), "{before:?}");
        }
    }

    #[test]
    fn what_is_only_folded_tells_of_jobs_and_flows() {
        let lines = [
            r#"{"type":"job_started","job_id":"j","timestamp":1700000000}"#,
            "no line",
            r#"{"type":"x","job_id":"k"}"#,
            r#"{"type":"job_completed","job_id":"j","timestamp":1700000007}"#,
        ];
        let lines = [&[r#"{"op":"flows","flows":{"j":"F"}}"#][..], &lines].concat();
        let begins_behind = number(5, 0) - 1;
        let earlier = EarlierRuns::lost(SEQ_MIN + 1, begins_behind);
        let earlier = EarlierRuns { is_shared: true, ..earlier };
        let directory = Arc::new(Directory::with_earlier(begins_behind, earlier, 10));
        let mut sequencer = Sequencer::new(directory.clone(), Vec::new(), limits(10));
        let mut follower = Follower::new(1_000_000, 1_000);
        let folded = Received {
            is_folded: true,
            headers: Some(HeaderBlock {
                message_id: Some("p:1".into()),
                lines: Some("1-4".into()),
                from: None,
            }),
            ..received(3, 1, &lines)
        };
        follower.take(&folded, NOW, &mut sequencer);
        assert_eq!(sequencer.flow_of("j").as_deref(), Some("F"));
        let [job, other] = ["j", "k"].map(|job| {
            let key = sequencer.topic_index.find_job(job).expect("it is known");
            sequencer.topic_index.entry(key).topic.clone()
        });
        let fold = job.log.lock().job;
        assert_eq!((fold.total_events, fold.duration_seconds(0), fold.is_complete), (2, Some(7.0), true));
        let knows_part_of = |topic: &Topic| directory.knows_part_of(topic, &topic.log.lock());
        assert!(!knows_part_of(&job) && knows_part_of(&other), "the other may have begun before");
        assert_eq!(
            (sequencer.seq(), sequencer.history_events()),
            (begins_behind, 0),
            "nothing of it is kept"
        );

        // It goes on behind that.
        follower.take(&received(5, 5, &[lines[1]]), NOW, &mut sequencer);
        assert_eq!(flows(&mut sequencer, &["F"]), [Vec::<u64>::new()], "nobody says so of this one");
        let log = job.log.lock();
        assert_eq!((log.head(), log.base(), log.job.total_events), (3, 2, 3));
        assert_eq!(log.first_seq(), Some(number(3, 0)));
        assert_eq!((log.base_seq(), log.last_seq()), (number(3, 3), number(5, 0)));
        assert_eq!(log.lost().iter().map(|lost| lost.count).sum::<u64>(), 2);
        drop(log);
        let again = Received { is_folded: true, ..received(6, 1, &[lines[3]]) };
        follower.take(&again, NOW, &mut sequencer);
        assert_eq!(other.log.lock().job.total_events, 1, "in the middle, jobs are known already");
    }

    #[test]
    fn an_event_that_has_no_room_for_its_job_goes_to_all_the_same() {
        let directory = Arc::new(Directory::new(SEQ_MIN, 3));
        let mut sequencer = Sequencer::new(directory.clone(), Vec::new(), limits(1));
        sequencer.is_shared = true;
        for job in ["watched", "other"] {
            directory.watch(TopicKind::Job, job).expect("there is room");
        }
        directory.watch(TopicKind::Flow, "F").expect("there is room");
        let lines = [
            r#"{"type":"x","job_id":"watched"}"#,
            r#"{"type":"x","job_id":"new","flow_id":"F"}"#,
            r#"{"type":"x","job_id":"other"}"#,
            r#"{"type":"x","job_id":"newer","flow_id":"G"}"#,
        ];
        let mut follower = Follower::new(1_000_000, 1_000);
        let Followed { refused, displaced, .. } = follower.take(&received(1, 1, &lines), NOW, &mut sequencer);
        assert_eq!((refused, displaced), (0, 3), "of the last one, there is no room for the flow either");
        assert_eq!(flows(&mut sequencer, &["F"]), [[number(1, 1) - SEQ_MIN]]);
        assert_eq!((sequencer.history_events(), sequencer.published()), (4, number(1, 3)));
        assert_eq!(directory.holes.newest_to(), 0, "nobody has missed it who asked for all");
        let new = directory.dropped.last(TopicKind::Job, "new");
        assert_eq!(new, number(1, 1), "who comes to watch it learns that something was there");
        assert!(sequencer.topic_index.find_job("new").is_none());
        let other = sequencer.topic_index.find_job("other").expect("it is watched, and so it has room");
        assert_eq!(sequencer.topic_index.entry(other).topic.log.lock().head(), 1);
    }

    #[test]
    fn lines_get_the_numbers_of_the_stream_and_count_once() {
        const GOOD: &str = r#"{"type":"x","job_id":"j"}"#;
        let (mut follower, mut sequencer) = (Follower::new(1_000_000, 1_000), sequencer());
        let folded = Received { is_folded: true, ..received(3, 1, &[GOOD, "no line"]) };
        let Followed { refused, repeated, displaced, passed, .. } =
            follower.take(&folded, NOW, &mut sequencer);
        assert_eq!((refused, repeated, displaced, passed.source), (0, 0, 0, Some(("p", 2))));
        assert_eq!((sequencer.seq(), follower.accepted("p")), (SEQ_MIN, 2));

        let hole = Hole { from: SEQ_MIN + 1, to: number(5, 0) - 1, why: HoleReason::Expired };
        let next = Received { hole: Some(hole), ..received(5, 2, &[GOOD, GOOD, "no line"]) };
        let Followed { refused, out_of_bounds, repeated, displaced, passed } =
            follower.take(&next, NOW, &mut sequencer);
        assert_eq!((refused, out_of_bounds, repeated, displaced), (1, 0, 1, 0));
        assert_eq!(passed.source, Some(("p", 4)));
        assert_eq!((passed.message, passed.stream_seq), (5, number(5, 2)));
        assert_eq!(sequencer.seq(), number(5, 1), "its second line is the one that is new and good");

        let lost = Hole { from: number(6, 0), to: number(9, 0), why: HoleReason::Expired };
        follower.skip(lost, &mut sequencer);
        assert_eq!((sequencer.seq(), follower.accepted("p")), (number(9, 0), 4));
        let other = Hole { from: number(9, 1), to: number(20, 0), why: HoleReason::Restart };
        follower.skip(other, &mut sequencer);
        assert_eq!(
            (sequencer.seq(), follower.accepted("p")),
            (number(20, 0), 0),
            "another end of the stream"
        );
    }

    #[test]
    fn lines_that_no_daemon_may_take_are_gaps() {
        const GOOD: &str = r#"{"type":"x","job_id":"j"}"#;
        const DEEP: &str = r#"{"type":"x","job_id":"j","a":[[[[[[[[[[]]]]]]]]]]}"#;
        const LONG: &str = r#"{"type":"x","job_id":"j","a":"0123456789012345678901234567890123456789"}"#;
        for (lines, expected, last) in [
            ([GOOD, DEEP, LONG], (2, 2), 2),
            ([LONG, GOOD, DEEP], (2, 2), 2),
            ([GOOD, GOOD, "no line"], (1, 0), 1),
        ] {
            let (mut follower, mut sequencer) = (Follower::new(1_000_000, 60), sequencer());
            let received = received(5, 1, &lines);
            let Followed { refused, out_of_bounds, passed, .. } =
                follower.take(&received, NOW, &mut sequencer);
            assert_eq!((refused, out_of_bounds), expected, "{lines:?}");
            assert_eq!((passed.source, sequencer.seq()), (Some(("p", 3)), number(5, last)), "{lines:?}");
        }
    }
}
