//! Agrees on compression with a client (RFC 7692): reads the offers of `Sec-WebSocket-Extensions` and writes the answer.
//!
//! The first offer that can be kept is taken. Every other is passed over, also one that breaks the grammar: RFC 6455, 9.1,
//! would end that handshake, but a connection without compression harms nobody.

use std::iter;

use arrayvec::ArrayVec;

use crate::wire::deflater::WINDOW_BITS;

const NAME: &[u8] = b"permessage-deflate";

/// How a connection's messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A message refers back to earlier ones, within 2^[`WINDOW_BITS`] bytes.
    Shared,
    /// Each by itself, within 2^8 bytes: the client forgets what it was sent, or holds a smaller window than
    /// 2^[`WINDOW_BITS`]. 2^8 is the smallest that it may name, so this fits every one of them.
    Alone,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    pub form: Form,
    /// The answer to the client's own bound, in bits: at most what it asked for, 8 to [`WINDOW_BITS`]. None: it asked for
    /// none, and may think of 2^15 bytes.
    pub server_max_window_bits: Option<u8>,
}

/// The first offer in this line that can be kept. Lines are read one by one: an offer does not span two of them.
pub fn agree(line: &[u8]) -> Option<Agreement> {
    split(line, b',').find_map(|offer| {
        let mut parts = split(offer, b';').map(<[u8]>::trim_ascii);
        if parts.next()? != NAME {
            return None;
        }
        let mut asked = Asked::default();
        parts.try_for_each(|parameter| asked.add(parameter))?;
        Some(asked.agreement())
    })
}

impl Agreement {
    /// Appends the value of the answer's `Sec-WebSocket-Extensions`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(NAME);
        // So that one inflater serves all connections of a thread (RFC 7692, 7.1.1.2, allows it unasked).
        out.extend_from_slice(b"; client_no_context_takeover");
        if self.form == Form::Alone {
            // It may be said unasked as well (7.1.1.1).
            out.extend_from_slice(b"; server_no_context_takeover");
        }
        if let Some(bits) = self.server_max_window_bits {
            out.extend_from_slice(b"; server_max_window_bits=");
            if bits >= 10 {
                out.push(b'1');
            }
            out.push(b'0' + bits % 10);
        }
    }
}

/// The parameters of one offer.
#[derive(Default)]
struct Asked {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: bool,
}

impl Asked {
    /// None: the offer is to be declined, since it has an unknown parameter, one with a value that it must not have, or
    /// one twice (RFC 7692, 7.1). Names are compared byte by byte, as clients do with those of the answer.
    fn add(&mut self, parameter: &[u8]) -> Option<()> {
        let equals = parameter.iter().position(|byte| *byte == b'=');
        let (name, value) = match equals {
            Some(place) => (parameter[..place].trim_ascii(), Some(parameter[place + 1..].trim_ascii())),
            None => (parameter, None),
        };
        let is_given = match (name, value) {
            (b"server_no_context_takeover", None) => &mut self.server_no_context_takeover,
            (b"client_no_context_takeover", None) => &mut self.client_no_context_takeover,
            (b"client_max_window_bits", None) => &mut self.client_max_window_bits,
            (b"client_max_window_bits", Some(value)) => {
                window_bits(value)?;
                &mut self.client_max_window_bits
            }
            (b"server_max_window_bits", Some(value)) => {
                let bits = window_bits(value)?;
                return self.server_max_window_bits.replace(bits).is_none().then_some(());
            }
            _ => return None,
        };
        let is_first = !*is_given;
        *is_given = true;
        is_first.then_some(())
    }

    fn agreement(&self) -> Agreement {
        let is_small = self.server_max_window_bits.is_some_and(|bits| bits < WINDOW_BITS);
        let form = if self.server_no_context_takeover || is_small { Form::Alone } else { Form::Shared };
        let server_max_window_bits = self.server_max_window_bits.map(|bits| bits.min(WINDOW_BITS));
        Agreement { form, server_max_window_bits }
    }
}

/// 8 to 15 without a leading zero (RFC 7692, 7.1.2), as a token or a quoted string (RFC 6455, 9.1).
fn window_bits(value: &[u8]) -> Option<u8> {
    let mut digits = ArrayVec::<u8, 2>::new();
    match value.strip_prefix(b"\"") {
        None => digits.try_extend_from_slice(value).ok()?,
        Some(quoted) => {
            let mut text = quoted.strip_suffix(b"\"")?.iter();
            while let Some(byte) = text.next() {
                // RFC 2616, 2.2: a backslash stands before a character that means itself.
                let byte = if *byte == b'\\' { text.next()? } else { byte };
                digits.try_push(*byte).ok()?;
            }
        }
    }
    match *digits.as_slice() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The parts between separators that stand in no quoted string.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest?;
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = text.iter().position(|byte| {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_quoted => is_escaped = true,
                b'"' => is_quoted = !is_quoted,
                _ => return *byte == separator && !is_quoted,
            }
            false
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::{Agreement, Form, agree};

    const ALONE: &str = "; server_no_context_takeover";

    /// What the answer to these lines has behind `client_no_context_takeover`; None: there is no such answer.
    fn answer(lines: &str) -> Option<String> {
        let agreement = lines.split('\n').find_map(|line| agree(line.as_bytes()))?;
        let mut out = Vec::new();
        agreement.write(&mut out);
        let is_alone = out.windows(ALONE.len()).any(|bytes| bytes == ALONE.as_bytes());
        assert_eq!(is_alone, agreement.form == Form::Alone);
        let out = String::from_utf8(out).unwrap();
        Some(out.strip_prefix("permessage-deflate; client_no_context_takeover").unwrap().to_owned())
    }

    #[test]
    fn an_offer_that_can_be_kept_is_answered() {
        let rows = [
            ("permessage-deflate", ""),
            ("\t permessage-deflate ", ""),
            // Browsers, Node, Python, Java, Go.
            ("permessage-deflate; client_max_window_bits", ""),
            ("permessage-deflate; client_max_window_bits, x-webkit-deflate-frame", ""),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", ALONE),
            ("permessage-deflate;client_max_window_bits=8", ""),
            ("permessage-deflate;client_max_window_bits=15;client_no_context_takeover", ""),
            ("permessage-deflate; client_max_window_bits=\"10\"", ""),
            ("permessage-deflate; client_max_window_bits = 10", ""),
            ("permessage-deflate; server_no_context_takeover", ALONE),
            ("permessage-deflate; server_max_window_bits=15", "; server_max_window_bits=12"),
            ("permessage-deflate; server_max_window_bits=13", "; server_max_window_bits=12"),
            ("permessage-deflate; server_max_window_bits=12", "; server_max_window_bits=12"),
            (
                "permessage-deflate; server_max_window_bits=11",
                "; server_no_context_takeover; server_max_window_bits=11",
            ),
            (
                "permessage-deflate; server_max_window_bits=10",
                "; server_no_context_takeover; server_max_window_bits=10",
            ),
            (
                "permessage-deflate; server_max_window_bits=\"9\"",
                "; server_no_context_takeover; server_max_window_bits=9",
            ),
            (
                "permessage-deflate; server_max_window_bits=8",
                "; server_no_context_takeover; server_max_window_bits=8",
            ),
            ("permessage-deflate; server_max_window_bits=\"\\1\\5\"", "; server_max_window_bits=12"),
            (
                "permessage-deflate; server_max_window_bits=14; server_no_context_takeover; client_max_window_bits",
                "; server_no_context_takeover; server_max_window_bits=12",
            ),
            // The next one is taken.
            ("permessage-deflate; x=1, permessage-deflate", ""),
            (
                "permessage-deflate; server_max_window_bits=16, permessage-deflate; server_no_context_takeover",
                ALONE,
            ),
            ("foo; bar=\"a, permessage-deflate; x\", permessage-deflate", ""),
            ("foo; bar=\"\\\", \", permessage-deflate", ""),
            (", ,permessage-deflate, ,", ""),
            ("permessage-bzip2, permessage-deflate", ""),
            // The first one is.
            ("permessage-deflate, permessage-deflate; server_no_context_takeover", ""),
            // Several lines are one list.
            ("foo\npermessage-deflate; server_no_context_takeover\npermessage-deflate", ALONE),
            ("permessage-deflate; x\n\npermessage-deflate", ""),
        ];
        for (lines, expected) in rows {
            assert_eq!(answer(lines).as_deref(), Some(expected), "{lines}");
        }
    }

    #[test]
    fn any_other_offer_is_passed_over() {
        let rows = [
            "",
            ",",
            ";;;",
            ";=;",
            "\"",
            "x",
            "permessage-deflat",
            "permessage-deflate2",
            "Permessage-Deflate",
            "permessage deflate",
            "\"permessage-deflate\"",
            "permessage-deflate=1",
            "x; permessage-deflate",
            "permessage-deflate;",
            "permessage-deflate; ;client_max_window_bits",
            "permessage-deflate; x",
            "permessage-deflate; x=1",
            "permessage-deflate; Server_no_context_takeover",
            "permessage-deflate; =",
            "permessage-deflate; =10",
            "permessage-deflate; server_no_context_takeover=",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=10; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=012",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=-8",
            "permessage-deflate; server_max_window_bits=1 0",
            "permessage-deflate; server_max_window_bits=10=10",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; server_max_window_bits=10\"",
            "permessage-deflate; server_max_window_bits=\" 10\"",
            "permessage-deflate; server_max_window_bits=\"10\\\"",
            "permessage-deflate; server_max_window_bits=\u{661}0",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=100",
            "permessage-deflate; client_max_window_bits=4294967304",
            // It ends nowhere, so all behind it is within it.
            "foo; bar=\"a, permessage-deflate",
            "foo; bar=\"a\\\", permessage-deflate",
        ];
        for line in rows {
            assert_eq!(answer(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_agreed_on_is_small() {
        assert!(size_of::<Option<Agreement>>() <= 4);
        assert_eq!(size_of::<Option<Form>>(), 1);
    }
}
