//! The watcher of `/events` that reads first and always, one for each daemon: what it receives is what happened.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::stream::{Stream, seq_of};
use crate::watcher::handshake;
use crate::{Outcome, PATIENCE, frame};

pub struct Reference {
    pub socket: TcpStream,
    /// The newest number that it has received.
    pub position: u64,
    /// The position in the daemon's goodbye.
    pub goodbye: Option<u64>,
    pub has_ended: bool,
    inbound: Vec<u8>,
}

impl Reference {
    /// Begins now, or behind a number that another daemon gave.
    pub fn open(address: SocketAddr, since: Option<u64>) -> Outcome<Self> {
        let mut socket = std::net::TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let query = since.map_or(String::new(), |since| format!("?since={since}"));
        socket.write_all(handshake(&format!("/api/ws/events{query}")).as_bytes())?;
        let mut inbound = Vec::new();
        let mut block = [0; 4096];
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
        if since.is_some_and(|since| since > greeting) {
            return Err(format!("greeted at {greeting}, behind {since:?}").into());
        }
        let (socket, position) = (TcpStream::from_std(socket), since.unwrap_or(greeting));
        Ok(Self { socket, position, goodbye: None, has_ended: false, inbound })
    }

    /// Reads all that is there.
    pub fn read(&mut self, block: &mut [u8], stream: &mut Stream) -> Outcome<()> {
        while !self.has_ended {
            match self.socket.read(block) {
                Ok(0) => self.has_ended = true,
                Ok(count) => {
                    self.inbound.extend_from_slice(&block[..count]);
                    self.hear(stream)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the reference: {error}").into()),
            }
        }
        Ok(())
    }

    fn hear(&mut self, stream: &mut Stream) -> Outcome<()> {
        let mut start = 0;
        while let Some((opcode, payload, end)) = frame::next(&self.inbound, start)? {
            match opcode {
                frame::TEXT if seq_of(payload).is_some() => {
                    stream.follow(self.position, payload)?;
                    self.position = seq_of(payload).unwrap_or(self.position);
                }
                frame::TEXT => {
                    let message: serde_json::Value = serde_json::from_slice(payload)?;
                    let position = message["stream_seq"].as_u64();
                    match message["type"].as_str() {
                        // It is read at once, so no other gap can come than that of a hole.
                        Some("stream:gap")
                            if message["reason"] == "expired" && message["missed"].is_null() =>
                        {
                            let [from, to] = ["from", "to"].map(|name| message[name].as_u64().unwrap_or(0));
                            stream.follow_hole(self.position, from, to)?;
                            self.position = to;
                            start = end;
                            continue;
                        }
                        Some("ping") => {}
                        Some("connection:status") if message["status"] == "disconnected" => {
                            self.goodbye = position
                        }
                        Some("connection:status") => {}
                        _ => return Err(format!("the reference received {message}").into()),
                    }
                    if position.is_none_or(|position| position < self.position) {
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
