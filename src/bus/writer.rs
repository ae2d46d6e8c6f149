//! The writer: lines of this daemon's publishers become chunks of the stream, each line once and in order.
//!
//! It believes only what has come back through the stream. A chunk is sent again until the reader has seen its lines,
//! whatever the server says, and only then does the next one of the same publisher follow.
//!
//! The first line of a chunk is part of its id, and it is the line behind the last one that the stream has. So two
//! daemons with lines of one publisher want the same id, and the server takes one of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use crate::bus::chunk::CHUNK_BYTES_MAX;
use crate::bus::flight::{Flight, WINDOW_SHARE};
use crate::bus::lane::{Lane, NewLine};

/// Bytes held of all publishers; with more, none is read.
pub const BYTES_MAX: usize = 8 << 20;

/// Bytes of one publisher that are not on their way; with more, it is not read.
const WAITING_BYTES_MAX: usize = 2 * CHUNK_BYTES_MAX;

/// A publisher's name, or its connection if it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneKey(usize);

/// A chunk to publish; beside these headers it has those that are the same for all.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub key: LaneKey,
    /// The answer is to name it.
    pub serial: u64,
    pub message_id: Arc<str>,
    pub lines: Arc<str>,
    pub payload: Arc<Vec<u8>>,
    /// It was sent before.
    pub is_again: bool,
}

/// The publishers of this lane can be told: the lines up to `line` are in the stream, with numbers up to `stream_seq`,
/// and visible here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub key: LaneKey,
    pub line: u64,
    pub stream_seq: u64,
}

/// A message that the reader has passed, after its lines were given to the sequencer.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    pub message: u64,
    /// The last number that it uses up.
    pub stream_seq: u64,
    /// Whose lines it has, and the last of theirs that is in the stream.
    pub source: Option<(&'a str, u64)>,
}

pub struct Writer {
    lanes: Slab<Lane>,
    tokens: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    /// The lanes that may have something to send, in their order.
    ready: VecDeque<usize>,
    changed: VecDeque<usize>,
    timers: BTreeSet<(u64, usize)>,
    /// The messages that chunks are said to be in, each with its lane; some are out of date.
    stored: BTreeSet<(u64, usize)>,
    /// Of all lanes. Those that have nothing on its way and nothing waiting hold none.
    bytes: usize,
    serial: u64,
    /// The server takes each id once within this time.
    window_millis: u64,
    chunk_bytes_max: usize,
    /// The last message that the reader has passed, and its last number.
    passed: (u64, u64),
    is_away: bool,
    /// The reader has seen all that the stream had at that time.
    complete_at: Option<u64>,
    /// Answers that a message with the same id is there already.
    pub duplicates: u64,
    /// Chunks that were sent again.
    pub retries: u64,
    /// The last chunk whose id the server knows, though the stream does not have it.
    locked_out: Option<Arc<str>>,
}

impl Writer {
    /// `window_millis`: for how long the server remembers ids. `chunk_bytes_max`: [`CHUNK_BYTES_MAX`], or less if the
    /// server takes less.
    pub fn new(window_millis: u64, chunk_bytes_max: usize) -> Self {
        Self {
            lanes: Slab::new(),
            tokens: HashMap::default(),
            ready: VecDeque::new(),
            changed: VecDeque::new(),
            timers: BTreeSet::new(),
            stored: BTreeSet::new(),
            bytes: 0,
            serial: 0,
            window_millis,
            chunk_bytes_max,
            passed: (0, 0),
            is_away: true,
            complete_at: None,
            duplicates: 0,
            retries: 0,
            locked_out: None,
        }
    }

    /// The lane of a publisher, for one more connection. `accepted`: what [`crate::bus::accounts`] say of its token. A
    /// token that is in use leads to the same lane.
    pub fn open(&mut self, token: &str, accepted: u64) -> LaneKey {
        if let Some(&key) = self.tokens.get(token) {
            self.lanes[key].users += 1;
            return LaneKey(key);
        }
        let key = self.lanes.insert(Lane::new(token.into(), accepted));
        self.tokens.insert(token.into(), key);
        LaneKey(key)
    }

    /// The last line of the publisher that is in the stream, as far as this daemon has read.
    pub fn accepted(&self, LaneKey(key): LaneKey) -> u64 {
        self.lanes[key].seen
    }

    /// The last line of the publisher that became a part of a chunk here, or is in the stream.
    pub fn taken(&self, LaneKey(key): LaneKey) -> u64 {
        self.lanes[key].taken()
    }

    /// One connection less. What was taken goes into the stream all the same.
    pub fn close(&mut self, LaneKey(key): LaneKey) {
        self.lanes[key].users -= 1;
        self.remove_if_done(key);
    }

    fn remove_if_done(&mut self, key: usize) {
        let lane = &self.lanes[key];
        if lane.users > 0 || !lane.is_empty() {
            return;
        }
        let lane = self.lanes.remove(key);
        self.tokens.remove(&lane.token);
        if lane.is_ready {
            self.ready.retain(|&ready| ready != key);
        }
        if lane.is_changed {
            self.changed.retain(|&changed| changed != key);
        }
        if let Some(due) = lane.due {
            self.timers.remove(&(due, key));
        }
    }

    /// Its next line has this number.
    pub fn number_from(&mut self, LaneKey(key): LaneKey, line: u64) {
        self.lanes[key].number_from(line);
    }

    /// Takes a line. False: it was taken before, or is in the stream.
    pub fn push(&mut self, LaneKey(key): LaneKey, line: &NewLine<'_>) -> bool {
        debug_assert!(!line.text.contains(&b'\n'), "a line has no newline in it");
        let lane = &mut self.lanes[key];
        let before = lane.waiting_bytes();
        let is_taken = lane.push(line, self.chunk_bytes_max);
        self.bytes += lane.waiting_bytes() - before;
        self.changed(key);
        self.get_ready(key);
        is_taken
    }

    /// A line is no event: it was refused, or is empty.
    pub fn note(&mut self, LaneKey(key): LaneKey, line: u64) {
        self.lanes[key].note(line);
        self.changed(key);
    }

    /// Whether any publisher may be read.
    pub fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    /// Whether this publisher may be read.
    pub fn has_room_for(&self, LaneKey(key): LaneKey) -> bool {
        self.has_room() && self.lanes[key].waiting_bytes() < WAITING_BYTES_MAX
    }

    /// All lines of the lane up to this one are in the stream and visible, or were no events. A connection may be told
    /// so of the lines that it has sent.
    pub fn dealt(&self, LaneKey(key): LaneKey) -> u64 {
        self.lanes[key].dealt()
    }

    /// A lane of which more can be told than before.
    pub fn next_ack(&mut self) -> Option<Ack> {
        while let Some(key) = self.changed.pop_front() {
            let lane = &mut self.lanes[key];
            lane.is_changed = false;
            if let Some(line) = lane.ack() {
                return Some(Ack { key: LaneKey(key), line, stream_seq: self.passed.1 });
            }
        }
        None
    }

    /// Bytes held of all publishers.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that was taken is in the stream.
    pub fn is_idle(&self) -> bool {
        self.bytes == 0
    }

    /// The connection to the server is there, or not. Nothing is sent while it is not.
    pub fn set_away(&mut self, is_away: bool) {
        self.is_away = is_away;
    }

    /// When [`Writer::next`] may have something that it does not have now.
    pub fn due(&self) -> Option<u64> {
        let timer = self.timers.first().filter(|_| !self.is_away);
        timer.map(|timer| timer.0)
    }

    /// The next chunk to publish. `flow_of` says which flow a job has, as far as the stream was read.
    pub fn next(&mut self, now: u64, mut flow_of: impl FnMut(&str) -> Option<Box<str>>) -> Option<Outgoing> {
        if self.is_away {
            return None;
        }
        while let Some(&(due, key)) = self.timers.first()
            && due <= now
        {
            let flight = self.lanes[key].flight.as_mut().expect("timers are those of flights");
            flight.handle_due(now, self.window_millis);
            self.set_timer(key);
            self.get_ready(key);
        }
        // Another daemon may have written lines of the same publisher that the reader has not seen, and the server has
        // forgotten their ids.
        let complete_for = self.window_millis / WINDOW_SHARE;
        let may_start = self.complete_at.is_some_and(|at| now.saturating_sub(at) <= complete_for);
        while let Some(key) = self.ready.pop_front() {
            let lane = &mut self.lanes[key];
            lane.is_ready = false;
            if may_start {
                let before = lane.bytes();
                self.serial += u64::from(lane.start(self.serial + 1, &mut flow_of));
                self.bytes = self.bytes + lane.bytes() - before;
                // The reader has come further since it was made.
                let seen = lane.seen;
                let is_overtaken = |flight: &mut Flight| flight.is_new() && flight.is_overtaken(seen);
                if let Some(flight) = lane.flight.take_if(is_overtaken) {
                    self.cut(key, flight);
                }
            }
            let may_go = |flight: &&mut Flight| flight.is_ready() && (may_start || !flight.is_new());
            let Some(flight) = self.lanes[key].flight.as_mut().filter(may_go) else {
                // If it waits for the reader, that puts it in line again.
                continue;
            };
            flight.handle_sent(now);
            let outgoing = Outgoing {
                key: LaneKey(key),
                serial: flight.serial,
                message_id: flight.message_id.clone(),
                lines: flight.numbers.clone(),
                payload: flight.payload.clone(),
                is_again: flight.tries > 1,
            };
            self.retries += u64::from(outgoing.is_again);
            self.set_timer(key);
            return Some(outgoing);
        }
        None
    }

    /// The server says that the chunk is message `message`, or that one with its id is.
    pub fn handle_stored(&mut self, now: u64, key: LaneKey, serial: u64, message: u64, is_duplicate: bool) {
        self.duplicates += u64::from(is_duplicate);
        if let Some(flight) = self.flight(key, serial) {
            flight.handle_stored(now, message, is_duplicate);
            self.stored.insert((message, key.0));
            self.set_timer(key.0);
            self.settle(now);
        }
    }

    /// The server has not taken the chunk, or not answered.
    pub fn handle_failed(&mut self, now: u64, key: LaneKey, serial: u64) {
        if let Some(flight) = self.flight(key, serial) {
            flight.handle_failed(now);
            self.set_timer(key.0);
        }
    }

    /// The chunk that an answer is about, if it is still on its way.
    fn flight(&mut self, LaneKey(key): LaneKey, serial: u64) -> Option<&mut Flight> {
        let flight = self.lanes.get_mut(key)?.flight.as_mut()?;
        (flight.serial == serial).then_some(flight)
    }

    /// The reader has passed a message. To be called for each, in their order.
    pub fn handle_passed(&mut self, now: u64, passed: Passed<'_>) {
        self.passed = (passed.message, passed.stream_seq.max(self.passed.1));
        if let Some((token, accepted)) = passed.source
            && let Some(&key) = self.tokens.get(token)
        {
            let lane = &mut self.lanes[key];
            let before = lane.bytes();
            lane.see(accepted);
            self.bytes = self.bytes + lane.bytes() - before;
            self.changed(key);
            self.set_timer(key);
            self.get_ready(key);
            self.remove_if_done(key);
        }
        self.settle(now);
    }

    /// The reader has passed all messages up to `message`: the last of them are lost.
    pub fn handle_hole(&mut self, now: u64, message: u64) {
        self.passed.0 = message;
        self.settle(now);
    }

    /// The reader has read all that the stream had at `asked_at`.
    pub fn handle_complete(&mut self, now: u64, asked_at: u64) {
        self.complete_at = Some(asked_at);
        let keys: Vec<usize> = self.lanes.iter().map(|(key, _)| key).collect();
        for key in keys {
            let lane = &mut self.lanes[key];
            let seen = lane.seen;
            let is_doubted =
                |flight: &mut Flight| flight.is_doubted_at(asked_at) && flight.is_overtaken(seen);
            if let Some(flight) = lane.flight.take_if(is_doubted) {
                self.cut(key, flight);
            }
            if let Some(flight) = &mut self.lanes[key].flight {
                flight.handle_complete(now, asked_at);
                if flight.take_locked_out() {
                    self.locked_out = Some(flight.message_id.clone());
                }
            }
            self.set_timer(key);
            self.get_ready(key);
        }
    }

    /// What the server said of chunks is compared with what came, as far as the reader is.
    fn settle(&mut self, now: u64) {
        let (passed, _) = self.passed;
        while let Some(&(message, key)) = self.stored.first()
            && message <= passed
        {
            self.stored.pop_first();
            let Some(lane) = self.lanes.get_mut(key) else { continue };
            let seen = lane.seen;
            let is_displaced =
                |flight: &mut Flight| flight.is_duplicate_at(passed) && flight.is_overtaken(seen);
            if let Some(flight) = lane.flight.take_if(is_displaced) {
                self.cut(key, flight);
            } else if let Some(flight) = &mut lane.flight {
                flight.handle_passed(now, passed);
                if flight.take_locked_out() {
                    self.locked_out = Some(flight.message_id.clone());
                }
            }
            self.set_timer(key);
            self.get_ready(key);
        }
    }

    /// The id of a chunk that the server takes for a message which the stream does not have; the last of several. It goes in
    /// when the server has forgotten the id. Said once of each.
    pub fn take_locked_out(&mut self) -> Option<Arc<str>> {
        self.locked_out.take()
    }

    /// Makes another chunk of the lines that are not in the stream: the id went with another one.
    fn cut(&mut self, key: usize, flight: Flight) {
        let lane = &mut self.lanes[key];
        self.serial += 1;
        self.bytes -= flight.bytes();
        let rest = flight.cut(&lane.token, lane.seen, self.serial);
        self.bytes += rest.bytes();
        lane.flight = Some(rest);
    }

    fn set_timer(&mut self, key: usize) {
        let lane = &mut self.lanes[key];
        let due = lane.flight.as_ref().and_then(Flight::due);
        if due != lane.due {
            lane.due.map(|due| self.timers.remove(&(due, key)));
            due.map(|due| self.timers.insert((due, key)));
            lane.due = due;
        }
    }

    /// Puts a lane that has something to send in line.
    fn get_ready(&mut self, key: usize) {
        let lane = &mut self.lanes[key];
        let has_some = lane.flight.as_ref().map_or(lane.has_waiting(), Flight::is_ready);
        if has_some && !lane.is_ready {
            lane.is_ready = true;
            self.ready.push_back(key);
        }
    }

    fn changed(&mut self, key: usize) {
        let lane = &mut self.lanes[key];
        if !lane.is_changed {
            lane.is_changed = true;
            self.changed.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ack, LaneKey, Outgoing, Passed, Writer};
    use crate::bus::chunk::{CHUNK_BYTES_MAX, Chunk, Headers};
    use crate::bus::lane::NewLine;

    const WINDOW: u64 = 120_000;

    fn writer() -> Writer {
        let mut writer = Writer::new(WINDOW, CHUNK_BYTES_MAX);
        writer.set_away(false);
        writer.handle_complete(0, 0);
        writer
    }

    fn push(writer: &mut Writer, lane: LaneKey, number: u64, job: &str, flow: Option<&str>) -> bool {
        writer.push(lane, &NewLine { number, text: b"{}", job: Some(job), flow })
    }

    fn next(writer: &mut Writer, now: u64) -> Option<Outgoing> {
        writer.next(now, |job| (job == "known").then(|| "flow".into()))
    }

    fn pass(writer: &mut Writer, message: u64, source: (&str, u64)) {
        writer.handle_passed(5, Passed { message, stream_seq: message * 1_024, source: Some(source) });
    }

    #[test]
    fn a_chunk_follows_when_the_one_before_has_come_back() {
        let mut writer = writer();
        let lane = writer.open("p", 10);
        for number in 11..=13 {
            assert!(push(&mut writer, lane, number, "j", None));
        }
        assert!(!push(&mut writer, lane, 13, "j", None) && !push(&mut writer, lane, 10, "j", None));
        writer.note(lane, 14);
        let first = next(&mut writer, 1).unwrap();
        assert_eq!(
            (&*first.message_id, &*first.lines, &**first.payload),
            ("p:11", "11-13", &b"{}\n{}\n{}"[..])
        );
        push(&mut writer, lane, 15, "j", None);
        writer.handle_stored(2, lane, first.serial, 7, false);
        assert!(next(&mut writer, 2).is_none() && writer.next_ack().is_none() && !writer.is_idle());
        pass(&mut writer, 7, ("p", 13));
        // Line 14 was refused; of that is told once line 15 is there.
        assert_eq!(writer.next_ack(), Some(Ack { key: lane, line: 13, stream_seq: 7 * 1_024 }));
        let second = next(&mut writer, 3).unwrap();
        assert_eq!((&*second.message_id, &*second.lines), ("p:14", "15"));
        // Its connection has gone; the chunk has not.
        writer.close(lane);
        pass(&mut writer, 8, ("p", 15));
        assert!(writer.is_idle() && writer.lanes.is_empty());
    }

    #[test]
    fn what_fails_is_sent_again_as_it_was() {
        let mut writer = writer();
        let lane = writer.open("p", 0);
        push(&mut writer, lane, 1, "j", None);
        let first = next(&mut writer, 0).unwrap();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            writer.handle_failed(now, lane, first.serial);
            let due = writer.due().unwrap();
            assert!(next(&mut writer, due - 1).is_none());
            let again = next(&mut writer, due).unwrap();
            assert!(again.is_again && again.message_id == first.message_id && again.payload == first.payload);
            pauses.push(due - now);
            now = due;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(writer.due(), Some(now + 2_000), "without an answer");
        writer.set_away(true);
        assert!(writer.due().is_none() && next(&mut writer, now + 9_000).is_none());
    }

    #[test]
    fn of_two_daemons_with_lines_of_one_publisher_each_sends_what_is_left() {
        let mut writer = writer();
        let lane = writer.open("p", 10);
        (11..=15).for_each(|number| assert!(push(&mut writer, lane, number, "j", None)));
        let first = next(&mut writer, 0).unwrap();
        writer.handle_stored(1, lane, first.serial, 4, true);
        pass(&mut writer, 4, ("p", 12));
        let rest = next(&mut writer, 6).unwrap();
        assert_eq!((&*rest.message_id, &*rest.lines, rest.payload.len()), ("p:13", "13-15", 8));
        assert_eq!(writer.next_ack().map(|ack| ack.line), Some(12));
    }

    #[test]
    fn a_chunk_that_waited_takes_the_id_behind_what_the_reader_has_seen_since() {
        // The stream has lines of the chunk; or lines before it, which are none of this daemon's.
        for (first, last_seen, lines, bytes) in
            [(13, 14, "15-16", 5), (15, 14, "15-16", 5), (15, 12, "15-16", 5)]
        {
            let mut writer = writer();
            let lane = writer.open("p", 10);
            push(&mut writer, lane, 11, "j", None);
            (first..=16).for_each(|number| assert!(push(&mut writer, lane, number, "j", None)));
            let sent = next(&mut writer, 0).unwrap();
            writer.handle_stored(1, lane, sent.serial, 4, true);
            // Too long ago to begin a chunk.
            pass(&mut writer, 4, ("p", 11));
            assert!(next(&mut writer, WINDOW).is_none());
            pass(&mut writer, 5, ("p", last_seen));
            writer.handle_complete(WINDOW, WINDOW);
            let rest = next(&mut writer, WINDOW).unwrap();
            let id = format!("p:{}", last_seen + 1);
            assert_eq!((&*rest.message_id, &*rest.lines, rest.payload.len()), (&*id, lines, bytes));
            assert_eq!(writer.bytes(), bytes);
        }
    }

    #[test]
    fn a_chunk_whose_id_is_known_and_that_is_not_there_is_told_once() {
        // The reader has passed the message that the server names; or the stream was purged, and it never comes.
        for (passed, told_at) in [(9, 2_000), (0, 3_000)] {
            let mut writer = writer();
            let lane = writer.open("p", 0);
            push(&mut writer, lane, 1, "j", None);
            let mut told = Vec::new();
            for now in (0..20_000).step_by(1_000) {
                if let Some(sent) = next(&mut writer, now) {
                    writer.handle_stored(now, lane, sent.serial, 9, true);
                }
                if passed > 0 {
                    writer.handle_hole(now, passed);
                } else {
                    writer.handle_complete(now + 1, now + 1);
                }
                told.extend(writer.take_locked_out().map(|id| (now, id)));
            }
            assert_eq!(told, [(told_at, "p:1".into())], "{passed}");
        }
    }

    #[test]
    fn an_id_that_may_be_forgotten_waits_for_the_reader() {
        let mut writer = writer();
        let lane = writer.open("p", 0);
        push(&mut writer, lane, 1, "j", None);
        let first = next(&mut writer, 0).unwrap();
        writer.handle_failed(WINDOW, lane, first.serial);
        assert!(next(&mut writer, WINDOW + 100).is_none() && writer.due().is_none());
        writer.handle_complete(WINDOW + 200, WINDOW + 100);
        assert!(next(&mut writer, WINDOW + 200).is_none(), "it was asked too early");
        writer.handle_complete(WINDOW + 300, WINDOW + 101);
        assert!(next(&mut writer, WINDOW + 300).unwrap().is_again);
        // Nor is another one begun before the reader knows what there is.
        let other = writer.open("q", 0);
        push(&mut writer, other, 1, "j", None);
        assert!(next(&mut writer, 2 * WINDOW).is_none());
        writer.handle_complete(2 * WINDOW, 2 * WINDOW);
        assert_eq!(&*next(&mut writer, 2 * WINDOW).unwrap().message_id, "q:1");
    }

    #[test]
    fn chunks_and_what_is_held_are_bounded() {
        let mut writer = writer();
        let lane = writer.open("p", 0);
        (1..=1_500).for_each(|number| assert!(push(&mut writer, lane, number, "j", None)));
        assert_eq!(&*next(&mut writer, 0).unwrap().lines, "1-1024");
        pass(&mut writer, 1, ("p", 1_024));
        let text = vec![b' '; 200_000];
        let mut number = 1_500;
        while writer.has_room_for(lane) {
            number += 1;
            writer.push(lane, &NewLine { number, text: &text, job: None, flow: None });
        }
        assert_eq!((number, writer.has_room()), (1_503, true));
        assert_eq!(&*next(&mut writer, 0).unwrap().lines, "1025-1501");
        let mut lanes = Vec::new();
        while writer.has_room() {
            lanes.push(writer.open(&format!("p{}", lanes.len()), 0));
            let line = NewLine { number: 1, text: &vec![b' '; 1 << 20], job: None, flow: None };
            writer.push(lanes[lanes.len() - 1], &line);
        }
        assert_eq!(lanes.len(), 8);
        assert!(!writer.has_room_for(lane));
    }

    #[test]
    fn flows_that_lines_do_not_name_are_put_into_the_chunk() {
        let mut writer = writer();
        let lane = writer.open("p", 0);
        let lines = [
            ("named", Some("f")),
            ("half", None),
            ("half", Some("g")),
            ("known", None),
            ("known-not", None),
            ("named", Some("f")),
        ];
        for (index, (job, flow)) in lines.into_iter().enumerate() {
            push(&mut writer, lane, index as u64 + 1, job, flow);
        }
        let sent = next(&mut writer, 0).unwrap();
        let chunk = Chunk::read(Headers::default(), &sent.payload, 10);
        let flows: Vec<(&str, &str)> = chunk.flows.iter().map(|flow| (&*flow.job, &*flow.flow)).collect();
        assert_eq!((flows, chunk.len()), (vec![("half", "g"), ("known", "flow")], 6));
    }
}
