//! Compresses messages for `permessage-deflate` (RFC 7692, 7.2.1), each into a frame.
//!
//! The state between two messages is a dictionary that the caller sets: a window is never kept for anybody.

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

use crate::wire::frame::{COMPRESSED_TEXT, write_header};

/// The exponent of the window behind [`Framing::Deflate`](crate::wire::framing::Framing): nothing refers back further than
/// this many bytes.
pub const WINDOW_BITS: u8 = 12;
/// The same where each message stands alone: zlib's smallest, which reaches back 250 bytes. So it suits every client.
pub const WINDOW_BITS_ALONE: u8 = 9;
/// Longer messages are sent as they are. The rest of a compressed frame has to be kept for each slow watcher, and
/// compressing makes all others wait.
pub const COMPRESSED_BYTES_MAX: usize = 64 << 10;

/// What a compressed message has at most: at this level a byte costs nine bits at most, and a flush a few bytes.
const OUTPUT_BYTES_MAX: usize = COMPRESSED_BYTES_MAX / 8 * 9 + 64;
/// A block that is stored has its three bits in a byte, its length, and the length inverted (RFC 1951, 3.2.4).
const STORED_HEADER_BYTES: usize = 5;
/// What every flush ends with, and what is left out of a message (RFC 7692, 7.2.1).
const FLUSH_END: &[u8] = &[0, 0, 0xFF, 0xFF];

pub struct Deflater {
    zlib: Deflate,
    buffer: Box<[u8]>,
}

impl Deflater {
    /// `window_bits`: 9 to 15.
    pub fn new(window_bits: u8) -> Self {
        // The smallest window of zlib that is allowed is 9. Its tables are the same whatever the level of memory.
        let config = DeflateConfig {
            level: 1,
            window_bits: -i32::from(window_bits),
            mem_level: 1,
            ..DeflateConfig::default()
        };
        Self { zlib: Deflate::new_with_config(config), buffer: vec![0; OUTPUT_BYTES_MAX].into() }
    }

    /// Whether a message is compressed at all. Only the message decides, so all who are sent it agree.
    pub fn takes(message: &[u8]) -> bool {
        message.len() <= COMPRESSED_BYTES_MAX
    }

    /// Forgets everything. The next message may refer to `dictionary`, the end of what the readers were sent compressed.
    pub fn begin(&mut self, dictionary: &[u8]) {
        self.zlib.reset();
        if !dictionary.is_empty() {
            self.zlib.set_dictionary(dictionary).expect("a raw stream takes one before its first byte");
        }
    }

    /// Appends the frame of a message that it [`takes`](Self::takes). The message is part of the next one's dictionary.
    pub fn write_frame(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let before = self.zlib.total_out();
        self.zlib
            .compress(message, &mut self.buffer, DeflateFlush::SyncFlush)
            .expect("there is input or a block to end, and room for all of it");
        let length = (self.zlib.total_out() - before) as usize;
        let compressed = self.buffer[..length].strip_suffix(FLUSH_END).expect("the flush is whole");
        let stored = stored_bytes(message);
        write_header(out, COMPRESSED_TEXT, compressed.len().min(stored));
        if compressed.len() <= stored {
            out.extend_from_slice(compressed);
        } else {
            write_stored(message, out);
        }
    }
}

fn stored_bytes(message: &[u8]) -> usize {
    message.len() + message.len().div_ceil(u16::MAX.into()) * STORED_HEADER_BYTES + 1
}

/// Appends a message as it is, in blocks that are stored. It is in the window of whoever inflates it like any other, and a
/// flush has ended the block before.
#[cold]
fn write_stored(message: &[u8], out: &mut Vec<u8>) {
    for block in message.chunks(u16::MAX.into()) {
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    // The empty block of the flush, without its end.
    out.push(0);
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::DeflateDecoder;
    use zlib_rs::{Inflate, InflateFlush};

    use super::{
        COMPRESSED_BYTES_MAX, Deflater, FLUSH_END, STORED_HEADER_BYTES, WINDOW_BITS, WINDOW_BITS_ALONE,
    };

    /// The payload of the only frame, and that it says what it is.
    fn payload_of(frame: &[u8]) -> &[u8] {
        assert_eq!(frame[0], 0xC1);
        let header = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        &frame[header..]
    }

    fn frame_of(deflater: &mut Deflater, message: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        deflater.write_frame(message, &mut out);
        out.split_off(6)
    }

    /// Inflates with a window of so many bits, and what was sent before in it.
    fn inflate(bits: u8, before: &[u8], payload: &[u8], length: usize) -> Vec<u8> {
        let mut inflater = Inflate::new(false, bits);
        if !before.is_empty() {
            inflater.set_dictionary(&before[before.len().saturating_sub(1 << bits)..]).unwrap();
        }
        let mut out = vec![0; length + 1];
        inflater.decompress(&[payload, FLUSH_END].concat(), &mut out, InflateFlush::SyncFlush).unwrap();
        assert_eq!(inflater.total_out() as usize, length);
        out.truncate(length);
        out
    }

    fn messages() -> Vec<Vec<u8>> {
        let corpus = include_str!("../../tests/fixtures/events.ndjson");
        let mut messages: Vec<_> = corpus.lines().take(400).map(|line| line.as_bytes().to_vec()).collect();
        let noise: Vec<u8> = (0..COMPRESSED_BYTES_MAX).map(|_| fastrand::u8(..)).collect();
        messages.insert(7, vec![0xE9; COMPRESSED_BYTES_MAX]);
        messages.insert(50, noise);
        messages.insert(90, "ä€😀".repeat(300).into_bytes());
        messages.insert(91, b"{}".to_vec());
        // Nine bits for most bytes, with the codes of this level.
        let han = |_| char::from_u32(fastrand::u32(0x4E00..0x9FA5)).expect("a character");
        messages.insert(120, (0..300).map(han).collect::<String>().into_bytes());
        messages.insert(121, (0..COMPRESSED_BYTES_MAX / 3).map(han).collect::<String>().into_bytes());
        messages
    }

    /// At most the header of a frame, two blocks, and the byte of the flush.
    fn is_hardly_longer(frame: &[u8], message: &[u8]) -> bool {
        frame.len() <= message.len() + 10 + 2 * STORED_HEADER_BYTES + 1
    }

    #[test]
    fn each_message_is_inflated_by_the_window_of_those_before_it() {
        let mut deflater = Deflater::new(WINDOW_BITS);
        let mut sent = Vec::new();
        let (mut plain, mut compressed) = (0, 0);
        for (place, message) in messages().iter().enumerate() {
            if place % 40 == 0 {
                let dictionary = &sent[Vec::len(&sent).saturating_sub(1 + place * 5)..];
                deflater.begin(dictionary);
            }
            let frame = frame_of(&mut deflater, message);
            assert_eq!(inflate(WINDOW_BITS, &sent, payload_of(&frame), message.len()), *message, "{place}");
            assert!(is_hardly_longer(&frame, message), "{place}");
            sent.extend_from_slice(message);
            if message.len() < 2_000 {
                (plain, compressed) = (plain + message.len(), compressed + frame.len());
            }
        }
        assert!(compressed * 6 < plain, "{compressed} of {plain}");
    }

    #[test]
    fn a_message_alone_needs_no_window_and_suits_the_smallest_that_can_be_agreed() {
        let mut deflater = Deflater::new(WINDOW_BITS_ALONE);
        for message in messages() {
            deflater.begin(b"");
            let frame = frame_of(&mut deflater, &message);
            assert!(is_hardly_longer(&frame, &message));
            let mut inflated = Vec::new();
            let payload = [payload_of(&frame), FLUSH_END].concat();
            // Without a final block the stream ends too early, after all of the message.
            let _ = DeflateDecoder::new(payload.as_slice()).read_to_end(&mut inflated);
            assert_eq!(inflated, message);
            assert_eq!(inflate(8, b"", payload_of(&frame), message.len()), message, "a window of 256 bytes");
        }
    }
}
