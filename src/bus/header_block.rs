//! The headers of a message, read from the block of bytes that the server keeps.
//!
//! Messages usually come through a consumer, and the client library reads their blocks. One that it cannot read ends the
//! connection, so such a message is asked for alone, and its block is read here. Every daemon must see the same headers,
//! whichever way a message came: so what is read here is exactly what the library reads, and the rest has no headers.

use crate::bus::chunk::{FROM, Headers, LINES, MESSAGE_ID};

const VERSION: &str = "NATS/1.0";

/// The headers that daemons know, of each the first value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderBlock {
    pub message_id: Option<Box<str>>,
    pub lines: Option<Box<str>>,
    pub from: Option<Box<str>>,
}

impl HeaderBlock {
    /// None: the library cannot read it. A message without headers has an empty block.
    pub fn read(block: &[u8]) -> Option<Self> {
        let mut read = Self::default();
        if block.is_empty() {
            return Some(read);
        }
        let mut lines = std::str::from_utf8(block).ok()?.lines().peekable();
        let rest = lines.next()?.strip_prefix(VERSION)?.trim();
        if !rest.is_empty() && !is_status(rest.split_once(' ').map_or(rest, |(status, _)| status).trim()) {
            return None;
        }
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            let (name, value) = line.split_once(':')?;
            if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            let mut value = value.trim_start().to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
                value.push_str(more);
            }
            value.truncate(value.trim_end().len());
            if value.contains('\r') {
                return None;
            }
            read.note(name, value);
        }
        Some(read)
    }

    fn note(&mut self, name: &str, value: String) {
        let place = match name {
            MESSAGE_ID => &mut self.message_id,
            LINES => &mut self.lines,
            FROM => &mut self.from,
            _ => return,
        };
        place.get_or_insert_with(|| value.into());
    }

    pub fn headers(&self) -> Headers<'_> {
        Headers {
            message_id: self.message_id.as_deref(),
            lines: self.lines.as_deref(),
            from: self.from.as_deref(),
        }
    }
}

/// Three digits, and no leading zero.
fn is_status(text: &str) -> bool {
    matches!(text.as_bytes(), [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'])
}

#[cfg(test)]
mod tests {
    use super::HeaderBlock;

    fn read(block: &str) -> Option<[Option<String>; 3]> {
        let HeaderBlock { message_id, lines, from } = HeaderBlock::read(block.as_bytes())?;
        Some([message_id, lines, from].map(|value| value.map(String::from)))
    }

    #[test]
    fn the_first_value_of_a_name_counts() {
        let block = "NATS/1.0\r\nOther: x\r\nNats-Msg-Id:  p:1 \r\nNats-Msg-Id: q:1\r\nnats-msg-id: r:1\r\n\
                     Luxcast-Lines: 1-\r\n 3\r\nLuxcast-From:\r\n\r\n";
        let expected = ["p:1", "1- 3", ""].map(|value| Some(value.to_owned()));
        assert_eq!(read(block), Some(expected));
        for block in ["", "NATS/1.0\r\n\r\n", "NATS/1.0 503\r\n\r\n", "NATS/1.0 100 Idle Heartbeat\r\n\r\n"] {
            assert_eq!(read(block), Some([None, None, None]), "{block:?}");
        }
    }

    #[test]
    fn one_fault_and_no_header_counts() {
        let good = "NATS/1.0\r\nNats-Msg-Id: p:1\r\n";
        for fault in [
            "A: b\rc\r\n",
            "A\r\n",
            "A b: c\r\n",
            " A: b\rc\r\n",
            "\u{e4}: x\r\n",
            "\r\n folded\r\n",
            "\x7f: x\r\n",
        ] {
            assert_eq!(read(&format!("{good}{fault}\r\n")), None, "{fault:?}");
        }
        for block in [
            "NATS/1.1\r\n\r\n",
            "nats/1.0\r\n\r\n",
            "x",
            "\r\n",
            "NATS/1.0 99\r\n\r\n",
            "NATS/1.0 099\r\n\r\n",
        ] {
            assert_eq!(read(block), None, "{block:?}");
        }
        assert_eq!(HeaderBlock::read(b"NATS/1.0\r\nA: \xff\r\n\r\n"), None);
    }
}
