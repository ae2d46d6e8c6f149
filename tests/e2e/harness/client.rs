//! Watchers: a real client library, and a plain socket for bytes that no library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;
use tungstenite::client::{ClientRequestBuilder, IntoClientRequest, client_with_config};
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use super::{PATIENCE, seq_of};

/// A watcher with `tungstenite`.
pub struct Client<S = TcpStream> {
    pub socket: WebSocket<S>,
}

/// An HTTP answer in place of the upgrade.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Refused {
    /// Without its body.
    pub fn of_head(head: &str) -> Self {
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("an HTTP answer");
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status[..3].parse().expect("a status"),
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: String::new(),
        }
    }

    /// It is the last answer on its connection.
    pub fn is_last(&self) -> bool {
        self.headers.iter().any(|(name, value)| name == "connection" && value == "close")
    }

    /// The header's value; header names in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The stable word in the body, which must be one line of JSON with a message.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).expect("a refusal has a JSON body");
        assert_eq!(self.body.trim_end_matches('\n').lines().count(), 1, "{:?}", self.body);
        assert!(body["message"].is_string(), "{body}");
        body["error"].as_str().expect("a refusal has a code").to_owned()
    }
}

impl Client {
    pub fn connect(address: SocketAddr, path: &str) -> Self {
        Self::try_connect(address, path).unwrap_or_else(|refused| panic!("{path}: {refused:?}"))
    }

    pub fn try_connect(address: SocketAddr, path: &str) -> Result<Self, Refused> {
        let stream = TcpStream::connect(address).expect("the daemon listens");
        Self::handshake(stream, address, path)
    }

    /// With further header fields.
    pub fn try_connect_with(
        address: SocketAddr,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let stream = TcpStream::connect(address).expect("the daemon listens");
        let uri = format!("ws://{address}{path}").parse().expect("a URI");
        let request = fields.iter().fold(ClientRequestBuilder::new(uri), |request, (name, value)| {
            request.with_header(*name, *value)
        });
        Self::upgrade_tcp(stream, request)
    }

    /// Over a connection that the test has prepared.
    pub fn handshake(stream: TcpStream, address: SocketAddr, path: &str) -> Result<Self, Refused> {
        Self::upgrade_tcp(stream, format!("ws://{address}{path}"))
    }

    /// The same where the connection may end before there is an answer.
    pub fn try_handshake(
        stream: TcpStream,
        address: SocketAddr,
        path: &str,
    ) -> Result<Result<Self, Refused>, String> {
        let patience = |error: std::io::Error| error.to_string();
        stream.set_read_timeout(Some(PATIENCE)).map_err(patience)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(patience)?;
        Self::try_upgrade(stream, format!("ws://{address}{path}"))
    }

    fn upgrade_tcp(stream: TcpStream, request: impl IntoClientRequest) -> Result<Self, Refused> {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
        Self::upgrade(stream, request)
    }
}

impl<S: Read + Write> Client<S> {
    /// Over any stream.
    pub fn upgrade(stream: S, request: impl IntoClientRequest) -> Result<Self, Refused> {
        Self::try_upgrade(stream, request).unwrap_or_else(|error| panic!("no handshake: {error}"))
    }

    /// The same where the connection may end before there is an answer.
    fn try_upgrade(stream: S, request: impl IntoClientRequest) -> Result<Result<Self, Refused>, String> {
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        match client_with_config(request, stream, Some(config)) {
            Ok((socket, _)) => Ok(Ok(Self { socket })),
            Err(HandshakeError::Failure(Error::Http(response))) => {
                let headers = response.headers().iter().map(|(name, value)| {
                    (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                });
                Ok(Err(Refused {
                    status: response.status().as_u16(),
                    headers: headers.collect(),
                    body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into(),
                }))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    pub fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("the connection is open");
    }

    /// The next message of any kind. Protocol pings are answered on the way.
    pub fn read(&mut self) -> Result<Message, Error> {
        self.socket.read()
    }

    /// The next text message.
    pub fn text(&mut self) -> String {
        loop {
            match self.read() {
                Ok(Message::Text(text)) => return text.as_str().to_owned(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("expected a text message, got {other:?}"),
            }
        }
    }

    /// The next text message, parsed.
    pub fn json(&mut self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The next message of this type; earlier messages are skipped.
    pub fn json_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.json();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The next event, its text unchanged; the daemon's own messages are skipped.
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

    /// Reads `connection:status` and returns its number.
    pub fn connected(&mut self) -> u64 {
        let status = self.json();
        assert_eq!(status["status"], "connected", "{status}");
        status["stream_seq"].as_u64().expect("the newest number")
    }

    /// Sends and returns the next message that is neither an event nor a heartbeat.
    pub fn ask(&mut self, text: &str) -> Value {
        self.send(text);
        loop {
            let answer = self.text();
            if seq_of(&answer).is_none() && !answer.starts_with("{\"type\":\"ping\"") {
                return serde_json::from_str(&answer).expect("JSON");
            }
        }
    }

    /// Reads until the daemon closes; returns the text messages on the way.
    pub fn until_close(&mut self) -> (Vec<String>, Option<CloseFrame>) {
        let mut texts = Vec::new();
        let mut close = None;
        loop {
            match self.read() {
                Ok(Message::Text(text)) => texts.push(text.as_str().to_owned()),
                Ok(Message::Close(frame)) => close = frame,
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return (texts, close),
                Err(error) => panic!("expected a close, got {error}; so far {texts:?}"),
            }
        }
    }

    /// The code with which the daemon closes.
    pub fn close_code(&mut self) -> u16 {
        self.until_close().1.expect("a close frame with a code").code.into()
    }
}

/// A plain connection.
pub struct Raw {
    pub stream: TcpStream,
    /// Bytes read and not yet used.
    pub buffer: Vec<u8>,
}

/// A frame as the daemon sent it.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// With 0x40 if it is compressed.
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the daemon listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection takes bytes");
    }

    /// A correct request to upgrade, including the blank line.
    pub fn upgrade_request(path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    }

    /// Upgrades; from then on frames go both ways.
    pub fn upgrade(&mut self, path: &str) {
        self.send(Self::upgrade_request(path).as_bytes());
        let head = self.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// An HTTP head, with its blank line.
    pub fn read_head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head is ASCII");
            }
            assert!(self.fill() > 0, "closed in the head: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// A whole HTTP answer, the last on this connection: nothing more is asked.
    pub fn read_answer(&mut self) -> Refused {
        let mut answer = Refused::of_head(&self.read_head());
        self.read_to_end();
        answer.body = String::from_utf8(std::mem::take(&mut self.buffer)).expect("a body of text");
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
        assert!(answer.is_last() || answer.status < 400, "a refusal ends its connection: {answer:?}");
        answer
    }

    /// The next HTTP answer, behind which others may come; to a HEAD it has no body.
    pub fn read_next(&mut self, is_of_head: bool) -> Refused {
        let mut answer = Refused::of_head(&self.read_head());
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        let length = if is_of_head { 0 } else { length };
        while self.buffer.len() < length {
            assert!(self.fill() > 0, "closed in the body of {answer:?}");
        }
        answer.body = String::from_utf8(self.buffer.drain(..length).collect()).expect("a body of text");
        answer
    }

    /// Says that nothing more comes, and reads all that does.
    pub fn read_to_end(&mut self) {
        // The daemon may have reset the connection.
        let _ = self.stream.shutdown(Shutdown::Write);
        while self.fill() > 0 {}
    }

    /// Sends a request and reads the answer.
    pub fn request(&mut self, request: &str) -> Refused {
        self.send(request.as_bytes());
        self.read_answer()
    }

    /// Reads once; 0 is the end, clean or by a reset.
    pub fn fill(&mut self) -> usize {
        let mut chunk = [0; 16 << 10];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return 0,
                Err(error) => panic!("reading: {error}, behind {}", self.buffer.escape_ascii()),
            }
        }
    }

    /// The next frame; none at the end of the connection.
    pub fn read_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = parse_frame(&self.buffer) {
                self.buffer.drain(..length);
                return Some(frame);
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// The next frame with this opcode.
    pub fn read_frame_of(&mut self, opcode: u8) -> Frame {
        loop {
            match self.read_frame() {
                Some(frame) if frame.opcode == opcode => return frame,
                Some(_) => {}
                None => panic!("the connection ended before a frame with opcode {opcode}"),
            }
        }
    }

    /// Expects a close frame and then the end of the connection; returns the frame's code, none for an empty one.
    pub fn read_close(&mut self) -> Option<u16> {
        let frame = self.read_frame_of(0x8);
        let code = frame.payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
        // The daemon waits for our close for a while, then ends the connection.
        self.stream.shutdown(Shutdown::Write).ok();
        let until = Instant::now() + PATIENCE;
        while self.fill() > 0 {
            assert!(Instant::now() < until, "data without end after a close frame");
        }
        code
    }
}

/// A frame as a client must send it, masked.
pub fn masked_frame(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![u8::from(is_final) << 7 | opcode];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The frame at the start of `bytes` and its length, once it is whole. Frames from a server are not masked.
fn parse_frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(
        first & 0xb0,
        0x80,
        "the daemon sends whole messages, with no reserved bit but that of compression"
    );
    assert_eq!(second & 0x80, 0, "a server's frame is not masked");
    let (length, start) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        length => (usize::from(length), 2),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    Some((Frame { opcode: first & 0x4f, payload }, start + length))
}
