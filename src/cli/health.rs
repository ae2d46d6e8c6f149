//! `luxcast health`: checks that a running daemon is up, for container engines and scripts.

use std::env;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;

use super::serve::reachable;
use super::{EXIT_USAGE, say};
use crate::config::{self, Config};

/// Limit to connect, and between two parts of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of the answer is read.
const ANSWER_BYTES: u64 = 1024;

/// The listener to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    address: SocketAddr,
    /// It speaks TLS: its refusal of plain HTTP is proof enough.
    is_tls: bool,
}

/// Takes the daemon's settings. Exit code 0: the daemon is up. 1: it is not. 2: the settings are invalid, or do not
/// say where it is.
pub fn run(flags: &ArgMatches) -> ExitCode {
    let target = config::load(flags, env::vars_os()).map_err(|error| error.to_string());
    let target = match target.and_then(|loaded| target_of(&loaded.config)) {
        Ok(target) => target,
        Err(problem) => {
            say(&format!("luxcast health: {problem}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match ask(target) {
        Ok(status) if status == if target.is_tls { 400 } else { 200 } => ExitCode::SUCCESS,
        Ok(status) => {
            say(&format!("luxcast health: {} answers {status}", target.address));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("luxcast health: {}: {error}", target.address));
            ExitCode::FAILURE
        }
    }
}

/// The admin listener, which has room when the others are full; else the first of the others.
fn target_of(config: &Config) -> Result<Target, String> {
    let (address, is_tls) = match config.admin {
        Some(address) => (address, false),
        None => (config.listen[0], config.tls_files().is_some()),
    };
    match address.port() {
        0 => Err("the settings have port 0, which does not say where the daemon is".to_owned()),
        _ => Ok(Target { address: reachable(address), is_tls }),
    }
}

/// Returns the status of the answer.
fn ask(target: Target) -> io::Result<u16> {
    let mut socket = TcpStream::connect_timeout(&target.address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let host = target.address;
    socket.write_all(
        format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    // A reset after the answer does not spoil it.
    let read = socket.take(ANSWER_BYTES).read_to_end(&mut answer);
    status_of(&answer).ok_or_else(|| read.err().unwrap_or_else(|| io::Error::other("the answer is not HTTP")))
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let rest = str::from_utf8(line).ok()?.strip_prefix("HTTP/1.1 ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{status_of, target_of};
    use crate::config::Config;

    #[test]
    fn the_admin_listener_is_asked_if_there_is_one() {
        let asked = |listen: &str, admin: Option<&str>, tls: Option<&str>| {
            let config = Config {
                listen: vec![listen.parse().unwrap()],
                admin: admin.map(|address| address.parse().unwrap()),
                tls_certificate_file: tls.map(Into::into),
                tls_key_file: tls.map(Into::into),
                ..Config::default()
            };
            target_of(&config).map(|target| (target.address.to_string(), target.is_tls))
        };
        let at = |address: &str, is_tls| Ok((address.to_owned(), is_tls));
        assert_eq!(asked("0.0.0.0:1", Some("0.0.0.0:2"), Some("x")), at("127.0.0.1:2", false));
        assert_eq!(asked("[::]:1", None, None), at("[::1]:1", false));
        assert_eq!(asked("192.0.2.1:1", None, Some("x")), at("192.0.2.1:1", true));
        assert!(asked("127.0.0.1:0", None, None).is_err());
    }

    #[test]
    fn an_answer_has_a_status() {
        assert_eq!(status_of(b"HTTP/1.1 200 OK\r\n\r\nok"), Some(200));
        assert_eq!(status_of(b"HTTP/1.1 503 \r\n"), Some(503));
        for bad in [&b""[..], b"HTTP/1.1", b"HTTP/1.1 x", b"SSH-2.0-OpenSSH", b"HTTP/1.1 \xff\r\n"] {
            assert_eq!(status_of(bad), None);
        }
    }
}
