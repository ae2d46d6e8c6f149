//! Reads the header of a client's frame byte by byte, so that each fault is found at the byte that shows it (RFC
//! 6455, 5.2).

use std::mem;

use crate::close::CloseReason;
use crate::wire::frame::{BINARY, CLOSE, CONTINUATION, CONTROL_BYTES_MAX, PING, PONG, TEXT};

/// A whole and valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub opcode: u8,
    pub is_final: bool,
    /// The message that begins here is compressed (RFC 7692, 6).
    pub is_compressed: bool,
    pub mask: [u8; 4],
    /// Bytes of payload.
    pub length: usize,
}

/// The reserved bit that says compressed (RFC 7692, 6).
const RSV1: u8 = 0x40;

/// RFC 6455, 5.5: "opcodes where the most significant bit of the opcode is 1".
pub fn is_control(opcode: u8) -> bool {
    opcode & 0x08 != 0
}

/// What the next data frame may be.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Whether the frame must continue a message that has begun.
    pub is_inside: bool,
    /// Frames that the message may still have.
    pub fragments: u32,
    /// Bytes of payload that the message may still have.
    pub bytes: usize,
    /// The same for a compressed message that begins; none: no message may be compressed here.
    pub deflated_bytes: Option<usize>,
}

/// The part of a header that has been read.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderReader {
    /// Bytes read; at most 13, since the 14th at the latest completes the header.
    seen: u8,
    first: u8,
    /// Bytes of the extended length: 0, 2 or 8.
    extended: u8,
    length: u64,
    mask: [u8; 4],
}

impl HeaderReader {
    /// Whether no byte of a header has been read.
    pub fn is_empty(&self) -> bool {
        self.seen == 0
    }

    /// Takes one byte. After a header's last byte it returns the header and is ready for the next one.
    ///
    /// # Errors
    /// Why the connection must be closed, at the first byte that shows it.
    pub fn push(&mut self, byte: u8, room: Room) -> Result<Option<Header>, CloseReason> {
        let place = self.seen;
        self.seen += 1;
        match place {
            0 => self.handle_first(byte, room)?,
            1 => self.handle_second(byte, room)?,
            _ if place < 2 + self.extended => self.handle_length(byte, place - 2, room)?,
            _ => {
                let mask_place = place - 2 - self.extended;
                self.mask[usize::from(mask_place)] = byte;
                if mask_place == 3 {
                    return Ok(Some(mem::take(self).header()));
                }
            }
        }
        Ok(None)
    }

    fn header(self) -> Header {
        Header {
            opcode: self.opcode(),
            is_final: self.is_final(),
            is_compressed: self.is_compressed(),
            mask: self.mask,
            // It is at most `Room::bytes` or 125, so it fits into a usize.
            length: self.length as usize,
        }
    }

    fn opcode(&self) -> u8 {
        self.first & 0x0F
    }

    fn is_final(&self) -> bool {
        self.first & 0x80 != 0
    }

    fn is_compressed(&self) -> bool {
        self.first & RSV1 != 0
    }

    /// Bytes of payload that the message may still have.
    fn bytes_max(&self, room: Room) -> usize {
        room.deflated_bytes.filter(|_| self.is_compressed()).unwrap_or(room.bytes)
    }

    /// FIN, the reserved bits and the opcode (RFC 6455, 5.2, 5.4 and 5.5).
    fn handle_first(&mut self, byte: u8, room: Room) -> Result<(), CloseReason> {
        self.first = byte;
        let is_allowed = match self.opcode() {
            CONTINUATION => room.is_inside,
            TEXT | BINARY => !room.is_inside,
            CLOSE | PING | PONG => self.is_final(),
            _ => false,
        };
        // The other reserved bits have no meaning. RSV1 stands only in the first frame of a message (RFC 7692, 6).
        let may_compress = room.deflated_bytes.is_some() && matches!(self.opcode(), TEXT | BINARY);
        let reserved = if may_compress { 0x70 & !RSV1 } else { 0x70 };
        if byte & reserved != 0 || !is_allowed {
            return Err(CloseReason::ProtocolError);
        }
        if !is_control(self.opcode()) && room.fragments == 0 {
            return Err(CloseReason::Fragments);
        }
        Ok(())
    }

    /// The mask bit and the seven-bit length.
    fn handle_second(&mut self, byte: u8, room: Room) -> Result<(), CloseReason> {
        // A client must mask (RFC 6455, 5.1).
        if byte & 0x80 == 0 {
            return Err(CloseReason::ProtocolError);
        }
        let length = byte & 0x7F;
        if is_control(self.opcode()) {
            // RFC 6455, 5.5. A close body starts with a code of two bytes (5.5.1), so one byte is too short.
            let is_half_code = self.opcode() == CLOSE && length == 1;
            if usize::from(length) > CONTROL_BYTES_MAX || is_half_code {
                return Err(CloseReason::ProtocolError);
            }
        }
        match length {
            126 => self.extended = 2,
            127 => self.extended = 8,
            _ => {
                self.length = u64::from(length);
                self.check_size(0, room)?;
            }
        }
        Ok(())
    }

    /// Byte `place` of the extended length.
    fn handle_length(&mut self, byte: u8, place: u8, room: Room) -> Result<(), CloseReason> {
        // RFC 6455, 5.2: "the most significant bit MUST be 0".
        if self.extended == 8 && place == 0 && byte & 0x80 != 0 {
            return Err(CloseReason::ProtocolError);
        }
        self.length = self.length << 8 | u64::from(byte);
        // RFC 6455, 5.2: "the minimal number of bytes MUST be used to encode the length".
        let is_minimal = match (self.extended, place) {
            (2, 1) => self.length > 125,
            (8, 5) => self.length > 0,
            _ => true,
        };
        if !is_minimal {
            return Err(CloseReason::ProtocolError);
        }
        self.check_size(self.extended - 1 - place, room)
    }

    /// Checks that a data frame has room even if the `missing` last bytes of its length are all zero, the least they
    /// can be.
    fn check_size(&self, missing: u8, room: Room) -> Result<(), CloseReason> {
        let least = self.length << (8 * missing);
        if !is_control(self.opcode()) && least > self.bytes_max(room) as u64 {
            return Err(CloseReason::TooBig);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, HeaderReader, Room};
    use crate::close::CloseReason;
    use crate::wire::frame::{BINARY, CLOSE, CONTINUATION, PING, TEXT};
    use tungstenite::protocol::frame::FrameHeader;
    use tungstenite::protocol::frame::coding::OpCode;

    const OUTSIDE: Room = Room { is_inside: false, fragments: 1, bytes: 1 << 20, deflated_bytes: None };
    const AGREED: Room = Room { deflated_bytes: Some(100), ..OUTSIDE };
    const INSIDE: Room = Room { is_inside: true, ..OUTSIDE };

    /// Feeds all bytes. The header, or the fault, must come at the last one.
    fn read(bytes: &[u8], room: Room) -> Result<Option<Header>, CloseReason> {
        let mut reader = HeaderReader::default();
        let (last, before) = bytes.split_last().unwrap();
        for byte in before {
            assert_eq!(reader.push(*byte, room), Ok(None), "{bytes:02x?}");
            assert!(!reader.is_empty());
        }
        let outcome = reader.push(*last, room);
        assert_eq!(reader.is_empty(), matches!(outcome, Ok(Some(_))));
        outcome
    }

    #[test]
    fn headers_equal_those_of_tungstenite() {
        for length in [0, 1, 125, 126, 255, 256, 65_535, 65_536, 1 << 20] {
            for (opcode, room) in [(TEXT, OUTSIDE), (BINARY, OUTSIDE), (CONTINUATION, INSIDE)] {
                for is_final in [false, true] {
                    let mask = [1, 2, 3, 4];
                    let theirs = FrameHeader {
                        is_final,
                        opcode: OpCode::from(opcode),
                        mask: Some(mask),
                        ..FrameHeader::default()
                    };
                    let mut bytes = Vec::new();
                    theirs.format(length as u64, &mut bytes).unwrap();
                    let expected = Header { opcode, is_final, is_compressed: false, mask, length };
                    assert_eq!(read(&bytes, room), Ok(Some(expected)));
                }
            }
        }
    }

    #[test]
    fn each_fault_shows_at_its_byte() {
        use CloseReason::{Fragments, ProtocolError, TooBig};
        let full = Room { fragments: 0, ..INSIDE };
        let small = Room { bytes: 9, ..OUTSIDE };
        let cases: [(&[u8], Room, CloseReason); 16] = [
            (&[0xC0 | TEXT], OUTSIDE, ProtocolError),
            (&[0x83], OUTSIDE, ProtocolError),
            (&[0x8B], INSIDE, ProtocolError),
            (&[PING], OUTSIDE, ProtocolError),
            (&[CONTINUATION], OUTSIDE, ProtocolError),
            (&[TEXT], INSIDE, ProtocolError),
            (&[CONTINUATION], full, Fragments),
            (&[TEXT, 0x05], OUTSIDE, ProtocolError),
            (&[0x80 | PING, 0xFE], OUTSIDE, ProtocolError),
            (&[0x80 | CLOSE, 0x81], OUTSIDE, ProtocolError),
            (&[TEXT, 0xFE, 0, 125], OUTSIDE, ProtocolError),
            (&[TEXT, 0xFF, 0x80], OUTSIDE, ProtocolError),
            (&[TEXT, 0xFF, 0, 0, 0, 0, 0, 0], OUTSIDE, ProtocolError),
            (&[TEXT, 0xFF, 0, 1], OUTSIDE, TooBig),
            (&[TEXT, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1], OUTSIDE, TooBig),
            (&[TEXT, 0x8A], small, TooBig),
        ];
        for (bytes, room, reason) in cases {
            assert_eq!(read(bytes, room), Err(reason), "{bytes:02x?}");
        }
        assert_eq!(read(&[0x80 | PING, 0x80 | 125], full), Ok(None));
    }

    #[test]
    fn the_first_frame_of_a_message_may_say_that_it_is_compressed() {
        use CloseReason::{ProtocolError, TooBig};
        for opcode in [TEXT, BINARY] {
            for first in [0x40 | opcode, 0xC0 | opcode] {
                let header = read(&[first, 0x80 | 100, 0, 0, 0, 0], AGREED).unwrap().unwrap();
                assert!(header.is_compressed && header.opcode == opcode && header.length == 100);
                assert_eq!(read(&[first, 0x80 | 101], AGREED), Err(TooBig));
                assert_eq!(read(&[first], OUTSIDE), Err(ProtocolError));
                assert_eq!(read(&[first], Room { deflated_bytes: Some(100), ..INSIDE }), Err(ProtocolError));
            }
            let header = read(&[0x80 | opcode, 0x80 | 101, 0, 0, 0, 0], AGREED).unwrap().unwrap();
            assert!(!header.is_compressed);
        }
        for first in [0xC0 | PING, 0xC0 | CLOSE, 0xE1, 0xD1, 0xF1, 0xA1, 0x91, 0xC0 | CONTINUATION] {
            for room in [AGREED, Room { is_inside: true, ..AGREED }] {
                assert_eq!(read(&[first], room), Err(ProtocolError), "{first:02x}");
            }
        }
    }
}
