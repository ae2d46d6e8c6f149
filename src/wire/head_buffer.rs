//! What has come of a request head that comes in pieces.

/// The beginning of a head. Nearly every head comes in one piece: then nothing is held.
#[derive(Default)]
pub struct HeadBuffer(Vec<u8>);

impl HeadBuffer {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The head as far as it has come, with these bytes. One byte over the limit shows that it is too long; what is
    /// behind that is left out.
    pub fn with<'a>(&'a mut self, bytes: &'a [u8], head_bytes_max: usize) -> &'a [u8] {
        let before = self.0.len();
        let bytes_max = head_bytes_max + 1;
        // A reload may have lowered the limit below what is held.
        let taken = &bytes[..bytes.len().min(bytes_max.saturating_sub(before))];
        if before == 0 {
            return taken;
        }
        // It doubles, but not beyond what is looked at.
        let doubled = (2 * before).min(bytes_max).max(before + taken.len());
        self.0.reserve_exact(doubled - before);
        self.0.extend_from_slice(taken);
        &self.0
    }

    /// Keeps the first piece: the head is not whole. [`HeadBuffer::with`] has kept the later ones.
    pub fn keep(&mut self, piece: &[u8]) {
        if self.0.is_empty() {
            self.0.extend_from_slice(piece);
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::HeadBuffer;

    #[test]
    fn a_head_in_one_piece_is_read_where_it_lies() {
        let mut buffer = HeadBuffer::default();
        let bytes = b"GET / HTTP/1.1\r\n\r\nmore";
        assert_eq!(buffer.with(bytes, 100).as_ptr(), bytes.as_ptr());
        assert!(buffer.is_empty());
    }

    #[test]
    fn pieces_are_joined_up_to_one_byte_over_the_limit() {
        let mut buffer = HeadBuffer::default();
        let mut shown = 0;
        for _ in 0..5 {
            let head = buffer.with(b"abc", 10);
            assert!(b"abcabcabcabcabc".starts_with(head));
            assert_eq!(head.len(), (shown + 3).min(11));
            shown = head.len();
            buffer.keep(b"abc");
        }
        assert_eq!(buffer.len(), 11);
        assert!(buffer.0.capacity() <= 12, "{}", buffer.0.capacity());
        assert_eq!(buffer.with(b"abc", 4).len(), 11, "a lower limit takes nothing back");
    }
}
