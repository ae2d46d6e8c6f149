//! Records of a snapshot: kind, length, checksum of the payload, checksum of these three, payload. A bad payload costs
//! that record. A bad header costs all that follows, since nothing shows where the next one begins.

use std::io::{self, ErrorKind, Read};

const HEADER_BYTES: usize = 13;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Head = 1,
    Topics = 2,
    Batch = 3,
    Kept = 4,
    Unsaved = 5,
    /// Nothing was left out. Without it, the file was cut.
    End = 6,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Head, Kind::Topics, Kind::Batch, Kind::Kept, Kind::Unsaved, Kind::End];
}

/// Adds a record to `out`; `fill` writes its payload.
pub fn write(out: &mut Vec<u8>, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    fill(out);
    let (header, payload) = out[start..].split_at_mut(HEADER_BYTES);
    header[0] = kind as u8;
    header[1..5].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[5..9].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let of_header = crc32fast::hash(&header[..9]);
    header[9..].copy_from_slice(&of_header.to_le_bytes());
}

/// What comes next.
pub enum Next<'a> {
    Record(Kind, &'a [u8]),
    /// A record of this kind whose payload is damaged.
    Damaged(Kind),
    /// No record.
    Nothing,
}

/// Reads records one after the other into the same buffer.
pub struct Records<R> {
    from: R,
    /// Bytes that are left, at most: no payload is longer.
    left: u64,
    payload: Vec<u8>,
}

impl<R: Read> Records<R> {
    pub fn new(from: R, left: u64) -> Self {
        Self { from, left, payload: Vec::new() }
    }

    /// Reads the bytes before the records.
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(ErrorKind::UnexpectedEof)?;
        self.from.read_exact(bytes)
    }

    pub fn next(&mut self) -> Next<'_> {
        let mut header = [0; HEADER_BYTES];
        if self.read_exact(&mut header).is_err() {
            return Next::Nothing;
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let kind = Kind::ALL.into_iter().find(|&kind| kind as u8 == header[0]);
        let length = u64::from(word(1));
        let (Some(kind), true) = (kind, word(9) == crc32fast::hash(&header[..9]) && length <= self.left)
        else {
            return Next::Nothing;
        };
        self.left -= length;
        self.payload.resize(length as usize, 0);
        if self.from.read_exact(&mut self.payload).is_err() {
            return Next::Nothing;
        }
        match crc32fast::hash(&self.payload) == word(5) {
            true => Next::Record(kind, &self.payload),
            false => Next::Damaged(kind),
        }
    }
}
