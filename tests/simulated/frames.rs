//! WebSocket frames as the daemon sends them (RFC 6455, 5.2): whole messages, without masks, each behind the shortest
//! header that can tell its length.

use super::decoder::{LENGTH_MAX, Piece};

const TEXT: u8 = 0x81;
/// A text whose payload is compressed (RFC 7692, 6).
const COMPRESSED: u8 = 0xc1;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// The first frame, and its length. None: it is not whole.
pub fn first(bytes: &[u8]) -> Option<(Piece<'_>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert!(
        matches!(first, TEXT | COMPRESSED | CLOSE | PING | PONG),
        "the frame border is lost: {first:x} {second:x}, which is no whole message"
    );
    let (header, length) = match second {
        length @ ..126 => (2, usize::from(length)),
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        _ => panic!("the frame border is lost: a mask, or {LENGTH_MAX} bytes and more"),
    };
    assert!(
        header == 2 || matches!(first, TEXT | COMPRESSED) && length >= 126,
        "a header of {header} bytes for {length}"
    );
    let payload = bytes.get(header..header + length)?;
    let piece = match first {
        TEXT => Piece::Message(std::str::from_utf8(payload).expect("it is text")),
        COMPRESSED => Piece::Compressed(payload),
        CLOSE => Piece::End,
        _ => Piece::Beat,
    };
    Some((piece, header + length))
}
