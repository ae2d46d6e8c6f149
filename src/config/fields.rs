//! The settings in force: one field each, within the bounds of its row in the table.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use crate::config::bus_url::BusUrl;

/// Every setting, within the bounds of its row in `SETTINGS`. Sizes are in bytes. `Config::default()` has the values
/// that hold when no setting is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Never empty; no address twice, unless its port is 0.
    pub listen: Vec<SocketAddr>,
    /// `None`: not set, see [`Config::ingest_path`]. With `demo`, the server then makes a private
    /// temporary directory instead.
    pub ingest: Option<PathBuf>,
    /// `None`: off.
    pub admin: Option<SocketAddr>,
    /// The TOML file that was read.
    pub config: Option<PathBuf>,
    pub shards: usize,
    pub heartbeat_seconds: Duration,
    pub silent_heartbeats: usize,
    pub stalled_seconds: Duration,
    pub history_bytes: usize,
    pub history_seconds: Duration,
    pub job_idle_seconds: Duration,
    pub topics_max: usize,
    pub jobs_max: usize,
    /// Zero: never.
    pub metrics_seconds: Duration,
    /// `None`: nothing is kept across a restart.
    pub state_dir: Option<PathBuf>,
    pub drain_seconds: Duration,
    pub overrun: Overrun,
    pub publishers_max: usize,
    /// `<= history_bytes / LINE_SHARE_OF_HISTORY`
    pub line_bytes_max: usize,
    pub message_bytes_max: usize,
    pub compression: Compression,
    pub request_head_bytes_max: usize,
    pub handshake_seconds: Duration,
    /// Zero: what the file limit allows. The server resolves it when it starts.
    pub connections_max: usize,
    /// Zero: no limit.
    pub connections_per_address_max: usize,
    /// Zero: no limit.
    pub handshakes_per_second: usize,
    pub messages_per_second: usize,
    pub jobs_per_connection_max: usize,
    /// Each `*`, `null` or `scheme://host[:port]`.
    pub allowed_origins: Vec<String>,
    /// Each a host without a port, or `*`.
    pub allowed_hosts: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
    pub depth_max: usize,
    /// Both are set, or neither.
    pub tls_certificate_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub log_level: LevelFilter,
    pub log_format: LogFormat,
    /// Static tokens and what each allows.
    pub token_file: Option<PathBuf>,
    /// `None` exactly if `jwt_algorithm` is.
    pub jwt_key_file: Option<PathBuf>,
    pub jwt_algorithm: Option<JwtAlgorithm>,
    /// Not together with tokens.
    pub http_publish: HttpPublish,
    pub allow_anonymous: bool,
    pub demo: bool,
    /// Empty: this daemon is alone. All have TLS, or none; those that sign in do so with the same words.
    pub bus: Vec<BusUrl>,
    pub bus_stream: String,
    /// Literal: no wildcards.
    pub bus_subject: String,
    pub bus_allow_plaintext: bool,
    /// Not together with `bus_nkey_file`, or with what signs in in `bus`.
    pub bus_credentials_file: Option<PathBuf>,
    pub bus_nkey_file: Option<PathBuf>,
    pub bus_ca_file: Option<PathBuf>,
    /// Both are set, or neither.
    pub bus_certificate_file: Option<PathBuf>,
    pub bus_key_file: Option<PathBuf>,
    pub bus_past_bytes: usize,
    /// 0: nothing older than the history is read again.
    pub bus_replay_bytes: usize,
    pub bus_start_seconds: Duration,
}

/// How JSON Web Tokens are signed. This decides, whatever a token's own header says (RFC 8725, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

/// Who may publish over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpPublish {
    /// Whoever has a token with the scope `publish`.
    Scope,
    /// Whoever may connect.
    Anyone,
    Off,
}

/// Whether messages are compressed for clients that offer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    On,
    Off,
}

/// What happens when the history is about to drop events that a watcher still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrun {
    /// They are dropped, and the watcher gets a gap: watchers never slow publishers.
    Gap,
    /// Publishers wait for watchers that still read.
    Wait,
}

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// People.
    Human,
    /// Programs: each line is a JSON object.
    Json,
}

/// A line takes at most one of this many parts of the history: a batch takes at most as much, and the newest four
/// stay.
pub const LINE_SHARE_OF_HISTORY: usize = 8;

/// Messages that a client may send at once, in seconds of its steady rate.
const BURST_SECONDS: usize = 4;

impl Config {
    /// The path of the ingest socket, unless it is in a temporary directory.
    pub fn ingest_path(&self) -> PathBuf {
        self.ingest.clone().unwrap_or_else(default_ingest_path)
    }

    /// Whether watchers need a token.
    pub fn asks_for_tokens(&self) -> bool {
        self.token_file.is_some() || self.jwt_key_file.is_some()
    }

    /// Certificate and key, if TLS is on.
    pub fn tls_files(&self) -> Option<(&Path, &Path)> {
        self.tls_certificate_file.as_deref().zip(self.tls_key_file.as_deref())
    }

    /// A connection that sends nothing for this long is dead.
    pub fn silent_limit(&self) -> Duration {
        let beats = u32::try_from(self.silent_heartbeats).unwrap_or(u32::MAX);
        self.heartbeat_seconds.saturating_mul(beats)
    }

    /// How many messages a client may send at once before `messages_per_second` limits it.
    pub fn messages_burst(&self) -> usize {
        self.messages_per_second * BURST_SECONDS
    }
}

/// Where the daemon listens for publishers by default: in the user's runtime directory, or in the system's if there
/// is none.
pub fn default_ingest_path() -> PathBuf {
    default_ingest_paths().swap_remove(0)
}

/// Where a daemon may listen that this user or the system started: first the user's own path, then the system's.
pub fn default_ingest_paths() -> Vec<PathBuf> {
    ingest_paths_in(env::var_os("XDG_RUNTIME_DIR").as_deref().map(Path::new))
}

/// The XDG Base Directory Specification: a path that is not absolute is invalid and must be ignored.
fn ingest_paths_in(runtime_directory: Option<&Path>) -> Vec<PathBuf> {
    let own = runtime_directory.filter(|directory| directory.is_absolute());
    let own = own.map(|directory| directory.join("luxcast.sock"));
    own.into_iter().chain([PathBuf::from("/run/luxcast/ingest.sock")]).collect()
}

#[cfg(test)]
mod tests {
    use super::{Config, Overrun, ingest_paths_in};
    use std::path::Path;
    use std::time::Duration;
    use tracing::level_filters::LevelFilter;

    #[test]
    fn the_defaults_are_those_of_the_specification() {
        let config = Config::default();
        assert_eq!(config.listen, ["127.0.0.1:20555".parse().unwrap()]);
        assert_eq!(config.admin, Some("127.0.0.1:20556".parse().unwrap()));
        assert_eq!((config.ingest.as_ref(), config.config.as_ref()), (None, None));
        assert_eq!(config.state_dir, None);
        assert!((1..=64).contains(&config.shards));
        let seconds = [
            config.heartbeat_seconds,
            config.stalled_seconds,
            config.history_seconds,
            config.job_idle_seconds,
            config.metrics_seconds,
            config.drain_seconds,
            config.handshake_seconds,
        ];
        assert_eq!(seconds, [30, 30, 600, 86_400, 5, 10, 10].map(Duration::from_secs));
        let counts = [
            config.silent_heartbeats,
            config.history_bytes,
            config.topics_max,
            config.jobs_max,
            config.publishers_max,
            config.line_bytes_max,
            config.message_bytes_max,
            config.request_head_bytes_max,
            config.connections_max,
            config.connections_per_address_max,
            config.handshakes_per_second,
            config.messages_per_second,
            config.jobs_per_connection_max,
            config.depth_max,
        ];
        let expected =
            [3, 268_435_456, 1_000_000, 100_000, 4_096, 1_000_000, 65_536, 16_384, 0, 0, 200, 50, 1_024, 64];
        assert_eq!(counts, expected);
        assert_eq!(config.overrun, Overrun::Gap);
        assert_eq!(config.log_level, LevelFilter::INFO);
        assert!(config.allowed_origins.is_empty() && config.trusted_proxies.is_empty());
        assert!(!config.allow_anonymous && !config.demo && !config.asks_for_tokens());
    }

    #[test]
    fn derived_values() {
        let config = Config::default();
        assert_eq!(config.silent_limit(), Duration::from_secs(90));
        assert_eq!(config.messages_burst(), 200);
    }

    #[test]
    fn the_ingest_socket_is_in_the_runtime_directory() {
        let system = Path::new("/run/luxcast/ingest.sock");
        let own = Path::new("/run/user/7/luxcast.sock");
        assert_eq!(ingest_paths_in(Some(Path::new("/run/user/7"))), [own, system]);
        for none in [Some(Path::new("relative")), Some(Path::new("")), None] {
            assert_eq!(ingest_paths_in(none), [system]);
        }
    }
}
