//! The oracle: every event ever taken in, in one list, and what a watcher of a topic must see of it. It shares no code
//! with the core, except the translation to the other dialect, which has tests of its own.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use luxcast::stream::dialect;
use luxcast::stream::numbers::SEQ_MIN;
use luxcast::stream::topic::TopicKind;
use luxcast::stream::topic_key::TopicKey;
use luxcast::wire::client_action::Since;

/// Place in [`Oracle::topics`].
pub type TopicId = usize;

/// The topic of all events.
pub const ALL: TopicId = 0;

pub struct Event {
    pub seq: u64,
    pub kind: String,
    pub inner: Option<String>,
    pub job: Option<TopicId>,
    /// The daemon's table of types was full when its type came up.
    pub is_overflow: bool,
    pub frame: Vec<u8>,
    overseer: OnceCell<Vec<u8>>,
}

impl Event {
    pub fn is_terminal(&self) -> bool {
        matches!(&*self.kind, "job_completed" | "job_failed" | "job_cancelled")
    }

    pub fn overseer_frame(&self) -> &[u8] {
        self.overseer.get_or_init(|| {
            let mut object = Vec::new();
            dialect::translate(payload(&self.frame).1, &mut object);
            frame_of(&object)
        })
    }
}

/// A text frame as in RFC 6455, section 5.2.
fn frame_of(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ ..126 => frame.push(length as u8),
        length @ ..65536 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Opcode and payload of a whole frame.
pub fn payload(frame: &[u8]) -> (u8, &[u8]) {
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    (frame[0] & 15, &frame[header..])
}

/// One life of a topic, from its first event until it is dropped.
#[derive(Clone, Copy, Default)]
pub struct Life {
    pub key: TopicKey,
    pub first_seq: u64,
    /// A job's flow.
    pub flow: Option<TopicId>,
    pub first_started: u64,
    pub last_terminal: u64,
    pub is_complete: bool,
}

pub struct TopicRecord {
    pub kind: TopicKind,
    pub name: String,
    pub life: Option<Life>,
    /// Places of its events in [`Oracle::events`].
    pub events: Vec<u32>,
}

/// What the sequencer was given.
pub struct Taken<'a> {
    pub seq: u64,
    pub line: &'a str,
    pub kind: &'a str,
    pub inner: Option<&'a str>,
    pub job: Option<TopicId>,
    pub own_flow: Option<TopicId>,
    pub data_flow: Option<TopicId>,
}

pub struct Oracle {
    pub events: Vec<Event>,
    pub topics: Vec<TopicRecord>,
    pub run_start: u64,
    /// The next event's number.
    next_seq: u64,
    /// The newest number given.
    given: u64,
    /// For each restart, the last number before it and the one that the new run began behind. No event has a number
    /// between.
    restarts: Vec<(u64, u64)>,
    /// Up to this number, this run's numbers count its events.
    dense_to: u64,
    /// Where the sequencer was told that events are lost: the first number and the last. The newest may not be
    /// published yet.
    pub holes: Vec<(u64, u64)>,
    /// Up to here, a restart may have lost events.
    missing_to: u64,
    types: BTreeSet<(String, Option<String>)>,
}

/// Rows that the daemon's table of types has room for.
const ROWS_MAX: usize = 127;

const DOCUMENTED: [(&str, Option<&str>); 18] = [
    ("execution_event", Some("slot_call")),
    ("execution_event", Some("event_emit")),
    ("execution_event", Some("error")),
    ("execution_event", None),
    ("routine_started", None),
    ("routine_completed", None),
    ("routine_failed", None),
    ("breakpoint_hit", None),
    ("breakpoint_resumed", None),
    ("job_started", None),
    ("job_paused", None),
    ("job_resumed", None),
    ("job_completed", None),
    ("job_failed", None),
    ("job_cancelled", None),
    ("metrics", None),
    ("slot_called", None),
    ("event_emitted", None),
];

fn documented() -> BTreeSet<(String, Option<String>)> {
    DOCUMENTED.iter().map(|(kind, inner)| ((*kind).to_owned(), inner.map(str::to_owned))).collect()
}

impl Oracle {
    pub fn new(run_start: u64, topics: Vec<(TopicKind, String)>) -> Self {
        let topics =
            topics.into_iter().map(|(kind, name)| TopicRecord { kind, name, life: None, events: Vec::new() });
        Self {
            events: Vec::new(),
            topics: topics.collect(),
            run_start,
            next_seq: run_start + 1,
            given: run_start,
            restarts: Vec::new(),
            dense_to: u64::MAX,
            holes: Vec::new(),
            missing_to: 0,
            types: documented(),
        }
    }

    /// The number before the next event's.
    pub fn before(&self) -> u64 {
        self.next_seq - 1
    }

    /// The next event gets this number.
    pub fn jump(&mut self, number: u64) {
        if number > self.next_seq {
            self.dense_to = self.dense_to.min(self.given);
        }
        self.next_seq = number;
    }

    /// What has the numbers up to `to` is lost.
    pub fn lose(&mut self, to: u64) {
        self.dense_to = self.dense_to.min(self.given);
        self.holes.push((self.next_seq, to));
        self.given = to;
        self.next_seq = to + 1;
    }

    /// Place in `holes` of the first one that a watcher at the number `seq` has not passed.
    pub fn hole_after(&self, seq: u64) -> usize {
        self.holes.partition_point(|&(_, to)| to <= seq)
    }

    pub fn event(&self, seq: u64) -> Option<&Event> {
        let place = self.events.binary_search_by_key(&seq, |event| event.seq).ok()?;
        Some(&self.events[place])
    }

    pub fn events_of(&self, topic: TopicId) -> impl Iterator<Item = &Event> {
        self.topics[topic].events.iter().map(|&place| &self.events[place as usize])
    }

    /// Place in a topic's list of the first event beyond `seq`.
    pub fn place_after(&self, topic: TopicId, seq: u64) -> usize {
        self.topics[topic].events.partition_point(|&place| self.events[place as usize].seq <= seq)
    }

    /// Notes an event that the sequencer has numbered.
    /// `key_of` gives the key of a topic's present life.
    pub fn take(&mut self, taken: &Taken<'_>, key_of: impl Fn(&TopicRecord) -> TopicKey) {
        assert_eq!(taken.seq, self.next_seq, "numbers jump only where that is asked for");
        self.given = self.next_seq;
        self.next_seq += 1;
        let place = self.events.len() as u32;
        let name = (taken.kind.to_owned(), taken.inner.map(str::to_owned));
        // An inner type that is no valid name has no row.
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        let is_named =
            taken.inner.is_none_or(|inner| (1..=64).contains(&inner.len()) && inner.bytes().all(is_word));
        let is_overflow = !is_named || !self.types.contains(&name) && self.types.len() >= ROWS_MAX;
        if !is_overflow {
            self.types.insert(name);
        }
        let object = format!("{{\"stream_seq\":{},{}", taken.seq, &taken.line[1..]);
        self.events.push(Event {
            seq: taken.seq,
            kind: taken.kind.to_owned(),
            inner: taken.inner.map(str::to_owned),
            job: taken.job,
            is_overflow,
            frame: frame_of(object.as_bytes()),
            overseer: OnceCell::new(),
        });
        let mut members = vec![ALL];
        members.extend(taken.own_flow);
        if let Some(job) = taken.job {
            let key = key_of(&self.topics[job]);
            members.push(job);
            members.extend(self.fold(job, key, taken));
        }
        members.sort_unstable();
        members.dedup();
        for topic in members {
            if self.topics[topic].kind == TopicKind::Flow {
                let key = key_of(&self.topics[topic]);
                self.life(topic, key, taken.seq);
            }
            self.topics[topic].events.push(place);
        }
    }

    /// Notes a new run behind the number `run_start`. A topic whose life has its key in `keys` lives on.
    ///
    /// `is_anew`: the new run knows nothing of earlier ones.
    pub fn resume(
        &mut self,
        is_anew: bool,
        run_start: u64,
        missing_to: u64,
        keys: &[TopicKey],
        key_of: impl Fn(&TopicRecord) -> TopicKey,
    ) {
        self.restarts.push((self.given, run_start));
        (self.given, self.dense_to) = (run_start, u64::MAX);
        if is_anew {
            self.run_start = run_start;
            self.restarts.clear();
            self.holes.clear();
            self.types = documented();
        }
        self.next_seq = run_start + 1;
        self.missing_to = missing_to;
        for (record, &key) in self.topics.iter_mut().zip(keys) {
            let now = key_of(record);
            // The key of a dropped topic may be given again.
            record.life =
                record.life.filter(|life| life.key == key && !is_anew).map(|life| Life { key: now, ..life });
        }
    }

    fn life(&mut self, topic: TopicId, key: TopicKey, seq: u64) -> &mut Life {
        let life = &mut self.topics[topic].life;
        if life.is_none_or(|life| life.key != key) {
            *life = Some(Life { key, first_seq: seq, ..Life::default() });
        }
        life.as_mut().expect("it was just made")
    }

    /// Folds an event into its job's life. Returns the job's flow.
    fn fold(&mut self, job: TopicId, key: TopicKey, taken: &Taken<'_>) -> Option<TopicId> {
        let life = self.life(job, key, taken.seq);
        life.flow = life.flow.or(taken.own_flow).or(taken.data_flow);
        match taken.kind {
            "job_started" if life.first_started == 0 => life.first_started = taken.seq,
            "job_completed" | "job_failed" | "job_cancelled" => life.last_terminal = taken.seq,
            _ => {}
        }
        if life.first_seq == taken.seq {
            life.is_complete = taken.kind == "job_started";
        }
        life.flow
    }
}

/// What a client asked for, as the specification puts it.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub is_debug: bool,
    pub is_overseer: bool,
    /// Its token lacks `debug`.
    pub hides_breakpoints: bool,
    pub is_only: bool,
    pub names: BTreeSet<String>,
}

impl Wish {
    pub fn is_all(&self) -> bool {
        !self.is_debug && !self.hides_breakpoints && !self.is_only && self.names.is_empty()
    }

    pub fn wants(&self, event: &Event) -> bool {
        const DEBUG: [&str; 6] = [
            "breakpoint_hit",
            "breakpoint_resumed",
            "execution_event",
            "routine_started",
            "routine_completed",
            "routine_failed",
        ];
        if self.is_debug && !DEBUG.contains(&&*event.kind) && !event.kind.starts_with("job_") {
            return false;
        }
        let inner = event.inner.as_deref();
        let is_breakpoint = |name: &str| name.starts_with("breakpoint_");
        if self.hides_breakpoints && (is_breakpoint(&event.kind) || inner.is_some_and(is_breakpoint)) {
            return false;
        }
        let other = match (&*event.kind, inner) {
            ("execution_event", Some("slot_call")) => Some("slot_called"),
            ("execution_event", Some("event_emit")) => Some("event_emitted"),
            ("slot_called", None) => Some("slot_call"),
            ("event_emitted", None) => Some("event_emit"),
            _ => None,
        };
        let is_listed = self.names.contains(&event.kind)
            || inner.is_some_and(|name| self.names.contains(name))
            || self.is_overseer && other.is_some_and(|name| self.names.contains(name));
        is_listed == self.is_only
    }
}

/// The state of a topic at the moment at which a watcher found its place in it.
pub struct Moment {
    pub newest: u64,
    /// Up to here, other daemons may have given numbers.
    pub newest_possible: u64,
    /// Number of the oldest event that the history has.
    pub horizon: u64,
    pub key: TopicKey,
    pub is_complete: bool,
    /// Number of the first event ever appended to its log.
    pub first_seq: Option<u64>,
    /// Numbers of the kept events.
    pub kept: Vec<u64>,
}

/// A gap that must come.
#[derive(Clone, Debug)]
pub struct ExpectedGap {
    pub from: u64,
    pub to: u64,
    /// The last lost number of overflowing types: the daemon cannot know whether it matches.
    pub to_unsure: u64,
    pub reason: &'static str,
    /// None: it must be null.
    pub missed: Option<u64>,
    /// `missed` must not be null.
    pub is_exact: bool,
}

/// What a joining watcher must see first.
#[derive(Clone, Debug)]
pub struct Join {
    pub gap: Option<ExpectedGap>,
    pub kept: Vec<u64>,
    /// Then every matching event beyond this.
    pub after: u64,
    /// Losses up to this number are settled: the gap reports them, or they were not asked for.
    pub settled_to: u64,
    /// On a connection for many jobs: the past up to here comes before everything else.
    pub past_to: u64,
    /// Events of earlier lives of the topic, dropped before they were published. They need not come: a gap reports
    /// them, or the topic is complete from its start where that was asked for.
    pub excused: Vec<u64>,
    /// An earlier life of the job had numbers up to here. A gap reports that before the job's next event, unless the
    /// life of that event is complete from its start.
    pub earlier_to: Option<u64>,
    /// Holes beyond this are passed, each with a gap.
    pub holes_after: u64,
    /// The number in the greeting, none of which is below where the watcher stands.
    pub shown: u64,
    /// It stands at a number beyond the newest: nothing up to there ever comes.
    pub is_standing: bool,
    /// A gap with `restart` for this number alone may come.
    pub doubt: Option<u64>,
}

impl Oracle {
    pub fn join(&self, topic: TopicId, moment: &Moment, since: Since, wish: &Wish) -> Join {
        let past_to = if since == Since::Now { 0 } else { moment.newest };
        let newest = moment.newest;
        let is_gone =
            |event: &&Event| event.seq > newest && topic != ALL && event.seq < self.log_start(topic, moment);
        let excused = self.events_of(topic).filter(is_gone).map(|event| event.seq).collect();
        let now = Join {
            gap: None,
            kept: Vec::new(),
            after: newest,
            settled_to: 0,
            past_to,
            excused,
            earlier_to: None,
            holes_after: newest,
            shown: newest,
            is_standing: false,
            doubt: None,
        };
        // It may have been dropped before its newest events were published.
        let to = self.earlier_to(topic, moment);
        let early = (to > newest).then(|| gap(newest + 1, to, "expired", None));
        let join = match since {
            Since::Now => Join { gap: early, ..now },
            Since::Last(count) => {
                Join { gap: early, ..self.join_last(topic, moment, count as usize, wish, now) }
            }
            Since::Start => self.join_start(topic, moment, wish, now),
            Since::After(seq) if seq > newest && seq <= moment.newest_possible => Join {
                gap: (to > seq).then(|| gap(seq + 1, to, "expired", None)),
                after: seq,
                holes_after: seq,
                shown: seq,
                is_standing: true,
                ..now
            },
            Since::After(seq) if seq > newest => {
                let start = self.join_start(topic, moment, wish, now);
                let gap = gap(seq + 1, seq + 1, "restart", None);
                match self.is_whole(topic, moment) && start.gap.is_none() {
                    // If the history has moved past a hole, it is not known to be whole any more.
                    true => Join { doubt: Some(seq + 1), ..start },
                    false => Join { gap: Some(gap), earlier_to: None, ..start },
                }
            }
            Since::After(seq) => {
                // No run can have given a number of less than sixteen digits.
                let was_never_given = seq < SEQ_MIN && self.is_whole(topic, moment);
                let unknown_to = if was_never_given { 0 } else { self.unknown_to(seq) };
                let earlier_to = self.earlier_to(topic, moment);
                self.join_after(topic, moment, seq, earlier_to, unknown_to, wish, now)
            }
        };
        let is_beyond = matches!(since, Since::After(seq) if seq > newest) && !join.is_standing;
        let settled_to = match (since, &join.gap) {
            (Since::Last(_), _) => join.after,
            (_, gap) if !is_beyond => gap.as_ref().map_or(0, |gap| gap.to.max(gap.to_unsure)),
            _ => join.settled_to,
        };
        Join { settled_to, ..join }
    }

    fn is_whole(&self, topic: TopicId, moment: &Moment) -> bool {
        self.topics[topic].kind == TopicKind::Job && moment.is_complete
    }

    /// The last number in an earlier life of the topic, in this run or one that it knows.
    fn earlier_to(&self, topic: TopicId, moment: &Moment) -> u64 {
        let start = self.log_start(topic, moment);
        let is_earlier = |event: &&Event| event.seq < start && event.seq > self.run_start;
        let last = self.events_of(topic).filter(is_earlier).last().filter(|_| topic != ALL);
        last.map_or(0, |event| event.seq)
    }

    fn join_start(&self, topic: TopicId, moment: &Moment, wish: &Wish, now: Join) -> Join {
        let is_whole = self.is_whole(topic, moment);
        let earlier_to = if is_whole { 0 } else { self.earlier_to(topic, moment) };
        let is_unsure = self.topics[topic].kind == TopicKind::Job && moment.first_seq.is_none();
        if is_unsure {
            // A hole may have had an earlier life, too.
            let passed = self.holes[..self.hole_after(moment.newest)].last();
            let earlier_to = earlier_to.max(passed.map_or(0, |&(_, to)| to));
            return Join { earlier_to: (earlier_to > 0).then_some(earlier_to), ..now };
        }
        let join = self.join_after(topic, moment, 0, earlier_to, 0, wish, now);
        // What a hole had before a whole job is not missed by it.
        let before = moment.first_seq.filter(|_| is_whole).map_or(0, |first| first - 1);
        Join { holes_after: before.min(moment.newest), ..join }
    }

    /// The number up to which nothing is known for a watcher that names `seq`, because no known run gave that; else 0.
    fn unknown_to(&self, seq: u64) -> u64 {
        if seq < self.run_start {
            return self.run_start;
        }
        let restart = self.restarts.iter().find(|(last, next)| seq > *last && seq < *next);
        restart.map_or(0, |(_, next)| *next)
    }

    /// Whether numbers tell how many events came before `seq`: those of its run do not jump before that, nor does any
    /// of an earlier run.
    fn is_counted(&self, seq: u64) -> bool {
        let begins = std::iter::once(self.run_start).chain(self.restarts.iter().map(|&(_, next)| next));
        let mut runs = begins.zip(self.restarts.iter().map(|&(last, _)| last));
        match runs.find(|&(begin, last)| (begin..=last).contains(&seq)) {
            None => seq <= self.dense_to,
            Some((begin, last)) => {
                let events = self.place_after(ALL, last) - self.place_after(ALL, begin);
                events as u64 == last - begin
            }
        }
    }

    /// Number of the first event that the topic's own log can have.
    fn log_start(&self, topic: TopicId, moment: &Moment) -> u64 {
        if topic == ALL {
            return self.run_start + 1;
        }
        let life = self.topics[topic].life.filter(|life| life.key == moment.key);
        life.map_or(u64::MAX, |life| life.first_seq)
    }

    fn join_last(&self, topic: TopicId, moment: &Moment, count: usize, wish: &Wish, now: Join) -> Join {
        let oldest = self.log_start(topic, moment).max(moment.horizon);
        let wanted = |event: &&Event| wish.wants(event) && event.seq <= moment.newest;
        let is_there = |event: &&Event| event.seq >= oldest || moment.kept.contains(&event.seq);
        let all: Vec<u64> =
            self.events_of(topic).filter(wanted).filter(is_there).map(|event| event.seq).collect();
        let last = &all[all.len().saturating_sub(count)..];
        let (kept, rest): (Vec<u64>, Vec<u64>) = last.iter().partition(|&&seq| seq < oldest);
        // If fewer match than are asked for, the whole log was searched.
        let is_all = last.len() < count || !kept.is_empty();
        let first = if is_all { Some(oldest) } else { rest.first().copied() };
        let after = first.map_or(moment.newest, |first| moment.newest.min(first - 1));
        // Nothing older than what it begins with was asked for.
        let begins = self.events_of(topic).find(|event| event.seq > after && event.seq >= oldest);
        let holes_after = begins.map_or(moment.newest, |event| moment.newest.min(event.seq - 1));
        Join { kept, after, holes_after, ..now }
    }

    /// What a watcher at `seq` must see, where an earlier life had numbers up to `earlier_to` and nothing is known up
    /// to `unknown_to`.
    #[allow(clippy::too_many_arguments)]
    fn join_after(
        &self,
        topic: TopicId,
        moment: &Moment,
        seq: u64,
        earlier_to: u64,
        unknown_to: u64,
        wish: &Wish,
        now: Join,
    ) -> Join {
        let log_start = self.log_start(topic, moment);
        let oldest = log_start.max(moment.horizon);
        let mut lost = Vec::new();
        let mut unsure = 0;
        for event in self
            .events_of(topic)
            .filter(|event| event.seq > seq && event.seq >= log_start && event.seq < oldest)
        {
            if !moment.kept.contains(&event.seq) && event.seq <= moment.newest {
                if wish.wants(event) {
                    lost.push(event.seq);
                } else if event.is_overflow {
                    unsure = event.seq;
                }
            }
        }
        let last_lost = lost.last().copied().unwrap_or(0);
        let gap = if unknown_to > 0 || seq < earlier_to {
            let reason = if unknown_to > 0 { "restart" } else { "expired" };
            let to = last_lost.max(earlier_to).max(unknown_to);
            Some(ExpectedGap { to_unsure: unsure, ..gap(seq + 1, to, reason, None) })
        } else {
            let count = lost.len() as u64;
            // Nothing of the topic can be missing before what was lost.
            let is_exact = wish.is_all() && (log_start > seq || topic == ALL && self.is_counted(seq));
            let reason = if seq < self.missing_to && seq > 0 { "restart" } else { "expired" };
            let expected =
                ExpectedGap { to_unsure: unsure, is_exact, ..gap(seq + 1, last_lost, reason, Some(count)) };
            (count > 0 || unsure > 0).then_some(expected)
        };
        let kept = |event: &&Event| event.seq > seq && moment.kept.contains(&event.seq) && wish.wants(event);
        let kept = self.events_of(topic).filter(kept).map(|event| event.seq).collect();
        let after =
            if log_start == u64::MAX { moment.newest } else { seq.max(oldest - 1).min(moment.newest) };
        let settled_to = last_lost.max(unsure).max(earlier_to);
        Join { gap, kept, after, settled_to, holes_after: seq, ..now }
    }
}

fn gap(from: u64, to: u64, reason: &'static str, missed: Option<u64>) -> ExpectedGap {
    ExpectedGap { from, to, to_unsure: 0, reason, missed, is_exact: false }
}
