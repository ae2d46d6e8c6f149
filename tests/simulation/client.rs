//! One client: cuts what its socket took into frames and checks each one at once against the oracle.

use std::collections::VecDeque;

use luxcast::stream::topic::TopicKind;
use luxcast::wire::client_action::Since;
use luxcast::wire::framing::Framing;
use serde_json::Value;

use crate::feed::Feed;
use crate::oracle::{Join, Oracle, TopicId, TopicRecord, Wish, payload};
use crate::stream::{GapMessage, Phase, Sight, Stream};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    One,
    Many,
}

pub struct Client {
    pub id: usize,
    pub kind: Kind,
    pub wish: Wish,
    /// The last position it knows, which `since=` may name: from a ping, `disconnected` or an event.
    pub position: Option<u64>,
    /// The close frame has come.
    pub is_closed: bool,
    buffer: Vec<u8>,
    framing: Framing,
    /// The number of its greeting is not its position.
    asks_for_past: bool,
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
    pub events: u64,
    pub gaps: u64,
    pub hole_gaps: u64,
}

impl Client {
    pub fn new(id: usize, kind: Kind, wish: Wish, is_reader: bool) -> Self {
        let phases = vec![Phase { wish: wish.clone(), limit: 0 }];
        Self {
            id,
            kind,
            position: None,
            is_closed: false,
            buffer: Vec::new(),
            framing: Framing::WebSocket,
            asks_for_past: false,
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

    pub fn with_framing(self, framing: Framing, since: Since) -> Self {
        Self { framing, asks_for_past: since != Since::Now, ..self }
    }

    pub fn is_http(&self) -> bool {
        self.framing.is_http()
    }

    /// Expects the daemon's answer to a join: the topic is watched from where `join` says.
    pub fn expect_join(&mut self, topic: TopicId, join: Join) {
        self.joins.push_back((topic, join));
    }

    /// Expects a filter change to be confirmed; it takes effect at or before the number `limit`.
    pub fn expect_change(&mut self, limit: u64) {
        self.changes.push_back(Phase { wish: self.wish.clone(), limit });
    }

    /// The socket took these bytes.
    pub fn receive(&mut self, bytes: &[u8], feed: &Feed) {
        self.buffer.extend_from_slice(bytes);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut start = 0;
        while let Some((header, length)) = self.part(&buffer[start..]) {
            if start + length > buffer.len() {
                break;
            }
            let part = &buffer[start..start + length];
            match self.is_http() {
                true => self.chunk(&part[header..], feed),
                false => self.frame(part, feed),
            }
            start += length;
        }
        buffer.drain(..start);
        self.buffer = buffer;
    }

    /// Where the content of the frame or chunk that begins here begins, and its length with its end. None: too little has
    /// come.
    fn part(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        match self.is_http() {
            true => chunk_length(bytes),
            false => Some((0, frame_length(bytes)?)),
        }
    }

    /// A chunk's content and the end of its line.
    fn chunk(&mut self, chunk: &[u8], feed: &Feed) {
        let id = self.id;
        assert!(!self.is_closed, "client {id}: a chunk after the last one");
        let content = chunk.strip_suffix(b"\r\n").expect("a chunk has an end");
        if content.is_empty() {
            self.is_closed = true;
            return;
        }
        let text = std::str::from_utf8(content).expect("it is text");
        let (fields, json) = match self.framing {
            Framing::Sse => {
                let (fields, json) = text.split_once("data: ").expect("an event has data");
                (fields, json.strip_suffix("\n\n").expect("an event ends with an empty line"))
            }
            _ => ("", text.strip_suffix('\n').expect("it is a line")),
        };
        assert!(!json.contains('\n'), "client {id}: {json}");
        if self.framing == Framing::Sse {
            self.check_fields(fields, json);
        }
        match json.starts_with("{\"stream_seq\":") {
            true => self.event(None, json.as_bytes(), feed),
            false => self.notice(json.as_bytes(), feed),
        }
    }

    /// The id is there where the number is a position.
    fn check_fields(&self, fields: &str, json: &str) {
        let value: Value = serde_json::from_str(json).expect("it is JSON");
        let is_greeting = value["status"] == "connected" && self.asks_for_past;
        let is_position = value["type"] == "ping"
            || value["type"] == "connection:status"
            || json.starts_with("{\"stream_seq");
        let mut expected = String::new();
        if value["status"] == "disconnected" {
            expected = format!("retry: {}\n", value["retry_after_ms"]);
        }
        if is_position && !is_greeting {
            expected.push_str(&format!("id: {}\n", value["stream_seq"]));
        }
        assert_eq!(fields, expected, "client {}: {json}", self.id);
    }

    fn frame(&mut self, frame: &[u8], feed: &Feed) {
        let id = self.id;
        assert!(!self.is_closed, "client {id}: a frame after the close frame");
        assert!(
            matches!(frame[0], 0x81 | 0x88 | 0x89 | 0x8a),
            "client {id}: frame border lost, {:x?}",
            &frame[..2]
        );
        let (opcode, text) = payload(frame);
        match opcode {
            8 => self.is_closed = true,
            1 if text.starts_with(b"{\"stream_seq\":") => self.event(Some(frame), text, feed),
            1 => self.notice(text, feed),
            _ => {}
        }
    }

    /// `frame`: as it came, unless it came in a chunk.
    fn event(&mut self, frame: Option<&[u8]>, text: &[u8], feed: &Feed) {
        let id = self.id;
        let digits = text.get(14..30).and_then(|digits| std::str::from_utf8(digits).ok());
        let seq: u64 = digits.and_then(|digits| digits.parse().ok()).expect("a number of sixteen digits");
        feed.trace(|| format!("        client {id} gets {seq}"));
        let Some(event) = feed.oracle.event(seq) else { panic!("client {id}: there is no event {seq}") };
        assert!(seq <= feed.published(), "client {id}: event {seq} is not published");
        let expected = match self.kind {
            Kind::One => &event.frame[..],
            Kind::Many => event.overseer_frame(),
        };
        let is_right = frame.map_or(text == payload(expected).1, |frame| frame == expected);
        assert!(is_right, "client {id}: event {seq} came as {}", String::from_utf8_lossy(text));
        self.events += 1;
        let sight = Sight {
            oracle: &feed.oracle,
            phases: &self.phases,
            client: id,
            may_fail_to_keep: feed.may_fail_to_keep,
            had_no_filter: self.had_no_filter,
        };
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

    fn notice(&mut self, text: &[u8], feed: &Feed) {
        let id = self.id;
        feed.trace(|| format!("        client {id} gets {}", String::from_utf8_lossy(text)));
        let value: Value = serde_json::from_slice(text).expect("a notice is JSON");
        match value["type"].as_str().expect("a notice has a type") {
            "connection:status" if value["status"] == "connected" => self.joined(None, &value, feed),
            "connection:status" => self.check_position(number(&value, "stream_seq"), feed),
            "connected" => {}
            "metrics" => {
                let job = topic_of(&feed.oracle, value["job_id"].as_str());
                let [stream] = &self.streams[..] else {
                    panic!("client {id}: a snapshot before the greeting")
                };
                assert!(stream.topic == job && self.events == 0, "client {id}: a snapshot of another job");
            }
            "subscribed" => self.joined(value["job_id"].as_str(), &value, feed),
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
            "ping" => self.check_position(number(&value, "stream_seq"), feed),
            "stream:gap" => self.gap(&value, feed),
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
        let sight = Sight {
            oracle: &feed.oracle,
            phases: &self.phases,
            client: id,
            may_fail_to_keep: feed.may_fail_to_keep,
            had_no_filter: self.had_no_filter,
        };
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
        let sight = Sight {
            oracle: &feed.oracle,
            phases: &self.phases,
            client: id,
            may_fail_to_keep: feed.may_fail_to_keep,
            had_no_filter: self.had_no_filter,
        };
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
        assert!(self.buffer.is_empty(), "client {id}: half a frame came");
        assert!(self.joins.is_empty(), "client {id}: a join was not answered");
        assert!(self.changes.is_empty(), "client {id}: a filter change was not confirmed");
        let sight = Sight {
            oracle: &feed.oracle,
            phases: &self.phases,
            client: id,
            may_fail_to_keep: feed.may_fail_to_keep,
            had_no_filter: self.had_no_filter,
        };
        for stream in &mut self.streams {
            stream.finish(feed.published(), &sight);
        }
    }

    pub fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.streams.iter().map(|stream| stream.topic)
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} is a number in {value}"))
}

fn topic_of(oracle: &Oracle, job_id: Option<&str>) -> TopicId {
    let name = job_id.expect("it names its job");
    let is_it = |record: &TopicRecord| record.kind == TopicKind::Job && record.name == name;
    oracle.topics.iter().position(is_it).expect("the job is one of ours")
}

/// Where the content of the chunk that begins here begins, and its length with its end. None: too little has come.
fn chunk_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let digits = std::str::from_utf8(&bytes[..end]).expect("it is text");
    let length =
        usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{digits:?} is no chunk's length"));
    Some((end + 2, end + 2 + length + 2))
}

/// Length of the frame that begins here. None: too little of its header has come.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    match *bytes.get(1)? {
        length @ ..126 => Some(2 + usize::from(length)),
        126 => Some(4 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => Some(10 + u64::from_be_bytes(bytes.get(2..10)?.try_into().expect("eight bytes")) as usize),
        _ => panic!("a masked frame: the frame border is lost"),
    }
}
