//! Options of the connection to NATS: servers, TLS, credentials.

use std::fmt;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{Client, ClientError, ConnectOptions, Event, ReconnectToServer, Server, ServerAddr};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use crate::config::{BusLogin, BusUrl, Config};
use crate::net::bus::sign_in::SignIn;
use crate::net::bus::words::in_words;
use crate::net::host::auth_files;
use crate::net::listen::certificate::{self, pem_words};

/// A dead connection is noticed after two of these without an answer; the client's own default is a minute.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(4);
/// Between two servers that are tried once.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// More messages than the reader's credit can bring, of the smallest size.
const SUBSCRIPTION_MESSAGES: usize = 1 << 18;

/// Whom to connect to, and as whom. Written out, it shows no secret.
#[derive(Clone, Debug, Default)]
pub struct BusConfig {
    /// Not empty; all have TLS, or none.
    pub servers: Vec<BusUrl>,
    pub stream: String,
    pub subject: String,
    /// Servers beyond this machine may be spoken to without TLS.
    pub is_plaintext_allowed: bool,
    pub credentials_file: Option<PathBuf>,
    pub nkey_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    /// Both are set, or neither.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl BusConfig {
    /// What the settings say; `None`: this daemon is alone.
    pub fn new(config: &Config) -> Option<Self> {
        (!config.bus.is_empty()).then(|| Self {
            servers: config.bus.clone(),
            stream: config.bus_stream.clone(),
            subject: config.bus_subject.clone(),
            is_plaintext_allowed: config.bus_allow_plaintext,
            credentials_file: config.bus_credentials_file.clone(),
            nkey_file: config.bus_nkey_file.clone(),
            ca_file: config.bus_ca_file.clone(),
            certificate_file: config.bus_certificate_file.clone(),
            key_file: config.bus_key_file.clone(),
        })
    }

    /// Opens the files, as each connection does.
    ///
    /// # Errors
    /// The setting, its file, and what is wrong with it; never what is in it.
    pub fn check(&self) -> io::Result<()> {
        let wrong = |name: &str, problem: &dyn fmt::Display| io::Error::other(format!("{name}: {problem}"));
        if let Some(sign_in) = self.sign_in() {
            let name = if self.nkey_file.is_some() { "bus_nkey_file" } else { "bus_credentials_file" };
            sign_in.check().map_err(|problem| wrong(name, &problem))?;
        }
        if let Some(path) = &self.ca_file {
            check_certificates(path).map_err(|problem| wrong("bus_ca_file", &problem))?;
        }
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            certificate::read_pair(certificate, key, Timestamp::now())
                .map_err(|problem| wrong("bus_certificate_file, bus_key_file", &problem))?;
        }
        Ok(())
    }

    /// What to warn of: files with secrets that every user of this machine may use.
    pub fn open_files(&self) -> Vec<String> {
        let secrets = [&self.credentials_file, &self.nkey_file, &self.key_file];
        // One that cannot be looked at cannot be used either, which `check` says.
        let found = secrets.into_iter().flatten().filter_map(|path| auth_files::open_to_others(path).ok()?);
        found.collect()
    }

    fn sign_in(&self) -> Option<SignIn> {
        let nkey = self.nkey_file.clone().map(SignIn::Nkey);
        nkey.or_else(|| self.credentials_file.clone().map(SignIn::Credentials))
    }

    fn is_tls(&self) -> bool {
        self.servers.iter().any(|server| server.is_tls)
    }

    /// Without TLS and consent, only servers of this machine are there to be spoken to: no server may name others.
    fn stays_here(&self) -> bool {
        !self.is_tls() && !self.is_plaintext_allowed
    }
}

fn check_certificates(path: &Path) -> Result<(), String> {
    let wrong = |problem: &str| format!("{}: {problem}", path.display());
    let not_pem = |error: pem::Error| wrong(&pem_words(&error));
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(not_pem)? {
        let added = authorities.add(certificate.map_err(not_pem)?);
        added.map_err(|_| wrong("a certificate in it cannot be understood"))?;
    }
    if authorities.is_empty() { Err(wrong("no certificate in it")) } else { Ok(()) }
}

/// Connects, now or as soon as a server is there. The servers' lists of connections (`connz`) show `name`. `on_event`
/// hears of connections and their ends.
///
/// # Errors
/// What is wrong with an address or one of the files.
pub async fn connect(
    config: &BusConfig,
    name: &str,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> io::Result<Client> {
    let tried = Arc::new(Mutex::new(Tried::default()));
    let last = tried.clone();
    let on_event = move |event| on_event(last.lock().name_server(event));
    let options = options(config, name, on_event)?.subscription_capacity(SUBSCRIPTION_MESSAGES);
    let turns = AtomicUsize::new(fastrand::usize(..1 << 16));
    let options = options.reconnect_to_server_callback(move |servers, _| {
        // Each in turn: one that lets this in may be cut off from the others.
        let turn = turns.fetch_add(1, Ordering::Relaxed);
        let server = servers.get(turn % servers.len().max(1));
        tried.lock().turn_to(server, &servers);
        let next = server.map(|server| ReconnectToServer { addr: server.addr.clone(), delay: None });
        async { next }
    });
    let options = options.retry_on_initial_connect().max_reconnects(None);
    options.connect(addresses(config)?).await.map_err(io::Error::other)
}

/// The server that was tried last, while the next one is tried already.
#[derive(Default)]
struct Tried {
    failed: Option<String>,
    why: Option<String>,
    next: Option<ServerAddr>,
}

impl Tried {
    fn turn_to(&mut self, next: Option<&Server>, servers: &[Server]) {
        let last = mem::replace(&mut self.next, next.map(|server| server.addr.clone()));
        self.why = servers
            .iter()
            .find(|server| Some(&server.addr) == last.as_ref())
            .and_then(|server| server.last_error.clone());
        self.failed = last.map(|addr| addr.as_url_str().to_owned());
    }

    /// The client says of which kind its trouble is, but neither with whom nor why. It says so after it has turned to the
    /// next server.
    fn name_server(&self, event: Event) -> Event {
        match (event, &self.failed) {
            (Event::ClientError(ClientError::Other(kind)), Some(server)) => {
                let why = self.why.as_ref().filter(|why| why.contains(&kind)).unwrap_or(&kind);
                Event::ClientError(ClientError::Other(format!("{server}: {why}")))
            }
            (event, _) => event,
        }
    }
}

/// Connects now, or not at all.
///
/// # Errors
/// What is wrong with an address or one of the files, or why no server lets this in.
pub async fn connect_once(
    config: &BusConfig,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> io::Result<Client> {
    let pause = |attempts| if attempts > 1 { RETRY_PAUSE } else { Duration::ZERO };
    let options = options(config, "luxcast", on_event)?.reconnect_delay_callback(pause);
    options.connect(addresses(config)?).await.map_err(|error| io::Error::other(in_words(&error)))
}

/// Without what signs in: the client writes addresses to the log.
fn addresses(config: &BusConfig) -> io::Result<Vec<ServerAddr>> {
    config.servers.iter().map(|server| server.address().parse()).collect()
}

fn options(
    config: &BusConfig,
    name: &str,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> io::Result<ConnectOptions> {
    config.check()?;
    // The client leaves the choice to the process, and panics if there is none. An error: it is made already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut options = match config.sign_in() {
        Some(sign_in) => ConnectOptions::with_auth_callback(move |nonce| {
            let auth = sign_in.auth(&nonce);
            async move { auth }
        }),
        None => ConnectOptions::new(),
    };
    options = match config.servers.iter().find_map(|server| server.login.as_ref()) {
        Some(BusLogin::Password { user, password }) => {
            options.user_and_password(user.clone(), password.to_string())
        }
        Some(BusLogin::Token(token)) => options.token(token.to_string()),
        None => options,
    };
    options = options
        .name(name)
        .require_tls(config.is_tls())
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .custom_inbox_prefix("_INBOX_luxcast")
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(100u64 << attempts.min(6)).min(RECONNECT_PAUSE_MAX)
        })
        .event_callback(move |event| {
            on_event(event);
            async {}
        });
    if config.stays_here() {
        options = options.ignore_discovered_servers();
    }
    if let Some(path) = &config.ca_file {
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(certificate), Some(key)) = (&config.certificate_file, &config.key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}
