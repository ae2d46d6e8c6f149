//! One client: checks each message at once against all that the stream ever had.

use std::collections::VecDeque;

use luxcast::delivery::keys::WatcherKey;
use luxcast::stream::dialect;
use serde_json::Value;

use crate::filters::Filters;
use crate::shard::Notes;
use crate::simulated;
use crate::simulated::chunks::in_one_line;
use crate::simulated::filter::Filter;
use crate::simulated::message::{Message, number};
use crate::stream::{Event, Stream};
use crate::topic::{TopicId, job_of};
use crate::track::{Eye, Track};
use crate::world::World;

pub struct Client {
    pub id: usize,
    /// It watches many jobs, each on its own track.
    pub is_many: bool,
    /// It reads an HTTP answer.
    is_http: bool,
    pub filters: Filters,
    tracks: Vec<Track>,
    /// Jobs that it has asked for, and that are not confirmed yet.
    joins: VecDeque<Track>,
    /// The last number, and the count, of events in the merged order of many jobs.
    last_live: u64,
    live_count: u64,
    /// The last position it knows, which `since=` may name.
    pub position: Option<u64>,
    /// It was last seen among those that are served from memory.
    pub is_live: bool,
    pub events: u64,
    pub gaps: u64,
}

/// What there is while a client looks.
pub struct Sight<'a> {
    pub stream: &'a Stream,
    /// The newest number of the daemon.
    pub published: u64,
    /// Events with numbers below this one were not read again, though the stream had them (`bus_replay_bytes`).
    pub replay_from: u64,
}

impl simulated::socket::Client for Client {
    type Others = World;
    type Notes = Notes;

    fn id(&self) -> usize {
        self.id
    }

    fn position(&self) -> Option<u64> {
        self.position
    }

    fn handle(&mut self, message: &Message<'_>, world: &World) {
        match message {
            Message::Event(number, text) => self.event(*number, text, &world.sight()),
            Message::Notice(value) => self.notice(value, &world.sight()),
        }
    }

    fn leave(self, _: WatcherKey, notes: &mut Notes) {
        notes.events += self.events;
        notes.gaps += self.gaps;
    }
}

impl Client {
    pub fn new(id: usize, is_many: bool, is_http: bool, filter: Filter) -> Self {
        Self {
            id,
            is_many,
            is_http,
            filters: Filters::new(filter, !is_many),
            tracks: Vec::new(),
            joins: VecDeque::new(),
            last_live: 0,
            live_count: 0,
            position: None,
            is_live: false,
            events: 0,
            gaps: 0,
        }
    }

    /// It has asked for this.
    pub fn expect(&mut self, track: Track) {
        match self.is_many {
            true => self.joins.push_back(track),
            false => self.tracks.push(track),
        }
    }

    fn notice(&mut self, value: &Value, sight: &Sight<'_>) {
        let id = self.id;
        match (value["type"].as_str(), value["status"].as_str()) {
            (Some("connection:status"), Some("connected")) => {
                let track = self.tracks.first().expect("it has asked for a topic");
                track.check_shown(number(value, "stream_seq"), id);
            }
            (Some("connected"), _) => {}
            (Some("connection:status" | "ping"), _) => {
                self.check_position(number(value, "stream_seq"), sight);
            }
            (Some("stream:gap"), _) => self.gap(value, sight),
            (Some("subscribed"), _) => {
                let track = self.joins.pop_front().expect("a job is confirmed once");
                assert!(track.topic == topic_of(value), "client {id}: {value} confirms another job");
                track.check_shown(number(value, "stream_seq"), id);
                self.tracks.push(track.begin(self.filters.newest(), self.live_count));
            }
            (Some("unsubscribed"), _) => self.tracks.retain(|track| track.topic != topic_of(value)),
            (Some("subscription:confirmed"), _) => self.filters.confirm(),
            (Some("metrics" | "pong"), _) => {}
            _ => panic!("client {id}: unknown notice {value}"),
        }
    }

    fn event(&mut self, number: u64, text: &str, sight: &Sight<'_>) {
        let (id, is_many) = (self.id, self.is_many);
        let of_job = || sight.stream.find(number).and_then(|event| event.job).map(TopicId::Job);
        let track = self.tracks.iter_mut().find(|track| !is_many || Some(track.topic) == of_job());
        let track = track.unwrap_or_else(|| panic!("client {id}: event {number} of what it does not watch"));
        let is_http = self.is_http;
        let expected = |event: &Event| match is_many {
            true => translated(&event.object),
            false if is_http => in_one_line(&event.object).into_owned(),
            false => event.object.clone(),
        };
        track.event(number, text, expected, &Eye { id, filters: &self.filters, sight });
        self.events += 1;
        if !is_many {
            self.position = Some(number);
        } else if number <= track.past_to {
            let has_waited = track.live_count == self.live_count;
            assert!(has_waited, "client {id}: others came before {number}, which was asked for as the past");
        } else {
            assert!(number > self.last_live, "client {id}: event {number} came after {}", self.last_live);
            (self.last_live, self.live_count) = (number, self.live_count + 1);
        }
    }

    fn gap(&mut self, value: &Value, sight: &Sight<'_>) {
        let (id, is_many) = (self.id, self.is_many);
        self.gaps += 1;
        let track = self.tracks.iter_mut().find(|track| !is_many || track.topic == topic_of(value));
        let track = track.unwrap_or_else(|| panic!("client {id}: {value} of what it does not watch"));
        let ends = (number(value, "from"), number(value, "to"));
        let reason = value["reason"].as_str().expect("it has a reason");
        let moves_on = track.gap(ends, reason, &Eye { id, filters: &self.filters, sight });
        if moves_on && !is_many {
            self.position = Some(track.floor);
        }
    }

    /// The daemon says that everything up to `seq` was sent.
    fn check_position(&mut self, seq: u64, sight: &Sight<'_>) {
        let id = self.id;
        let known = self.tracks.iter().map(|track| track.stood_at.max(track.floor)).max();
        let is_possible = seq <= sight.published.max(known.unwrap_or(0));
        assert!(is_possible, "client {id}: its position {seq} is not published");
        for track in &mut self.tracks {
            let is_behind = !self.is_many && seq < track.floor;
            assert!(!is_behind, "client {id}: its position is {seq}, but {} has come", track.floor);
            track.pass(seq, &Eye { id, filters: &self.filters, sight });
        }
        self.position = Some(seq);
    }

    /// Checks that nothing is missing, once everything is published and every socket read.
    pub fn finish(&mut self, sight: &Sight<'_>) {
        let id = self.id;
        assert!(self.joins.is_empty() && !self.filters.has_asked(), "client {id}: it was not answered");
        for track in &mut self.tracks {
            track.pass(sight.published, &Eye { id, filters: &self.filters, sight });
        }
    }
}

/// In the dialect of the endpoint for many jobs.
fn translated(object: &str) -> String {
    let mut text = Vec::new();
    dialect::translate(object.as_bytes(), &mut text);
    String::from_utf8(text).expect("it is text")
}

fn topic_of(value: &Value) -> TopicId {
    TopicId::Job(job_of(value["job_id"].as_str().expect("it names its job")))
}
