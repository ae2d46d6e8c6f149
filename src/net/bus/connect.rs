//! Options of the connection to NATS: servers, TLS, credentials.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};

/// A dead connection is noticed after two of these without an answer; the client's own default is a minute.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(4);
/// More messages than the reader's credit can bring, of the smallest size.
const SUBSCRIPTION_MESSAGES: usize = 1 << 18;

/// Whom to connect to, and as whom.
#[derive(Clone, Debug, Default)]
pub struct BusConfig {
    pub servers: Vec<String>,
    pub stream: String,
    pub subject: String,
    pub credentials_file: Option<PathBuf>,
    pub nkey_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// Connects, now or as soon as a server is there. `on_event` hears of connections and their ends.
///
/// # Errors
/// What is wrong with an address or one of the files.
pub async fn connect(
    config: &BusConfig,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> io::Result<Client> {
    let addresses = config.servers.iter().map(|server| server.parse::<ServerAddr>());
    let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
    let mut options = ConnectOptions::new()
        .name("luxcast")
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .subscription_capacity(SUBSCRIPTION_MESSAGES)
        .custom_inbox_prefix("_INBOX_luxcast")
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(100u64 << attempts.min(6)).min(RECONNECT_PAUSE_MAX)
        })
        .event_callback(move |event| {
            on_event(event);
            async {}
        });
    if let Some(path) = &config.credentials_file {
        options = options.credentials_file(path).await?;
    }
    if let Some(path) = &config.nkey_file {
        options = options.nkey(std::fs::read_to_string(path)?.trim().to_owned());
    }
    if let Some(path) = &config.ca_file {
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(certificate), Some(key)) = (&config.certificate_file, &config.key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options.connect(addresses).await.map_err(io::Error::other)
}
