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
