//! Frames of a client with whom compression was agreed on: the reader against itself however the stream is cut, and against
//! a naive one with another library for deflate.

use fastrand::Rng;
use luxcast::wire::inflate::Inflater;
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateError, InflateFlush, Status, Strategy};

use super::frames::{Got, LIMITS, Outcome, frame, length_of, read};
use super::random;

/// What RFC 7692, 7.2.1, has the sender leave out, and a last block without text: behind anything but a whole block this is no
/// end.
const END: &[u8] = b"\x00\x00\xff\xff\x01\x00\x00\xff\xff";

/// Reads `stream` in every way and compares; returns its compressed messages. Panics where something does not hold.
pub fn check(stream: &[u8]) -> usize {
    let mut inflater = Inflater::default();
    let whole = read(&[stream], Some(&mut inflater));
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read(&bytes, Some(&mut inflater)), whole, "byte by byte");
    let mut random = random::of(stream);
    for _ in 0..2 {
        let pieces = random::cut(&mut random, stream);
        assert_eq!(
            read(&pieces, Some(&mut inflater)),
            whole,
            "cut into {:?}",
            pieces.iter().map(|piece| piece.len())
        );
    }
    compare(stream, &whole)
}

/// Each message is what the other reader makes of it.
fn compare(stream: &[u8], ours: &Outcome) -> usize {
    let is_data = |got: &&Got| matches!(got, Got::Text(_) | Got::Binary(_));
    let mut ours = ours.messages.iter().filter(is_data);
    let mut compressed = 0;
    let mut rest = stream;
    let mut message: Option<(u8, Vec<u8>)> = None;
    while let Some((length, header, _)) = length_of(rest) {
        let (first, mask_at) = (rest[0], header - 4);
        let Some(end) = usize::try_from(length).ok().and_then(|length| header.checked_add(length)) else {
            break;
        };
        let Some(payload) = rest.get(header..end) else { break };
        let mask = rest[mask_at..header].iter().cycle();
        let payload: Vec<u8> = payload.iter().zip(mask).map(|(byte, key)| byte ^ key).collect();
        rest = &rest[end..];
        if first & 8 != 0 {
            continue;
        }
        let (begin, so_far) = message.get_or_insert((first, Vec::new()));
        so_far.extend(payload);
        if first & 0x80 == 0 {
            continue;
        }
        let is_compressed = *begin & 0x40 != 0;
        let whole = if is_compressed { inflated(so_far) } else { Ok(std::mem::take(so_far)) };
        message = None;
        let Some(got) = ours.next() else {
            // Ours has found a fault, here or before; it need not be one for the other.
            return compressed;
        };
        let bytes = match got {
            Got::Text(text) => text.as_bytes(),
            Got::Binary(bytes) => bytes,
            _ => unreachable!("only data is left"),
        };
        assert_eq!(whole.as_deref(), Ok(bytes), "{}", stream.escape_ascii());
        compressed += usize::from(is_compressed);
    }
    assert_eq!(ours.next(), None, "{}", stream.escape_ascii());
    compressed
}

/// The text of a message, with zlib.
fn inflated(payload: &[u8]) -> Result<Vec<u8>, InflateError> {
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let mut text = vec![0; LIMITS.message_bytes_max + 1];
    let mut length = 0;
    let input = [payload, END].concat();
    let mut at = 0;
    loop {
        let mut inflate = Inflate::new(false, 15);
        if length > 0 {
            inflate.set_dictionary(&text[..length])?;
        }
        let status = inflate.decompress(&input[at..], &mut text[length..], InflateFlush::NoFlush)?;
        at += inflate.total_in() as usize;
        length += inflate.total_out() as usize;
        match status {
            Status::StreamEnd if at == input.len() || at == payload.len() => {
                text.truncate(length);
                return Ok(text);
            }
            Status::StreamEnd => {}
            Status::Ok | Status::BufError => return Err(InflateError::DataError),
        }
    }
}

/// Compressed by itself, in one of the many ways to do that.
pub fn deflated(random: &mut Rng, text: &[u8]) -> Vec<u8> {
    let strategies =
        [Strategy::Default, Strategy::HuffmanOnly, Strategy::Rle, Strategy::Fixed, Strategy::Filtered];
    let mut deflate = Deflate::new_with_config(DeflateConfig {
        level: random.i32(0..=9),
        window_bits: -random.i32(9..=15),
        mem_level: random.i32(1..=9),
        strategy: strategies[random.usize(..strategies.len())],
        ..DeflateConfig::default()
    });
    let mut out = vec![0; 2 * text.len() + 200];
    let mut at = 0;
    // The last flush is for all of it: what it ends with is left out.
    let flushes = random.usize(1..=3);
    for number in 1..=flushes {
        let begin = text.len() * (number - 1) / flushes;
        let part = &text[begin..text.len() * number / flushes];
        let is_last = number == flushes;
        let flush = match random.usize(..3) {
            0 => DeflateFlush::FullFlush,
            1 if is_last && random.usize(..3) == 0 => DeflateFlush::Finish,
            _ => DeflateFlush::SyncFlush,
        };
        deflate.compress(part, &mut out[at..], flush).expect("there is room");
        at = deflate.total_out() as usize;
        if is_last && flush != DeflateFlush::Finish && out[..at].ends_with(b"\x00\x00\xff\xff") {
            at -= 4;
        } else if is_last && random.bool() {
            // RFC 7692, 7.2.3.4.
            at += 1;
        }
    }
    out.truncate(at);
    out
}

/// Messages that are mostly compressed, in fragments that are mostly good, then perhaps mutated.
pub fn stream(random: &mut Rng) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.usize(1..5) {
        let length = [0, 1, 2, 3, 20, 100, 280, 299, 300, 301, 5000][random.usize(..11)];
        let text: Vec<u8> = match random.usize(..4) {
            0 => (0..length).map(|_| random.u8(..)).collect(),
            1 | 2 => "{\"aä€💩\":1}".bytes().cycle().skip(random.usize(..10)).take(length).collect(),
            _ => vec![b'x'; length],
        };
        let is_compressed = random.usize(..5) > 0;
        let payload = if is_compressed { deflated(random, &text) } else { text };
        let opcode = 1 + u8::from(random.usize(..3) == 0);
        let mut first = opcode | if is_compressed { 0x40 } else { 0 };
        let pieces = random::cut(random, &payload);
        let pieces = if random.bool() { vec![payload.as_slice()] } else { pieces };
        for (place, piece) in pieces.iter().enumerate() {
            let is_final = place + 1 == pieces.len();
            let mut begun =
                frame(first & 0xf | if is_final { 0x80 } else { 0 }, piece, random.u32(..).to_be_bytes());
            begun[0] |= first & 0x40;
            stream.extend(begun);
            if random.usize(..6) == 0 {
                stream.extend(frame(0x89, b"ping", [1, 2, 3, 4]));
            }
            first = 0;
        }
    }
    if random.usize(..3) == 0 {
        random::mutate(random, &mut stream);
    }
    stream
}
