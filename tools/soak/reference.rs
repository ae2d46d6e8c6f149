//! The watcher of `/events` that reads first and always: what it receives is what happened.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::stream::{Stream, seq_of};
use crate::watcher::handshake;
use crate::{Outcome, PATIENCE, frame};

pub struct Reference {
    pub socket: TcpStream,
    pub stream: Stream,
    /// The position in the daemon's goodbye.
    pub goodbye: Option<u64>,
    pub has_ended: bool,
    inbound: Vec<u8>,
}

impl Reference {
    pub fn open(address: SocketAddr) -> Outcome<Self> {
        let mut socket = std::net::TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(handshake("/api/ws/events").as_bytes())?;
        let mut inbound = Vec::new();
        let mut block = [0; 4096];
        // Nothing is published yet: only the greeting comes.
        let greeting = loop {
            let count = socket.read(&mut block)?;
            inbound.extend_from_slice(&block[..count]);
            let Some(end) = memchr::memmem::find(&inbound, b"\r\n\r\n") else { continue };
            if let Some((_, payload, used)) = frame::next(&inbound, end + 4)? {
                let greeting: serde_json::Value = serde_json::from_slice(payload)?;
                inbound.drain(..used);
                break greeting["stream_seq"].as_u64().ok_or("a greeting without a number")?;
            }
        };
        socket.set_nonblocking(true)?;
        let (socket, stream) = (TcpStream::from_std(socket), Stream::new(greeting));
        Ok(Self { socket, stream, goodbye: None, has_ended: false, inbound })
    }

    /// Reads all that is there.
    pub fn read(&mut self, block: &mut [u8]) -> Outcome<()> {
        while !self.has_ended {
            match self.socket.read(block) {
                Ok(0) => self.has_ended = true,
                Ok(count) => {
                    self.inbound.extend_from_slice(&block[..count]);
                    self.hear()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the reference: {error}").into()),
            }
        }
        Ok(())
    }

    fn hear(&mut self) -> Outcome<()> {
        let mut start = 0;
        while let Some((opcode, payload, end)) = frame::next(&self.inbound, start)? {
            match opcode {
                frame::TEXT if seq_of(payload).is_some() => self.stream.take(payload)?,
                frame::TEXT => {
                    let message: serde_json::Value = serde_json::from_slice(payload)?;
                    let position = message["stream_seq"].as_u64();
                    match message["type"].as_str() {
                        // It is read at once, so no other gap can come than that of a hole.
                        Some("stream:gap")
                            if message["reason"] == "expired" && message["missed"].is_null() =>
                        {
                            let [from, to] = ["from", "to"].map(|name| message[name].as_u64().unwrap_or(0));
                            self.stream.lose(from, to)?;
                            start = end;
                            continue;
                        }
                        Some("ping") => {}
                        Some("connection:status") => self.goodbye = position,
                        _ => return Err(format!("the reference received {message}").into()),
                    }
                    if position.is_none_or(|position| position < self.stream.newest()) {
                        return Err(format!("the reference has more than {message}").into());
                    }
                }
                frame::PING => {
                    let mut pong = Vec::new();
                    frame::write_masked(&mut pong, frame::PONG, payload);
                    self.socket.write_all(&pong)?;
                }
                _ => {}
            }
            start = end;
        }
        self.inbound.drain(..start);
        Ok(())
    }
}
