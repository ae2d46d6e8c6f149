//! A watcher that agrees on compression and inflates with a window of its own.

use std::net::SocketAddr;

use zlib_rs::{Inflate, InflateFlush};

use super::{Raw, seq_of};

const COMPRESSED_TEXT: u8 = 0x41;
/// What a sender leaves out (RFC 7692, 7.2.1).
const TAIL: &[u8] = b"\x00\x00\xff\xff";
/// No message of the tests is longer.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

pub struct Deflated {
    pub raw: Raw,
    /// The agreement, as the daemon answered.
    pub agreed: String,
    inflate: Inflate,
    text: Vec<u8>,
    /// Bytes of frames of events, and of the same frames as they would be without compression.
    pub event_bytes: (usize, usize),
    pub compressed_messages: usize,
    /// Events that came as they are.
    pub plain_events: usize,
}

impl Deflated {
    pub fn watch(address: SocketAddr, path: &str) -> Self {
        Self::offer(Raw::connect(address), path, "permessage-deflate; client_max_window_bits")
    }

    /// Over a connection that the test has prepared.
    pub fn offer(mut raw: Raw, path: &str, offer: &str) -> Self {
        let field = format!("\r\nSec-WebSocket-Extensions: {offer}\r\n");
        raw.send(Raw::upgrade_request(path).replacen("\r\n", &field, 1).as_bytes());
        let head = raw.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let agreed = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
        let agreed = agreed.unwrap_or_else(|| panic!("{offer} is agreed on: {head}")).to_owned();
        Self {
            raw,
            agreed,
            inflate: Inflate::new(false, 15),
            text: vec![0; MESSAGE_BYTES_MAX],
            event_bytes: (0, 0),
            compressed_messages: 0,
            plain_events: 0,
        }
    }

    /// The next text, inflated if it came compressed.
    pub fn text(&mut self) -> String {
        loop {
            let frame = self.raw.read_frame().expect("the connection is open");
            let text = match frame.opcode {
                0x1 => String::from_utf8(frame.payload.clone()).expect("a text"),
                COMPRESSED_TEXT => self.inflate(&frame.payload),
                0x9 | 0xA => continue,
                other => panic!("a frame with opcode {other:#x}: {}", frame.payload.escape_ascii()),
            };
            if seq_of(&text).is_some() {
                self.event_bytes.0 += frame.payload.len() + 4;
                self.event_bytes.1 += text.len() + 4;
                self.plain_events += usize::from(frame.opcode == 0x1);
            } else {
                assert_eq!(frame.opcode, 0x1, "the daemon's own messages are not compressed: {text}");
            }
            return text;
        }
    }

    fn inflate(&mut self, payload: &[u8]) -> String {
        if self.agreed.contains("server_no_context_takeover") {
            self.inflate.reset(false);
        }
        let before = self.inflate.total_out();
        let input = [payload, TAIL].concat();
        self.inflate.decompress(&input, &mut self.text, InflateFlush::SyncFlush).expect("it inflates");
        let length = (self.inflate.total_out() - before) as usize;
        self.compressed_messages += 1;
        String::from_utf8(self.text[..length].to_vec()).expect("a text")
    }

    /// The next event; the daemon's own messages are skipped.
    pub fn event(&mut self) -> String {
        loop {
            let text = self.text();
            if seq_of(&text).is_some() {
                return text;
            }
        }
    }

    /// This many events.
    pub fn events(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event()).collect()
    }

    /// The events up to the one that contains `marker`, without it.
    pub fn events_until(&mut self, marker: &str) -> Vec<String> {
        let mut events = Vec::new();
        loop {
            let event = self.event();
            if event.contains(marker) {
                return events;
            }
            events.push(event);
        }
    }
}
