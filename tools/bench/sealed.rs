//! TLS: a throw-away certificate for the server, and the watcher's side.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::Outcome;

const HOST: &str = "localhost";

/// How watchers speak TLS.
#[derive(Clone)]
pub struct Trust {
    config: ClientConfig,
    /// Each watcher returns with its own session.
    resumes: bool,
}

/// Writes certificate and key (ECDSA, P-256) into `directory`. Returns the daemon's flags for them, and the
/// configuration of clients that trust them.
pub fn prepare(directory: &Path, resumes: bool) -> Outcome<(Vec<String>, Trust)> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([HOST.to_owned()])?;
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    fs::write(&certificate, cert.pem())?;
    fs::write(&key, signing_key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let flag = |name: &str, file: &Path| [name.to_owned(), file.display().to_string()];
    let flags = [flag("--tls-certificate-file", &certificate), flag("--tls-key-file", &key)];
    Ok((flags.into_iter().flatten().collect(), Trust { config, resumes }))
}

/// One watcher's TLS.
pub struct Sealed {
    session: ClientConnection,
    config: Arc<ClientConfig>,
    has_asked: bool,
    received: u64,
}

impl Sealed {
    pub fn new(trust: &Trust) -> Outcome<Self> {
        let mut config = trust.config.clone();
        config.resumption = match trust.resumes {
            true => Resumption::in_memory_sessions(1),
            false => Resumption::disabled(),
        };
        Self::with(Arc::new(config))
    }

    /// The TLS of the same watcher when it returns.
    pub fn again(&self) -> Outcome<Self> {
        Self::with(self.config.clone())
    }

    fn with(config: Arc<ClientConfig>) -> Outcome<Self> {
        let session = ClientConnection::new(config.clone(), ServerName::try_from(HOST)?)?;
        Ok(Self { session, config, has_asked: false, received: 0 })
    }

    /// Starts the handshake; the request is sent at its end.
    pub fn ask(&mut self, socket: &mut TcpStream, request: &[u8]) -> io::Result<()> {
        // The socket may not be connected yet; then this is called again.
        if !std::mem::replace(&mut self.has_asked, true) {
            self.session.writer().write_all(request)?;
        }
        self.send(socket)
    }

    /// Like `read` of a socket: some of what came, 0 at the end.
    pub fn read(&mut self, socket: &mut TcpStream, block: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(block) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            match self.session.read_tls(socket)? {
                0 => return Ok(0),
                count => self.received += count as u64,
            }
            self.session.process_new_packets().map_err(io::Error::other)?;
            self.send(socket)?;
        }
    }

    /// The bytes that came over the wire since this was last asked.
    pub fn received(&mut self) -> u64 {
        std::mem::take(&mut self.received)
    }

    /// A new socket's buffer holds all that a client sends here.
    fn send(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(socket)?;
        }
        Ok(())
    }
}
