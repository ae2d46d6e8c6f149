//! Publishers over HTTP: requests of some lines each on a kept connection. Some go away within a request, or before its
//! answer; who has a name repeats its lines. Every answer must say what became of each line.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use crate::lines::{is_good, last_good, write_line};
use crate::publisher::{CHUNK_LINES_MAX, Door, Lines, Shared};
use crate::{Outcome, PATIENCE};

/// A daemon that is full turns publishers away: they try again after this.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// The most refused lines that an answer lists.
const REFUSED_SHOWN: usize = 64;

/// Some lines of one publisher: `from..=until`.
#[derive(Clone, Copy, Debug)]
struct Part {
    publisher: u32,
    has_name: bool,
    from: u64,
    until: u64,
    /// None of them was sent before.
    is_new: bool,
}

impl Part {
    /// The request: with its length or in chunks, and where its body begins.
    fn request(self, random: &mut Rng) -> (Vec<u8>, usize) {
        let Self { publisher, from, until, .. } = self;
        let mut text = String::new();
        (from..=until).for_each(|n| write_line(publisher, n, &mut text));
        let mut head =
            "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                .to_owned();
        if self.has_name {
            head += &format!("Luxcast-Publisher: p{publisher}\r\nLuxcast-Line: {from}\r\n");
        }
        if random.bool() {
            head += &format!("Content-Length: {}\r\n\r\n", text.len());
            return ([head.as_bytes(), text.as_bytes()].concat(), head.len());
        }
        head += "Transfer-Encoding: chunked\r\n\r\n";
        let (mut request, mut rest) = (head.clone().into_bytes(), text.as_bytes());
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at((1 + random.usize(..5_000)).min(rest.len()));
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
            rest = more;
        }
        request.extend_from_slice(b"0\r\n\r\n");
        (request, head.len())
    }

    /// What is wrong with the answer to it, and the number that all its events have at most.
    fn check(self, status: u16, answer: &Value) -> Result<u64, String> {
        let Self { publisher, from, until, .. } = self;
        let wrong = |what: &str| format!("{what} in the answer {status} to {self:?}: {answer}");
        let number = |name: &str| answer[name].as_u64().ok_or_else(|| wrong(name));
        let (accepted, refused) = (number("accepted")?, number("refused_total")?);
        let good = (from..=until).filter(|&n| is_good(publisher, n)).count() as u64;
        // Bad lines below one that was accepted before are not looked at again.
        let is_right = if self.is_new { accepted == good } else { accepted >= good };
        if !is_right || accepted + refused != until + 1 - from {
            return Err(wrong("counts"));
        }
        if status != if accepted == 0 { 422 } else { 200 } {
            return Err(wrong("status"));
        }
        let first = if self.has_name { from } else { 1 };
        let rows = answer["refused"].as_array().ok_or_else(|| wrong("refused"))?;
        let is_bad = |row: &Value| {
            let line = row["line"].as_u64().and_then(|line| (line + from).checked_sub(first));
            line.is_some_and(|n| (from..=until).contains(&n) && !is_good(publisher, n))
                && row["code"] == "bad_json"
        };
        if rows.len() as u64 != refused.min(REFUSED_SHOWN as u64) || !rows.iter().all(is_bad) {
            return Err(wrong("refused lines"));
        }
        if self.has_name && number("accepted_line")? < last_good(publisher, until) {
            return Err(wrong("accepted_line"));
        }
        number("stream_seq")
    }
}

/// One kept connection.
struct Link {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

/// What became of a request.
enum Fate {
    Answered(u16, Value),
    /// There was no room: nothing was taken.
    Full,
    /// The connection has ended without an answer: nobody knows what was taken.
    Lost,
}

impl Link {
    fn open(shared: &Shared, door: &Door) -> Outcome<Self> {
        let stream = TcpStream::connect(door.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let answers = BufReader::new(stream.try_clone()?);
        shared.note_link();
        Ok(Self { stream, answers })
    }

    /// Sends a request and reads what becomes of it. A daemon that is full turns away a kept connection too, since that had no
    /// place while it was idle. It says so, or resets if it has no place to say it from.
    fn post(&mut self, request: &[u8]) -> Outcome<Fate> {
        let answer = match self.stream.write_all(request) {
            // It may have closed before it has read: its answer counts.
            Err(error) if !is_end(&error) => Err(error),
            _ => self.read_answer(),
        };
        match answer {
            Ok((status, body)) => {
                let body: Value = serde_json::from_slice(&body)?;
                let is_full = status == 503 && body["error"] == "full";
                Ok(if is_full { Fate::Full } else { Fate::Answered(status, body) })
            }
            Err(error) if is_end(&error) => Ok(Fate::Lost),
            Err(error) => Err(error.into()),
        }
    }

    fn read_answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let (mut status, mut length) = (None, None);
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            match line.split_once(": ") {
                None => status = line.split(' ').nth(1).and_then(|status| status.parse().ok()),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().ok();
                }
                Some(_) => {}
            }
        }
        let Some((status, length)) = status.zip(length) else {
            return Err(io::Error::other("an answer without status or length"));
        };
        let mut body = vec![0; length];
        self.answers.read_exact(&mut body)?;
        Ok((status, body))
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

/// How far a part has come.
enum Step {
    Done,
    /// It is to be sent again, on the new connection.
    Again,
    /// Nobody knows what was taken, and it has no name to send it again under.
    Lost,
}

/// Sends a part, and checks the answer. `heard`: when the last answer came.
fn send(
    shared: &Shared,
    door: &Door,
    link: &mut Link,
    part: Part,
    heard: Instant,
    random: &mut Rng,
) -> Outcome<Step> {
    let (request, _) = part.request(random);
    let is_lost = match link.post(&request)? {
        Fate::Answered(status, answer) => {
            let seq = part.check(status, &answer)?;
            shared.note_post();
            shared.wait_until_seen(seq)?;
            return Ok(Step::Done);
        }
        Fate::Full => false,
        Fate::Lost => true,
    };
    shared.note_turned_away(is_lost);
    if is_lost && !part.has_name {
        return Ok(Step::Lost);
    }
    if heard.elapsed() >= PATIENCE {
        return Err("it was turned away all the time".into());
    }
    thread::sleep(FULL_PAUSE);
    *link = Link::open(shared, door)?;
    Ok(Step::Again)
}

/// Publishes under a name through one connection, and through another when that has ended.
pub fn visit(
    shared: &Shared,
    door: &Door,
    publisher: u32,
    lines: &mut Lines,
    random: &mut Rng,
) -> Outcome<()> {
    let mut link = Link::open(shared, door)?;
    let mut next = lines.acknowledged + 1;
    // Some lines are sent again.
    if random.bool() {
        next = next.saturating_sub(random.u64(..30)).max(1);
    }
    let last = next + random.u64(..2_000);
    let is_flood = random.u64(..10) == 0;
    let mut heard = Instant::now();
    while next <= last && !shared.is_over() {
        let until = last.min(next + random.u64(..CHUNK_LINES_MAX));
        let part = Part { publisher, has_name: true, from: next, until, is_new: next > lines.written };
        lines.written = lines.written.max(until);
        let Step::Done = send(shared, door, &mut link, part, heard, random)? else { continue };
        lines.acknowledged = lines.acknowledged.max(until);
        (next, heard) = (until + 1, Instant::now());
        if !is_flood {
            shared.rest_after(until + 1 - part.from);
        }
    }
    if !shared.is_over() && random.bool() {
        let until = next + random.u64(..CHUNK_LINES_MAX);
        let part = Part { publisher, has_name: true, from: next, until, is_new: false };
        lines.written = lines.written.max(until);
        cut_off(shared, link, part, random);
    }
    Ok(())
}

/// Goes away within a request, or before its answer.
fn cut_off(shared: &Shared, mut link: Link, part: Part, random: &mut Rng) {
    shared.note_cut_off();
    let (request, body) = part.request(random);
    let end = if random.bool() { request.len() } else { body + random.usize(..request.len() - body) };
    // Whether any of it is taken is not to be known.
    let _ = link.stream.write_all(&request[..end]);
}

/// Publishes without a name until something goes wrong or all is sent. The last line that was acknowledged is in
/// `acknowledged`.
pub fn publish_once(
    shared: &Shared,
    door: &Door,
    publisher: u32,
    acknowledged: &mut u64,
    random: &mut Rng,
) -> Outcome<()> {
    let mut link = Link::open(shared, door)?;
    let last = random.u64(..1_000);
    let mut next = 1;
    let mut heard = Instant::now();
    while next <= last && !shared.is_over() {
        let until = last.min(next + random.u64(..CHUNK_LINES_MAX));
        let part = Part { publisher, has_name: false, from: next, until, is_new: true };
        match send(shared, door, &mut link, part, heard, random)? {
            Step::Done => (*acknowledged, heard) = (until, Instant::now()),
            Step::Again => continue,
            Step::Lost => return Ok(()),
        }
        shared.rest_after(until + 1 - next);
        next = until + 1;
    }
    let until = next + random.u64(..CHUNK_LINES_MAX);
    cut_off(shared, link, Part { publisher, has_name: false, from: next, until, is_new: true }, random);
    Ok(())
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use serde_json::json;

    use super::Part;
    use crate::lines::is_good;

    #[test]
    fn an_answer_must_say_what_became_of_each_line() {
        let bad = (200..).find(|&n| !is_good(3, n) && is_good(3, n + 1)).expect("some are bad");
        let of = |is_new| Part { publisher: 3, has_name: true, from: bad, until: bad + 1, is_new };
        let answer = |accepted, rows: &[u64]| {
            let total = rows.len();
            let rows: Vec<_> = rows.iter().map(|line| json!({"line": line, "code": "bad_json"})).collect();
            json!({"accepted": accepted, "refused": rows, "refused_total": total, "stream_seq": 9, "accepted_line": bad + 1})
        };
        assert_eq!(of(true).check(200, &answer(1, &[bad])), Ok(9));
        assert_eq!(of(false).check(200, &answer(2, &[])), Ok(9), "it was accepted before");
        assert!(of(true).check(200, &answer(2, &[])).is_err());
        assert!(of(true).check(200, &answer(1, &[bad + 1])).is_err(), "that line is good");
        assert!(of(true).check(200, &answer(1, &[])).is_err(), "a line is in no count");
        assert!(of(true).check(422, &answer(1, &[bad])).is_err());
        let nameless = Part { has_name: false, ..of(true) };
        assert_eq!(nameless.check(200, &answer(1, &[1])), Ok(9), "it counts from its body's first");
        let (request, body) = of(true).request(&mut Rng::with_seed(1));
        assert!(request[..body].ends_with(b"\r\n\r\n") && request.len() > body + 100);
    }
}
