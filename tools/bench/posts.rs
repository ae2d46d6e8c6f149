//! Publishers over HTTP: each has a connection that it keeps, a job of its own, and one request on its way. All requests
//! of a run have the same length, and every answer is checked.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Deserialize;

use crate::Outcome;
use crate::crowd::PATIENCE;
use crate::wire::{Shape, write_number};

const READ_BYTES: usize = 16 << 10;

/// What luxcast answers.
#[derive(Deserialize)]
struct Answer {
    accepted: u64,
    refused_total: u64,
    stream_seq: u64,
}

struct Poster {
    socket: TcpStream,
    /// The head and the body.
    request: Vec<u8>,
    /// How much of it is sent.
    sent: usize,
    /// What has come of the answer.
    answer: Vec<u8>,
    /// A request is on its way.
    is_waiting: bool,
    /// The number of its job's next event; the first is 1.
    next: u64,
    /// The number in the last answer.
    stream_seq: u64,
}

pub struct Posts {
    poll: Poll,
    events: Events,
    posters: Vec<Poster>,
    /// The job of the first; the others' follow.
    first_topic: usize,
    lines: u64,
    /// Where the first line's number is in a request, and from there to the next line's.
    number_at: usize,
    line_bytes: usize,
    /// Requests that are still to begin.
    left: u64,
    pub answers: u64,
}

impl Posts {
    /// Connects `count` publishers with jobs from `first_topic` on, each of whose requests has this many lines.
    pub fn open(
        address: SocketAddr,
        shape: Shape,
        first_topic: usize,
        count: usize,
        lines: u64,
    ) -> Outcome<Self> {
        let template = shape.template(first_topic);
        let line_bytes = template.line().len() + 1;
        let head = format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n",
            line_bytes * lines as usize
        );
        let poll = Poll::new()?;
        let mut posters = Vec::with_capacity(count);
        for place in 0..count {
            let socket = std::net::TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(place), interest)?;
            let mut request = head.clone().into_bytes();
            let line = [shape.template(first_topic + place).line(), b"\n"].concat();
            (0..lines).for_each(|_| request.extend_from_slice(&line));
            posters.push(Poster {
                socket,
                request,
                sent: 0,
                answer: Vec::new(),
                is_waiting: false,
                next: 1,
                stream_seq: 0,
            });
        }
        let number_at = head.len() + template.number_at();
        let events = Events::with_capacity(1024);
        Ok(Self { poll, events, posters, first_topic, lines, number_at, line_bytes, left: 0, answers: 0 })
    }

    /// Begins this many requests more, as many at once as there are publishers.
    pub fn begin(&mut self, requests: u64) -> Outcome<()> {
        self.left += requests;
        (0..self.posters.len()).try_for_each(|place| self.post(place))
    }

    /// Begins no further request.
    pub fn stop(&mut self) {
        self.left = 0;
    }

    /// Every request has its answer.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.posters.iter().all(|poster| !poster.is_waiting)
    }

    /// Events that were published.
    pub fn published(&self) -> u64 {
        self.posters.iter().map(|poster| poster.next - 1).sum()
    }

    /// Each job, and the number of its next event.
    pub fn topics(&self) -> Vec<(usize, u64)> {
        let posters = self.posters.iter().enumerate();
        posters.map(|(place, poster)| (self.first_topic + place, poster.next)).collect()
    }

    /// Handles what the sockets have, after waiting up to `sleep_max` for it.
    pub fn turn(&mut self, sleep_max: Duration) -> Outcome<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        match self.poll.poll(&mut events, Some(sleep_max)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => result?,
        }
        for event in &events {
            let place = event.token().0;
            if event.is_writable() && self.posters[place].is_waiting {
                self.posters[place].flush()?;
            }
            if event.is_readable() && self.hear(place)? {
                self.post(place)?;
            }
        }
        self.events = events;
        Ok(())
    }

    /// Waits until every request has its answer.
    pub fn finish(&mut self, spins: bool, watch: &mut dyn FnMut(f64)) -> Outcome<()> {
        let sleep_max = if spins { Duration::ZERO } else { Duration::from_millis(1) };
        let (before, all) = (self.answers, self.left.max(1));
        let mut progress = (before, Instant::now());
        while !self.is_done() {
            self.turn(sleep_max)?;
            let patience = progress.1.elapsed();
            if self.answers > progress.0 && patience > Duration::from_millis(100) {
                watch((self.answers - before) as f64 / all as f64);
                progress = (self.answers, Instant::now());
            } else if patience > PATIENCE {
                return Err(format!("{} requests have an answer, and no other comes", self.answers).into());
            }
        }
        Ok(())
    }

    /// Sends the next request of a publisher that waits for none.
    fn post(&mut self, place: usize) -> Outcome<()> {
        let poster = &mut self.posters[place];
        if self.left == 0 || poster.is_waiting {
            return Ok(());
        }
        self.left -= 1;
        for line in 0..self.lines {
            let at = self.number_at + line as usize * self.line_bytes;
            write_number(&mut poster.request[at..], poster.next + line);
        }
        poster.next += self.lines;
        (poster.is_waiting, poster.sent) = (true, 0);
        poster.flush()
    }

    /// Reads what is there. True: a whole answer, and it is right.
    fn hear(&mut self, place: usize) -> Outcome<bool> {
        let poster = &mut self.posters[place];
        let mut block = [0; READ_BYTES];
        let mut is_answered = false;
        loop {
            match poster.socket.read(&mut block) {
                Ok(0) => return Err("the daemon closed a publisher's connection".into()),
                Ok(count) => poster.answer.extend_from_slice(&block[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(is_answered),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("a publisher: {error}").into()),
            }
            let Some((status, body)) = whole_answer(&poster.answer)? else { continue };
            let shown = || String::from_utf8_lossy(&poster.answer).into_owned();
            let answer: Option<Answer> =
                serde_json::from_slice(body).ok().filter(|_| status == 200 && poster.is_waiting);
            let is_right = answer.is_some_and(|answer| {
                let has_moved = answer.stream_seq >= poster.stream_seq + self.lines;
                poster.stream_seq = answer.stream_seq;
                answer.accepted == self.lines && answer.refused_total == 0 && has_moved
            });
            if !is_right {
                return Err(format!("{} lines were posted, and the answer is {}", self.lines, shown()).into());
            }
            poster.answer.clear();
            poster.is_waiting = false;
            self.answers += 1;
            is_answered = true;
        }
    }
}

impl Poster {
    fn flush(&mut self) -> Outcome<()> {
        while self.sent < self.request.len() {
            match self.socket.write(&self.request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("a publisher: {error}").into()),
            }
        }
        Ok(())
    }
}

/// The status and the body of an answer, once it is whole; nothing may follow it.
fn whole_answer(bytes: &[u8]) -> Outcome<Option<(u16, &[u8])>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(start) = answer.parse(bytes)? else { return Ok(None) };
    let length = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| str::from_utf8(field.value).ok()?.parse().ok());
    let length: usize = length.ok_or("an answer without a length")?;
    match bytes.len() - start {
        got if got < length => Ok(None),
        got if got == length => Ok(answer.code.map(|status| (status, &bytes[start..]))),
        _ => Err("more than an answer".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::whole_answer;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(whole_answer(text).expect("it is right"), Some((200, &b"{}"[..])));
        for end in 0..text.len() {
            assert_eq!(whole_answer(&text[..end]).expect("it may become right"), None);
        }
        assert!(whole_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}").is_err());
        assert!(whole_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
