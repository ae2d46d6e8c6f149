//! Connects a command to the daemon: socket, TLS, token, requests, and the upgrade of a watcher.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tungstenite::WebSocket;
use tungstenite::handshake::client::generate_key;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::stream::MaybeTlsStream;

use crate::cli::address::Address;
use crate::cli::answer::Answer;
use crate::cli::body::Body;
use crate::cli::outlet::{Outlet, Patient, is_output_closed};
use crate::cli::refusal::{Refusal, Refused};
use crate::cli::trust::words;

/// Limit to connect to each address, and for the daemon to answer the request.
const CONNECT_SECONDS: Duration = Duration::from_secs(10);

/// After this silence the connection is probed with a ping; after as long again it is given up. Longer than the
/// daemon's default heartbeat of 30 s.
pub const SILENCE: Duration = Duration::from_secs(45);

/// Events have at most a megabyte by default; this leaves room for a higher setting.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

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

/// What is asked for.
pub struct Request<'a> {
    pub method: &'static str,
    /// Path and query behind the address.
    pub target: &'a str,
    /// Lines of the head beside those that every request has, each with its end.
    pub fields: &'a str,
    pub body: &'a [u8],
}

impl Way {
    /// Connects and upgrades, until this deadline at most.
    pub fn websocket(&self, target: &str, until: Option<Instant>) -> Result<WebSocket<Stream>, Refused> {
        let mut stream = self.open(until)?;
        let key = generate_key();
        let fields = format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        let answer = self.ask(&mut stream, &get(target, &fields)).map_err(|error| match error {
            // A fault of TLS would be the same for any request.
            AskError::Io(error) if tls_error(&error).is_none() && !is_output_closed(&error) => {
                Refused::NoUpgrade(Box::new(self.refused(error.into())))
            }
            error => self.refused(error),
        })?;
        if answer.status != 101 {
            return Err(Refusal::read(answer, &mut stream).of_upgrade());
        }
        if let Some(fault) = answer.fault(&key) {
            let refused = Refused::for_now(format!("{}: {fault}", self.address));
            return Err(Refused::NoUpgrade(Box::new(refused)));
        }
        let patient = patient(&mut stream);
        (patient.until, patient.patience) = (None, SILENCE);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Ok(WebSocket::from_partially_read(stream, answer.rest, Role::Client, Some(config)))
    }

    /// Connects and asks for a body of this type that goes on, until this deadline at most.
    pub fn stream(
        &self,
        target: &str,
        kind: &str,
        until: Option<Instant>,
    ) -> Result<(Stream, Body), Refused> {
        let mut stream = self.open(until)?;
        let fields = format!("Accept: {kind}\r\nCache-Control: no-store\r\n");
        let answer = self.ask(&mut stream, &get(target, &fields)).map_err(|error| self.refused(error))?;
        if answer.status != 200 || answer.content_type() != kind {
            return Err(Refusal::read(answer, &mut stream).into());
        }
        let patient = patient(&mut stream);
        (patient.until, patient.patience) = (None, SILENCE);
        Ok((stream, answer.into_body()))
    }

    /// The body at this path.
    ///
    /// # Errors
    /// Why there is none.
    pub fn get(&self, target: &str, until: Instant) -> Result<Vec<u8>, Refused> {
        let mut stream = self.open(Some(until))?;
        let answer = self.ask(&mut stream, &get(target, "Connection: close\r\n"));
        let answer = answer.map_err(|error| self.refused(error))?;
        match answer.status {
            200 => Ok(answer.body(&mut stream)),
            _ => Err(Refusal::read(answer, &mut stream).into()),
        }
    }

    /// Connects, until this deadline at most.
    pub fn open(&self, until: Option<Instant>) -> Result<Stream, Refused> {
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

    /// Sends a request and reads the head of the answer.
    pub fn ask(&self, stream: &mut Stream, request: &Request<'_>) -> Result<Answer, AskError> {
        let Address { prefix, .. } = &self.address;
        let Request { method, target, fields, body } = request;
        let version = env!("CARGO_PKG_VERSION");
        let mut head = format!("{method} {prefix}{target} HTTP/1.1\r\nHost: {}\r\n{fields}", self.address);
        head.push_str(&format!("User-Agent: luxcast/{version}\r\n"));
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: {}\r\n", token.header().map_err(AskError::Token)?));
        }
        head.push_str("\r\n");
        // In one write if it is short: head and body are then one packet.
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        match stream.write_all(&bytes).and_then(|()| stream.flush()) {
            Ok(()) => Ok(Answer::read(stream)?),
            // A server that refuses may answer before it has read all.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Answer::read(stream).map_err(|_| error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn refused(&self, error: AskError) -> Refused {
        match error {
            AskError::Token(problem) => Refused::ForGood(problem),
            AskError::Io(error) if is_output_closed(&error) => Refused::OutputClosed,
            AskError::Io(error) => Refused::for_now(self.problem(&error)),
        }
    }

    /// Why the connection failed, with where it leads.
    pub fn problem(&self, error: &io::Error) -> String {
        format!("{}: {}", self.address, reason(error, &self.address.host))
    }
}

/// Why there is no answer.
pub enum AskError {
    /// The token cannot be sent.
    Token(String),
    Io(io::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn get<'a>(target: &'a str, fields: &'a str) -> Request<'a> {
    Request { method: "GET", target, fields, body: &[] }
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

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Says why reading or writing failed.
pub fn reason(error: &io::Error, host: &str) -> String {
    match (tls_error(error), error.kind()) {
        (Some(error), _) => words(error, host),
        (None, ErrorKind::WouldBlock | ErrorKind::TimedOut) => "no answer".to_owned(),
        (None, _) => error.to_string(),
    }
}
