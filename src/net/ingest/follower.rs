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
    /// Lines that there was no room for, because all known jobs or topics are watched. Each is a gap.
    pub displaced: u64,
    pub passed: Passed<'a>,
}

impl Follower {
    /// Lines of publishers are remembered for `accounts_millis` of the stream's time. Lines of more than `line_bytes_max`
    /// bytes are lost: that is the stream's bound, and not one of a daemon.
    pub fn new(accounts_millis: u64, line_bytes_max: usize) -> Self {
        Self { accounts: Accounts::new(accounts_millis), accounts_millis, line_bytes_max, block: Vec::new() }
    }

    /// The last line of a publisher that the stream has; 0: it is unknown, or has been silent for too long.
    pub fn accepted(&self, token: &str) -> u64 {
        self.accounts.accepted(token)
    }

    /// Takes the next message: the hole before it and its lines go to the sequencer, unless it is only folded.
    ///
    /// # Panics
    /// If its numbers are not above all that the sequencer has had.
    pub fn take<'a>(&mut self, received: &'a Received, now: Now, sequencer: &mut Sequencer) -> Followed<'a> {
        let payload = (*received.payload).as_ref();
        let chunk = Chunk::read(received.headers(), payload, self.line_bytes_max);
        let folded = self.accounts.fold(chunk.source.as_ref(), received.time_nanos / 1_000_000);
        let source = chunk.source.as_ref().map(|source| (source.token, folded.accepted));
        let stream_seq = received.first + chunk.len().max(1) as u64 - 1;
        let passed = Passed { message: received.message, stream_seq, source };
        if received.is_folded {
            return Followed { refused: 0, out_of_bounds: 0, repeated: 0, displaced: 0, passed };
        }
        if let Some(hole) = received.hole {
            lose(hole, sequencer);
        }
        for flow in &chunk.flows {
            sequencer.join_flow(&flow.job, &flow.flow);
        }
        let now = Now { unix_micros: (received.time_nanos / 1_000) as i64, ..now };
        let bad_headers = u64::from(received.headers.is_none());
        let (mut refused, mut displaced) = (chunk.refused + chunk.cut + bad_headers, 0);
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
                Err(LineError::TooManyJobs | LineError::TooManyTopics) => {
                    // Others have it: it is lost here, and watchers are told.
                    displaced += 1;
                    sequencer.lose_to(number).expect("the numbers of the stream rise");
                }
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
        self.block.clear();
        self.block.extend_from_slice(line);
        self.block.resize(line.len() + PADDING, 0);
        sequencer.take_line(&mut self.block, line.len())
    }

    /// Takes numbers that nobody gets ([`Report::Skip`](crate::net::bus::handle::Report::Skip)). After a restart, what
    /// is known of publishers comes again.
    ///
    /// # Panics
    /// If the numbers are not above all that the sequencer has had.
    pub fn skip(&mut self, hole: Hole, sequencer: &mut Sequencer) {
        if hole.why == HoleReason::Restart {
            self.accounts = Accounts::new(self.accounts_millis);
        }
        lose(hole, sequencer);
    }
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
    use crate::stream::directory::Directory;
    use crate::stream::now::Now;
    use crate::stream::numbers::SEQ_MIN;
    use crate::stream::sequencer::{Limits, Sequencer};

    const NOW: Now = Now { millis: 1, unix_micros: 1 };

    fn sequencer() -> Sequencer {
        let limits = Limits {
            history_bytes: 1 << 20,
            history_millis: 1 << 40,
            job_idle_millis: 1 << 40,
            metrics_millis: 0,
            jobs_max: 10,
            depth_max: 8,
        };
        Sequencer::new(Arc::new(Directory::new(SEQ_MIN, 10)), Vec::new(), limits)
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
