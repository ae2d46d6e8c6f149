//! Cuts a JSON text, one value or an array of values, into lines: one for each value, as the feed has them. It looks at
//! strings and brackets only; whether a line is good is judged like that of any publisher.

/// Written in place of what is no list of values, and of a line end within a string: no line with it is JSON.
const NO_JSON: u8 = 1;

/// The first value is longer than a line may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come: an empty body has no lines.
    Empty,
    /// Nothing but blanks has come.
    Start,
    /// In the array, where a value begins; behind a comma it must.
    Before { is_behind_comma: bool },
    /// Within a value, so many brackets deep.
    Within { depth: u32, is_in_string: bool, is_escaped: bool },
    /// Behind a value in the array.
    Behind,
    /// The text is whole.
    Done,
    /// It is no such text: the rest is passed over.
    Broken,
}

#[derive(Debug)]
pub struct JsonLines {
    state: State,
    is_array: bool,
    /// Bytes of the first value; none once it is over and was not too long.
    first: Option<usize>,
    line_bytes_max: usize,
}

impl JsonLines {
    pub fn new(line_bytes_max: usize) -> Self {
        Self { state: State::Empty, is_array: false, first: Some(0), line_bytes_max }
    }

    /// Takes the next bytes, and appends the lines made of them, each with its newline: one byte more than came, at most
    /// two.
    ///
    /// # Errors
    /// The first value is too long. Of the others that is a matter of their lines.
    pub fn cut(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        if self.state == State::Empty && !bytes.is_empty() {
            self.state = State::Start;
        }
        for &byte in bytes {
            self.step(byte, out);
            if self.first == Some(self.line_bytes_max + 1) {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    /// The text is over. What is not whole becomes a line that will be refused.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Within { .. } if !self.is_array => self.end_value(out),
            State::Within { .. } => out.extend_from_slice(&[NO_JSON, b'\n']),
            State::Start | State::Before { .. } | State::Behind => self.give_up(out),
            State::Empty | State::Done | State::Broken => {}
        }
        self.state = State::Done;
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        let is_blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.state {
            State::Within { depth, is_in_string, is_escaped } => {
                self.step_within(byte, (depth, is_in_string, is_escaped), out);
            }
            State::Broken => {}
            _ if is_blank => {}
            State::Start if byte == b'[' => {
                self.is_array = true;
                self.state = State::Before { is_behind_comma: false };
            }
            State::Before { is_behind_comma: false } | State::Behind if byte == b']' => {
                self.state = State::Done
            }
            State::Behind if byte == b',' => self.state = State::Before { is_behind_comma: true },
            State::Start | State::Before { .. } if !matches!(byte, b',' | b']') => {
                self.step_within(byte, (0, false, false), out);
            }
            State::Empty | State::Start | State::Before { .. } | State::Behind | State::Done => {
                self.give_up(out);
            }
        }
    }

    fn step_within(
        &mut self,
        byte: u8,
        (depth, is_in_string, is_escaped): (u32, bool, bool),
        out: &mut Vec<u8>,
    ) {
        if is_in_string {
            self.put(if matches!(byte, b'\n' | b'\r') { NO_JSON } else { byte }, out);
            let is_end = byte == b'"' && !is_escaped;
            let is_escaped = byte == b'\\' && !is_escaped;
            self.state = State::Within { depth, is_in_string: !is_end, is_escaped };
            return;
        }
        let (deeper, shallower) = (matches!(byte, b'{' | b'['), matches!(byte, b'}' | b']'));
        if depth == 0 && self.is_array && matches!(byte, b',' | b']') {
            // A number or a word ends with what follows it.
            self.end_value(out);
            return self.step(byte, out);
        }
        self.put(if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }, out);
        let depth = depth.saturating_add(deeper.into()).saturating_sub(shallower.into());
        self.state = State::Within { depth, is_in_string: byte == b'"', is_escaped: false };
        if depth == 0 && shallower {
            self.end_value(out);
        }
    }

    fn put(&mut self, byte: u8, out: &mut Vec<u8>) {
        out.push(byte);
        self.first = self.first.map(|length| length + 1);
    }

    fn end_value(&mut self, out: &mut Vec<u8>) {
        out.push(b'\n');
        self.first.take_if(|length| *length <= self.line_bytes_max);
        self.state = if self.is_array { State::Behind } else { State::Done };
    }

    fn give_up(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[NO_JSON, b'\n']);
        self.state = State::Broken;
    }
}

#[cfg(test)]
mod tests {
    use super::{JsonLines, TooLong};

    fn cut(text: &str, piece: usize, line_bytes_max: usize) -> Result<String, TooLong> {
        let (mut lines, mut out) = (JsonLines::new(line_bytes_max), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            let before = out.len();
            lines.cut(piece, &mut out)?;
            assert!(out.len() - before <= piece.len() + 2);
        }
        lines.finish(&mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_value_is_a_line() {
        let cases = [
            ("{}", "{}\n"),
            (" {\n\t\"a\":\r\n[1,{\"b\":\"]}\\\"\"}] }\n", "{ \t\"a\":  [1,{\"b\":\"]}\\\"\"}] }\n"),
            ("[]", ""),
            (" [ ] ", ""),
            ("[{\"a\":1},\n{\"b\":[]} ]\n", "{\"a\":1}\n{\"b\":[]}\n"),
            ("[1, \"a,]\",true ]", "1\n\"a,]\"\ntrue \n"),
            ("[[1,2],3]", "[1,2]\n3\n"),
            ("7", "7\n"),
            ("\"a\nb\"", "\"a\u{1}b\"\n"),
            (r#""a\\""#, "\"a\\\\\"\n"),
            ("{} {}", "{}\n\u{1}\n"),
            ("[{}", "{}\n\u{1}\n"),
            ("[{},", "{}\n\u{1}\n"),
            ("[{},]", "{}\n\u{1}\n"),
            ("[{} {}]", "{}\n\u{1}\n"),
            ("[,]", "\u{1}\n"),
            ("[{}]x", "{}\n\u{1}\n"),
            ("[{\"a\":", "{\"a\":\u{1}\n"),
            ("{\"a\":", "{\"a\":\n"),
            ("]", "\u{1}\n"),
            ("", ""),
            (" \n", "\u{1}\n"),
        ];
        for (text, lines) in cases {
            for piece in 1..=text.len().max(1) {
                assert_eq!(cut(text, piece, 1_000), Ok(lines.to_owned()), "{text:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn only_the_first_value_is_measured() {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(92));
        assert_eq!(text.len(), 100);
        for piece in [1, 7, 200] {
            assert!(cut(&text, piece, 100).is_ok());
            assert_eq!(cut(&text, piece, 99), Err(TooLong));
            assert_eq!(cut(&format!(" [{text}, {{}}]"), piece, 99), Err(TooLong));
            assert!(cut(&format!("[{{}},{text}]"), piece, 99).is_ok());
        }
    }
}
