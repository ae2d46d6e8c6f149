//! Clients that break the rules: each must be answered as it deserves, without effect on others.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;

use crate::watcher::handshake;
use crate::{Outcome, PATIENCE, frame};

/// The answer that the daemon must give.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Status(u16),
    Code(u16),
}

struct Row {
    name: &'static str,
    /// It gets a stream before it errs.
    is_upgraded: bool,
    bytes: fn() -> Vec<u8>,
    answer: Answer,
}

const ROWS: [Row; 12] = [
    Row {
        name: "garbage",
        is_upgraded: false,
        bytes: || b"\0\x01\x02 what?\r\n\r\n".to_vec(),
        answer: Answer::Status(400),
    },
    Row {
        name: "a TLS hello",
        is_upgraded: false,
        bytes: || b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        answer: Answer::Status(400),
    },
    Row {
        name: "a path",
        is_upgraded: false,
        bytes: || handshake("/none").into(),
        answer: Answer::Status(404),
    },
    Row {
        name: "an id",
        is_upgraded: false,
        bytes: || handshake("/api/ws/jobs/a%20b/debug").into(),
        answer: Answer::Status(400),
    },
    Row {
        name: "a method",
        is_upgraded: false,
        bytes: || b"POST /api/ws/events HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        answer: Answer::Status(405),
    },
    Row {
        name: "half a head",
        is_upgraded: false,
        bytes: || b"GET /api/ws/events HT".to_vec(),
        answer: Answer::Status(408),
    },
    Row {
        name: "a long head",
        is_upgraded: false,
        bytes: || [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 20_000]].concat(),
        answer: Answer::Status(431),
    },
    Row {
        name: "an unmasked frame",
        is_upgraded: true,
        bytes: || b"\x81\x02hi".to_vec(),
        answer: Answer::Code(1002),
    },
    Row {
        name: "bad UTF-8",
        is_upgraded: true,
        bytes: || b"\x81\x82\0\0\0\0\xc3\x28".to_vec(),
        answer: Answer::Code(1007),
    },
    Row {
        name: "a frame too big",
        is_upgraded: true,
        bytes: || b"\x81\xff\0\0\0\0\x10\0\0\0\0\0\0\0".to_vec(),
        answer: Answer::Code(1009),
    },
    Row {
        name: "messages that nobody understands",
        is_upgraded: true,
        bytes: || {
            let mut bytes = Vec::new();
            (0..40).for_each(|_| frame::write_masked(&mut bytes, frame::TEXT, b"what?"));
            bytes
        },
        answer: Answer::Code(1008),
    },
    Row {
        name: "a flood",
        is_upgraded: true,
        bytes: || {
            let mut bytes = Vec::new();
            (0..400).for_each(|_| frame::write_masked(&mut bytes, frame::TEXT, br#"{"type":"pong"}"#));
            bytes
        },
        answer: Answer::Code(1008),
    },
];

pub const KINDS: usize = ROWS.len();

pub struct Vandal {
    pub socket: TcpStream,
    /// The place of its daemon.
    pub place: usize,
    row: &'static Row,
    inbound: Vec<u8>,
    born: Instant,
}

impl Vandal {
    pub fn open(address: SocketAddr, place: usize, kind: usize) -> Outcome<Self> {
        let row = &ROWS[kind];
        let mut socket = std::net::TcpStream::connect(address)?;
        let mut bytes = Vec::new();
        if row.is_upgraded {
            // Nothing ever happens there.
            bytes.extend_from_slice(handshake("/api/ws/jobs/nobody/monitor").as_bytes());
        }
        bytes.extend((row.bytes)());
        match socket.write_all(&bytes) {
            // The daemon may already have answered and closed.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            written => written?,
        }
        socket.set_nonblocking(true)?;
        let socket = TcpStream::from_std(socket);
        Ok(Self { socket, place, row, inbound: Vec::new(), born: Instant::now() })
    }

    /// Reads what is there. True: the connection is over, and the answer was right, or there was no room for it: the
    /// daemon was full until `full_until`.
    pub fn read(&mut self, block: &mut [u8], full_until: Instant) -> Result<bool, String> {
        loop {
            match self.socket.read(block) {
                Ok(0) => return self.judge().map(|()| true),
                Ok(count) => self.inbound.extend_from_slice(&block[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let is_late = self.born.elapsed() > PATIENCE;
                    return if is_late { Err(format!("{}: no end", self.row.name)) } else { Ok(false) };
                }
                // A full daemon has a few places to say so from; beyond these it resets those who have no answer yet.
                Err(error)
                    if error.kind() == ErrorKind::ConnectionReset
                        && self.inbound.is_empty()
                        && self.born < full_until =>
                {
                    return Ok(true);
                }
                Err(error) => return Err(format!("{}: {error} after {}", self.row.name, self.shown())),
            }
        }
    }

    fn judge(&self) -> Result<(), String> {
        let status =
            self.inbound.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let is_right = match (self.row.answer, status) {
            (_, Some(503)) => true,
            (Answer::Status(expected), status) => status == Some(expected),
            (Answer::Code(expected), Some(101)) => self.last_code() == Some(expected),
            (Answer::Code(_), _) => false,
        };
        let Row { name, answer, .. } = self.row;
        if is_right { Ok(()) } else { Err(format!("{name}: expected {answer:?}, got {}", self.shown())) }
    }

    fn last_code(&self) -> Option<u16> {
        let mut start = memchr::memmem::find(&self.inbound, b"\r\n\r\n")? + 4;
        while let Ok(Some((opcode, payload, end))) = frame::next(&self.inbound, start) {
            if opcode == frame::CLOSE {
                return payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
            }
            start = end;
        }
        None
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.inbound[..self.inbound.len().min(400)]).into_owned()
    }
}
