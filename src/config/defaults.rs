//! The default settings, made from the table.

use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::config::fields::{Compression, Config, HttpPublish, LogFormat, Overrun};
use crate::config::setting::Initial;
use crate::config::table::{SETTINGS, SHARDS_MAX};

impl Default for Config {
    fn default() -> Config {
        let mut config = Config::before_the_table();
        for setting in &SETTINGS {
            if let Initial::Text(text) = setting.default {
                let stored = setting.store(&mut config, &[text.to_string()]);
                assert!(stored.is_ok(), "the default of {}: {stored:?}", setting.name);
            }
        }
        config
    }
}

impl Config {
    /// The values that the table computes or leaves out. The others are placeholders, which the table overwrites.
    fn before_the_table() -> Config {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Config {
            listen: Vec::new(),
            ingest: None,
            admin: None,
            config: None,
            shards: cores.min(SHARDS_MAX),
            heartbeat_seconds: Duration::ZERO,
            silent_heartbeats: 0,
            stalled_seconds: Duration::ZERO,
            history_bytes: 0,
            history_seconds: Duration::ZERO,
            job_idle_seconds: Duration::ZERO,
            topics_max: 0,
            jobs_max: 0,
            metrics_seconds: Duration::ZERO,
            state_dir: None,
            drain_seconds: Duration::ZERO,
            overrun: Overrun::Gap,
            publishers_max: 0,
            line_bytes_max: 0,
            message_bytes_max: 0,
            compression: Compression::On,
            request_head_bytes_max: 0,
            handshake_seconds: Duration::ZERO,
            connections_max: 0,
            connections_per_address_max: 0,
            handshakes_per_second: 0,
            messages_per_second: 0,
            jobs_per_connection_max: 0,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            depth_max: 0,
            tls_certificate_file: None,
            tls_key_file: None,
            log_level: LevelFilter::INFO,
            log_format: LogFormat::Human,
            token_file: None,
            jwt_key_file: None,
            jwt_algorithm: None,
            http_publish: HttpPublish::Scope,
            allow_anonymous: false,
            demo: false,
            bus: Vec::new(),
            bus_stream: String::new(),
            bus_subject: String::new(),
            bus_allow_plaintext: false,
            bus_credentials_file: None,
            bus_nkey_file: None,
            bus_ca_file: None,
            bus_certificate_file: None,
            bus_key_file: None,
            bus_past_bytes: 0,
            bus_replay_bytes: 0,
            bus_start_seconds: Duration::ZERO,
        }
    }
}
