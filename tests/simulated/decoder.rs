//! What a client's socket took, cut into messages by the framing of its stream: bytes go in, JSON texts come out. It
//! checks all that a client can tell of the form alone.

use luxcast::wire::client_action::Since;
use luxcast::wire::framing::Framing;

use super::inflater::Inflater;
use super::{chunks, frames};

/// No message of a simulation is so long: what says that it is has lost its border.
pub const LENGTH_MAX: usize = 1 << 16;

/// What comes next among the bytes.
pub enum Piece<'a> {
    Message(&'a str),
    /// What a message was compressed to.
    Compressed(&'a [u8]),
    /// A ping or a pong.
    Beat,
    /// Nothing may come behind it.
    End,
}

pub struct Decoder {
    framing: Framing,
    /// The number of its greeting is not its position.
    asks_for_past: bool,
    bytes: Vec<u8>,
    /// Before this place, everything was taken out.
    start: usize,
    is_closed: bool,
    /// Where compression was agreed on.
    inflater: Option<Inflater>,
}

impl Decoder {
    pub fn new(framing: Framing, since: Since) -> Self {
        let asks_for_past = since != Since::Now;
        let inflater = Inflater::of(framing);
        Self { framing, asks_for_past, bytes: Vec::new(), start: 0, is_closed: false, inflater }
    }

    pub fn is_http(&self) -> bool {
        self.framing.is_http()
    }

    /// The end has come.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Nothing is left that waits for more bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The socket took these bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message. None: it is not whole.
    pub fn next(&mut self) -> Option<&str> {
        loop {
            let bytes = &self.bytes[self.start..];
            let (piece, length) = match self.framing {
                Framing::Sse => chunks::first(bytes, |event| chunks::data(event, self.asks_for_past))?,
                Framing::Ndjson => chunks::first(bytes, chunks::line)?,
                _ => frames::first(bytes)?,
            };
            assert!(!self.is_closed, "something comes behind the end");
            self.start += length;
            match piece {
                Piece::Message(text) => return Some(text),
                Piece::Compressed(payload) => {
                    return Some(self.inflater.as_mut().expect("compression was agreed on").inflate(payload));
                }
                Piece::Beat => {}
                Piece::End => self.is_closed = true,
            }
        }
    }
}
