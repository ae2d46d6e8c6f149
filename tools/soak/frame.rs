//! WebSocket frames, as a client reads and writes them.

pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

/// A client masks its frames; these four bytes are an arbitrary mask.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Appends a whole message; `payload` is at most 65,535 bytes long.
pub fn write_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => out.push(0x80 | length as u8),
        Ok(length) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => unreachable!("a client of this tool has nothing so long to say"),
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Opcode, payload, and where the frame ends.
pub type Frame<'a> = (u8, &'a [u8], usize);

/// The server's frame at `start`, once it is whole.
pub fn next(bytes: &[u8], start: usize) -> Result<Option<Frame<'_>>, String> {
    let Some(head) = bytes.get(start..start + 2) else {
        return Ok(None);
    };
    if head[0] & 0xf0 != 0x80 || head[1] & 0x80 != 0 {
        return Err(format!("a frame begins with {head:02x?}"));
    }
    let length = |range: std::ops::Range<usize>| {
        let digits = bytes.get(start + range.start..start + range.end)?;
        Some(digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    };
    let (from, length) = match head[1] {
        126 => (start + 4, length(2..4)),
        127 => (start + 10, length(2..10)),
        length => (start + 2, Some(usize::from(length))),
    };
    let payload = length.and_then(|length| bytes.get(from..from + length));
    Ok(payload.map(|payload| (head[0] & 0xf, payload, from + payload.len())))
}

#[cfg(test)]
mod tests {
    use super::{TEXT, next, write_masked};

    #[test]
    fn frames_are_read_and_written() {
        assert_eq!(next(b"\x81\x02hi\x89\x00", 0), Ok(Some((1, &b"hi"[..], 4))));
        assert_eq!(next(b"\x81\x02hi\x89\x00", 4), Ok(Some((9, &b""[..], 6))));
        assert_eq!(next(b"\x81\x7e\x00\x02h", 0), Ok(None));
        assert_eq!(next(b"\x81\x7e\x00\x02hi", 0), Ok(Some((1, &b"hi"[..], 6))));
        assert!(next(b"\xc1\x02hi", 0).is_err());
        let mut out = Vec::new();
        write_masked(&mut out, TEXT, b"hi");
        assert_eq!(out, [0x81, 0x82, 0x37, 0xfa, 0x21, 0x3d, b'h' ^ 0x37, b'i' ^ 0xfa]);
    }
}
