//! How the bytes of a connection go over its socket: as they are, or as TLS records.
//!
//! An idle TLS connection holds its keys and nothing else. Incoming bytes are decrypted in the shard's buffer. Outgoing
//! bytes are encrypted a portion at a time, each once the socket has taken the one before. So there is no queue here
//! either: a full socket leaves at most the rest of one portion behind.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};

/// Encrypted at once: two records. More would leave longer rests at full sockets, less would need more system calls.
const PORTION_BYTES: usize = 32 << 10;
/// What encryption adds to a portion at most (RFC 8446, 5.2; RFC 5246, 6.2.3), with room for a change of keys.
const OVERHEAD_BYTES_MAX: usize = 1 << 10;
/// Kept of an incomplete record: the greatest length of one (RFC 5246, 6.2.3), far more than a client's first message.
const HELD_BYTES_MAX: usize = 5 + (16 << 10) + (2 << 10);
/// The content type of a handshake record (RFC 8446, 5.1), with which every client begins.
const HANDSHAKE_RECORD: u8 = 22;

pub enum Transport {
    Plain,
    Tls(Box<Tls>),
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Decrypted bytes at the front of the buffer. The socket may have more if it `is_full`.
    Bytes { count: usize, is_full: bool },
    /// The peer has ended its side.
    End,
    /// A request in plain HTTP, where TLS is spoken.
    PlainRequest,
    /// Not TLS, or a version or cipher that we do not speak. The peer is sent an alert where TLS has one for it.
    Fault(String),
}

/// A shard's scratch buffers; nothing in them outlives a call.
#[derive(Default)]
pub struct TlsScratch {
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

/// TLS on one connection.
pub struct Tls {
    session: UnbufferedServerConnection,
    /// The beginning of an incomplete record or message; `len <= HELD_BYTES_MAX`.
    held: Vec<u8>,
    /// Records that the socket has not taken yet.
    unsent: Vec<u8>,
    /// Bytes of records that the socket has taken.
    sent: u64,
    stage: PeerState,
    has_said_goodbye: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerState {
    /// Nothing has come.
    Silent,
    Alive,
    /// The peer has sent its closing alert.
    Ended,
    /// A rule was broken: input is ignored, and nothing is sent any more.
    Broken,
}

impl Tls {
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            session: UnbufferedServerConnection::new(config)?,
            held: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            stage: PeerState::Silent,
            has_said_goodbye: false,
        })
    }

    pub fn is_shaking_hands(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Records wait for the socket to have room.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Bytes of records that the socket has taken so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Reads once. Decrypted bytes are put at the front of `buffer`; answers of TLS itself are sent, or wait.
    pub fn read(
        &mut self,
        socket: &mut TcpStream,
        buffer: &mut [u8],
        desk: &mut TlsScratch,
    ) -> io::Result<Incoming> {
        if self.stage == PeerState::Ended {
            return Ok(Incoming::End);
        }
        let held = self.held.len();
        buffer[..held].copy_from_slice(&self.held);
        let count = socket.read(&mut buffer[held..])?;
        if count == 0 {
            return Ok(Incoming::End);
        }
        let filled = held + count;
        let is_full = filled == buffer.len();
        match self.stage {
            PeerState::Broken => return Ok(Incoming::Bytes { count: 0, is_full }),
            PeerState::Silent if buffer[0] != HANDSHAKE_RECORD => {
                self.stage = PeerState::Broken;
                // A method's name comes first (RFC 9112, 3).
                return Ok(match buffer[0].is_ascii_uppercase() {
                    true => Incoming::PlainRequest,
                    false => Incoming::Fault("it does not speak TLS".to_owned()),
                });
            }
            _ => self.stage = PeerState::Alive,
        }
        desk.plain.clear();
        let opened = self.open(&mut buffer[..filled], &mut desk.plain);
        // The next read reports a socket that failed.
        let _ = self.push(socket);
        match opened {
            Err(fault) => Ok(Incoming::Fault(fault)),
            Ok(()) => {
                let count = desk.plain.len();
                // The next read reports the closing alert.
                let is_full = is_full || self.stage == PeerState::Ended;
                buffer[..count].copy_from_slice(&desk.plain);
                Ok(Incoming::Bytes { count, is_full })
            }
        }
    }

    /// Decrypts records: content to `plain`, answers to `unsent`, an incomplete record to `held`.
    fn open(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<(), String> {
        let mut start = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.session.process_tls_records(&mut bytes[start..]);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record.map_err(|error| error.to_string())?.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    append(&mut self.unsent, |room| message.encode(room))
                }
                // It waits in `unsent`, before all that follows.
                Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.stage = PeerState::Ended;
                    is_done = true;
                }
                // It waits for more bytes, or for something to send.
                Ok(_) => is_done = true,
                Err(error) => {
                    self.tell_fault();
                    self.break_off();
                    return Err(error.to_string());
                }
            }
            start += discard;
            if is_done {
                break;
            }
        }
        let rest = &bytes[start..];
        if rest.len() > HELD_BYTES_MAX {
            self.break_off();
            return Err("a message of the handshake is too long".to_owned());
        }
        self.held = rest.to_vec();
        Ok(())
    }

    /// The alert that names the fault.
    fn tell_fault(&mut self) {
        while self.session.wants_write() {
            let UnbufferedStatus { state, .. } = self.session.process_tls_records(&mut []);
            match state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    append(&mut self.unsent, |room| message.encode(room))
                }
                _ => return,
            }
        }
    }

    /// Sends what waits. False: the socket is full before that is done.
    pub fn push(&mut self, socket: &mut TcpStream) -> io::Result<bool> {
        if self.unsent.is_empty() {
            return Ok(true);
        }
        let taken = send(socket, &self.unsent)?;
        self.sent += taken as u64;
        if taken == self.unsent.len() {
            self.unsent = Vec::new();
            return Ok(true);
        }
        self.unsent.drain(..taken);
        Ok(false)
    }

    /// Encrypts and sends. The bytes that it reports as taken will be sent, though some may still wait here.
    pub fn write(
        &mut self,
        socket: &mut TcpStream,
        slices: &[IoSlice<'_>],
        desk: &mut TlsScratch,
    ) -> io::Result<usize> {
        if self.stage == PeerState::Broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if !self.push(socket)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        let mut left = Portions { slices, offset: 0 };
        desk.sealed.resize(PORTION_BYTES + OVERHEAD_BYTES_MAX, 0);
        loop {
            let portion = left.next(&mut desk.plain);
            if portion.is_empty() {
                return Ok(taken);
            }
            let sealed = seal(&mut self.session, &mut self.held, portion, &mut desk.sealed)?;
            taken += portion.len();
            let sent = send(socket, &desk.sealed[..sealed])?;
            self.sent += sent as u64;
            if sent < sealed {
                self.unsent = desk.sealed[sent..sealed].to_vec();
                return Ok(taken);
            }
        }
    }

    /// From now on input is ignored, and only what waits is still sent.
    pub fn break_off(&mut self) {
        self.stage = PeerState::Broken;
        self.held = Vec::new();
    }

    /// Adds the closing alert (RFC 8446, 6.1) to what waits.
    pub fn say_goodbye(&mut self) {
        let can_say = self.stage != PeerState::Broken && !self.session.is_handshaking();
        if std::mem::replace(&mut self.has_said_goodbye, true) || !can_say {
            return;
        }
        let UnbufferedStatus { state, .. } = self.session.process_tls_records(&mut self.held);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let mut room = [0; OVERHEAD_BYTES_MAX];
            if let Ok(length) = traffic.queue_close_notify(&mut room) {
                self.unsent.extend_from_slice(&room[..length]);
            }
        }
    }
}

/// Cuts slices into portions.
struct Portions<'a> {
    slices: &'a [IoSlice<'a>],
    /// Of the first slice.
    offset: usize,
}

impl<'a> Portions<'a> {
    /// The next portion, in place or gathered in `copy`; empty at the end.
    fn next<'b>(&mut self, copy: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        copy.clear();
        while let Some((first, others)) = self.slices.split_first() {
            let rest = &first[self.offset..];
            let length = rest.len().min(PORTION_BYTES - copy.len());
            let is_alone = copy.is_empty() && (length == PORTION_BYTES || others.is_empty());
            if length == rest.len() {
                (self.slices, self.offset) = (others, 0);
            } else {
                self.offset += length;
            }
            if is_alone {
                return &rest[..length];
            }
            copy.extend_from_slice(&rest[..length]);
            if copy.len() == PORTION_BYTES {
                break;
            }
        }
        copy
    }
}

/// Encrypts a portion. Returns the length of its records.
fn seal(
    session: &mut UnbufferedServerConnection,
    held: &mut [u8],
    portion: &[u8],
    room: &mut [u8],
) -> io::Result<usize> {
    let UnbufferedStatus { state, .. } = session.process_tls_records(held);
    match state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            traffic.encrypt(portion, room).map_err(io::Error::other)
        }
        // Nothing is sent before the handshake is done or after the end.
        _ => Err(ErrorKind::BrokenPipe.into()),
    }
}

/// Makes room until `encode` finds enough.
fn append(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let before = out.len();
    match encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => {
            out.resize(before + size.required_size, 0);
            let length = encode(&mut out[before..]).expect("there is as much room as it asked for");
            out.truncate(before + length);
        }
        Ok(_) | Err(EncodeError::AlreadyEncoded) => {}
    }
}

/// Sends as much as the socket takes now.
fn send(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::{PORTION_BYTES, Portions};

    /// The lengths of the portions made from slices of these lengths. Checks that the bytes are the same.
    fn portions(lengths: &[usize]) -> Vec<usize> {
        let bytes: Vec<u8> = (0..lengths.iter().sum()).map(|place: usize| (place % 251) as u8).collect();
        let mut rest = &bytes[..];
        let slices: Vec<IoSlice<'_>> = lengths
            .iter()
            .map(|&length| IoSlice::new(rest.split_off(..length).expect("the sum is their length")))
            .collect();
        let mut portions = Portions { slices: &slices, offset: 0 };
        let (mut copy, mut joined, mut found) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let portion = portions.next(&mut copy);
            if portion.is_empty() {
                assert_eq!(joined, bytes);
                return found;
            }
            joined.extend_from_slice(portion);
            found.push(portion.len());
        }
    }

    #[test]
    fn slices_are_cut_and_joined_into_portions() {
        const WHOLE: usize = PORTION_BYTES;
        assert_eq!(portions(&[]), [0; 0]);
        assert_eq!(portions(&[1]), [1]);
        assert_eq!(portions(&[WHOLE]), [WHOLE]);
        assert_eq!(portions(&[2 * WHOLE + 5]), [WHOLE, WHOLE, 5]);
        assert_eq!(portions(&[10, 20, 30]), [60]);
        assert_eq!(portions(&[10, WHOLE, 7]), [WHOLE, 17]);
        assert_eq!(portions(&[WHOLE, WHOLE - 1, 2]), [WHOLE, WHOLE, 1]);
        assert_eq!(portions(&[WHOLE + 1, 1, 1]), [WHOLE, 3]);
    }
}
