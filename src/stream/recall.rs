//! What a daemon learns of jobs and flows from events before the first one that it keeps, where daemons share a stream.

use crate::event::Meaning;
use crate::stream::now::Now;
use crate::stream::routing::{Finding, micros_of, type_of};
use crate::stream::sequencer::Sequencer;
use crate::stream::silence::Standing;
use crate::stream::topic::{Log, TopicKind};
use crate::stream::topic_key::TopicKey;
use crate::wire::line::Line;

impl Sequencer {
    /// Takes in what the line `seq` says of its job and flows, as if it had been taken, published and dropped again. `block`
    /// has the line, with [`crate::wire::line::PADDING`] bytes behind it, and may be edited. Nothing is kept yet.
    pub fn recall_line(&mut self, line: &[u8], block: &mut [u8], seq: u64, now: Now) {
        let text = line.get(1..).unwrap_or_default();
        let Ok(Line::Event(fields)) = self.reader.read(block, line.len(), text) else { return };
        self.topic_index.now_millis = now.millis;
        let mut finding = Finding {
            directory: &self.directory,
            topic_index: &mut self.topic_index,
            history: &mut self.history,
            told: Some(&mut self.told),
            seq,
        };
        let Ok(topics) = finding.find(&fields) else { return };
        let (bit, meaning) = type_of(&self.directory, &mut self.types, &fields);
        let [flow, other] = topics.flows();
        let keys = [topics.job.map(TopicKey::from), flow.map(TopicKey::from), other.map(TopicKey::from)];
        for key in keys.into_iter().flatten() {
            let entry = self.topic_index.entry_mut(key);
            entry.next_at += 1;
            entry.last_seq = seq;
            let topic = entry.topic.clone();
            let mut log = topic.log.lock();
            let is_first = log.head() == 0;
            log.pass(bit, seq);
            let mut standing = Standing::Flow;
            if topic.kind == TopicKind::Job {
                entry.has_metrics |= meaning == Meaning::Metrics;
                log.job.fold(meaning, seq, is_first, micros_of(&fields, now));
                standing = Standing::of(&log.job);
            }
            drop(log);
            self.topic_index.touch(key, standing);
        }
    }
}

impl Log {
    /// Notes an event from before what is kept: it counts as lost at once. The log has no other.
    fn pass(&mut self, bit: u8, seq: u64) {
        assert_eq!(self.base, self.head, "what is kept comes behind it");
        if self.first_seq == 0 {
            self.first_seq = seq;
        }
        self.head += 1;
        (self.base, self.base_seq, self.last_seq) = (self.head, seq, seq);
        self.note_lost(bit, 1, seq);
    }
}
