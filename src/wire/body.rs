//! A request's body: its length as the head gives it, and its content without the chunks around it (RFC 9112, 6 and 7).

use crate::wire::field::Field;
use crate::wire::refusal::Refusal;
use crate::wire::text::digits;

/// Most bytes of a chunk's extensions, and of all trailers together. What they say is not used.
const EXTENSION_BYTES_MAX: u32 = 256;
const TRAILER_BYTES_MAX: u32 = 8192;
/// Most hexadecimal digits of a chunk's size.
const SIZE_DIGITS_MAX: u32 = 15;

/// The request's fields for a body, not checked yet: only one path takes any.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyFields<'a> {
    pub transfer_encoding: Field<'a>,
    pub content_type: Field<'a>,
    pub content_encoding: Field<'a>,
    pub expect: Field<'a>,
    /// `Luxcast-Publisher`.
    pub publisher: Field<'a>,
    /// `Luxcast-Line`.
    pub first_line: Field<'a>,
}

impl<'a> BodyFields<'a> {
    /// Adds a field that says what a body is.
    pub fn add(&mut self, name: &str, value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let field = if is("transfer-encoding") {
            &mut self.transfer_encoding
        } else if is("content-type") {
            &mut self.content_type
        } else if is("content-encoding") {
            &mut self.content_encoding
        } else if is("expect") {
            &mut self.expect
        } else if is("luxcast-publisher") {
            &mut self.publisher
        } else if is("luxcast-line") {
            &mut self.first_line
        } else {
            return;
        };
        field.add(value);
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    Known(u64),
    Chunked,
}

impl BodyLength {
    /// Of a request with these fields. Two readers that differ in it would see different requests, so whatever is doubtful
    /// is refused.
    ///
    /// # Errors
    /// 400.
    pub fn of(
        content_length: Field<'_>,
        transfer_encoding: Field<'_>,
        is_http_1_0: bool,
    ) -> Result<Self, Refusal> {
        match (content_length, transfer_encoding) {
            // Its body would end with the connection, as one that is cut off does (RFC 1945, 8.3).
            (Field::Absent, Field::Absent) if is_http_1_0 => {
                Err(Refusal::bad_request("HTTP/1.0 needs Content-Length where a body may come"))
            }
            (Field::Absent, Field::Absent) => Ok(BodyLength::Known(0)),
            (Field::One(length), Field::Absent) => {
                let length = str::from_utf8(length).ok().and_then(digits);
                length
                    .map(BodyLength::Known)
                    .ok_or_else(|| Refusal::bad_request("Content-Length is no number"))
            }
            (Field::Repeated, Field::Absent) => Err(Refusal::bad_request("Content-Length was sent twice")),
            (Field::Absent, _) if is_http_1_0 => {
                Err(Refusal::bad_request("HTTP/1.0 has no Transfer-Encoding"))
            }
            (Field::Absent, Field::One(coding)) if coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(BodyLength::Chunked)
            }
            (Field::Absent, _) => Err(Refusal::bad_request("Transfer-Encoding can only be chunked")),
            _ => Err(Refusal::bad_request("Content-Length and Transfer-Encoding exclude each other")),
        }
    }
}

/// The chunks of a body break a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

impl BadChunk {
    /// 400: whatever follows cannot be told from the next request.
    pub fn refusal(self) -> Refusal {
        Refusal::bad_request("the chunks of the body are malformed")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of a body of known length are to come.
    Known(u64),
    Size {
        value: u64,
        digits: u32,
    },
    /// Blanks behind the size: an extension follows.
    Blank {
        value: u64,
        length: u32,
    },
    Extension {
        value: u64,
        length: u32,
    },
    /// A line feed follows, then a chunk of this size.
    SizeEnd(u64),
    Data(u64),
    /// CR, then LF.
    DataEnd,
    DataFeed,
    /// At the beginning of a line behind the last chunk.
    Trailer(u32),
    TrailerName(u32),
    TrailerLine(u32),
    TrailerFeed(u32),
    /// The line feed of the empty line.
    End,
    Done,
}

/// Reads one body, in pieces of any size.
#[derive(Debug)]
pub struct BodyReader(State);

impl BodyReader {
    pub fn new(length: BodyLength) -> Self {
        Self(match length {
            BodyLength::Known(0) => State::Done,
            BodyLength::Known(length) => State::Known(length),
            BodyLength::Chunked => State::Size { value: 0, digits: 0 },
        })
    }

    /// The whole body has come.
    pub fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// Reads the next bytes and gives each run of content to `give`. Returns how many of them are of this body.
    ///
    /// # Errors
    /// A chunk is malformed.
    pub fn read(&mut self, bytes: &[u8], mut give: impl FnMut(&[u8])) -> Result<usize, BadChunk> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            if let State::Known(left) | State::Data(left) = &mut self.0 {
                let length = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                give(&bytes[at..at + length]);
                at += length;
                *left -= length as u64;
                self.0 = match self.0 {
                    State::Known(0) => State::Done,
                    State::Data(0) => State::DataEnd,
                    state => state,
                };
                continue;
            }
            self.0 = step(self.0, bytes[at])?;
            at += 1;
        }
        Ok(at)
    }
}

/// One byte of what is around the content.
fn step(state: State, byte: u8) -> Result<State, BadChunk> {
    let longer = |length: u32| match length < EXTENSION_BYTES_MAX {
        true => Ok(length + 1),
        false => Err(BadChunk),
    };
    let trailed = |length: u32, state: fn(u32) -> State| match length < TRAILER_BYTES_MAX {
        true => Ok(state(length + 1)),
        false => Err(BadChunk),
    };
    let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7F);
    // A character of a token (RFC 9110, 5.6.2).
    let is_name = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match (state, byte) {
        (State::Size { value, digits }, byte) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
            let digit = (byte as char).to_digit(16).expect("it is a hexadecimal digit");
            Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
        }
        (State::Size { value, digits: 1.. }, b'\r') => Ok(State::SizeEnd(value)),
        (State::Size { value, digits: 1.. }, b' ' | b'\t') => Ok(State::Blank { value, length: 1 }),
        (State::Blank { value, length }, b' ' | b'\t') => Ok(State::Blank { value, length: longer(length)? }),
        (State::Size { value, digits: 1.. }, b';') => Ok(State::Extension { value, length: 1 }),
        (State::Blank { value, length }, b';') => Ok(State::Extension { value, length: longer(length)? }),
        (State::Extension { value, .. }, b'\r') => Ok(State::SizeEnd(value)),
        (State::Extension { value, length }, _) if is_text => {
            Ok(State::Extension { value, length: longer(length)? })
        }
        (State::SizeEnd(0), b'\n') => Ok(State::Trailer(0)),
        (State::SizeEnd(value), b'\n') => Ok(State::Data(value)),
        (State::DataEnd, b'\r') => Ok(State::DataFeed),
        (State::DataFeed, b'\n') => Ok(State::Size { value: 0, digits: 0 }),
        (State::Trailer(_), b'\r') => Ok(State::End),
        // What is no field may be a request to another reader.
        (State::Trailer(length) | State::TrailerName(length), _) if is_name => {
            trailed(length, State::TrailerName)
        }
        (State::TrailerName(length), b':') => trailed(length, State::TrailerLine),
        (State::TrailerLine(length), _) if is_text => trailed(length, State::TrailerLine),
        (State::TrailerLine(length), b'\r') => trailed(length, State::TrailerFeed),
        (State::TrailerFeed(length), b'\n') => trailed(length, State::Trailer),
        (State::End, b'\n') => Ok(State::Done),
        _ => Err(BadChunk),
    }
}

#[cfg(test)]
mod tests {
    use super::{BadChunk, BodyLength, BodyReader};
    use crate::wire::field::Field;

    /// The content and how many bytes were taken, read in pieces of this size.
    fn read(length: BodyLength, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let (mut reader, mut content, mut taken) = (BodyReader::new(length), Vec::new(), 0);
        for piece in bytes.chunks(piece) {
            taken += reader.read(piece, |run| content.extend_from_slice(run))?;
        }
        Ok((content, taken, reader.is_done()))
    }

    #[test]
    fn content_is_the_same_however_it_is_cut() {
        let text = "5 \t; a\t=\tb\r\nhello\r\n00A;a=\"b\";c\r\n, world!!!\r\n0 ;d\r\nX: y\r\nZ:\r\n\r\nGET /";
        let body = text.len() - "GET /".len();
        for piece in 1..=text.len() {
            let read = read(BodyLength::Chunked, text.as_bytes(), piece);
            assert_eq!(read, Ok((b"hello, world!!!".to_vec(), body, true)), "{piece}");
        }
        assert_eq!(read(BodyLength::Known(3), b"abcdef", 2), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(read(BodyLength::Known(7), b"abcdef", 2), Ok((b"abcdef".to_vec(), 6, false)));
        assert_eq!(read(BodyLength::Known(0), b"abc", 2), Ok((Vec::new(), 0, true)));
        assert_eq!(read(BodyLength::Chunked, b"0\r\n\r\n", 9), Ok((Vec::new(), 5, true)));
    }

    #[test]
    fn chunks_that_two_readers_may_read_differently_are_refused() {
        let long = format!("1;{}\r\na\r\n", "x".repeat(257));
        let blanks = format!("1{};x\r\na\r\n", " ".repeat(256));
        let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(1_400));
        let cases = [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\t\r\n",
            "1 0\r\n",
            "1 a;b\r\n",
            "1 \na\n",
            "\t1\r\n",
            " ;a\r\n",
            "1\na\n",
            "1\r\na\n",
            "1\r\nab\r\n",
            "1\r\na\r0",
            ";x\r\n",
            "1;x\n",
            "1;\0\r\n",
            "0\r\n\n",
            "0\r\n\0\r\n",
            "0\r\nX\n\r\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX\r\n\r\n",
            "0\r\nX: y\r\n folded\r\n\r\n",
            "0\r\n: y\r\n\r\n",
            "1000000000000000\r\n",
            "1\r\r\n",
            &long,
            &blanks,
            &trailers,
        ];
        for text in cases {
            for piece in [1, 2, text.len()] {
                assert_eq!(read(BodyLength::Chunked, text.as_bytes(), piece), Err(BadChunk), "{text}");
            }
        }
        assert_eq!(BadChunk.refusal().status.code(), 400);
    }

    #[test]
    fn a_length_is_sure_or_refused() {
        let (none, one, two) = (Field::Absent, Field::One as fn(&'static [u8]) -> _, Field::Repeated);
        let of = |length, coding, is_http_1_0| {
            BodyLength::of(length, coding, is_http_1_0).map_err(|refusal| refusal.status.code())
        };
        assert_eq!(of(none, none, false), Ok(BodyLength::Known(0)));
        assert_eq!(of(one(b"12"), none, true), Ok(BodyLength::Known(12)));
        assert_eq!(of(none, one(b"Chunked"), false), Ok(BodyLength::Chunked));
        for (length, coding) in [
            (one(b"+1"), none),
            (one(b""), none),
            (one(b"1, 1"), none),
            (one(b"99999999999999999999"), none),
            (two, none),
            (one(b"5"), one(b"chunked")),
            (none, one(b"gzip, chunked")),
            (none, one(b"identity")),
            (none, two),
        ] {
            assert_eq!(of(length, coding, false), Err(400), "{length:?} {coding:?}");
        }
        for coding in [none, one(b"chunked")] {
            assert_eq!(of(none, coding, true), Err(400), "{coding:?}");
        }
    }
}
