//! The oracle: every event ever taken in, in one list. It shares no code with the core, except the translation to the other dialect, which has tests of its own.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use luxcast::stream::dialect;
use luxcast::stream::topic::TopicKind;
use luxcast::stream::topic_key::TopicKey;

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
    /// What its watchers get.
    pub object: String,
    translated: OnceCell<String>,
}

impl Event {
    pub fn is_terminal(&self) -> bool {
        matches!(&*self.kind, "job_completed" | "job_failed" | "job_cancelled")
    }

    /// In the dialect of the endpoint for many jobs.
    pub fn translated(&self) -> &str {
        self.translated.get_or_init(|| {
            let mut text = Vec::new();
            dialect::translate(self.object.as_bytes(), &mut text);
            String::from_utf8(text).expect("it is text")
        })
    }
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
    pub missing_to: u64,
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
            object,
            translated: OnceCell::new(),
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

    /// The number up to which nothing is known for a watcher that names `seq`, because no known run gave that; else 0.
    pub fn unknown_to(&self, seq: u64) -> u64 {
        if seq < self.run_start {
            return self.run_start;
        }
        let restart = self.restarts.iter().find(|(last, next)| seq > *last && seq < *next);
        restart.map_or(0, |(_, next)| *next)
    }

    /// Whether numbers tell how many events came before `seq`: those of its run do not jump before that, nor does any
    /// of an earlier run.
    pub fn is_counted(&self, seq: u64) -> bool {
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
