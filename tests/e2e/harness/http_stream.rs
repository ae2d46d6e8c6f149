//! A watcher over plain HTTP: Server-Sent Events or lines of JSON.

use std::net::SocketAddr;

use super::client::{Raw, Refused};
use super::seq_of;

/// A stream in the chunks of an HTTP answer.
pub struct HttpStream {
    pub raw: Raw,
    pub is_sse: bool,
    pub head: Refused,
}

/// One message: the lines before its data, and the JSON.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub fields: String,
    pub text: String,
}

impl Told {
    pub fn id(&self) -> Option<u64> {
        let line = self.fields.lines().find_map(|line| line.strip_prefix("id: "))?;
        Some(line.parse().expect("a number"))
    }
}

impl HttpStream {
    pub fn open(address: SocketAddr, path: &str, fields: &str) -> Self {
        let mut raw = Raw::connect(address);
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
        let head = Refused::of_head(&raw.read_head());
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        let is_sse = head.header("content-type") == Some("text/event-stream");
        assert!(is_sse || head.header("content-type") == Some("application/x-ndjson"), "{head:?}");
        Self { raw, is_sse, head }
    }

    /// The next message; None: the answer has ended.
    pub fn next(&mut self) -> Option<Told> {
        let line = loop {
            if let Some(end) = self.raw.buffer.windows(2).position(|two| two == b"\r\n") {
                break self.raw.buffer.drain(..end + 2).collect::<Vec<u8>>();
            }
            assert!(self.raw.fill() > 0, "cut off between two chunks");
        };
        let digits = str::from_utf8(&line[..line.len() - 2]).expect("text");
        let length = usize::from_str_radix(digits, 16).expect("a length in hexadecimal");
        while self.raw.buffer.len() < length + 2 {
            assert!(self.raw.fill() > 0, "cut off in a chunk");
        }
        let chunk = String::from_utf8(self.raw.buffer.drain(..length + 2).collect()).expect("text");
        let content = chunk.strip_suffix("\r\n").expect("a chunk has an end");
        if content.is_empty() {
            assert!(self.raw.buffer.is_empty() && self.raw.fill() == 0, "nothing comes behind the end");
            return None;
        }
        let (fields, text) = match self.is_sse {
            true => content.strip_suffix("\n\n").expect("an empty line").split_once("data: ").expect("data"),
            false => ("", content.strip_suffix('\n').expect("a line")),
        };
        assert!(!text.contains('\n'), "{text}");
        Some(Told { fields: fields.to_owned(), text: text.to_owned() })
    }

    /// The next event; the daemon's own messages are skipped.
    pub fn event(&mut self) -> Told {
        loop {
            let told = self.next().expect("the stream goes on");
            if seq_of(&told.text).is_some() {
                return told;
            }
        }
    }

    pub fn events(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event().text).collect()
    }
}
