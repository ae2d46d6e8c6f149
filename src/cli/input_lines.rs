//! Takes lines from an input as they come: as many whole ones as are there, within bounds.

use std::io::{self, ErrorKind, Read};
use std::mem;

/// Most of a request. nginx takes a mebibyte by default.
const BLOCK_BYTES: usize = 256 << 10;
const BLOCK_LINES_MAX: usize = 2_000;

/// A line is held whole until it is settled. The daemon takes at most a megabyte by default; this leaves room for a
/// higher setting.
pub const LINE_BYTES_MAX: usize = 64 << 20;

pub struct InputLines<R> {
    input: R,
    bytes: Vec<u8>,
    /// What is before has been handed out.
    taken: usize,
    /// What is before has no end of a line behind `taken`.
    searched: usize,
    /// The number of the next line, from 1.
    number: u64,
    is_ended: bool,
    /// The line that goes on is too long, and not held.
    is_too_long: bool,
    line_bytes_max: usize,
}

/// Whole lines, each with its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The number of the first line.
    pub first: u64,
    pub lines: &'a [u8],
    /// The first line was too long, and stands here empty.
    pub is_first_too_long: bool,
}

impl<R: Read> InputLines<R> {
    pub fn new(input: R) -> Self {
        Self {
            input,
            bytes: Vec::new(),
            taken: 0,
            searched: 0,
            number: 1,
            is_ended: false,
            is_too_long: false,
            line_bytes_max: LINE_BYTES_MAX,
        }
    }

    /// Waits for a whole line and takes along those that came with it; `None` at the end of the input. The last line
    /// gets an end if it has none.
    ///
    /// # Errors
    /// Those of the input.
    pub fn next(&mut self) -> io::Result<Option<Block<'_>>> {
        loop {
            let whole = &self.bytes[self.searched..];
            if let Some((end, count)) = whole_lines(whole, self.searched - self.taken) {
                let (start, end) = (self.taken, self.searched + end);
                (self.taken, self.searched) = (end, end);
                let first = self.number;
                self.number += count;
                let is_first_too_long = mem::take(&mut self.is_too_long);
                return Ok(Some(Block { first, lines: &self.bytes[start..end], is_first_too_long }));
            }
            self.bytes.drain(..self.taken);
            self.taken = 0;
            if self.bytes.len() > self.line_bytes_max {
                self.is_too_long = true;
            }
            if self.is_too_long {
                self.bytes.clear();
            }
            self.searched = self.bytes.len();
            if !self.is_ended {
                self.read()?;
            } else if self.bytes.is_empty() && !self.is_too_long {
                return Ok(None);
            } else {
                self.bytes.push(b'\n');
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let place = self.bytes.len();
        // A block in all, so that no small rest is left for another one.
        self.bytes.resize((place / BLOCK_BYTES + 1) * BLOCK_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.bytes[place..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.bytes.truncate(place + *read.as_ref().unwrap_or(&0));
        self.is_ended = read? == 0;
        if self.is_too_long {
            let end = memchr::memchr(b'\n', &self.bytes).unwrap_or(self.bytes.len());
            self.bytes.drain(..end);
        }
        Ok(())
    }
}

/// Where the last line of a block ends, and how many lines it has. `before` bytes of the first line are already there.
fn whole_lines(bytes: &[u8], before: usize) -> Option<(usize, u64)> {
    let ends = memchr::memchr_iter(b'\n', bytes).take(BLOCK_LINES_MAX).enumerate();
    let mut ends = ends.take_while(|(place, end)| *place == 0 || before + end < BLOCK_BYTES);
    let (place, end) = ends.by_ref().last()?;
    Some((end + 1, place as u64 + 1))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::{BLOCK_BYTES, BLOCK_LINES_MAX, InputLines};

    /// Hands out one of these at each read.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    /// Number, lines and whether the first was too long, of each block.
    fn blocks(pieces: &[&str], line_bytes_max: usize) -> Vec<(u64, String, bool)> {
        let pieces = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        let mut lines = InputLines::new(Pieces(pieces));
        lines.line_bytes_max = line_bytes_max;
        let mut found = Vec::new();
        while let Some(block) = lines.next().unwrap() {
            let text = String::from_utf8(block.lines.to_vec()).unwrap();
            found.push((block.first, text, block.is_first_too_long));
        }
        found
    }

    fn block(first: u64, text: &str) -> (u64, String, bool) {
        (first, text.to_owned(), false)
    }

    #[test]
    fn whole_lines_come_as_soon_as_they_are_there() {
        let found = blocks(&["a\nb\nc", "d\n", "\n", "e", "f", "g"], 100);
        assert_eq!(found, [block(1, "a\nb\n"), block(3, "cd\n"), block(4, "\n"), block(5, "efg\n")]);
        assert_eq!(blocks(&[], 100), []);
        assert_eq!(blocks(&["\n"], 100), [block(1, "\n")]);
    }

    #[test]
    fn a_line_that_is_too_long_leaves_its_number() {
        let found = blocks(&["a\nlong", "longer", "st", "est\nb\nc", "\nlonglong"], 5);
        let empty = |first, text: &str| (first, text.to_owned(), true);
        assert_eq!(found, [block(1, "a\n"), empty(2, "\nb\n"), block(4, "c\n"), empty(5, "\n")]);
    }

    #[test]
    fn blocks_are_bounded() {
        let text = "x\n".repeat(BLOCK_LINES_MAX + 5);
        let found = blocks(&[&text], 100);
        assert_eq!(
            found.iter().map(|(first, ..)| *first).collect::<Vec<_>>(),
            [1, BLOCK_LINES_MAX as u64 + 1]
        );
        let long = format!("{}\n", "x".repeat(BLOCK_BYTES * 2 / 3));
        let mut lines = InputLines::new(io::Cursor::new(long.repeat(3)));
        for first in 1..=3 {
            let block = lines.next().unwrap().unwrap();
            assert_eq!((block.first, block.lines.len()), (first, long.len()));
        }
        assert_eq!(lines.next().unwrap(), None);
    }
}
