//! Posts lines until each is settled once: what failed is posted again, as far as the daemon has not taken it.

use std::fmt;
use std::time::Duration;

use crate::cli::backoff::Backoff;
use crate::cli::connection::Way;
use crate::cli::post::{Post, Receipt, RefusedLine, Unposted};
use crate::wire::line::trim;

/// How a publisher over HTTP goes on after a failure.
pub struct Posting<'a> {
    post: Post,
    /// Under it the daemon takes no line twice.
    name: Option<String>,
    /// What failed for now is tried again, for as long as it takes.
    retries: bool,
    say: &'a dyn Fn(&str),
    sleep: &'a dyn Fn(Duration),
    backoff: Backoff,
}

/// What became of lines that were posted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The first refused lines.
    pub refused: Vec<RefusedLine>,
    pub refused_total: u64,
    /// Lines up to this one were taken by a request whose answer did not come.
    pub unanswered_to: u64,
}

/// Why lines are not settled.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsettled {
    pub reason: String,
    /// Some of them may have been taken.
    pub is_in_doubt: bool,
}

impl fmt::Display for Unsettled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

/// A name for the publisher of one run.
pub fn name_of_run(command: &str) -> String {
    format!("{command}-{:016x}", fastrand::u64(..))
}

impl<'a> Posting<'a> {
    /// Retries need a name: without one nobody knows what a failed request has left.
    pub fn new(
        way: Way,
        name: Option<String>,
        retries: bool,
        say: &'a dyn Fn(&str),
        sleep: &'a dyn Fn(Duration),
    ) -> Self {
        assert!(name.is_some() || !retries);
        Self { post: Post::new(way), name, retries, say, sleep, backoff: Backoff::default() }
    }

    /// Asks whether events may be posted, and for the last line that was accepted under the name. 0: there is none.
    pub fn greet(&mut self) -> Result<u64, Unsettled> {
        loop {
            let fields = self.name.as_ref().map(|name| format!("Luxcast-Publisher: {name}\r\n"));
            let greeted = match self.post.send(&fields.unwrap_or_default(), b"") {
                Ok(Receipt { accepted_line: None, .. }) if self.name.is_some() => {
                    Err(Unposted::misfit("the answer does not tell the last line accepted under the name"))
                }
                greeted => greeted,
            };
            match greeted {
                Ok(receipt) => {
                    self.backoff = Backoff::default();
                    return Ok(receipt.accepted_line.unwrap_or(0));
                }
                // It carried no lines.
                Err(unposted) => self.retry(Unposted { is_in_doubt: false, ..unposted })?,
            }
        }
    }

    /// Posts lines, each with its end; the first has this number.
    pub fn send(&mut self, mut first: u64, mut lines: &[u8]) -> Result<Settled, Unsettled> {
        let mut unanswered_to = 0;
        loop {
            let count = events(lines).count() as u64;
            if count == 0 {
                return Ok(Settled { unanswered_to, ..Settled::default() });
            }
            let fields = self
                .name
                .as_ref()
                .map(|name| format!("Luxcast-Publisher: {name}\r\nLuxcast-Line: {first}\r\n"));
            let sent = self.post.send(&fields.unwrap_or_default(), lines);
            let unposted = match sent.and_then(|receipt| check(receipt, count)) {
                Ok(receipt) => {
                    self.backoff = Backoff::default();
                    let Receipt { mut refused, refused_total, .. } = receipt;
                    if self.name.is_none() {
                        refused.iter_mut().for_each(|refused| refused.line += first - 1);
                    }
                    return Ok(Settled { refused, refused_total, unanswered_to });
                }
                Err(unposted) => unposted,
            };
            let is_in_doubt = unposted.is_in_doubt;
            self.retry(unposted)?;
            if is_in_doubt {
                let accepted_to = self.greet().map_err(|unsettled| Unsettled { is_in_doubt, ..unsettled })?;
                if let Some(taken) = (accepted_to + 1).checked_sub(first).filter(|taken| *taken > 0) {
                    unanswered_to = accepted_to;
                    lines = behind(lines, taken);
                    first += taken;
                }
            }
        }
    }

    /// Waits until it is time for another attempt, if there is to be one.
    fn retry(&mut self, unposted: Unposted) -> Result<(), Unsettled> {
        let Unposted { reason, retry_after, is_final, is_in_doubt, is_worn_out } = unposted;
        if is_worn_out && self.name.is_some() {
            return Ok(());
        }
        if is_final || !self.retries {
            return Err(Unsettled { reason, is_in_doubt });
        }
        let wait = self.backoff.next(retry_after, fastrand::f64());
        (self.say)(&format!("{reason}; trying again in {:.1} s", wait.as_secs_f64()));
        (self.sleep)(wait);
        Ok(())
    }
}

/// Each line must have been dealt with: a body that was cut on its way is answered as well.
fn check(receipt: Receipt, count: u64) -> Result<Receipt, Unposted> {
    let dealt_with = receipt.accepted.saturating_add(receipt.refused_total);
    match dealt_with == count && receipt.refused.len() as u64 <= receipt.refused_total {
        true => Ok(receipt),
        false => {
            Err(Unposted::misfit(format!("the answer is about {dealt_with} lines, and {count} were sent")))
        }
    }
}

/// The lines that are not blank, with their place from 0.
pub fn events(lines: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let numbered = (0..).zip(lines.split(|byte| *byte == b'\n'));
    numbered.map(|(place, line)| (place, &line[trim(line)])).filter(|(_, line)| !line.is_empty())
}

/// What comes behind so many lines.
pub fn behind(lines: &[u8], count: u64) -> &[u8] {
    let Some(last) = count.checked_sub(1) else { return lines };
    let end = memchr::memchr_iter(b'\n', lines).nth(usize::try_from(last).unwrap_or(usize::MAX));
    end.map_or(&[], |end| &lines[end + 1..])
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::{Posting, Settled, Unsettled, behind, events};
    use crate::cli::address::read;
    use crate::cli::connection::Way;
    use crate::cli::outlet::Outlet;

    /// What a server does with a request.
    enum Act {
        Answer(String),
        /// Answers, and closes the connection.
        AnswerLast(String),
        /// Reads it, and closes the connection.
        Cut,
    }

    fn ok(accepted: u64, refused: &[u64], accepted_line: Option<u64>) -> String {
        let rows = refused.iter().map(|line| format!(r#"{{"line":{line},"code":"no_type","message":"m"}}"#));
        let rows = rows.collect::<Vec<_>>().join(",");
        let total = refused.len();
        let own = accepted_line.map_or_else(String::new, |line| format!(r#","accepted_line":{line}"#));
        json(
            200,
            &format!(
                r#"{{"accepted":{accepted},"refused":[{rows}],"refused_total":{total},"stream_seq":9{own}}}"#
            ),
        )
    }

    fn json(status: u16, body: &str) -> String {
        format!("HTTP/1.1 {status} x\r\nRetry-After: 7\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn refusal(status: u16, error: &str) -> String {
        json(status, &format!(r#"{{"error":"{error}","message":"m"}}"#))
    }

    /// Plays these acts, one a request, and reports the requests: name and first line, and the body.
    fn play(acts: Vec<Act>) -> (Way, mpsc::Receiver<(String, String)>) {
        let (way, requests, _) = play_and_tell(acts);
        (way, requests)
    }

    /// The same, and reports when it has closed a connection.
    fn play_and_tell(acts: Vec<Act>) -> (Way, mpsc::Receiver<(String, String)>, mpsc::Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = read(&format!("http://{}", listener.local_addr().unwrap())).unwrap().address;
        let (sender, requests) = mpsc::channel();
        let (closing, closed) = mpsc::channel();
        thread::spawn(move || {
            let mut kept: Option<BufReader<TcpStream>> = None;
            for act in acts {
                let (mut stream, request) = loop {
                    let mut stream =
                        kept.take().unwrap_or_else(|| BufReader::new(listener.accept().unwrap().0));
                    // The client may have given it up.
                    if let Some(request) = read_request(&mut stream) {
                        break (stream, request);
                    }
                };
                sender.send(request).unwrap();
                match act {
                    Act::Answer(answer) => {
                        stream.get_mut().write_all(answer.as_bytes()).unwrap();
                        kept = Some(stream);
                        continue;
                    }
                    Act::AnswerLast(answer) => stream.get_mut().write_all(answer.as_bytes()).unwrap(),
                    Act::Cut => {}
                }
                drop(stream);
                let _ = closing.send(());
            }
        });
        (Way { address, token: None, trust: None, outlet: Outlet::default() }, requests, closed)
    }

    fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().unwrap(),
                Some(("Luxcast-Publisher" | "Luxcast-Line", value)) => head += &format!("{value} "),
                _ if line == "\r\n" => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        Some((head.trim_end().to_owned(), String::from_utf8(body).unwrap()))
    }

    type Outcome = Result<Settled, Unsettled>;
    type Requests = Vec<(String, String)>;

    /// Posts lines from number 11 on; returns the outcome, the requests, and what was said and slept.
    fn post(
        acts: Vec<Act>,
        name: Option<&str>,
        retries: bool,
        lines: &str,
    ) -> (Outcome, Requests, Vec<String>, Vec<Duration>) {
        let (way, requests) = play(acts);
        let (said, slept) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let say = |line: &str| said.borrow_mut().push(line.to_owned());
        let sleep = |wait: Duration| slept.borrow_mut().push(wait);
        let mut posting = Posting::new(way, name.map(str::to_owned), retries, &say, &sleep);
        let outcome = posting.greet().and_then(|_| posting.send(11, lines.as_bytes()));
        let requests = requests.try_iter().collect();
        drop(posting);
        (outcome, requests, said.into_inner(), slept.into_inner())
    }

    fn request(head: &str, body: &str) -> (String, String) {
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn numbers_are_the_inputs_own() {
        let acts = vec![Act::Answer(ok(0, &[], None)), Act::Answer(ok(2, &[3], None))];
        let (outcome, requests, ..) = post(acts, None, false, "a\n\nb\nc\n");
        let settled = outcome.unwrap();
        assert_eq!((settled.refused_total, settled.refused[0].line), (1, 13));
        assert_eq!(requests, [request("", ""), request("", "a\n\nb\nc\n")]);
        let acts = vec![Act::Answer(ok(0, &[], Some(10))), Act::Answer(ok(2, &[13], Some(14)))];
        let (outcome, requests, ..) = post(acts, Some("p"), true, "a\n\nb\nc\n");
        assert_eq!(outcome.unwrap().refused[0].line, 13);
        assert_eq!(requests[1], request("p 11", "a\n\nb\nc\n"));
        let all_refused = json(422, ok(0, &[1, 2], None).split_once("\r\n\r\n").unwrap().1);
        let acts = vec![Act::Answer(ok(0, &[], None)), Act::Answer(all_refused)];
        assert_eq!(post(acts, None, false, "a\nb\n").0.unwrap().refused_total, 2);
    }

    #[test]
    fn only_what_was_not_taken_is_posted_again() {
        let acts = vec![
            Act::Answer(ok(0, &[], Some(0))),
            Act::Answer(refusal(503, "full")),
            Act::Cut,
            Act::Answer(ok(0, &[], Some(12))),
            Act::Answer(
                "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n{\"accepted\"".to_owned(),
            ),
            Act::AnswerLast(json(200, "[]")),
            Act::AnswerLast(json(502, "<html>")),
            Act::AnswerLast(ok(0, &[], Some(13))),
            Act::Answer(ok(1, &[], Some(14))),
        ];
        let (way, requests) = {
            // The act that promises more than it sends closes its connection.
            let acts = acts.into_iter().map(|act| match act {
                Act::Answer(text) if text.contains("close") => Act::AnswerLast(text),
                act => act,
            });
            play(acts.collect())
        };
        let (said, slept) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let say = |line: &str| said.borrow_mut().push(line.to_owned());
        let sleep = |wait: Duration| slept.borrow_mut().push(wait);
        let mut posting = Posting::new(way, Some("p".to_owned()), true, &say, &sleep);
        posting.greet().unwrap();
        let settled = posting.send(11, b"a\nb\nc\nd\n").unwrap();
        assert_eq!(settled, Settled { unanswered_to: 13, ..Settled::default() });
        let bodies: Vec<(String, String)> = requests.try_iter().collect();
        let greeting = || request("p", "");
        let expected = [
            greeting(),
            request("p 11", "a\nb\nc\nd\n"),
            request("p 11", "a\nb\nc\nd\n"),
            greeting(),
            request("p 13", "c\nd\n"),
            greeting(),
            greeting(),
            greeting(),
            request("p 14", "d\n"),
        ];
        assert_eq!(bodies, expected);
        let (said, slept) = (said.into_inner(), slept.into_inner());
        assert!(said[0].starts_with("refused: 503 full: m; trying again in 7."), "{said:?}");
        assert!(slept[0] >= Duration::from_secs(7) && said.len() == slept.len(), "{slept:?}");
    }

    #[test]
    fn without_retries_a_failure_is_the_end_and_says_whether_lines_may_have_been_taken() {
        let greeting = || Act::Answer(ok(0, &[], None));
        for (act, words, is_in_doubt) in [
            (Act::Cut, "closed without an answer", true),
            (Act::Answer(refusal(503, "draining")), "refused: 503 draining: m", true),
            (Act::Answer(refusal(503, "full")), "refused: 503 full: m", false),
            (Act::Answer(refusal(429, "too_many_requests")), "refused: 429 too_many_requests: m", false),
            (Act::Answer(refusal(403, "forbidden_scope")), "refused: 403 forbidden_scope: m", false),
            (Act::Answer(json(413, "<html>")), "something other than luxcast answered: 413", true),
            (Act::Answer(json(200, "{}")), "something other than luxcast answered the events", true),
            (Act::Answer(ok(1, &[], None)), "the answer is about 1 lines, and 2 were sent", true),
        ] {
            let (outcome, requests, said, _) = post(vec![greeting(), act], None, false, "a\nb\n");
            let unsettled = outcome.unwrap_err();
            assert!(unsettled.reason.ends_with(words), "{unsettled}");
            assert_eq!((unsettled.is_in_doubt, requests.len(), said.len()), (is_in_doubt, 2, 0), "{words}");
        }
        for word in ["unauthorized", "forbidden_scope", "not_found"] {
            let acts = vec![greeting_of("p"), Act::Answer(refusal(401, word))];
            let (outcome, requests, ..) = post(acts, Some("p"), true, "a\n");
            assert!(outcome.is_err() && requests.len() == 2, "it is final: {word}");
        }
        let (outcome, ..) = post(vec![greeting()], Some("p"), false, "a\n");
        assert!(outcome.unwrap_err().reason.contains("does not tell the last line"));
    }

    fn greeting_of(_name: &str) -> Act {
        Act::Answer(ok(0, &[], Some(0)))
    }

    #[test]
    fn a_kept_connection_that_ended_is_made_anew() {
        // Without a name too, if that shows before anything is sent.
        let acts = vec![Act::AnswerLast(ok(0, &[], None)), Act::Answer(ok(1, &[], None))];
        let (way, _requests, closed) = play_and_tell(acts);
        let mut posting = Posting::new(way, None, false, &|_| {}, &|_| {});
        posting.greet().unwrap();
        closed.recv().unwrap();
        assert_eq!(posting.send(1, b"a\n"), Ok(Settled::default()));
        // With a name also if it shows later, and at once.
        let acts = vec![greeting_of("p"), Act::Cut, greeting_of("p"), Act::Answer(ok(1, &[], Some(11)))];
        let (outcome, requests, said, _) = post(acts, Some("p"), false, "a\n");
        assert_eq!((outcome, requests.len(), said.len()), (Ok(Settled::default()), 4, 0));
    }

    #[test]
    fn blank_lines_are_counted_and_not_posted() {
        let (outcome, requests, ..) = post(vec![Act::Answer(ok(0, &[], None))], None, false, "\n \r\n");
        assert_eq!((outcome, requests.len()), (Ok(Settled::default()), 1));
        assert_eq!(events(b"\na\n\t\nb\r\n").collect::<Vec<_>>(), [(1, &b"a"[..]), (3, b"b")]);
        assert_eq!([0, 1, 2, 3].map(|count| behind(b"a\nb\n", count)), [&b"a\nb\n"[..], b"b\n", b"", b""]);
    }
}
