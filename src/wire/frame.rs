//! Frames that the daemon sends: headers and whole control frames. Never masked (RFC 6455, 5.1),
//! never fragmented.

/// Opcodes of RFC 6455, 5.2.
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;
/// A text whose payload is compressed: [`TEXT`] with the first reserved bit (RFC 7692, 6).
pub const COMPRESSED_TEXT: u8 = 0x40 | TEXT;

/// Most bytes of payload in a control frame (RFC 6455, 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Bytes of the longest header that the daemon writes: two, and a 64-bit length.
pub const HEADER_BYTES_MAX: usize = 10;

/// FIN of RFC 6455, 5.2.
const FINAL: u8 = 0x80;

/// Bytes of the header in front of `payload` bytes: 2, 4 or 10.
pub fn header_length(payload: usize) -> usize {
    match payload {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => HEADER_BYTES_MAX,
    }
}

/// Appends the header of a final frame with `payload` bytes, its length in the fewest bytes (RFC
/// 6455, 5.2).
pub fn write_header(out: &mut Vec<u8>, opcode: u8, payload: usize) {
    debug_assert!(opcode & 0x0F < CLOSE || payload <= CONTROL_BYTES_MAX);
    out.push(FINAL | opcode);
    match header_length(payload) {
        2 => out.push(payload as u8),
        4 => {
            out.push(126);
            out.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
}

/// Appends a close frame. A reason that does not fit (over 123 bytes) is cut between two
/// characters.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = cut(reason, CONTROL_BYTES_MAX - size_of::<u16>());
    write_header(out, CLOSE, size_of::<u16>() + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a close frame without a code: the answer to one without a code (RFC 6455, 5.5.1 and
/// 7.1.5).
pub fn write_close_empty(out: &mut Vec<u8>) {
    write_header(out, CLOSE, 0);
}

/// Appends a ping frame; `payload` is at most [`CONTROL_BYTES_MAX`] bytes.
pub fn write_ping(out: &mut Vec<u8>, payload: &[u8]) {
    write_header(out, PING, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a pong frame; `payload` is that of the ping it answers (RFC 6455, 5.5.3).
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_header(out, PONG, payload.len());
    out.extend_from_slice(payload);
}

/// The longest prefix of `text` that has at most `bytes_max` bytes and ends between two characters.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::{
        BINARY, CLOSE, PING, TEXT, header_length, write_close, write_close_empty, write_header, write_ping,
        write_pong,
    };
    use tungstenite::protocol::frame::FrameHeader;
    use tungstenite::protocol::frame::coding::OpCode;

    fn header(opcode: u8, payload: usize) -> Vec<u8> {
        let mut out = Vec::new();
        write_header(&mut out, opcode, payload);
        out
    }

    #[test]
    fn length_is_written_in_the_fewest_bytes() {
        assert_eq!(header(TEXT, 0), [0x81, 0]);
        assert_eq!(header(TEXT, 125), [0x81, 125]);
        assert_eq!(header(TEXT, 126), [0x81, 126, 0, 126]);
        assert_eq!(header(BINARY, 65535), [0x82, 126, 0xFF, 0xFF]);
        assert_eq!(header(TEXT, 65536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn headers_equal_those_of_tungstenite() {
        for payload in [0, 1, 124, 125, 126, 127, 255, 256, 65534, 65535, 65536, 65537, 1 << 20, 1 << 33] {
            for opcode in [TEXT, BINARY] {
                let theirs =
                    FrameHeader { is_final: true, opcode: OpCode::from(opcode), ..FrameHeader::default() };
                let mut expected = Vec::new();
                theirs.format(payload as u64, &mut expected).unwrap();
                assert_eq!(header(opcode, payload), expected, "{payload}");
                assert_eq!(header_length(payload), expected.len(), "{payload}");
            }
        }
    }

    #[test]
    fn control_frames_are_whole() {
        let mut out = Vec::new();
        write_close(&mut out, 1012, "bye");
        write_close_empty(&mut out);
        write_ping(&mut out, b"");
        write_pong(&mut out, b"ab");
        assert_eq!(out, b"\x88\x05\x03\xF4bye\x88\x00\x89\x00\x8A\x02ab");
        assert_eq!(out[0], 0x80 | CLOSE);
        assert_eq!(out[9], 0x80 | PING);
    }

    #[test]
    fn long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(&mut out, 1000, &"ä".repeat(100));
        assert_eq!(&out[..4], [0x88, 124, 0x03, 0xE8]);
        assert_eq!(std::str::from_utf8(&out[4..]).unwrap(), "ä".repeat(61));
    }
}
