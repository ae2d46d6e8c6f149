//! Messages of a shared stream, which any program may have put there: reading one never fails, and what is read of it
//! is what stands in it.

use luxcast::bus::accounts::Accounts;
use luxcast::bus::chunk::{Chunk, Headers};
use luxcast::bus::numbers::PLACES;
use luxcast::wire::line::{is_id, trim};

const LINE_BYTES_MAX: usize = 1_000;

/// Panics where something does not hold for these bytes: three headers, each on a line, empty where there is none, and
/// then the payload.
pub fn check(message: &[u8]) {
    let mut parts = message.splitn(4, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let [message_id, lines, from, payload] = [part(), part(), part(), part()];
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap_or_default().to_owned();
    let [message_id, lines, from] = [message_id, lines, from].map(text);
    let header = |text: &'_ str| if text.is_empty() { None } else { Some(text.to_owned()) };
    let (message_id, lines, from) = (header(&message_id), header(&lines), header(&from));
    let headers =
        Headers { message_id: message_id.as_deref(), lines: lines.as_deref(), from: from.as_deref() };
    let chunk = Chunk::read(headers, payload, LINE_BYTES_MAX);
    let there: Vec<&[u8]> = payload.split(|byte| *byte == b'\n').map(|line| &line[trim(line)]).collect();
    let there: Vec<&[u8]> = there.into_iter().filter(|line| !line.is_empty()).collect();
    let has_flows = !there.is_empty() && chunk.len() + (chunk.cut as usize) < there.len();
    let there = &there[usize::from(has_flows)..];
    assert!(chunk.len() <= PLACES && chunk.len() as u64 + chunk.cut == there.len() as u64);
    assert_eq!(chunk.is_cut, there.len() > PLACES);
    let read: Vec<(usize, &[u8])> = chunk.lines(0).collect();
    let expected = there.iter().copied().take(chunk.len()).enumerate();
    let is_short = |line: &[u8]| line.len() <= LINE_BYTES_MAX;
    let expected: Vec<(usize, &[u8])> =
        expected.map(|(place, line)| (place, if is_short(line) { line } else { &[] })).collect();
    assert_eq!(read, expected);
    assert!(chunk.flows.iter().all(|flow| is_id(&flow.job) && is_id(&flow.flow)));
    assert!(chunk.from.is_none_or(|from| from.bytes().all(|byte| byte.is_ascii_graphic())));
    check_source(&chunk);
}

/// The second copy of it has nothing new.
fn check_source(chunk: &Chunk<'_>) {
    let mut accounts = Accounts::new(1_000);
    let first = accounts.fold(chunk.source.as_ref(), 5);
    let second = accounts.fold(chunk.source.as_ref(), 6);
    match &chunk.source {
        None => assert!(first == second && accounts.is_empty()),
        Some(source) => {
            assert_eq!(source.lines.count(), chunk.len() as u64);
            assert_eq!((first.repeated, second.repeated), (0, chunk.len()));
            assert_eq!(
                (first.accepted, accounts.accepted(source.token)),
                (source.lines.last(), second.accepted)
            );
            assert!(source.token.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
