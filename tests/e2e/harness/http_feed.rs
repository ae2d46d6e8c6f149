//! A publisher over HTTP.

use std::net::SocketAddr;

use serde_json::Value;

use super::client::{Raw, Refused};

pub const LINES: &str = "application/x-ndjson";
pub const JSON: &str = "application/json";

/// A connection that is kept for one request after the other.
pub struct HttpFeed {
    pub raw: Raw,
    /// Lines of each request's head, each with its CR LF.
    pub fields: String,
}

impl HttpFeed {
    pub fn connect(address: SocketAddr) -> Self {
        Self { raw: Raw::connect(address), fields: String::new() }
    }

    pub fn with(address: SocketAddr, fields: &str) -> Self {
        Self { fields: fields.to_owned(), ..Self::connect(address) }
    }

    pub fn head(&self, content_type: &str, more: &str) -> String {
        let fields = &self.fields;
        format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n{fields}{more}\r\n"
        )
    }

    /// Sends a body with its length.
    pub fn send(&mut self, content_type: &str, body: &str) {
        let head = self.head(content_type, &format!("Content-Length: {}\r\n", body.len()));
        self.raw.send([head.as_bytes(), body.as_bytes()].concat().as_slice());
    }

    /// The status, and the answer, which is JSON.
    pub fn answer(&mut self) -> (u16, Value) {
        let Refused { status, body, .. } = self.raw.read_next(false);
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    pub fn post(&mut self, content_type: &str, body: &str) -> (u16, Value) {
        self.send(content_type, body);
        self.answer()
    }

    /// Publishes lines, all of which are good.
    pub fn publish<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) -> u64 {
        let body: String = lines.into_iter().flat_map(|line| [line, "\n"]).collect();
        let (status, answer) = self.post(LINES, &body);
        assert_eq!((status, &answer["refused_total"]), (200, &0.into()), "{answer}");
        answer["stream_seq"].as_u64().expect("a number")
    }
}
