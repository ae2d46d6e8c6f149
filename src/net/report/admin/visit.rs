//! One connection of an operator: its request, within a deadline that bytes do not move, and its answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::wire::http::{HeadLimits, HeadResult, Refusal, Request, parse_head};

/// An answer has to be taken within this.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a client may take to read the last of it: closed with unread bytes, the socket would be reset.
const LINGER: Duration = Duration::from_secs(2);

/// Reads a request and sends what `answer` makes of it, or of what is wrong with its head, of which the bytes are given.
/// Nothing is sent to a client that ends before its head does.
///
/// # Errors
/// The socket failed, or did not take the answer in time.
pub fn receive(
    socket: &TcpStream,
    limits: HeadLimits,
    until: Instant,
    answer: impl FnOnce(Result<Request<'_>, Refusal>, &[u8]) -> Vec<u8>,
) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    let out = loop {
        match parse_head(&head, limits) {
            Ok(HeadResult::Complete { request, .. }) => break answer(Ok(request), &head),
            Err(refusal) => break answer(Err(refusal), &head),
            Ok(HeadResult::Partial) => {}
        }
        match read_until(socket, &mut chunk, until)? {
            None => break answer(Err(Refusal::timeout()), &head),
            Some(0) => return Ok(()),
            Some(count) => head.extend_from_slice(&chunk[..count]),
        }
    };
    write_until(socket, &out, Instant::now() + ANSWER_MAX)?;
    socket.shutdown(Shutdown::Write)?;
    let until = Instant::now() + LINGER;
    while let Some(1..) = read_until(socket, &mut chunk, until)? {}
    Ok(())
}

/// What has come, none at the end of the time.
fn read_until(mut socket: &TcpStream, chunk: &mut [u8], until: Instant) -> io::Result<Option<usize>> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(chunk) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            result => return result.map(Some),
        }
    }
}

/// Writes all, however slowly it is taken, but not beyond `until`.
fn write_until(mut socket: &TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_write_timeout(Some(left))?;
        match socket.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::write_until;

    #[test]
    fn an_answer_that_nobody_takes_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _silent = listener.accept().unwrap();
        write_until(&ours, b"short", Instant::now() + Duration::from_secs(60)).unwrap();
        let answer = vec![0; 64 << 20];
        let began = Instant::now();
        write_until(&ours, &answer, began + Duration::from_millis(200)).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
