//! The chunks of a stream over plain HTTP, each a message: a Server-Sent Event, or a line of JSON.

/// One message, or the end of the answer if it is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told<'a> {
    pub text: &'a [u8],
    /// The fields of an SSE.
    pub id: Option<u64>,
    pub retry: Option<u64>,
}

/// What is told, and where its chunk ends.
pub type Chunk<'a> = (Told<'a>, usize);

/// More than the digits of any length.
const LENGTH_BYTES_MAX: usize = 10;

/// The chunk at `start`, once it is whole.
pub fn next(bytes: &[u8], start: usize, is_sse: bool) -> Result<Option<Chunk<'_>>, String> {
    let left = &bytes[start..];
    let wrong = || format!("not a chunk: {}", String::from_utf8_lossy(&left[..left.len().min(100)]));
    let Some(line) = left.iter().take(LENGTH_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if left.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err(wrong()) };
    };
    let digits = left[..line].strip_suffix(b"\r").and_then(|digits| str::from_utf8(digits).ok());
    let length = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok()).ok_or_else(wrong)?;
    let Some(content) = left.get(line + 1..line + 1 + length + 2) else { return Ok(None) };
    let content = content.strip_suffix(b"\r\n").ok_or_else(wrong)?;
    let told = match content {
        [] => Some(Told::default()),
        content if is_sse => event(content),
        content => content.strip_suffix(b"\n").map(|text| Told { text, ..Told::default() }),
    };
    let told = told.filter(|told| !told.text.contains(&b'\n')).ok_or_else(wrong)?;
    Ok(Some((told, start + line + 1 + length + 2)))
}

fn event(content: &[u8]) -> Option<Told<'_>> {
    let mut told = Told::default();
    let mut rest = content.strip_suffix(b"\n\n")?;
    loop {
        if let Some(text) = rest.strip_prefix(b"data: ") {
            return Some(Told { text, ..told });
        }
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let field = str::from_utf8(&rest[..end]).ok()?;
        match field.split_once(": ")? {
            ("id", value) => told.id = Some(value.parse().ok()?),
            ("retry", value) => told.retry = Some(value.parse().ok()?),
            _ => return None,
        }
        rest = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::{Told, next};

    #[test]
    fn chunks_are_messages_and_an_empty_one_is_the_end() {
        let told = |text, id, retry| Told { text, id, retry };
        assert_eq!(next(b"3\r\n{}\n\r\n0\r\n", 0, false), Ok(Some((told(b"{}", None, None), 8))));
        assert_eq!(next(b"xx0\r\n\r\n", 2, true), Ok(Some((Told::default(), 7))));
        let sse = b"19\r\nretry: 5\nid: 7\ndata: {}\n\n\r\n";
        assert_eq!(next(sse, 0, true), Ok(Some((told(b"{}", Some(7), Some(5)), sse.len()))));
        for end in 0..sse.len() {
            assert_eq!(next(&sse[..end], 0, true), Ok(None), "{end}");
        }
        for bad in ["zz\r\n", "2\r\n{}\r\n", "5\r\n{}\n{}\r\n", "3\r\n{}\nxx", "4\n{}\n\n\r\n", "12345678901"]
        {
            assert!(next(bad.as_bytes(), 0, false).is_err(), "{bad:?}");
        }
        assert!(next(b"a\r\nevent: x\n\n\r\n", 0, true).is_err());
    }
}
