//! Connects a command to the daemon as a watcher: socket, TLS, token, upgrade, and the meaning of a refusal.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde::Deserialize;
use tungstenite::WebSocket;
use tungstenite::handshake::client::generate_key;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::stream::MaybeTlsStream;

use crate::cli::address::Address;
use crate::cli::answer::Answer;
use crate::cli::outlet::{Outlet, Patient, is_output_closed};
use crate::cli::trust::words;

/// Limit to connect to each address, and for the daemon to answer the request.
const CONNECT_SECONDS: Duration = Duration::from_secs(10);

/// After this silence the connection is probed with a ping; after as long again it is given up. Longer than the
/// daemon's default heartbeat of 30 s.
pub const SILENCE: Duration = Duration::from_secs(45);

/// Events have at most a megabyte by default; this leaves room for a higher setting.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The `error` words of the daemon's refusals: the temporary ones, then the final ones.
const PASSING: [&str; 4] = ["timeout", "too_many_requests", "full", "draining"];
const FINAL: [&str; 12] = [
    "bad_request",
    "bad_id",
    "bad_parameter",
    "unauthorized",
    "forbidden_origin",
    "forbidden_scope",
    "forbidden_host",
    "not_found",
    "method_not_allowed",
    "too_large",
    "upgrade_required",
    "http_version",
];

/// Plain, or with TLS over it.
pub type Stream = MaybeTlsStream<Patient>;

/// A token; it is never printed.
#[derive(Clone)]
pub struct Token(OsString);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

impl Token {
    /// Checked later: clap prints the values that it refuses.
    pub fn new(text: OsString) -> Self {
        Self(text)
    }

    /// The value of the `Authorization` field. A token in the URL would appear in the logs of proxies.
    pub fn header(&self) -> Result<String, String> {
        let text = self.0.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        let text = text.ok_or_else(|| "the token has a character that no token may have".to_owned())?;
        Ok(format!("Bearer {text}"))
    }
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    ForGood(String),
    ForNow {
        reason: String,
        /// As the daemon asked.
        retry_after: Option<Duration>,
    },
    /// Nobody reads the output any more.
    OutputClosed,
}

impl Refused {
    fn for_now(reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        Self::ForNow { reason, retry_after: None }
    }
}

/// How to reach the daemon.
#[derive(Clone)]
pub struct Way {
    pub address: Address,
    pub token: Option<Token>,
    /// Set for TLS.
    pub trust: Option<Arc<ClientConfig>>,
    /// Closing it ends the wait for an answer.
    pub outlet: Outlet,
}

impl Way {
    /// Connects and upgrades, until this deadline at most.
    pub fn watch(&self, target: &str, until: Option<Instant>) -> Result<WebSocket<Stream>, Refused> {
        let mut stream = self.open(until)?;
        let key = generate_key();
        let upgrade = format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        let answer = self.ask(&mut stream, target, &upgrade)?;
        if answer.status != 101 {
            return Err(refusal(answer, &mut stream));
        }
        if let Some(fault) = answer.fault(&key) {
            return Err(Refused::for_now(format!("{}: {fault}", self.address)));
        }
        let patient = patient(&mut stream);
        (patient.until, patient.patience) = (None, SILENCE);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Ok(WebSocket::from_partially_read(stream, answer.rest, Role::Client, Some(config)))
    }

    /// The body at this path; `None` if the daemon does not have it.
    pub fn get(&self, target: &str, until: Instant) -> Option<Vec<u8>> {
        let mut stream = self.open(Some(until)).ok()?;
        let answer = self.ask(&mut stream, target, "Connection: close\r\n").ok()?;
        (answer.status == 200).then(|| answer.body(&mut stream))
    }

    fn open(&self, until: Option<Instant>) -> Result<Stream, Refused> {
        let Address { host, port, .. } = &self.address;
        let unreachable = |error: io::Error| {
            let hint = match error.kind() {
                ErrorKind::ConnectionRefused => "no daemon listens there: ",
                _ => "",
            };
            Refused::for_now(format!("{}: {hint}{error}", self.address))
        };
        let latest = Instant::now() + CONNECT_SECONDS;
        let until = until.map_or(latest, |until| until.min(latest));

        let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
        let addresses = (host.as_str(), *port).to_socket_addrs().map_err(unreachable)?;
        for address in addresses {
            // A moment even if no time is left: this may be the last attempt, and the daemon may be back.
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            let socket = match TcpStream::connect_timeout(&address, left) {
                Ok(socket) => socket,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            socket.set_nodelay(true).map_err(unreachable)?;
            socket.set_write_timeout(Some(SILENCE)).map_err(unreachable)?;
            let until = Some(Instant::now() + left);
            let socket = Patient { socket, outlet: self.outlet.clone(), patience: CONNECT_SECONDS, until };
            return match &self.trust {
                None => Ok(MaybeTlsStream::Plain(socket)),
                Some(trust) => Ok(MaybeTlsStream::Rustls(over_tls(socket, host, trust)?)),
            };
        }
        Err(unreachable(failure))
    }

    /// Sends a request with these fields and reads the head of the answer.
    fn ask(&self, stream: &mut Stream, target: &str, fields: &str) -> Result<Answer, Refused> {
        let Address { prefix, .. } = &self.address;
        let version = env!("CARGO_PKG_VERSION");
        let mut request = format!("GET {prefix}{target} HTTP/1.1\r\nHost: {}\r\n{fields}", self.address);
        request.push_str(&format!("User-Agent: luxcast/{version}\r\n"));
        if let Some(token) = &self.token {
            let value = token.header().map_err(Refused::ForGood)?;
            request.push_str(&format!("Authorization: {value}\r\n"));
        }
        request.push_str("\r\n");
        let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
        sent.and_then(|()| Answer::read(stream)).map_err(|error| match is_output_closed(&error) {
            true => Refused::OutputClosed,
            false => Refused::for_now(format!("{}: {}", self.address, reason(&error, &self.address.host))),
        })
    }
}

/// The socket below, with what its reads wait for.
pub fn patient(stream: &mut Stream) -> &mut Patient {
    match stream {
        MaybeTlsStream::Plain(socket) => socket,
        MaybeTlsStream::Rustls(stream) => &mut stream.sock,
        _ => unreachable!("no other library speaks TLS here"),
    }
}

fn over_tls(
    socket: Patient,
    host: &str,
    trust: &Arc<ClientConfig>,
) -> Result<StreamOwned<ClientConnection, Patient>, Refused> {
    let name = ServerName::try_from(host.to_owned());
    let name =
        name.map_err(|_| Refused::ForGood(format!("{host} is not a name that a certificate can have")))?;
    let session = ClientConnection::new(trust.clone(), name);
    Ok(StreamOwned::new(session.map_err(|error| Refused::ForGood(words(&error, host)))?, socket))
}

/// Says why reading or writing failed.
pub fn reason(error: &io::Error, host: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (inner, error.kind()) {
        (Some(error), _) => words(error, host),
        (None, ErrorKind::WouldBlock | ErrorKind::TimedOut) => "no answer".to_owned(),
        (None, _) => error.to_string(),
    }
}

/// What an HTTP answer other than 101 means. Only the daemon's own refusal is final: one from a proxy may pass,
/// whatever its status.
fn refusal(answer: Answer, stream: &mut Stream) -> Refused {
    let status = answer.status;
    let retry_after = answer.field("retry-after").and_then(|seconds| seconds.parse().ok());
    let location = answer.field("location").map(str::to_owned);
    judge(status, retry_after, location.as_deref(), &answer.body(stream))
}

fn judge(status: u16, retry_after_seconds: Option<u64>, location: Option<&str>, body: &[u8]) -> Refused {
    #[derive(Deserialize)]
    struct Body {
        error: String,
        #[serde(default)]
        message: String,
    }
    let retry_after = retry_after_seconds.map(Duration::from_secs);
    match serde_json::from_slice(body) {
        Ok(Body { error, message }) if FINAL.contains(&error.as_str()) => {
            Refused::ForGood(format!("refused: {status} {error}: {message}"))
        }
        Ok(Body { error, message }) if PASSING.contains(&error.as_str()) => {
            Refused::ForNow { reason: format!("refused: {status} {error}: {message}"), retry_after }
        }
        _ => {
            let place =
                location.map_or_else(String::new, |location| format!(", which redirects to {location}"));
            let reason = format!("something other than luxcast answered: {status}{place}");
            Refused::ForNow { reason, retry_after }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FINAL, PASSING, Refused, judge};

    #[test]
    fn only_the_daemons_own_refusal_is_final() {
        let body = br#"{"error":"full","message":"no room"}"#;
        assert_eq!(
            judge(503, Some(2), None, body),
            Refused::ForNow {
                reason: "refused: 503 full: no room".to_owned(),
                retry_after: Some(Duration::from_secs(2)),
            }
        );
        for (words, is_final) in [(&FINAL[..], true), (&PASSING[..], false)] {
            for word in words {
                let body = format!(r#"{{"error":"{word}","message":"m"}}"#);
                let refused = judge(404, None, None, body.as_bytes());
                assert_eq!(matches!(refused, Refused::ForGood(_)), is_final, "{word}");
            }
        }
        for body in ["", "<html>", "{}", r#"{"error":"Not Found"}"#, r#"{"error":{"code":404}}"#, "[]"] {
            for status in [200, 302, 400, 401, 403, 404, 500, 502, 503, 504] {
                let refused = judge(status, None, None, body.as_bytes());
                let reason = format!("something other than luxcast answered: {status}");
                assert_eq!(refused, Refused::ForNow { reason, retry_after: None });
            }
        }
        let Refused::ForNow { reason, .. } = judge(302, None, Some("https://sso/"), b"") else { panic!() };
        assert!(reason.ends_with("302, which redirects to https://sso/"));
    }
}
