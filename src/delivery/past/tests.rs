//! One shard, one window: what watchers of the past get, and what they ask for.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::begin;
use crate::delivery::cursor::Cursor;
use crate::delivery::filter::Filter;
use crate::delivery::keys::WatcherKey;
use crate::delivery::sink::Sink;
use crate::delivery::start::Start;
use crate::delivery::watchers::{WatchRequest, Watchers};
use crate::stream::directory::{Directory, EarlierRuns};
use crate::stream::link::{Arrival, Inlet, Link, NOTHING_NEEDED, link};
use crate::stream::now::Now;
use crate::stream::numbers::SEQ_MIN;
use crate::stream::past::{Demand, Past, Window};
use crate::stream::sequencer::{Limits, Sequencer, Step};
use crate::stream::topic::TopicKind;
use crate::wire::client_action::Since;
use crate::wire::framing::Framing;
use crate::wire::line::PADDING;
use crate::wire::watcher_message::{Gap, GapReason};

/// Memory has all behind this number.
const MEMORY: u64 = SEQ_MIN + 1_000;

/// Sockets, some of which take only so many bytes.
struct Sockets<'a> {
    memory: &'a Directory,
    inlet: &'a Inlet,
    received: &'a mut HashMap<WatcherKey, Vec<u8>>,
    room: &'a mut HashMap<WatcherKey, usize>,
}

impl Sink for Sockets<'_> {
    fn write(&mut self, watcher: WatcherKey, bytes: &[u8]) -> io::Result<usize> {
        let mut unbounded = usize::MAX;
        let room = self.room.get_mut(&watcher).unwrap_or(&mut unbounded);
        let taken = bytes.len().min(*room);
        *room -= taken;
        self.received.entry(watcher).or_default().extend_from_slice(&bytes[..taken]);
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn write_vectored(&mut self, watcher: WatcherKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.write(watcher, &all)
    }

    fn stage(&mut self, _: &[IoSlice<'_>], _: usize) -> bool {
        false
    }

    fn write_staged(&mut self, _: WatcherKey) -> io::Result<usize> {
        panic!("nothing is staged")
    }

    fn cpu_nanos(&mut self) -> u64 {
        0
    }

    fn published(&mut self) -> u64 {
        self.memory.published()
    }

    fn hold_history(&mut self) {}

    fn next_arrival(&mut self) -> Option<Arrival> {
        self.inlet.next()
    }

    fn is_time_up(&mut self) -> bool {
        false
    }
}

fn sequencer(directory: &Arc<Directory>, links: Vec<Arc<Link>>) -> Sequencer {
    let limits = Limits {
        history_bytes: 64 << 10,
        history_millis: 1 << 40,
        job_idle_millis: 1 << 40,
        metrics_millis: 0,
        jobs_max: 100,
        depth_max: 8,
    };
    Sequencer::new(directory.clone(), links, limits)
}

/// Takes an event of a job with this number.
fn take(sequencer: &mut Sequencer, number: u64, job: &str) {
    take_long(sequencer, number, job, 0);
}

fn take_long(sequencer: &mut Sequencer, number: u64, job: &str, bytes: usize) {
    let n = number - SEQ_MIN;
    let line = format!("{{\"type\":\"t\",\"job_id\":\"{job}\",\"n\":{n},\"pad\":\"{:bytes$}\"}}", "");
    take_line(sequencer, number, &line);
}

fn take_line(sequencer: &mut Sequencer, number: u64, line: &str) {
    sequencer.begin_at(number).expect("numbers rise");
    sequencer.begin_turn(Now::default(), line.len());
    let mut block = line.as_bytes().to_vec();
    block.resize(line.len() + PADDING, b' ');
    assert!(sequencer.take_line(&mut block, line.len()).is_ok(), "{line}");
    sequencer.end_turn();
    while sequencer.step() != Step::Done {}
}

struct Shard {
    memory: Arc<Directory>,
    live: Sequencer,
    inlet: Inlet,
    past: Arc<Past>,
    watchers: Watchers,
    received: HashMap<WatcherKey, Vec<u8>>,
    room: HashMap<WatcherKey, usize>,
    /// The pass.
    window: Option<(Arc<Window>, Sequencer)>,
}

impl Shard {
    /// Memory has the events 1001 to 1003 of job `a`.
    fn new() -> Self {
        let memory = Arc::new(Directory::with_earlier(MEMORY, EarlierRuns::lost(SEQ_MIN + 1, MEMORY), 100));
        let (link, inlet) = link();
        let mut live = sequencer(&memory, vec![link]);
        (1..=3).for_each(|place| take(&mut live, MEMORY + place, "a"));
        let past = Arc::new(Past::default());
        past.open(SEQ_MIN + 1);
        let mut watchers = Watchers::new(0, memory.clone());
        watchers.read_past(past.clone());
        Self {
            memory,
            live,
            inlet,
            past,
            watchers,
            received: HashMap::new(),
            room: HashMap::new(),
            window: None,
        }
    }

    fn watch(&mut self, kind: TopicKind, name: &str, since: Since) -> WatcherKey {
        let key = self.watchers.add();
        let published = self.memory.published();
        let request =
            WatchRequest { kind, name, filter: Filter::all(false, true), since, framing: Framing::WebSocket };
        let newest = self.watchers.watch(key, request, |_| {}, || published, |_, _, _, _| {});
        assert!(newest.is_ok(), "there is room");
        key
    }

    /// Subscribes a watcher of many to a job.
    fn subscribe(&mut self, key: WatcherKey, job: &str, since: Since) {
        let published = self.memory.published();
        let result = self.watchers.subscribe_job(key, job, since, || published, |_, _| {});
        assert!(result.is_ok(), "there is room");
    }

    /// Memory takes events of job `b`, each of so many bytes, and drops old ones.
    fn publish(&mut self, numbers: impl Iterator<Item = u64>, bytes: usize) {
        for number in numbers {
            take_long(&mut self.live, SEQ_MIN + number, "b", bytes);
        }
    }

    /// Begins a pass for those who stand at `asked`. It gets behind `begins` at once.
    fn pass(&mut self, pass: u64, asked: u64, begins: u64) {
        let directory = Arc::new(self.memory.beside(SEQ_MIN + asked.saturating_sub(10), 100));
        let sequencer = sequencer(&directory, Vec::new());
        let (asked, begins) = (SEQ_MIN + asked, SEQ_MIN + begins);
        let complete_to = AtomicU64::new(0);
        let window = Arc::new(Window { pass, asked, begins, is_restart: false, directory, complete_to });
        self.past.set_window(Some(window.clone()));
        self.window = Some((window, sequencer));
    }

    /// The pass comes to these events of job `a`, and keeps all from `keep_from` on.
    fn read(&mut self, numbers: impl Iterator<Item = u64>, keep_from: u64) {
        self.read_of("a", numbers, keep_from);
    }

    fn read_of(&mut self, job: &str, numbers: impl Iterator<Item = u64>, keep_from: u64) {
        let (_, sequencer) = self.window.as_mut().expect("a pass has begun");
        sequencer.keep_from = keep_from;
        numbers.for_each(|number| take(sequencer, SEQ_MIN + number, job));
        self.past.note_move();
    }

    fn serve(&mut self) {
        let Self { memory, inlet, received, room, .. } = self;
        let mut sockets = Sockets { memory, inlet, received, room };
        self.watchers.flush(&mut sockets);
        while self.watchers.is_busy() || self.watchers.has_past_to_send() {
            self.watchers.flush_past(&mut sockets);
            self.watchers.flush(&mut sockets);
        }
        self.watchers.assert_nobody_forgotten();
    }

    /// Looks at what there is, and sends none of it.
    fn look(&mut self) {
        let Self { memory, inlet, received, room, .. } = self;
        self.watchers.flush(&mut Sockets { memory, inlet, received, room });
    }

    fn make_room(&mut self, key: WatcherKey, bytes: usize) {
        self.room.insert(key, bytes);
        self.watchers.handle_writable(key);
    }

    /// What a watcher got since the last call: numbers, and the ends of gaps below 0.
    fn numbers(&mut self, key: WatcherKey) -> Vec<i64> {
        numbers(&self.received.remove(&key).unwrap_or_default())
    }

    fn demand(&mut self) -> Demand {
        self.watchers.report_past();
        let demand = self.past.demand();
        let below = |seq: Option<u64>| seq.map(|seq| seq - SEQ_MIN);
        Demand { waiting: below(demand.waiting), reading: below(demand.reading), ..demand }
    }
}

/// The numbers of events in some bytes, and the negative ends of gaps.
fn numbers(bytes: &[u8]) -> Vec<i64> {
    let text = String::from_utf8_lossy(bytes);
    let value = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        (digits.parse::<u64>().expect("a number") - SEQ_MIN) as i64
    };
    let mut found: Vec<(usize, i64)> = text
        .match_indices("{\"stream_seq\":")
        .map(|(at, sign)| (at, value(&text[at + sign.len()..])))
        .collect();
    found.extend(text.match_indices("\"to\":").map(|(at, sign)| (at, -value(&text[at + sign.len()..]))));
    found.sort();
    found.into_iter().map(|(_, number)| number).collect()
}

#[test]
fn a_watcher_of_the_past_comes_to_memory_without_a_loss_or_a_double() {
    for (kind, name) in [(TopicKind::All, ""), (TopicKind::Job, "a")] {
        let mut shard = Shard::new();
        let key = shard.watch(kind, name, Since::After(SEQ_MIN + 990));
        shard.serve();
        assert_eq!(shard.numbers(key), [0; 0]);
        let waits = Demand { waiting: Some(990), is_starving: true, watchers: 1, ..Demand::default() };
        assert_eq!(shard.demand(), waits);
        shard.pass(1, 990, 990);
        shard.read(985..=995, 0);
        shard.serve();
        assert_eq!(shard.numbers(key), [991, 992, 993, 994, 995]);
        let reads = Demand { pass: 1, reading: Some(995), waiting: None, ..waits };
        assert_eq!(shard.demand(), reads);
        shard.read([999, 1_000, 1_001, 1_002].into_iter(), 0);
        shard.serve();
        assert_eq!(shard.numbers(key), [999, 1_000, 1_001, 1_002, 1_003]);
        assert_eq!(shard.demand(), Demand::default());
    }
}

#[test]
fn a_slow_reader_keeps_its_frame_and_waits_for_the_next_pass() {
    let mut shard = Shard::new();
    let [slow, fast] = [(); 2].map(|()| shard.watch(TopicKind::All, "", Since::After(SEQ_MIN + 100)));
    shard.room.insert(slow, 20);
    shard.pass(1, 100, 100);
    shard.read(101..=105, 0);
    shard.serve();
    assert_eq!(shard.numbers(fast), [101, 102, 103, 104, 105]);
    assert_eq!(shard.demand().reading, Some(101), "it stands behind the frame that it has begun");
    // The pass goes on without it.
    for first in (106..1_000).step_by(20) {
        shard.read(first..(first + 20).min(1_000), NOTHING_NEEDED);
        shard.serve();
    }
    assert_eq!(shard.numbers(fast).last(), Some(&999));
    let demand = shard.demand();
    assert_eq!((demand.waiting, demand.reading, demand.is_starving), (Some(101), Some(999), true));
    shard.make_room(slow, 1 << 20);
    shard.serve();
    assert_eq!(shard.numbers(slow), [101], "the rest of its frame, and no gap");
    shard.pass(2, 101, 101);
    shard.read(101..=110, 0);
    shard.serve();
    assert_eq!(shard.numbers(slow), [102, 103, 104, 105, 106, 107, 108, 109, 110]);
    let demand = shard.demand();
    assert_eq!((demand.waiting, demand.reading), (None, Some(110)), "who is ahead of it is of it too");
}

#[test]
fn who_is_still_to_be_served_reads_and_whose_topic_was_dropped_waits() {
    let mut shard = Shard::new();
    let _ = ["a", "b"].map(|job| shard.watch(TopicKind::Job, job, Since::After(SEQ_MIN + 100)));
    shard.pass(1, 100, 100);
    shard.read([101].into_iter(), 0);
    let sequencer = &mut shard.window.as_mut().expect("it was begun").1;
    take_line(sequencer, SEQ_MIN + 102, r#"{"type":"job_completed","job_id":"b"}"#);
    sequencer.sweep(Now { millis: 1 << 41, ..Now::default() });
    shard.look();
    let reads = shard.demand();
    assert_eq!(reads, Demand { pass: 1, reading: Some(100), watchers: 2, ..Demand::default() });
    shard.serve();
    assert_eq!(shard.demand(), Demand { waiting: Some(100), reading: Some(102), is_starving: true, ..reads });
}

#[test]
fn a_full_socket_holds_no_window_that_is_gone() {
    let mut shard = Shard::new();
    let slow = shard.watch(TopicKind::All, "", Since::After(SEQ_MIN + 100));
    shard.room.insert(slow, 20);
    shard.pass(1, 100, 100);
    shard.read(101..=105, 0);
    shard.serve();
    let window = Arc::downgrade(&shard.window.take().expect("it was begun").0);
    shard.past.set_window(None);
    shard.look();
    assert_eq!(window.strong_count(), 0);
}

#[test]
fn what_cannot_be_had_is_a_gap_for_each_that_passes_it() {
    let mut shard = Shard::new();
    let [early, late] = [50, 300].map(|seq| shard.watch(TopicKind::All, "", Since::After(SEQ_MIN + seq)));
    // The stream begins later than it was asked for.
    shard.pass(1, 50, 200);
    shard.read([250, 310].into_iter(), 0);
    let (_, sequencer) = shard.window.as_mut().expect("it was begun");
    sequencer.lose_to(SEQ_MIN + 400).expect("numbers rise");
    shard.read([410].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(early), [-200, 250, 310, -400, 410]);
    assert_eq!(shard.numbers(late), [310, -400, 410]);
    // Nothing comes behind that, up to where memory begins.
    let (window, _) = shard.window.as_ref().expect("it was begun");
    window.complete_to.store(MEMORY + 2, Ordering::SeqCst);
    shard.past.note_move();
    shard.serve();
    assert_eq!((shard.numbers(early), shard.numbers(late)), (vec![1_003], vec![1_003]));
}

#[test]
fn who_leaves_or_changes_the_filter_is_of_the_past_no_more_or_still() {
    let mut shard = Shard::new();
    let [gone, changed] = [(); 2].map(|()| shard.watch(TopicKind::Job, "a", Since::Start));
    shard.serve();
    assert_eq!((shard.demand().waiting, shard.demand().watchers), (Some(0), 2));
    shard.watchers.remove(gone);
    assert_eq!(shard.demand().watchers, 1);
    shard.pass(1, 0, 0);
    shard.read([5].into_iter(), 0);
    shard.serve();
    shard
        .watchers
        .set_filter(changed, Filter::all(false, true).only(&["other".to_owned()]).expect("one name"));
    shard.read([6, 7].into_iter(), 0);
    shard.serve();
    assert_eq!((shard.numbers(changed), shard.demand().reading), (vec![5], Some(7)));
    shard.watchers.end(changed);
    assert_eq!(shard.demand(), Demand::default());
}

#[test]
fn who_names_a_number_of_another_stream_begins_anew() {
    let mut shard = Shard::new();
    shard.memory.set_newest_possible(MEMORY + 1_000_000);
    shard.memory.note_newest_given(MEMORY + 3);
    let [never, ahead] = [500, 8].map(|seq| shard.watch(TopicKind::All, "", Since::After(MEMORY + seq)));
    let beat = |shard: &mut Shard| {
        for key in [never, ahead] {
            shard.watchers.enqueue_control(key, |_| {});
        }
        shard.serve();
        [never, ahead].map(|key| shard.numbers(key))
    };
    // The first answer may have been under way when they came.
    shard.memory.note_newest_given(MEMORY + 3);
    assert_eq!(beat(&mut shard), [[0; 0]; 2]);
    // Another daemon is ahead by now.
    shard.memory.note_newest_given(MEMORY + 9);
    assert_eq!(beat(&mut shard), [vec![-1_501, 1_001, 1_002, 1_003], vec![]]);
    assert_eq!(beat(&mut shard), [[0; 0]; 2], "it is told once");
}

#[test]
fn only_what_memory_has_lost_and_the_stream_may_have_is_of_the_past() {
    let gap = Gap { from: 1, to: 9, missed: None, reason: GapReason::Expired };
    let [whole, lossy] = [None, Some(gap)].map(|gap| Start { gap, ..Start::at(Cursor::default()) });
    let after = |seq| Since::After(SEQ_MIN + seq);
    let past = Past::default();
    let begin = |kind, since, start| {
        begin(&past, kind, SEQ_MIN + 50, since, start).map(|start| (start.cursor.seq - SEQ_MIN, start.gap))
    };
    assert_eq!(begin(TopicKind::All, after(20), &lossy), None, "there is none");
    past.open(SEQ_MIN + 10);
    assert_eq!(begin(TopicKind::All, after(20), &lossy), Some((20, None)));
    assert_eq!(begin(TopicKind::Job, after(20), &whole), None);
    assert_eq!(begin(TopicKind::All, after(9), &lossy), Some((9, None)));
    let restart = Gap { from: SEQ_MIN + 8, to: SEQ_MIN + 9, missed: None, reason: GapReason::Restart };
    assert_eq!(begin(TopicKind::All, after(7), &lossy), Some((9, Some(restart))), "of another stream");
    assert_eq!(begin(TopicKind::All, after(50), &lossy), None, "it was lost elsewhere");
    assert_eq!(begin(TopicKind::Flow, Since::Start, &lossy), Some((9, None)));
    assert_eq!(begin(TopicKind::All, Since::Start, &lossy), None);
    assert_eq!(begin(TopicKind::Job, Since::Last(3), &lossy), None);
}

mod jobs;
