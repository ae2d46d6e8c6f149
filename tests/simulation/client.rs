//! One client: checks each message at once against the oracle.

use std::collections::VecDeque;

use luxcast::delivery::keys::WatcherKey;
use luxcast::stream::topic::TopicKind;
use luxcast::stream::topic_key::TopicKey;
use serde_json::Value;

use crate::feed::Feed;
use crate::join::Join;
use crate::oracle::{Oracle, TopicId, TopicRecord};
use crate::shard::{Notes, Seen};
use crate::simulated;
use crate::simulated::chunks::in_one_line;
use crate::simulated::message::{Message, number};
use crate::simulated::others::Others;
use crate::stream::{GapMessage, Phase, Sight, Stream};
use crate::wish::Wish;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    One,
    Many,
}

pub struct Client {
    pub id: usize,
    pub kind: Kind,
    /// It reads an HTTP answer.
    is_http: bool,
    pub wish: Wish,
    /// The last position it knows, which `since=` may name: from a ping, `disconnected` or an event.
    pub position: Option<u64>,
    /// What it watches, and in which life of the topic.
    pub watched: Vec<(TopicId, TopicKey)>,
    streams: Vec<Stream>,
    phases: Vec<Phase>,
    /// Joins and filter changes whose answers are still to come.
    joins: VecDeque<(TopicId, Join)>,
    changes: VecDeque<Phase>,
    /// The last number, and the count, of events in the merged order of all jobs.
    last_live: u64,
    live_count: u64,
    had_no_filter: bool,
    /// The feed waits for it.
    pub is_reader: bool,
    /// The greatest number that it stood at before the daemon had come there.
    pub stood_at: u64,
    events: u64,
    gaps: u64,
    hole_gaps: u64,
}

impl simulated::socket::Client for Client {
    type Others = Feed;
    type Notes = Notes;

    fn id(&self) -> usize {
        self.id
    }

    fn position(&self) -> Option<u64> {
        self.position
    }

    fn handle(&mut self, message: &Message<'_>, feed: &Feed) {
        match message {
            Message::Event(seq, text) => self.event(*seq, text, feed),
            Message::Notice(value) => self.notice(value, feed),
        }
    }

    fn leave(self, key: WatcherKey, notes: &mut Notes) {
        notes.slow_consumers.remove(key);
        notes.seen.add(self.seen());
    }
}

impl Client {
    pub fn new(id: usize, (kind, is_http): (Kind, bool), wish: Wish, is_reader: bool) -> Self {
        let phases = vec![Phase { wish: wish.clone(), limit: 0 }];
        Self {
            id,
            kind,
            is_http,
            position: None,
            watched: Vec::new(),
            streams: Vec::new(),
            phases,
            joins: VecDeque::new(),
            changes: VecDeque::new(),
            last_live: 0,
            live_count: 0,
            had_no_filter: wish.is_all(),
            is_reader,
            wish,
            stood_at: 0,
            events: 0,
            gaps: 0,
            hole_gaps: 0,
        }
    }

    /// Expects the daemon's answer to a join: the topic is watched from where `join` says.
    pub fn expect_join(&mut self, topic: TopicId, join: Join) {
        self.joins.push_back((topic, join));
    }

    /// Expects a filter change to be confirmed; it takes effect at or before the number `limit`.
    pub fn expect_change(&mut self, limit: u64) {
        self.changes.push_back(Phase { wish: self.wish.clone(), limit });
    }

    fn event(&mut self, seq: u64, text: &str, feed: &Feed) {
        let id = self.id;
        let Some(event) = feed.oracle.event(seq) else { panic!("client {id}: there is no event {seq}") };
        assert!(seq <= feed.published(), "client {id}: event {seq} is not published");
        let expected = match self.kind {
            Kind::One if self.is_http => in_one_line(&event.object),
            Kind::One => (&*event.object).into(),
            Kind::Many => event.translated().into(),
        };
        assert!(text == expected, "client {id}: event {seq} came as {text}");
        self.events += 1;
        let sight = sight(id, &self.phases, self.had_no_filter, feed);
        let stream = match self.kind {
            Kind::One => self.streams.first_mut(),
            Kind::Many => self.streams.iter_mut().find(|stream| Some(stream.topic) == event.job),
        };
        let Some(stream) = stream else {
            panic!("client {id}: event {seq} of a topic that it does not watch")
        };
        stream.event(event, &sight);
        if seq <= stream.past_to && self.kind == Kind::Many {
            assert!(
                stream.live_count == self.live_count,
                "client {id}: events of other jobs came before {seq}, which was asked for as the past"
            );
        } else if self.kind == Kind::Many {
            assert!(seq > self.last_live, "client {id}: event {seq} came after {}", self.last_live);
            self.last_live = seq;
            self.live_count += 1;
        } else {
            self.position = Some(seq);
        }
        // Once every stream has left the older filters, only the newest one is kept.
        if self.phases.len() > 1 && self.streams.iter().all(|stream| stream.phase + 1 == self.phases.len()) {
            self.phases.drain(..self.phases.len() - 1);
            self.streams.iter_mut().for_each(Stream::forget_older_filters);
        }
    }

    fn notice(&mut self, value: &Value, feed: &Feed) {
        let id = self.id;
        match value["type"].as_str().expect("a notice has a type") {
            "connection:status" if value["status"] == "connected" => self.joined(None, value, feed),
            "connection:status" => self.check_position(number(value, "stream_seq"), feed),
            "connected" => {}
            "metrics" => {
                let job = topic_of(&feed.oracle, value["job_id"].as_str());
                let [stream] = &self.streams[..] else {
                    panic!("client {id}: a snapshot before the greeting")
                };
                assert!(stream.topic == job && self.events == 0, "client {id}: a snapshot of another job");
                let filter = &self.phases[0].wish.filter;
                let is_wanted = filter.lets_through(filter.names.contains("metrics"));
                assert!(is_wanted && !self.phases[0].wish.is_debug, "client {id}: an unwanted snapshot");
            }
            "subscribed" => self.joined(value["job_id"].as_str(), value, feed),
            "unsubscribed" => {
                let job = topic_of(&feed.oracle, value["job_id"].as_str());
                self.streams.retain(|stream| stream.topic != job);
            }
            "subscription:confirmed" => {
                let phase = self.changes.pop_front().expect("a filter change is confirmed once");
                self.had_no_filter &= phase.wish.is_all();
                self.streams.iter_mut().for_each(|stream| stream.change(&feed.oracle));
                self.phases.push(phase);
            }
            "ping" => self.check_position(number(value, "stream_seq"), feed),
            "stream:gap" => self.gap(value, feed),
            "pong" | "error" | "already_subscribed" | "not_subscribed" => {}
            other => panic!("client {id}: unknown notice {other}"),
        }
    }

    fn joined(&mut self, job_id: Option<&str>, value: &Value, feed: &Feed) {
        let (topic, join) = self.joins.pop_front().expect("each join is answered once");
        assert_eq!(number(value, "stream_seq"), join.shown, "client {}", self.id);
        if join.is_standing {
            self.stood_at = self.stood_at.max(join.after);
        }
        assert!(job_id.is_none() || topic == topic_of(&feed.oracle, job_id));
        assert!(!self.streams.iter().any(|stream| stream.topic == topic));
        let phase = self.phases.len() - 1;
        self.streams.push(Stream::new(topic, join, phase, self.live_count, &feed.oracle));
    }

    /// The daemon reports this position.
    fn check_position(&mut self, seq: u64, feed: &Feed) {
        let id = self.id;
        let is_possible = seq <= feed.published().max(self.stood_at);
        assert!(is_possible, "client {id}: its position {seq} is not published");
        self.position = Some(seq);
        let sight = sight(id, &self.phases, self.had_no_filter, feed);
        for stream in &mut self.streams {
            stream.check_position(seq, self.kind == Kind::One, &sight);
        }
    }

    fn gap(&mut self, value: &Value, feed: &Feed) {
        let id = self.id;
        self.gaps += 1;
        let gap = GapMessage {
            from: number(value, "from"),
            to: number(value, "to"),
            missed: value["missed"].as_u64(),
            reason: value["reason"].as_str().expect("a gap has a reason").to_owned(),
        };
        assert!(
            gap.reason != "overrun" || !self.is_reader,
            "client {id}: {gap:?} came to a client that the feed waits for"
        );
        let sight = sight(id, &self.phases, self.had_no_filter, feed);
        let stream = match self.kind {
            Kind::One => self.streams.first_mut(),
            Kind::Many => {
                let job = topic_of(&feed.oracle, value["job_id"].as_str());
                self.streams.iter_mut().find(|stream| stream.topic == job)
            }
        };
        let stream = stream.unwrap_or_else(|| panic!("client {id}: a gap of a topic that it does not watch"));
        let before = stream.hole_gaps;
        stream.gap(gap, &sight);
        self.hole_gaps += stream.hole_gaps - before;
    }

    /// Checks that nothing is missing, once everything is published and every socket read.
    pub fn finish(&mut self, feed: &Feed) {
        let id = self.id;
        assert!(self.joins.is_empty(), "client {id}: a join was not answered");
        assert!(self.changes.is_empty(), "client {id}: a filter change was not confirmed");
        let sight = sight(id, &self.phases, self.had_no_filter, feed);
        for stream in &mut self.streams {
            stream.finish(feed.published(), &sight);
        }
    }

    pub fn seen(&self) -> Seen {
        let Self { events, gaps, hole_gaps, stood_at, .. } = *self;
        Seen { events, gaps, hole_gaps, stood: u64::from(stood_at > 0) }
    }

    pub fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.streams.iter().map(|stream| stream.topic)
    }
}

fn sight<'a>(client: usize, phases: &'a [Phase], had_no_filter: bool, feed: &'a Feed) -> Sight<'a> {
    Sight { oracle: &feed.oracle, phases, client, may_fail_to_keep: feed.may_fail_to_keep, had_no_filter }
}

fn topic_of(oracle: &Oracle, job_id: Option<&str>) -> TopicId {
    let name = job_id.expect("it names its job");
    let is_it = |record: &TopicRecord| record.kind == TopicKind::Job && record.name == name;
    oracle.topics.iter().position(is_it).expect("the job is one of ours")
}
