//! How a command connects to the daemon as a watcher: the socket, TLS over it, the token, the upgrade, and what a
//! refusal means.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Deserialize;
use tungstenite::WebSocket;
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::client::Request;
use tungstenite::http::header::AUTHORIZATION;
use tungstenite::http::{HeaderValue, Uri};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::stream::MaybeTlsStream;

/// For each address to connect, and for the daemon to answer the request.
const CONNECT_SECONDS: Duration = Duration::from_secs(10);

/// After so long a silence the connection is probed with a ping, and given up after as long again.
/// Longer than the daemon's usual heartbeat of 30 s.
pub const SILENCE: Duration = Duration::from_secs(45);

/// Events are at most a megabyte unless the daemon is told otherwise; this leaves room for that.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Plain, or with TLS over it.
pub type Stream = MaybeTlsStream<TcpStream>;

/// A token, which is never shown.
#[derive(Clone)]
pub struct Token(OsString);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

impl Token {
    /// Judged later: clap shows the values that it refuses.
    pub fn new(text: OsString) -> Self {
        Self(text)
    }

    /// What the request says. Not in the URL, where it would stand in the logs of proxies.
    pub fn header(&self) -> Result<HeaderValue, String> {
        let mut text = b"Bearer ".to_vec();
        text.extend_from_slice(self.0.as_encoded_bytes());
        let is_good = self.0.as_encoded_bytes().iter().all(u8::is_ascii_graphic);
        let value = HeaderValue::from_bytes(&text).ok().filter(|_| is_good);
        value.ok_or_else(|| "the token has a character that no token has".to_owned())
    }
}

/// Whom to believe that it is the daemon: those whose certificates come from `authorities`, a PEM file, or else from
/// the authorities that this system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
///
/// # Errors
/// What is wrong with the file, or that the system trusts nobody.
pub fn trust(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(file) => {
            let wrong = |problem: &dyn fmt::Display| format!("{}: {problem}", file.display());
            let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"no certificate in it"));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(
                    "this system trusts no certificate authority: --ca names a file with one".to_owned()
                );
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    ForGood(String),
    ForNow {
        reason: String,
        /// As the daemon told.
        retry_after: Option<Duration>,
    },
}

impl Refused {
    fn for_now(reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        Self::ForNow { reason, retry_after: None }
    }
}

/// Connects and upgrades. `trust` is for `wss://`.
pub fn connect(
    url: &str,
    token: Option<&Token>,
    trust: Option<&Arc<ClientConfig>>,
) -> Result<WebSocket<Stream>, Refused> {
    let uri: Uri = url.parse().map_err(|error| Refused::ForGood(format!("{url}: {error}")))?;
    let host = uri.host().unwrap_or_default();
    let bare_host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if trust.is_some() { 443 } else { 80 });
    let unreachable = |error: io::Error| Refused::for_now(format!("{host}:{port}: {error}"));

    let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
    let addresses = (bare_host, port).to_socket_addrs().map_err(unreachable)?;
    for address in addresses {
        let socket = match TcpStream::connect_timeout(&address, CONNECT_SECONDS) {
            Ok(socket) => socket,
            Err(error) => {
                failure = error;
                continue;
            }
        };
        socket.set_nodelay(true).map_err(unreachable)?;
        socket.set_read_timeout(Some(CONNECT_SECONDS)).map_err(unreachable)?;
        let stream = match trust {
            None => MaybeTlsStream::Plain(socket),
            Some(trust) => MaybeTlsStream::Rustls(over_tls(socket, bare_host, trust)?),
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        return match client_with_config(request(url, token)?, stream, Some(config)) {
            Ok((socket, _)) => {
                set_patience(&socket, SILENCE).map_err(unreachable)?;
                Ok(socket)
            }
            Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let retry_after = response.headers().get("retry-after");
                Err(refusal(
                    response.status().as_u16(),
                    retry_after.and_then(|seconds| seconds.to_str().ok()?.parse().ok()),
                    response.body().as_deref().unwrap_or_default(),
                ))
            }
            Err(HandshakeError::Failure(error)) => Err(Refused::for_now(error)),
            Err(HandshakeError::Interrupted(_)) => Err(Refused::for_now("no answer")),
        };
    }
    Err(unreachable(failure))
}

/// For how long a read waits.
pub fn set_patience(socket: &WebSocket<Stream>, patience: Duration) -> io::Result<()> {
    socket_of(socket.get_ref()).set_read_timeout(Some(patience))
}

fn over_tls(
    socket: TcpStream,
    host: &str,
    trust: &Arc<ClientConfig>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Refused> {
    let name = ServerName::try_from(host.to_owned());
    let name =
        name.map_err(|_| Refused::ForGood(format!("{host} is no name that a certificate can have")))?;
    let session = ClientConnection::new(trust.clone(), name);
    Ok(StreamOwned::new(session.map_err(|error| Refused::ForGood(error.to_string()))?, socket))
}

fn socket_of(stream: &Stream) -> &TcpStream {
    match stream {
        MaybeTlsStream::Plain(socket) => socket,
        MaybeTlsStream::Rustls(stream) => &stream.sock,
        _ => unreachable!("no other library speaks TLS here"),
    }
}

fn request(url: &str, token: Option<&Token>) -> Result<Request, Refused> {
    let request = url.into_client_request();
    let mut request = request.map_err(|error| Refused::ForGood(format!("{url}: {error}")))?;
    if let Some(token) = token {
        let value = token.header().map_err(Refused::ForGood)?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// What an HTTP answer other than 101 means for us.
fn refusal(status: u16, retry_after_seconds: Option<u64>, body: &[u8]) -> Refused {
    #[derive(Deserialize)]
    struct Body {
        error: String,
        message: String,
    }
    let reason = match serde_json::from_slice(body) {
        Ok(Body { error, message }) => format!("refused: {status} {error}: {message}"),
        Err(_) => format!("refused: {status}"),
    };
    let retry_after = retry_after_seconds.map(Duration::from_secs);
    match status {
        // Slow request, too many of us, and the server's own trouble may pass.
        408 | 429 | 500 | 502..=504 => Refused::ForNow { reason, retry_after },
        _ => Refused::ForGood(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Refused, refusal};

    #[test]
    fn refusals_are_final_unless_they_may_pass() {
        let body = br#"{"error":"full","message":"no room"}"#;
        assert_eq!(
            refusal(503, Some(2), body),
            Refused::ForNow {
                reason: "refused: 503 full: no room".to_owned(),
                retry_after: Some(Duration::from_secs(2)),
            }
        );
        for status in [408, 429, 500, 502, 504] {
            assert!(matches!(refusal(status, None, b""), Refused::ForNow { .. }));
        }
        for status in [200, 301, 400, 401, 403, 404, 405, 414, 426, 431, 505] {
            let expected = Refused::ForGood(format!("refused: {status}"));
            assert_eq!(refusal(status, None, b"<html>"), expected);
        }
    }
}
