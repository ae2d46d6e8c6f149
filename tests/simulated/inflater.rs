//! What a client inflates with (RFC 7692, 7.2.2): a window of its own, of all that it was sent compressed and nothing else.

use luxcast::wire::deflater::{WINDOW_BITS, WINDOW_BITS_ALONE};
use luxcast::wire::framing::Framing;
use zlib_rs::{Inflate, InflateFlush, Status};

use super::decoder::LENGTH_MAX;

/// What the daemon leaves out at the end of each message.
const END: [u8; 4] = [0, 0, 0xff, 0xff];

pub struct Inflater {
    zlib: Box<Inflate>,
    /// Each message begins with an empty window.
    forgets: bool,
    payload: Vec<u8>,
    text: Vec<u8>,
}

impl Inflater {
    /// None: nothing is compressed on such a connection.
    pub fn of(framing: Framing) -> Option<Self> {
        let (bits, forgets) = match framing {
            Framing::Deflate => (WINDOW_BITS, false),
            Framing::DeflateAlone => (WINDOW_BITS_ALONE, true),
            _ => return None,
        };
        let zlib = Box::new(Inflate::new(false, bits));
        Some(Self { zlib, forgets, payload: Vec::new(), text: Vec::new() })
    }

    /// The text of the next message. Only events are compressed.
    pub fn inflate(&mut self, payload: &[u8]) -> &str {
        self.payload.clear();
        self.payload.extend_from_slice(payload);
        self.payload.extend_from_slice(&END);
        self.text.resize(LENGTH_MAX, 0);
        if self.forgets {
            self.zlib.reset(false);
        }
        let (read, written) = (self.zlib.total_in(), self.zlib.total_out());
        let status = self.zlib.decompress(&self.payload, &mut self.text, InflateFlush::SyncFlush);
        assert_eq!(status, Ok(Status::Ok), "it inflates, with what was sent before it");
        assert_eq!(self.zlib.total_in() - read, self.payload.len() as u64, "all of it is the message");
        let length = (self.zlib.total_out() - written) as usize;
        let text = std::str::from_utf8(&self.text[..length]).expect("it is text");
        assert!(text.starts_with("{\"stream_seq\":"), "the daemon's own messages are not compressed: {text}");
        text
    }
}
