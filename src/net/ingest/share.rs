//! A publisher's share of a turn, counted in work: a line costs some bytes at least, however short it is. Otherwise a flood
//! of lines of one byte, which are refused, would delay other publishers many times more than as many bytes of events.

/// What a line costs at least, in bytes. The shortest event has 26 and takes 230 ns, a line that is refused 130 ns.
const LINE_COST: usize = 24;
/// What a line costs beside that for each job and flow that it names for the first time: 6 times as much as 70 bytes of a job
/// that is known.
const TOPIC_COST: usize = 400;

/// A new publisher begins with one part in this many of the greatest share, and each read adds as much, up to what is affordable.
/// So it gains nothing from connecting anew, nor from a few long lines among short ones.
const PARTS: usize = 8;

/// What was read from a publisher at once.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub bytes: usize,
    /// Lines that ended in it, good or not.
    pub lines: usize,
    /// Jobs and flows that were not known before.
    pub new_topics: usize,
}

impl Reading {
    /// Bytes of work.
    pub fn cost(self) -> usize {
        self.bytes.max(self.lines * LINE_COST) + self.new_topics * TOPIC_COST
    }
}

/// Which share a publisher has, if the greatest is this.
#[derive(Clone, Copy)]
pub struct Share {
    bytes_max: usize,
}

impl Share {
    pub fn of(bytes_max: usize) -> Self {
        Self { bytes_max }
    }

    /// Bytes that may be read at once with this share; 0 is that of a new publisher.
    pub fn bytes(self, share: usize) -> usize {
        if share == 0 { self.part() } else { share }
    }

    /// The share after this was read.
    pub fn after(self, share: usize, reading: Reading) -> usize {
        // So many bytes of this kind cost the greatest share.
        let affordable = reading.bytes * self.bytes_max / reading.cost().max(1);
        (self.bytes(share) + self.part()).min(affordable).max(1)
    }

    fn part(self) -> usize {
        (self.bytes_max / PARTS).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_COST, PARTS, Reading, Share, TOPIC_COST};

    const MAX: usize = 256 << 10;

    /// The work of each of so many reads of lines of these lengths, one kind after the other.
    fn work(lengths: &[usize], reads: usize) -> Vec<usize> {
        let (shares, mut share) = (Share::of(MAX), 0);
        let kinds = lengths.iter().cycle().take(reads);
        let costs = kinds.map(|length| {
            let bytes = shares.bytes(share);
            let reading = Reading { bytes, lines: bytes / length, new_topics: 0 };
            share = shares.after(share, reading);
            reading.cost()
        });
        costs.collect()
    }

    #[test]
    fn lines_of_any_length_get_as_much_work() {
        for length in [LINE_COST + 1, 100, 10_000, 1_000_000] {
            let costs = work(&[length], 100);
            assert_eq!((costs[0], costs[PARTS - 1], costs[99]), (MAX / PARTS, MAX, MAX), "{length}");
        }
        for length in [1, 2, 7] {
            let costs = work(&[length], 100);
            assert!(costs[0] <= LINE_COST * MAX / PARTS, "{length}");
            let about_one = MAX / 2..MAX + LINE_COST;
            assert!(costs[1..].iter().all(|cost| about_one.contains(cost)), "{length}: {costs:?}");
        }
        // Long lines in between open no door: in the long run the work is less than two shares.
        for others in 1..=2 * PARTS {
            let kinds = [vec![1_000_000; others], vec![2]].concat();
            let costs = work(&kinds, 100 * kinds.len());
            let mean = costs.iter().sum::<usize>() / costs.len();
            assert!(mean < 2 * MAX, "{others}: {mean} of {MAX}");
        }
    }

    #[test]
    fn lines_that_make_jobs_and_flows_get_as_much_work_too() {
        let (shares, mut share) = (Share::of(MAX), 0);
        let costs = (0..100).map(|_| {
            let bytes = shares.bytes(share);
            let reading = Reading { bytes, lines: bytes / 70, new_topics: bytes / 70 };
            share = shares.after(share, reading);
            reading.cost()
        });
        let costs: Vec<usize> = costs.collect();
        assert!(costs[1..].iter().all(|cost| (MAX / 2..MAX + TOPIC_COST).contains(cost)), "{costs:?}");
    }

    #[test]
    fn a_share_is_never_nothing() {
        for bytes_max in [1, 7, 128] {
            let shares = Share::of(bytes_max);
            assert!(shares.bytes(0) > 0);
            assert!(shares.after(0, Reading { bytes: 1, lines: 1, new_topics: 2 }) > 0);
            assert!(shares.after(9_999, Reading { bytes: 1, lines: 0, new_topics: 0 }) <= bytes_max);
        }
    }
}
