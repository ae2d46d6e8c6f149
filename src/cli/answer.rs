//! Reads a server's answer to our request: its head, its body, and whether it switches to WebSocket.

use std::io::{self, ErrorKind, Read};

use tungstenite::handshake::derive_accept_key;

use crate::cli::body::Body;

/// More than any server sends, for all heads together, including the 1xx heads that come first.
const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 128;
/// A refusal is one line; the longest list of arrival times takes some hundred KiB.
const BODY_BYTES_MAX: usize = 1 << 20;
const BLOCK_BYTES: usize = 8 << 10;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    is_http_1_1: bool,
    /// Names in lower case.
    fields: Vec<(String, String)>,
    /// Bytes read after the head.
    pub rest: Vec<u8>,
}

impl Answer {
    /// Reads to the end of the final head; informational ones (RFC 9110, 15.2) are skipped.
    ///
    /// # Errors
    /// Errors of the stream, its end, and an answer that is not HTTP.
    pub fn read(stream: &mut impl Read) -> io::Result<Self> {
        let (mut bytes, mut budget) = (Vec::new(), HEAD_BYTES_MAX);
        loop {
            if let Some((answer, length)) = Self::parse(&bytes)? {
                if answer.status >= 200 || answer.status == 101 {
                    return Ok(Self { rest: bytes.split_off(length), ..answer });
                }
                bytes.drain(..length);
                continue;
            }
            let count = read_some(stream, &mut bytes, budget)?;
            if count == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed without an answer"));
            }
            budget -= count;
        }
    }

    /// Returns the answer and the length of its head; `None` if the head is incomplete.
    fn parse(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let no_http = |_| io::Error::new(ErrorKind::InvalidData, "the server does not speak HTTP/1.1");
        let httparse::Status::Complete(length) = head.parse(bytes).map_err(no_http)? else {
            return Ok(None);
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_owned();
        let fields = head.headers.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value)));
        let status = head.code.expect("a whole head has a status");
        let is_http_1_1 = head.version == Some(1);
        Ok(Some((Self { status, is_http_1_1, fields: fields.collect(), rest: Vec::new() }, length)))
    }

    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether a list in the fields of this name has this item, in any case (RFC 9110, 5.3).
    fn lists(&self, name: &str, item: &str) -> bool {
        let mut fields = self.fields.iter().filter(|(found, _)| found == name);
        fields.any(|(_, value)| value.split(',').any(|found| found.trim().eq_ignore_ascii_case(item)))
    }

    /// What is wrong with a 101 answer to this key (RFC 6455, 4.1); `None` if it is right.
    pub fn fault(&self, key: &str) -> Option<&'static str> {
        let accept = derive_accept_key(key.as_bytes());
        if !self.lists("upgrade", "websocket") || !self.lists("connection", "upgrade") {
            return Some("the answer switches to a protocol other than WebSocket");
        }
        if self.field("sec-websocket-accept") != Some(&accept) {
            return Some("the answer belongs to another request");
        }
        let foreign = ["sec-websocket-extensions", "sec-websocket-protocol"];
        let is_foreign = foreign.iter().any(|name| self.field(name).is_some_and(|value| !value.is_empty()));
        is_foreign.then_some("the answer accepts an extension or subprotocol that was not offered")
    }

    /// Whether the server keeps the connection for another request (RFC 9112, 9.3).
    pub fn keeps_alive(&self) -> bool {
        self.is_http_1_1 && !self.lists("connection", "close")
    }

    /// The type of the body in lower case, without parameters.
    pub fn content_type(&self) -> String {
        let value = self.field("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    pub fn into_body(self) -> Body {
        let is_bare = self.status == 204 || self.status == 304;
        let length = self.field("content-length").and_then(|length| length.parse().ok());
        Body::new(self.lists("transfer-encoding", "chunked"), length.or(is_bare.then_some(0)), self.rest)
    }

    /// The body, or as much of it as arrives; a chunked body is whole or empty.
    pub fn body(self, stream: &mut impl Read) -> Vec<u8> {
        let is_chunked = self.lists("transfer-encoding", "chunked");
        let (mut body, mut bytes) = (self.into_body(), Vec::new());
        match read_all(&mut body, stream, &mut bytes) {
            Err(_) if is_chunked => Vec::new(),
            _ => bytes,
        }
    }
}

/// Reads the rest of a body.
///
/// # Errors
/// Those of the stream, and a body that is cut off or too long.
pub fn read_all(body: &mut Body, stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    while body.read(stream, bytes)? > 0 {
        if bytes.len() > BODY_BYTES_MAX {
            bytes.truncate(BODY_BYTES_MAX);
            return Err(too_long());
        }
    }
    Ok(())
}

/// Returns how many bytes came; 0 at the end.
fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>, room: usize) -> io::Result<usize> {
    if room == 0 {
        return Err(too_long());
    }
    let place = bytes.len();
    bytes.resize(place + room.min(BLOCK_BYTES), 0);
    let read = stream.read(&mut bytes[place..]);
    bytes.truncate(place + *read.as_ref().unwrap_or(&0));
    read
}

fn too_long() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer is longer than any that luxcast sends")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::Answer;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    /// Hands out a byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(into.len()).min(1);
            self.0.read(&mut into[..count])
        }
    }

    fn answer(text: &str) -> io::Result<Answer> {
        Answer::read(&mut Slow(text.as_bytes()))
    }

    #[test]
    fn every_correct_switch_is_accepted() {
        for fields in [
            "Upgrade: websocket\r\nConnection: Upgrade\r\n",
            "upgrade: WebSocket\r\nCONNECTION: keep-alive, Upgrade\r\n",
            "Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: upgrade\r\n",
            "Upgrade: h2c,websocket\r\nConnection:upgrade\r\nSec-WebSocket-Protocol:\r\n",
        ] {
            for before in ["", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"]
            {
                let text = format!("{before}HTTP/1.1 101 Switching Protocols\r\n{fields}{ACCEPT}\r\n");
                assert_eq!(answer(&text).unwrap().fault(KEY), None, "{text}");
            }
        }
        let both =
            format!("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n{ACCEPT}\r\n\x01\x01x");
        assert_eq!(Answer::read(&mut both.as_bytes()).unwrap().rest, b"\x01\x01x");
    }

    #[test]
    fn any_other_switch_is_none() {
        let good = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        for fields in [
            format!("Upgrade: websocket\r\n{ACCEPT}"),
            format!("Connection: upgrade\r\n{ACCEPT}"),
            format!("Upgrade: h2c\r\nConnection: upgrade\r\n{ACCEPT}"),
            format!("Upgrade: websocket\r\nConnection: not-upgrade\r\n{ACCEPT}"),
            good.to_owned(),
            format!("{good}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"),
            format!("{good}{ACCEPT}Sec-WebSocket-Extensions: permessage-deflate\r\n"),
            format!("{good}{ACCEPT}Sec-WebSocket-Protocol: x\r\n"),
        ] {
            let text = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
            assert!(answer(&text).unwrap().fault(KEY).is_some(), "{text}");
        }
        for text in ["", "HTTP/1.1 101 x\r\n", "HTTP/1.1 103 x\r\n\r\n", "SSH-2.0-x\r\n", "\u{15}\u{3}\u{1}"]
        {
            assert!(answer(text).is_err(), "{text}");
        }
        let endless = "HTTP/1.1 100 x\r\n\r\n".repeat(10_000);
        assert!(Answer::read(&mut endless.as_bytes()).is_err());
    }

    #[test]
    fn a_body_is_read_to_its_end_however_it_is_sent() {
        for (head, body) in [
            ("Content-Length: 4\r\n", "bodybehind"),
            ("", "body"),
            ("Transfer-Encoding: gzip, Chunked\r\n", "2\r\nbo\r\n2;x=y\r\ndy\r\n0\r\n\r\n"),
        ] {
            let text = format!("HTTP/1.1 404 Not Found\r\n{head}\r\n{body}");
            let mut stream = Slow(text.as_bytes());
            let answer = Answer::read(&mut stream).unwrap();
            assert_eq!((answer.status, answer.body(&mut stream)), (404, b"body".to_vec()), "{text}");
        }
        for (cut, body) in [
            ("Content-Length: 9\r\n\r\nbody", "body"),
            ("Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\nd", ""),
            ("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nbody", ""),
        ] {
            let text = format!("HTTP/1.1 404 Not Found\r\n{cut}");
            let mut stream = text.as_bytes();
            assert_eq!(Answer::read(&mut stream).unwrap().body(&mut stream), body.as_bytes());
        }
    }
}
