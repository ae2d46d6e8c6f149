//! Publishers.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::PATIENCE;

/// One publisher's connection.
pub struct Feed {
    pub stream: UnixStream,
    answers: BufReader<UnixStream>,
    /// Lines written so far.
    pub lines: u64,
    /// `stream_seq` of the newest ack.
    pub acked_seq: u64,
    /// Refused lines, by the newest ack.
    pub refused: u64,
}

impl Feed {
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the daemon listens to publishers");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let answers = BufReader::new(stream.try_clone().expect("a socket"));
        Self { stream, answers, lines: 0, acked_seq: 0, refused: 0 }
    }

    /// Asks for acks and reads the welcome.
    pub fn hello(&mut self) -> Value {
        self.line(r#"{"op":"hello","publisher":"e2e","ack":true}"#);
        let welcome = self.answer();
        assert_eq!(welcome["op"], "welcome", "{welcome}");
        self.acked_seq = welcome["stream_seq"].as_u64().expect("the newest number");
        welcome
    }

    /// Writes one line; adds the newline.
    pub fn line(&mut self, line: &str) {
        self.bytes(format!("{line}\n").as_bytes());
        self.lines += 1;
    }

    /// Many lines in one write.
    pub fn lines<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
            self.lines += 1;
        }
        self.bytes(text.as_bytes());
    }

    /// Writes these bytes; they do not count as lines.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon reads");
    }

    /// The next answer line.
    pub fn answer(&mut self) -> Value {
        self.try_answer().expect("the daemon answers")
    }

    /// The next answer line; none at the end.
    pub fn try_answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("answers are JSON")),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Waits until all lines written so far are acknowledged, that is, published. Returns the number of the newest
    /// event then, and the errors on the way. Only after [`Feed::hello`].
    pub fn sync(&mut self) -> Vec<Value> {
        let mut errors = Vec::new();
        let lines = self.lines;
        loop {
            let answer = self.answer();
            match answer["op"].as_str() {
                Some("error") => errors.push(answer),
                Some("ack") => {
                    self.acked_seq = answer["stream_seq"].as_u64().expect("a number");
                    self.refused = answer["refused"].as_u64().expect("a number");
                    if answer["line"].as_u64() >= Some(lines) {
                        return errors;
                    }
                }
                _ => panic!("unexpected answer {answer}"),
            }
        }
    }

    /// Writes these lines, waits until they are acknowledged, and returns the number of the newest event. With a
    /// single publisher, that is the last line's.
    pub fn publish<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) -> u64 {
        self.lines(lines);
        let errors = self.sync();
        assert!(errors.is_empty(), "{errors:?}");
        self.acked_seq
    }
}
