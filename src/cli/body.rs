//! The body of a server's answer, as it comes: in chunks, of a known length, or up to the end of the connection
//! (RFC 9112, 6.3).

use std::io::{self, ErrorKind, Read};

/// Bytes read at once.
const BLOCK_BYTES: usize = 16 << 10;
/// More than any server puts before a chunk or behind the last one, in a line.
const LINE_BYTES_MAX: usize = 8 << 10;

#[derive(Debug)]
pub struct Body {
    framing: Framing,
    /// Bytes that came; those before `taken` are used.
    raw: Vec<u8>,
    taken: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// A chunk begins with its size.
    ChunkSize,
    /// So many bytes of the chunk are left.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk, up to an empty one.
    Trailer,
    /// The end of the connection is the end of the body.
    UntilClose,
    /// All of it came.
    Whole,
    /// The connection ended, which may be a cut as well.
    Closed,
}

impl Body {
    /// `raw` is what came behind the head. Chunks are stronger than a length.
    pub fn new(is_chunked: bool, length: Option<u64>, raw: Vec<u8>) -> Self {
        let framing = match (is_chunked, length) {
            (true, _) => Framing::ChunkSize,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        };
        Self { framing, raw, taken: 0 }
    }

    /// Appends what has come of the body, and waits if that is nothing. Returns how many bytes; 0 at its end.
    ///
    /// # Errors
    /// Errors of the stream, `UnexpectedEof` for a body that is cut off, and chunks that are none.
    pub fn read(&mut self, stream: &mut impl Read, into: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let count = self.decode(into)?;
            if count > 0 || matches!(self.framing, Framing::Whole | Framing::Closed) {
                return Ok(count);
            }
            self.raw.drain(..self.taken);
            self.taken = 0;
            let place = self.raw.len();
            self.raw.resize(place + BLOCK_BYTES, 0);
            let read = stream.read(&mut self.raw[place..]);
            self.raw.truncate(place + *read.as_ref().unwrap_or(&0));
            match (read?, &self.framing) {
                (1.., _) => {}
                (0, Framing::UntilClose) => self.framing = Framing::Closed,
                (0, _) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was cut off")),
            }
        }
    }

    /// Whether the server has said that this is the end, and nothing came behind it.
    pub fn is_whole(&self) -> bool {
        self.framing == Framing::Whole && self.taken == self.raw.len()
    }

    fn decode(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let before = into.len();
        loop {
            let bytes = &self.raw[self.taken..];
            let (used, next) = match self.framing {
                Framing::Length(0) => (0, Framing::Whole),
                Framing::Chunk(0) => (0, Framing::ChunkEnd),
                Framing::Length(left) | Framing::Chunk(left) if !bytes.is_empty() => {
                    let used = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    into.extend_from_slice(&bytes[..used]);
                    let left = left - used as u64;
                    let is_chunk = matches!(self.framing, Framing::Chunk(_));
                    (used, if is_chunk { Framing::Chunk(left) } else { Framing::Length(left) })
                }
                Framing::UntilClose if !bytes.is_empty() => {
                    into.extend_from_slice(bytes);
                    (bytes.len(), Framing::UntilClose)
                }
                Framing::ChunkSize => match httparse::parse_chunk_size(bytes).map_err(|_| no_chunk())? {
                    httparse::Status::Complete((used, 0)) => (used, Framing::Trailer),
                    httparse::Status::Complete((used, size)) => (used, Framing::Chunk(size)),
                    httparse::Status::Partial => break,
                },
                Framing::ChunkEnd if bytes.len() >= 2 => match bytes.starts_with(b"\r\n") {
                    true => (2, Framing::ChunkSize),
                    false => return Err(no_chunk()),
                },
                Framing::Trailer => match memchr::memchr(b'\n', bytes) {
                    Some(end) if bytes[..end].trim_ascii().is_empty() => (end + 1, Framing::Whole),
                    Some(end) => (end + 1, Framing::Trailer),
                    None => break,
                },
                _ => break,
            };
            self.taken += used;
            self.framing = next;
        }
        if self.raw.len() - self.taken > LINE_BYTES_MAX && self.framing != Framing::Whole {
            return Err(no_chunk());
        }
        Ok(into.len() - before)
    }
}

fn no_chunk() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer has a chunk that breaks the rules of HTTP")
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind, Read};

    use super::Body;

    /// Hands out this many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(into.len()).min(self.1);
            self.0.read(&mut into[..count])
        }
    }

    /// The body, whether it was whole, and how reading it ended.
    fn read(
        is_chunked: bool,
        length: Option<u64>,
        bytes: &[u8],
        step: usize,
    ) -> (Vec<u8>, bool, io::Result<()>) {
        let first = bytes.len().min(step);
        let mut body = Body::new(is_chunked, length, bytes[..first].to_vec());
        let mut stream = Slow(&bytes[first..], step);
        let mut into = Vec::new();
        loop {
            match body.read(&mut stream, &mut into) {
                Ok(0) => return (into, body.is_whole(), Ok(())),
                Ok(_) => {}
                Err(error) => return (into, false, Err(error)),
            }
        }
    }

    #[test]
    fn a_body_comes_whole_in_any_steps() {
        for step in [1, 2, 3, 1_000] {
            for (is_chunked, length, bytes, is_whole) in [
                (true, None, &b"2\r\nbo\r\n2;x=y\r\ndy\r\n0\r\n\r\n"[..], true),
                (true, Some(9), b"04\r\nbody\r\n0\r\nA: b\r\nC: d\r\n\r\n", true),
                (false, Some(4), b"body", true),
                (false, None, b"body", false),
            ] {
                let (body, found, end) = read(is_chunked, length, bytes, step);
                assert_eq!((body.as_slice(), found, end.is_ok()), (&b"body"[..], is_whole, true), "{step}");
            }
        }
        let (body, is_whole, _) = read(true, None, b"1\r\nx\r\n0\r\n\r\nHTTP/1.1 408", 1_000);
        assert_eq!((body.as_slice(), is_whole), (&b"x"[..], false), "something came behind it");
    }

    #[test]
    fn a_cut_and_a_chunk_that_is_none_are_told_apart() {
        for (bytes, kind) in [
            (&b"2\r\nbo\r\n2\r\nd"[..], ErrorKind::UnexpectedEof),
            (b"2\r\nbo\r\n", ErrorKind::UnexpectedEof),
            (b"2\r\nbo\r\n0\r\n", ErrorKind::UnexpectedEof),
            (b"", ErrorKind::UnexpectedEof),
            (b"2\r\nboxx", ErrorKind::InvalidData),
            (b"body\r\n", ErrorKind::InvalidData),
            (b"ffffffffffffffffff\r\nbody", ErrorKind::InvalidData),
        ] {
            for step in [1, 1_000] {
                let (_, _, end) = read(true, None, bytes, step);
                assert_eq!(end.unwrap_err().kind(), kind, "{}", String::from_utf8_lossy(bytes));
            }
        }
        let endless = format!("2;{}\r\n", "x".repeat(1 << 20));
        assert_eq!(read(true, None, endless.as_bytes(), 1_000).2.unwrap_err().kind(), ErrorKind::InvalidData);
        let (body, _, end) = read(true, None, b"ffffffffffffffff\r\nbody", 1_000);
        assert_eq!((body.as_slice(), end.unwrap_err().kind()), (&b"body"[..], ErrorKind::UnexpectedEof));
        assert_eq!(read(false, Some(5), b"body", 1).2.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
