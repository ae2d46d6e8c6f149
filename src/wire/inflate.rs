//! A client's compressed message (RFC 7692, 7.2.2): inflated as it comes, within bounds of bytes and of work.
//!
//! Each message stands alone, since the answer to an offer always has `client_no_context_takeover`. So the text of the
//! message is all of the window, and between two messages a connection has nothing of this.

use std::fmt;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::close::CloseReason;

/// The first room for a text, in bytes; it doubles.
const FIRST_BYTES: usize = 1 << 10;
/// A text's room that is kept for the next message.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// A block of two bytes costs a microsecond, for its tables. So there may be so many blocks, and one more for each
/// [`BYTES_PER_BLOCK`] of text: compressors make one for some hundred bytes at the least.
const FREE_BLOCKS: usize = 128;
const BYTES_PER_BLOCK: usize = 32;
/// What the client left out at the end (RFC 7692, 7.2.1), and a last block without text: only behind a whole block are
/// these nine bytes the end.
const END: &[u8; 9] = b"\x00\x00\xff\xff\x01\x00\x00\xff\xff";

const FLAGS: u32 =
    TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;

/// Most bytes that a message may have while it is compressed: what cannot be compressed grows by an eighth at most, in the
/// codes that deflate has fixed.
pub fn deflated_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(message_bytes_max / 8 + 64)
}

/// What inflates for all connections of a thread. A message that comes in one piece is inflated in the same memory as the
/// one before it.
#[derive(Default)]
pub struct Inflater {
    spare: Option<Box<Inflating>>,
}

impl Inflater {
    pub(super) fn begin(&mut self) -> Box<Inflating> {
        let mut inflating = self.spare.take().unwrap_or_default();
        inflating.begin();
        inflating
    }

    /// Keeps what a message does not need any more.
    pub(super) fn take_back(&mut self, inflating: Box<Inflating>) {
        if inflating.text.len() <= KEPT_BYTES_MAX {
            self.spare = Some(inflating);
        }
    }
}

/// One message that is being inflated.
#[derive(Default)]
pub(super) struct Inflating {
    decoder: DecompressorOxide,
    /// The text in its first `length` bytes; behind it is room.
    text: Vec<u8>,
    length: usize,
    /// Compressed bytes so far.
    taken: usize,
    /// Blocks that have ended.
    blocks: usize,
    /// The bytes so far end with a block that says it is the last.
    has_last_block: bool,
}

impl fmt::Debug for Inflating {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inflating { length, taken, blocks, .. } = self;
        formatter
            .debug_struct("Inflating")
            .field("length", length)
            .field("taken", taken)
            .field("blocks", blocks)
            .finish_non_exhaustive()
    }
}

impl Inflating {
    fn begin(&mut self) {
        self.decoder.init();
        (self.length, self.taken, self.blocks, self.has_last_block) = (0, 0, 0, false);
    }

    /// The text so far.
    pub fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// Compressed bytes so far.
    pub fn taken(&self) -> usize {
        self.taken
    }

    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.text.capacity()
    }

    /// Inflates the next bytes. [`Inflating::text`] has what came before an error, too.
    ///
    /// # Errors
    /// The bytes do not inflate, the text is too long, or it is in too many blocks.
    pub fn push(&mut self, bytes: &[u8], bytes_max: usize) -> Result<(), CloseReason> {
        self.taken += bytes.len();
        self.inflate(bytes, bytes_max)
    }

    /// The message ends here. After a last block that is so without what the client left out.
    ///
    /// # Errors
    /// As [`Inflating::push`], also if the message ends within a block.
    pub fn end(&mut self, bytes_max: usize) -> Result<(), CloseReason> {
        // Compressors without state send nothing at all for an empty message.
        if self.has_last_block || self.taken == 0 {
            return Ok(());
        }
        // Its blocks do not count.
        self.blocks = 0;
        self.inflate(END, bytes_max)?;
        if self.has_last_block { Ok(()) } else { Err(CloseReason::BadDeflate) }
    }

    fn inflate(&mut self, mut bytes: &[u8], bytes_max: usize) -> Result<(), CloseReason> {
        if bytes.is_empty() {
            return Ok(());
        }
        loop {
            if self.has_last_block {
                // More blocks may follow the one that says it is the last (RFC 7692, 7.2.3.4).
                self.has_last_block = false;
                self.decoder.init();
            }
            let (status, read, written) =
                decompress(&mut self.decoder, bytes, &mut self.text, self.length, FLAGS);
            bytes = &bytes[read..];
            self.length += written;
            if self.length > bytes_max {
                self.length = bytes_max;
                return Err(CloseReason::TooBig);
            }
            match status {
                TINFLStatus::NeedsMoreInput => return Ok(()),
                TINFLStatus::HasMoreOutput => self.grow(bytes_max),
                TINFLStatus::BlockBoundary | TINFLStatus::Done => {
                    self.blocks += 1;
                    if self.blocks > FREE_BLOCKS + self.length / BYTES_PER_BLOCK {
                        return Err(CloseReason::Fragments);
                    }
                    self.has_last_block = status == TINFLStatus::Done;
                    if self.has_last_block && bytes.is_empty() {
                        return Ok(());
                    }
                }
                _ => return Err(CloseReason::BadDeflate),
            }
        }
    }

    /// Doubles the room, up to one byte more than the text may have.
    fn grow(&mut self, bytes_max: usize) {
        debug_assert_eq!(self.length, self.text.len());
        let length = (2 * self.text.len()).clamp(FIRST_BYTES, bytes_max.saturating_add(1).max(FIRST_BYTES));
        self.text.reserve_exact(length - self.text.len());
        self.text.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Inflater, Inflating, deflated_bytes_max};
    use crate::close::CloseReason;
    use fastrand::Rng;
    use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

    const BYTES_MAX: usize = 1_000;

    /// The text of a message that comes in these pieces.
    fn inflate<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, CloseReason> {
        let mut inflating = Inflater::default().begin();
        for piece in pieces {
            inflating.push(piece, BYTES_MAX)?;
        }
        inflating.end(BYTES_MAX)?;
        Ok(inflating.text().to_vec())
    }

    /// The same however it is cut.
    fn inflated(message: &[u8]) -> Result<Vec<u8>, CloseReason> {
        let whole = inflate([message]);
        assert_eq!(inflate(message.chunks(1)), whole, "{message:02x?}");
        assert_eq!(inflate(message.chunks(7)), whole, "{message:02x?}");
        whole
    }

    /// Compressed at this level, and what the sender leaves out left out.
    fn deflated(level: i32, text: &[u8]) -> Vec<u8> {
        let mut deflate = Deflate::new(level, false, 15);
        let mut out = vec![0; text.len() + text.len() / 4 + 100];
        deflate.compress(text, &mut out, DeflateFlush::SyncFlush).unwrap();
        out.truncate(deflate.total_out() as usize);
        out.truncate(out.strip_suffix(b"\x00\x00\xff\xff").unwrap().len());
        out
    }

    #[test]
    fn the_rfc_examples_are_read() {
        // RFC 7692, 7.2.3.1 and 7.2.3.3 to 7.2.3.6.
        let hello: [&[u8]; 5] = [
            b"\xf2\x48\xcd\xc9\xc9\x07\x00",
            b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
            // The last block's end is the message's.
            b"\xf3\x48\xcd\xc9\xc9\x07\x00",
        ];
        for message in hello {
            assert_eq!(inflated(message).as_deref(), Ok(&b"Hello"[..]), "{message:02x?}");
        }
        for message in [&b"\x00"[..], b"", b"\x02\x00", b"\x03\x00"] {
            assert_eq!(inflated(message).as_deref(), Ok(&b""[..]), "{message:02x?}");
        }
        // 7.2.3.2 refers to the message before it.
        assert_eq!(inflated(b"\xf2\x00\x11\x00\x00"), Err(CloseReason::BadDeflate));
    }

    #[test]
    fn blocks_behind_a_last_one_belong_to_the_message() {
        let hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
        let twice = [&hello[..], hello].concat();
        assert_eq!(inflated(&twice).as_deref(), Ok(&b"HelloHello"[..]));
        let then_open = [&hello[..], &hello[..6]].concat();
        assert_eq!(inflated(&then_open), Err(CloseReason::BadDeflate));
        for garbage in [&b"garbage"[..], b"\xff", b"\x00\x00\xff\xff\x00", b"\x06"] {
            let message = [&hello[..], garbage].concat();
            assert_eq!(inflated(&message), Err(CloseReason::BadDeflate), "{garbage:02x?}");
        }
    }

    #[test]
    fn what_does_not_inflate_or_is_cut_off_is_refused() {
        let bad: [&[u8]; 7] = [
            b"\x06",
            b"\xff\xff",
            b"\x00\x05\x00\x05\x00Hello\x00",
            b"\x00\x05\x00\xfa\xffHel",
            // A distance of 1 at the beginning.
            b"\x02\x03\x00",
            b"\x00\x00\xff",
            // A code that has no meaning: length 286.
            b"\x1a\x03",
        ];
        for message in bad {
            assert_eq!(inflated(message), Err(CloseReason::BadDeflate), "{message:02x?}");
        }
        let good = deflated(6, br#"{"action":"subscribe","events":["job_started","job_completed"]}"#);
        for length in 1..good.len() - 1 {
            assert_eq!(inflated(&good[..length]), Err(CloseReason::BadDeflate), "{length} bytes");
        }
    }

    #[test]
    fn a_text_may_be_as_long_as_a_message_and_no_longer() {
        for level in 0..=9 {
            for text in
                [vec![b'x'; BYTES_MAX], (0..BYTES_MAX).map(|place| (place * place / 7) as u8).collect()]
            {
                let message = deflated(level, &text);
                assert!(message.len() <= deflated_bytes_max(BYTES_MAX), "{} bytes", message.len());
                assert_eq!(inflated(&message), Ok(text.clone()));
                let longer = deflated(level, &[&text[..], b"x"].concat());
                assert_eq!(inflated(&longer), Err(CloseReason::TooBig));
            }
        }
    }

    #[test]
    fn a_bomb_ends_as_soon_as_it_shows() {
        let bomb = deflated(9, &vec![0; 10 << 20]);
        assert!(bomb.len() < 12 << 10);
        let mut inflating = Inflater::default().begin();
        let place = bomb.iter().position(|byte| inflating.push(&[*byte], BYTES_MAX).is_err());
        assert!(place.unwrap() < 40, "{place:?}");
        assert!(inflating.text.capacity() <= 2 * BYTES_MAX);
    }

    #[test]
    fn blocks_are_bounded() {
        // Of two bytes and of five.
        for block in [&b"\x03\x00"[..], b"\x00\x00\x00\xff\xff"] {
            let message = |blocks: usize| [&block.repeat(blocks)[..], b"\x00"].concat();
            assert_eq!(inflated(&message(128)), Ok(Vec::new()));
            assert_eq!(inflated(&message(129)), Err(CloseReason::Fragments));
        }
        // What a compressor makes with the least memory is far from that.
        let config = DeflateConfig { level: 6, window_bits: -9, mem_level: 1, ..DeflateConfig::default() };
        let mut random = Rng::with_seed(1);
        let text: Vec<u8> = (0..1 << 20).map(|_| random.u8(..)).collect();
        let mut deflate = Deflate::new_with_config(config);
        let mut out = vec![0; 2 << 20];
        deflate.compress(&text, &mut out, DeflateFlush::SyncFlush).unwrap();
        let mut inflating = Inflater::default().begin();
        inflating.push(&out[..deflate.total_out() as usize - 4], 1 << 20).unwrap();
        inflating.end(1 << 20).unwrap();
        assert!(inflating.text() == text);
    }

    #[test]
    fn one_message_after_another_is_inflated_in_the_same_memory() {
        let mut inflater = Inflater::default();
        let message = deflated(6, &[b'x'; 700]);
        let mut place = None;
        for _ in 0..3 {
            let mut inflating = inflater.begin();
            inflating.push(&message, BYTES_MAX).unwrap();
            inflating.end(BYTES_MAX).unwrap();
            assert_eq!(inflating.text(), [b'x'; 700]);
            assert_eq!(*place.get_or_insert(inflating.text().as_ptr()), inflating.text().as_ptr());
            inflater.take_back(inflating);
        }
        // Of one that was given up nothing is left in the next.
        let mut inflating = inflater.begin();
        inflating.push(&message[..message.len() / 2], BYTES_MAX).unwrap();
        inflater.take_back(inflating);
        let mut inflating = inflater.begin();
        inflating.push(&message, BYTES_MAX).unwrap();
        assert_eq!(inflating.text().len(), 700);
        println!("{} bytes beside the text", size_of::<Inflating>());
        assert!(size_of::<Inflating>() <= 13_000);
    }
}
