//! The daemon's messages to a watcher, whichever way they come: over a WebSocket, or in the answer to a plain request.

use std::io::{self, ErrorKind};
use std::mem;
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};

use crate::cli::body::Body;
use crate::cli::connection::{MESSAGE_BYTES_MAX, Stream, patient, reason};
use crate::cli::outlet::is_output_closed;

/// What came, or why nothing did.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message, which is one JSON text.
    Message(String),
    /// A sign of life.
    Other,
    /// Nothing came for as long as was waited.
    Silence,
    /// Nobody reads the output any more.
    OutputClosed,
    /// The connection ended, for this reason.
    End(String),
}

/// One connection of a watcher.
pub struct Messages {
    source: Source,
    host: String,
    /// Heard before, and not yet taken.
    first: Option<Heard>,
}

enum Source {
    WebSocket {
        socket: Box<WebSocket<Stream>>,
        /// What the daemon's close frame said.
        close: Option<String>,
    },
    Http {
        stream: Box<Stream>,
        body: Body,
        texts: Texts,
    },
}

impl Messages {
    pub fn of_websocket(socket: WebSocket<Stream>, host: &str) -> Self {
        let source = Source::WebSocket { socket: Box::new(socket), close: None };
        Self { source, host: host.to_owned(), first: None }
    }

    pub fn of_http((stream, body): (Stream, Body), form: Form, host: &str) -> Self {
        let source = Source::Http { stream: Box::new(stream), body, texts: Texts::new(form) };
        Self { source, host: host.to_owned(), first: None }
    }

    /// Waits for the next thing; `patience` bounds the wait, and `until` that for everything.
    pub fn hear(&mut self, patience: Duration, until: Option<Instant>) -> Heard {
        if let Some(first) = self.first.take() {
            return first;
        }
        let patient = patient(self.stream());
        (patient.patience, patient.until) = (patience, until);
        match &mut self.source {
            Source::WebSocket { socket, close } => hear_frame(socket, close, &self.host),
            Source::Http { stream, body, texts } => hear_text(stream, body, texts, &self.host),
        }
    }

    /// Puts back what was heard, to be heard again.
    pub fn put_back(&mut self, heard: Heard) {
        self.first = Some(heard);
    }

    /// Asks a silent daemon for a sign of life, where that is possible; returns whether the connection is still good.
    pub fn probe(&mut self) -> bool {
        match &mut self.source {
            Source::WebSocket { socket, .. } => socket.send(Message::Ping(Default::default())).is_ok(),
            // It can only be waited for the next heartbeat.
            Source::Http { .. } => true,
        }
    }

    fn stream(&mut self) -> &mut Stream {
        match &mut self.source {
            Source::WebSocket { socket, .. } => socket.get_mut(),
            Source::Http { stream, .. } => stream,
        }
    }
}

fn hear_frame(socket: &mut WebSocket<Stream>, close: &mut Option<String>, host: &str) -> Heard {
    match socket.read() {
        Ok(Message::Text(text)) => Heard::Message(text.to_string()),
        Ok(Message::Close(frame)) => {
            *close = frame.map(|frame| format!("closed: {} {}", frame.code, frame.reason));
            Heard::Other
        }
        Ok(_) => Heard::Other,
        Err(tungstenite::Error::Io(error)) => match fault(&error, host) {
            Heard::End(reason) => Heard::End(close.take().unwrap_or(reason)),
            other => other,
        },
        Err(error) => Heard::End(close.take().unwrap_or_else(|| error.to_string())),
    }
}

fn hear_text(stream: &mut Stream, body: &mut Body, texts: &mut Texts, host: &str) -> Heard {
    loop {
        match texts.next() {
            Some(Ok(text)) => return Heard::Message(text),
            Some(Err(problem)) => return Heard::End(problem.to_owned()),
            None => {}
        }
        match body.read(stream, &mut texts.bytes) {
            Ok(0) if body.is_whole() => return Heard::End("the daemon has ended the stream".to_owned()),
            Ok(0) => return Heard::End("the connection ended".to_owned()),
            Ok(_) => {}
            Err(error) => return fault(&error, host),
        }
    }
}

fn fault(error: &io::Error, host: &str) -> Heard {
    match error.kind() {
        ErrorKind::WouldBlock => Heard::Silence,
        _ if is_output_closed(error) => Heard::OutputClosed,
        _ => Heard::End(reason(error, host)),
    }
}

/// How a message stands in the answer to a plain request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line each.
    Ndjson,
    /// An event of the HTML standard, 9.2, of which only the data matter: the daemon's names and numbers are in them.
    Sse,
}

impl Form {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Sse => "text/event-stream",
        }
    }
}

/// Finds the messages in what came. A piece without its end is none.
struct Texts {
    form: Form,
    bytes: Vec<u8>,
    /// What is before has been handed out.
    taken: usize,
    /// What is before has no end of a line behind `taken`.
    searched: usize,
    /// The data of an event that has not ended.
    data: Option<Vec<u8>>,
}

impl Texts {
    fn new(form: Form) -> Self {
        Self { form, bytes: Vec::new(), taken: 0, searched: 0, data: None }
    }

    fn next(&mut self) -> Option<Result<String, &'static str>> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.bytes[self.searched..]) else {
                self.bytes.drain(..self.taken);
                self.taken = 0;
                self.searched = self.bytes.len();
                let held = self.bytes.len() + self.data.as_ref().map_or(0, Vec::len);
                return (held > MESSAGE_BYTES_MAX).then_some(Err("the daemon sent a message without an end"));
            };
            let end = self.searched + end;
            let line = &self.bytes[self.taken..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let message = match self.form {
                Form::Ndjson => Some(line.to_vec()).filter(|line| !line.is_empty()),
                Form::Sse => read_field(line, &mut self.data),
            };
            (self.taken, self.searched) = (end + 1, end + 1);
            if let Some(message) = message {
                return Some(
                    String::from_utf8(message).map_err(|_| "the daemon sent a message that is not UTF-8"),
                );
            }
        }
    }
}

/// Reads a line of an event; returns the data at its end.
fn read_field(line: &[u8], data: &mut Option<Vec<u8>>) -> Option<Vec<u8>> {
    if line.is_empty() {
        return mem::take(data);
    }
    let value = line.strip_prefix(b"data:")?;
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match data {
        None => *data = Some(value.to_vec()),
        Some(data) => {
            data.push(b'\n');
            data.extend_from_slice(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Form, Texts};

    /// The messages in these bytes, which come in pieces of this size.
    fn found(form: Form, bytes: &[u8], step: usize) -> Vec<String> {
        let mut texts = Texts::new(form);
        let mut found = Vec::new();
        for piece in bytes.chunks(step) {
            texts.bytes.extend_from_slice(piece);
            found.extend(std::iter::from_fn(|| texts.next()).map(Result::unwrap));
        }
        found
    }

    #[test]
    fn messages_are_found_however_they_come() {
        let lines = b"{\"a\":1}\n\n{\"b\":\"\xc3\xa4\"}\r\n{\"c\":";
        let events = b": hello\nretry: 700\n\nid: 7\ndata: {\"a\":1}\n\ndata:{\"b\":\r\ndata: \"\xc3\xa4\"}\r\nevent: x\r\n\r\ndata: {\"c\"\n";
        for step in [1, 2, 7, 1_000] {
            assert_eq!(found(Form::Ndjson, lines, step), ["{\"a\":1}", "{\"b\":\"ä\"}"], "{step}");
            assert_eq!(found(Form::Sse, events, step), ["{\"a\":1}", "{\"b\":\n\"ä\"}"], "{step}");
        }
    }

    #[test]
    fn other_bytes_than_text_end_it() {
        let mut texts = Texts::new(Form::Ndjson);
        texts.bytes.extend_from_slice(b"\xff\n");
        assert!(texts.next().unwrap().is_err());
    }
}
