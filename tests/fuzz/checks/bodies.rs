//! Bodies of requests that publish: chunks are read alike however they are cut and never laxer than elsewhere, and the lines
//! made of JSON are its values.

use luxcast::wire::body::{BadChunk, BodyLength, BodyReader};
use luxcast::wire::json_lines::{JsonLines, TooLong};
use serde_json::Value;

const LINE_BYTES_MAX: usize = 200;

/// Panics where something does not hold for these bytes: the first says how they are cut.
pub fn check(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let piece = 1 + usize::from(first);
    check_chunks(bytes, piece);
    check_json(bytes, piece);
}

fn check_chunks(bytes: &[u8], piece: usize) {
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, piece), whole);
    let Ok((content, used, is_done)) = whole else { return };
    assert!(is_done || used == bytes.len());
    // A library finds the same chunks.
    let (mut at, mut expected) = (0, Vec::new());
    loop {
        match httparse::parse_chunk_size(&bytes[at..used]) {
            Ok(httparse::Status::Complete((_, 0))) => break,
            Ok(httparse::Status::Complete((length, size))) => {
                let begin = at + length;
                let end = used.min(begin.saturating_add(usize::try_from(size).expect("64 bits")));
                expected.extend_from_slice(&bytes[begin..end]);
                at = (end + 2).min(used);
            }
            Ok(httparse::Status::Partial) => break,
            Err(_) => panic!("a chunk that a library refuses was taken"),
        }
    }
    assert_eq!(content, expected);
}

/// The content, how many bytes are of the body, and whether it is whole.
fn read(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), BadChunk> {
    let (mut reader, mut content, mut used) = (BodyReader::new(BodyLength::Chunked), Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        used += reader.read(piece, |run| content.extend_from_slice(run))?;
    }
    Ok((content, used, reader.is_done()))
}

fn check_json(text: &[u8], piece: usize) {
    let whole = cut(text, text.len().max(1));
    assert_eq!(cut(text, piece), whole);
    let Ok(out) = whole else { return };
    assert!(out.is_empty() || out.ends_with(b"\n"));
    let lines: Vec<Result<Value, _>> = out
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect();
    match serde_json::from_slice::<Value>(text) {
        Err(_) if text.is_empty() => assert!(lines.is_empty()),
        Err(_) => assert!(lines.iter().any(Result::is_err), "what is no JSON must not become lines that are"),
        Ok(value) => {
            let lines: Vec<Value> =
                lines.into_iter().map(|line| line.expect("its values are JSON")).collect();
            let expected = if let Value::Array(values) = value { values } else { vec![value] };
            assert_eq!(lines, expected);
        }
    }
}

fn cut(text: &[u8], piece: usize) -> Result<Vec<u8>, TooLong> {
    let (mut lines, mut out) = (JsonLines::new(LINE_BYTES_MAX), Vec::new());
    for piece in text.chunks(piece) {
        lines.cut(piece, &mut out)?;
    }
    lines.finish(&mut out);
    Ok(out)
}
