//! One watcher's connection: what it asks for, how it reads, how it ends, and what the daemon sends to it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use crate::check::{Checker, Look, NAMES, Names, Said, Since, Topic};
use crate::chunk::{self, Told};
use crate::judge::{Entry, Judge};
use crate::lines::JobId;
use crate::stream::{hash_of, kind_and_job, seq_of};
use crate::{Outcome, frame};

/// A slow watcher has a small socket buffer, so it is slow from the start. (On the loopback device, with its larger
/// segments, the kernel takes in more only once all of it has been read. To the daemon some of these take nothing for
/// as long as `stalled_seconds`.)
const SLOW_RECEIVE_BYTES: usize = 64 << 10;

/// How a watcher reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Fast,
    /// This many bytes each tenth of a second.
    Slow(usize),
    Never,
}

/// How a watcher ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Close,
    HalfClose,
    Drop,
    Reset,
}

#[derive(Clone, Debug)]
pub enum Wish {
    One { topic: Topic, names: Names, since: Since },
    Many,
}

/// What a watcher speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    WebSocket,
    /// Server-Sent Events; an even number to come back to is the header's and not the URL's.
    Sse,
    Ndjson,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub wish: Wish,
    pub form: Form,
    pub pace: Pace,
    pub life: Duration,
    pub ending: Ending,
    /// Never answers a ping: the daemon counts it as dead.
    pub is_mute: bool,
}

/// A request without an answer yet.
pub enum Asked {
    Filter(Names),
    Bad,
    Join(JobId, Since),
    Leave(JobId),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Refused(u16),
    Closed(Option<u16>),
    /// With the last chunk.
    Complete,
    Reset,
}

pub struct Watcher {
    pub socket: TcpStream,
    /// The place of its daemon.
    pub place: usize,
    pub plan: Plan,
    pub judge: Judge,
    pub born: Instant,
    pub next_act: Instant,
    /// The last requested filter.
    pub names: Names,
    /// The last confirmed filter.
    confirmed: Names,
    pub jobs: Vec<JobId>,
    pub asked: VecDeque<Asked>,
    /// The newest number that it has received: where it would return to.
    pub position: u64,
    /// The number that it was told last: none that is smaller may follow.
    told: u64,
    pub is_open: bool,
    /// It has said that it ends, and waits for the daemon's answer.
    pub ends_at: Option<Instant>,
    /// The position in the goodbye of a draining daemon.
    pub goodbye: Option<u64>,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    close_code: Option<u16>,
    /// The last chunk has come.
    is_complete: bool,
    is_reset: bool,
    pub has_greeting: bool,
}

/// The request head of a WebSocket client.
pub fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Streams come in chunks, and this answer is whole.
fn is_come_again(head: &[u8]) -> bool {
    memchr::memmem::find(head, b"\r\nContent-Length: ").is_some()
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

impl Plan {
    fn request(&self) -> String {
        let (media_type, path) = match self.form {
            Form::WebSocket => return handshake(&self.wish.path()),
            Form::Sse => ("text/event-stream", self.wish.path()),
            Form::Ndjson => ("application/x-ndjson", self.wish.path()),
        };
        // A browser comes back with the URL that it had, and the newest id beside it.
        let (path, last_id) = match self.wish {
            Wish::One { since: Since::After(seq), .. } if self.form == Form::Sse && seq.is_multiple_of(2) => {
                (path.replace(&format!("since={seq}"), "since=start"), format!("Last-Event-ID: {seq}\r\n"))
            }
            _ => (path, String::new()),
        };
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {media_type}\r\n{last_id}\r\n")
    }
}

impl Wish {
    fn path(&self) -> String {
        let Wish::One { topic, names, since } = self else {
            return "/api/v1/websocket".to_owned();
        };
        let mut query = Vec::new();
        if names.is_only {
            query.push(format!("events={}", list(names.listed).join(",")));
        }
        match since {
            Since::Now => {}
            Since::Start => query.push("since=start".to_owned()),
            Since::After(seq) => query.push(format!("since={seq}")),
            Since::Last(count) => query.push(format!("since=-{count}")),
        }
        format!("{}?{}", topic.path(), query.join("&"))
    }
}

/// The names of these bits.
pub fn list(names: u16) -> Vec<&'static str> {
    let listed = NAMES.iter().enumerate().filter(|(bit, _)| names >> bit & 1 == 1);
    listed.map(|(_, name)| name.0).collect()
}

impl Watcher {
    /// Connects and sends the request.
    pub fn open(address: SocketAddr, place: usize, plan: Plan, name: String) -> Outcome<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if plan.pace != Pace::Fast {
            socket.set_recv_buffer_size(SLOW_RECEIVE_BYTES)?;
        }
        socket.connect(&address.into())?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let names = if let Wish::One { names, .. } = plan.wish { names } else { Names::ALL };
        let mut watcher = Self {
            socket: TcpStream::from_std(socket.into()),
            place,
            judge: Judge::new(format!("{name} of daemon {} {:?} {:?}", place + 1, plan.wish, plan.pace)),
            born: Instant::now(),
            next_act: Instant::now(),
            names,
            confirmed: names,
            jobs: Vec::new(),
            asked: VecDeque::new(),
            position: 0,
            told: 0,
            is_open: false,
            ends_at: None,
            goodbye: None,
            inbound: Vec::new(),
            outbound: Vec::new(),
            close_code: None,
            is_complete: false,
            is_reset: false,
            has_greeting: false,
            plan,
        };
        watcher.outbound = watcher.plan.request().into_bytes();
        watcher.flush();
        Ok(watcher)
    }

    pub fn is_over_due(&self) -> bool {
        self.born.elapsed() >= self.plan.life
    }

    /// Writes what waits.
    pub fn flush(&mut self) {
        while !self.outbound.is_empty() {
            match self.socket.write(&self.outbound) {
                Ok(count) => drop(self.outbound.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // The kernel reports a reset once; after that a read finds the end. A socket whose own writing
                    // side is shut behaves the same.
                    self.is_reset |= self.ends_at.is_none() && is_reset(&error);
                    return;
                }
            }
        }
    }

    pub fn send_text(&mut self, text: &str) {
        frame::write_masked(&mut self.outbound, frame::TEXT, text.as_bytes());
        self.flush();
    }

    pub fn ask(&mut self, text: &str, asked: Asked) {
        self.asked.push_back(asked);
        self.send_text(text);
    }

    /// Ends in its own way. False: it is already gone.
    pub fn end(&mut self, block: &mut [u8]) -> Outcome<bool> {
        match self.plan.ending {
            Ending::Close => {
                frame::write_masked(&mut self.outbound, frame::CLOSE, &1000_u16.to_be_bytes());
                self.flush();
            }
            // A peer that is already gone is noticed at the next read.
            Ending::HalfClose => drop(self.socket.shutdown(Shutdown::Write)),
            Ending::Drop => return Ok(false),
            Ending::Reset => {
                SockRef::from(&self.socket).set_linger(Some(Duration::ZERO))?;
                return Ok(false);
            }
        }
        self.ends_at = Some(Instant::now());
        self.read(block, usize::MAX).map(|over| over.is_none())
    }

    /// Reads up to `limit` bytes and handles them.
    pub fn read(&mut self, block: &mut [u8], limit: usize) -> Outcome<Option<Over>> {
        let mut left = limit;
        while left > 0 {
            let end = block.len().min(left);
            match self.socket.read(&mut block[..end]) {
                Ok(0) if self.is_reset => return Ok(Some(Over::Reset)),
                Ok(0) if self.is_complete => return Ok(Some(Over::Complete)),
                Ok(0) => return Ok(Some(Over::Closed(self.close_code))),
                Ok(count) => {
                    left -= count;
                    self.inbound.extend_from_slice(&block[..count]);
                    if let Some(over) = self.hear()? {
                        return Ok(Some(over));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_reset(&error) => return Ok(Some(Over::Reset)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn hear(&mut self) -> Outcome<Option<Over>> {
        let inbound = std::mem::take(&mut self.inbound);
        let mut start = 0;
        if !self.is_open {
            let Some(end) = memchr::memmem::find(&inbound, b"\r\n\r\n") else {
                self.inbound = inbound;
                return Ok(None);
            };
            let status = std::str::from_utf8(&inbound[9..12]).ok().and_then(|status| status.parse().ok());
            match status {
                Some(101) if self.plan.form == Form::WebSocket => self.is_open = true,
                // Whoever comes back like an `EventSource` is only told when to come again.
                Some(200) if self.plan.form == Form::Sse && is_come_again(&inbound[..end]) => {
                    return Ok(Some(Over::Refused(503)));
                }
                Some(200) if self.plan.form != Form::WebSocket => self.is_open = true,
                Some(status) => return Ok(Some(Over::Refused(status))),
                None => return Err("not an HTTP answer".into()),
            }
            start = end + 4;
        }
        start = match self.plan.form {
            Form::WebSocket => self.hear_frames(&inbound, start)?,
            form => self.hear_chunks(&inbound, start, form == Form::Sse)?,
        };
        self.inbound = inbound;
        self.inbound.drain(..start);
        Ok(None)
    }

    /// Returns where the incomplete frame begins.
    fn hear_frames(&mut self, inbound: &[u8], mut start: usize) -> Outcome<usize> {
        while let Some((opcode, payload, end)) = frame::next(inbound, start)? {
            match opcode {
                frame::TEXT => self.hear_text(payload)?,
                frame::PING if !self.plan.is_mute => {
                    frame::write_masked(&mut self.outbound, frame::PONG, payload);
                    self.flush();
                }
                frame::CLOSE => {
                    self.close_code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                    if self.ends_at.is_none() {
                        frame::write_masked(&mut self.outbound, frame::CLOSE, payload);
                        self.flush();
                    }
                }
                frame::PING | frame::PONG => {}
                other => return Err(format!("a frame with opcode {other}").into()),
            }
            start = end;
        }
        Ok(start)
    }

    /// Returns where the incomplete chunk begins. The fields of an SSE must say what its text says.
    fn hear_chunks(&mut self, inbound: &[u8], mut start: usize, is_sse: bool) -> Outcome<usize> {
        while let Some((told, end)) = chunk::next(inbound, start, is_sse)? {
            start = end;
            if self.is_complete {
                return Err("something behind the last chunk".into());
            }
            if told.text.is_empty() {
                self.is_complete = true;
                continue;
            }
            if is_sse && !self.has_right_fields(&told)? {
                let (Told { id, retry, .. }, text) = (&told, String::from_utf8_lossy(told.text));
                return Err(format!("an SSE with id {id:?} and retry {retry:?} says {text}").into());
            }
            self.hear_text(told.text)?;
        }
        Ok(start)
    }

    /// An id is a position to come back to: of an event, a ping, a status, and of a greeting without a past.
    fn has_right_fields(&self, told: &Told) -> Outcome<bool> {
        if let Some(seq) = seq_of(told.text) {
            return Ok((told.id, told.retry) == (Some(seq), None));
        }
        let message: Value = serde_json::from_slice(told.text)?;
        let is_status = message["type"] == "connection:status";
        let is_goodbye = is_status && message["status"] == "disconnected";
        let Wish::One { since, .. } = self.plan.wish else { return Ok(false) };
        // Only the greeting may be ahead of what follows.
        let is_at_position = is_goodbye || self.has_greeting || since == Since::Now;
        let is_position = message["type"] == "ping" || is_status && is_at_position;
        let id = if is_position { message["stream_seq"].as_u64() } else { None };
        let retry = if is_goodbye { message["retry_after_ms"].as_u64() } else { None };
        Ok((told.id, told.retry) == (id, retry))
    }

    fn hear_text(&mut self, text: &[u8]) -> Outcome<()> {
        if let Some(seq) = seq_of(text) {
            self.position = self.position.max(seq);
            self.told = self.told.max(seq);
            let (job, look) = match self.plan.wish {
                Wish::One { .. } => (None, Look::Text(hash_of(text))),
                Wish::Many => {
                    let (kind, job) = kind_and_job(text).ok_or("an unknown event")?;
                    (Some(job), Look::Kind(kind))
                }
            };
            self.judge.hear(Entry::Said(job, Said::Event { seq, look }));
            return Ok(());
        }
        let message: Value = serde_json::from_slice(text)?;
        let number = |name: &str| message[name].as_u64();
        match message["type"].as_str().unwrap_or_default() {
            "connection:status" if message["status"] == "connected" && !self.has_greeting => {
                self.greet(number("stream_seq").ok_or("a greeting without a number")?)?;
            }
            "connected" => self.greet(number("stream_seq").ok_or("a greeting without a number")?)?,
            "connection:status" | "ping" => {
                let position = number("stream_seq").ok_or_else(|| format!("no number in {message}"))?;
                if message["status"] == "disconnected" {
                    self.goodbye = Some(position);
                }
                if position < self.told && matches!(self.plan.wish, Wish::One { .. }) {
                    return Err(format!("it was at {} when {message} came", self.told).into());
                }
                self.told = position;
                self.judge.hear(Entry::Said(None, Said::Position(position)));
            }
            "stream:gap" => {
                let (from, to) = number("from").zip(number("to")).ok_or("a gap without numbers")?;
                self.position = self.position.max(to);
                self.told = self.told.max(to);
                let is_overrun = message["reason"] == "overrun";
                let said = Said::Gap { from, to, missed: number("missed"), is_overrun };
                let job = message["job_id"].as_str().and_then(JobId::parse);
                self.judge.hear(Entry::Said(job, said));
            }
            "metrics" | "pong" => {}
            kind => self.hear_answer(kind, &message)?,
        }
        Ok(())
    }

    fn greet(&mut self, newest: u64) -> Outcome<()> {
        if std::mem::replace(&mut self.has_greeting, true) {
            return Err("greeted twice".into());
        }
        self.position = newest;
        if let Wish::One { topic, names, since } = self.plan.wish {
            if let Since::After(seq) = since {
                if seq > newest {
                    return Err(format!("greeted at {newest}").into());
                }
                (self.position, self.told) = (seq, seq);
            }
            self.judge.begin(Checker::new(topic, names, since, newest));
        }
        Ok(())
    }

    fn hear_answer(&mut self, kind: &str, message: &Value) -> Outcome<()> {
        let asked = self.asked.pop_front().ok_or_else(|| format!("nobody asked for {message}"))?;
        match (kind, asked) {
            ("subscription:confirmed", Asked::Filter(names)) => {
                self.confirmed = names;
                self.judge.hear(Entry::Said(None, Said::Filter(names)));
            }
            ("error", Asked::Bad) => {}
            ("subscribed", Asked::Join(job, since)) => {
                let seq = message["stream_seq"].as_u64().ok_or("subscribed without a number")?;
                let checker = Checker::new(Topic::Job(job), self.confirmed, since, seq);
                let past_until = (since != Since::Now).then_some(seq);
                self.judge.hear(Entry::Join(job, checker, past_until));
            }
            ("unsubscribed", Asked::Leave(job)) => self.judge.hear(Entry::Leave(job)),
            _ => return Err(format!("an answer to something else: {message}").into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Ending, Form, Pace, Plan, Wish};
    use crate::check::{Names, Since, Topic};

    #[test]
    fn an_sse_comes_back_with_the_number_in_its_url_or_in_its_head() {
        let request = |form, seq| {
            let wish = Wish::One { topic: Topic::All, names: Names::ALL, since: Since::After(seq) };
            let (pace, life, ending) = (Pace::Fast, Duration::MAX, Ending::Drop);
            Plan { wish, form, pace, life, ending, is_mute: false }.request()
        };
        let of_url = request(Form::Sse, 7);
        assert!(of_url.starts_with("GET /api/v1/ws/events?since=7 ") && !of_url.contains("Last-Event-ID"));
        let of_head = request(Form::Sse, 8);
        assert!(of_head.contains("?since=start ") && of_head.contains("\r\nLast-Event-ID: 8\r\n"));
        assert!(request(Form::Ndjson, 8).contains("?since=8 "));
        assert!(request(Form::WebSocket, 8).contains("\r\nUpgrade: websocket\r\n"));
    }
}
