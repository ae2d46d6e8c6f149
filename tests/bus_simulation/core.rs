//! The real sequencer of one daemon, which gets its numbers from the stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use luxcast::stream::directory::Directory;
use luxcast::stream::now::Now;
use luxcast::stream::numbers::SEQ_MIN;
use luxcast::stream::sequencer::{Limits, Sequencer, Step, Taken};
use luxcast::wire::line::PADDING;

pub struct Core {
    directory: Arc<Directory>,
    sequencer: Sequencer,
}

impl Core {
    pub fn new() -> Self {
        let limits = Limits {
            history_bytes: 64 << 20,
            history_millis: 1 << 40,
            job_idle_millis: 1 << 40,
            metrics_millis: 0,
            jobs_max: 1 << 20,
            depth_max: 8,
        };
        let directory = Arc::new(Directory::new(SEQ_MIN, 1 << 20));
        Self { sequencer: Sequencer::new(directory.clone(), Vec::new(), limits), directory }
    }

    /// Takes the lines of one message, each with its number.
    pub fn take(&mut self, now: u64, lines: &[(u64, String)]) {
        for (number, line) in lines {
            self.sequencer.begin_at(*number).expect("numbers rise");
            self.sequencer.begin_turn(Now { millis: now, unix_micros: now as i64 * 1_000 }, line.len());
            let mut block = line.clone().into_bytes();
            block.resize(line.len() + PADDING, b' ');
            match self.sequencer.take_line(&mut block, line.len()) {
                Ok(Taken::Event(given)) => assert_eq!(given, *number),
                _ => panic!("not taken: {line}"),
            }
        }
        self.publish();
    }

    /// The numbers up to this one are lost.
    pub fn lose_to(&mut self, number: u64) {
        self.sequencer.lose_to(number).expect("numbers rise");
        self.publish();
        assert_eq!(self.sequencer.published(), number);
    }

    fn publish(&mut self) {
        self.sequencer.end_turn();
        while self.sequencer.step() != Step::Done {}
    }

    /// What its watchers can get is what was shown, each event with its number in it, and nothing else.
    pub fn check(&self, shown: &BTreeMap<u64, String>) {
        let log = self.directory.all.log.lock();
        let mut shown = shown.iter();
        for handle in log.handles() {
            for event in 0..handle.batch.len() as u32 {
                let (number, line) = shown.next().expect("no more than was shown");
                let object = format!("{{\"stream_seq\":{number},{}", &line[1..]);
                assert_eq!(String::from_utf8_lossy(handle.batch.object(event)), object);
                assert_eq!(handle.batch.seq(event), *number);
            }
        }
        assert_eq!(shown.next(), None, "all that was shown");
    }
}
