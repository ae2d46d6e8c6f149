//! The one table of settings: each row is a setting's name, default, unit, bounds, help and place in `Config`.
//! Flags, variables, keys, `--help` and the table in README.md are made from it.

use crate::config::bus_table::BUS_SETTINGS;
use crate::config::setting::{Change, Initial, Kind, Setting};
use crate::config::value::{
    COMPRESSIONS, HTTP_PUBLISH, LOG_FORMATS, LOG_LEVELS, OVERRUNS, show_admin, show_algorithm, show_list,
    show_path, show_word, store_admin, store_algorithm, store_allowed_hosts, store_allowed_origins,
    store_ingest, store_listen, store_path, store_trusted_proxies, store_word,
};

/// One ingest thread cannot feed more on any machine.
pub const SHARDS_MAX: usize = 64;

const HOUR: f64 = 3_600.0;
const DAY: f64 = 24.0 * HOUR;
const YEAR: f64 = 365.0 * DAY;

/// In the order in which people meet them: where, how long, how much, who; then those of the bus.
pub static SETTINGS: [Setting; OWN.len() + BUS_SETTINGS.len()] = {
    let mut all = [OWN[0]; OWN.len() + BUS_SETTINGS.len()];
    let mut row = 0;
    while row < all.len() {
        all[row] = if row < OWN.len() { OWN[row] } else { BUS_SETTINGS[row - OWN.len()] };
        row += 1;
    }
    all
};

/// Those of a daemon by itself.
const OWN: [Setting; 42] = [
    Setting {
        name: "listen",
        default: Initial::Text("127.0.0.1:20555"),
        unit: "address",
        change: Change::AtStart,
        kind: Kind::List {
            store: store_listen,
            show: |config| show_list(&config.listen),
            copy: |to, from| to.listen.clone_from(&from.listen),
        },
        help: "Address and port for watchers; repeatable. Port 0 picks a free one. Beyond loopback it needs \
               tokens or allow_anonymous",
    },
    Setting {
        name: "ingest",
        default: Initial::Computed("$XDG_RUNTIME_DIR/luxcast.sock, else /run/luxcast/ingest.sock"),
        unit: "path",
        change: Change::AtStart,
        kind: Kind::Text {
            store: store_ingest,
            show: |config| config.ingest_path().display().to_string(),
            copy: |to, from| to.ingest.clone_from(&from.ingest),
        },
        help: "Unix socket for publishers. With demo and without this setting it is in a private temporary \
               directory",
    },
    Setting {
        name: "admin",
        default: Initial::Text("127.0.0.1:20556"),
        unit: "address",
        change: Change::AtStart,
        kind: Kind::Text { store: store_admin, show: show_admin, copy: |to, from| to.admin = from.admin },
        help: "Address and port for operators' HTTP requests (/metrics, /readyz, ...), or off",
    },
    Setting {
        name: "config",
        default: Initial::Computed("none"),
        unit: "path",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.config, text),
            show: |config| show_path(config.config.as_deref()),
            copy: |to, from| to.config.clone_from(&from.config),
        },
        help: "TOML file with settings; variables override it, flags override both",
    },
    Setting {
        name: "shards",
        default: Initial::Computed("number of cores"),
        unit: "threads",
        change: Change::AtStart,
        kind: Kind::Count { field: |config| &mut config.shards, min: 1, max: SHARDS_MAX as u64 },
        help: "Threads that serve watchers",
    },
    Setting {
        name: "heartbeat_seconds",
        default: Initial::Text("30"),
        unit: "seconds",
        change: Change::OnReload,
        kind: Kind::Seconds {
            field: |config| &mut config.heartbeat_seconds,
            min: 0.1,
            max: DAY,
            or_zero: false,
        },
        help: "Time between two pings on a connection",
    },
    Setting {
        name: "silent_heartbeats",
        default: Initial::Text("3"),
        unit: "heartbeats",
        change: Change::OnReload,
        // A connection counts its silence in two bytes.
        kind: Kind::Count { field: |config| &mut config.silent_heartbeats, min: 1, max: u16::MAX as u64 },
        help: "The daemon ends a connection that sends nothing for this many heartbeats",
    },
    Setting {
        name: "stalled_seconds",
        default: Initial::Text("30"),
        unit: "seconds",
        change: Change::OnReload,
        kind: Kind::Seconds {
            field: |config| &mut config.stalled_seconds,
            min: 0.1,
            max: DAY,
            or_zero: false,
        },
        help: "The daemon ends a watcher whose socket takes no byte for this long while events wait",
    },
    Setting {
        name: "history_bytes",
        default: Initial::Text("268435456"),
        unit: "bytes",
        change: Change::AtStart,
        kind: Kind::Count { field: |config| &mut config.history_bytes, min: 65_536, max: 1 << 40 },
        help: "Memory for recent events, including the cost of keeping them",
    },
    Setting {
        name: "history_seconds",
        default: Initial::Text("600"),
        unit: "seconds",
        change: Change::AtStart,
        kind: Kind::Seconds {
            field: |config| &mut config.history_seconds,
            min: 0.0,
            max: YEAR,
            or_zero: true,
        },
        help: "How long a job is kept after its end and last event, a flow after its last event, a \
               publisher's name after it left",
    },
    Setting {
        name: "job_idle_seconds",
        default: Initial::Text("86400"),
        unit: "seconds",
        change: Change::AtStart,
        kind: Kind::Seconds {
            field: |config| &mut config.job_idle_seconds,
            min: 0.1,
            max: YEAR,
            or_zero: false,
        },
        help: "A job without an event for this long counts as ended",
    },
    Setting {
        name: "topics_max",
        default: Initial::Text("1000000"),
        unit: "topics",
        change: Change::AtStart,
        kind: Kind::Count { field: |config| &mut config.topics_max, min: 1, max: 100_000_000 },
        help: "Most jobs and flows that have events or watchers",
    },
    Setting {
        name: "jobs_max",
        default: Initial::Text("100000"),
        unit: "jobs",
        change: Change::AtStart,
        kind: Kind::Count { field: |config| &mut config.jobs_max, min: 1, max: 100_000_000 },
        help: "Most jobs that are known; beyond that the unwatched one that was silent longest goes",
    },
    Setting {
        name: "metrics_seconds",
        default: Initial::Text("5"),
        unit: "seconds",
        change: Change::AtStart,
        kind: Kind::Seconds {
            field: |config| &mut config.metrics_seconds,
            min: 0.1,
            max: DAY,
            or_zero: true,
        },
        help: "Time between two metrics events of a watched job whose publisher sends none; 0 = never",
    },
    Setting {
        name: "state_dir",
        default: Initial::Text("none"),
        unit: "path",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.state_dir, text),
            show: |config| show_path(config.state_dir.as_deref()),
            copy: |to, from| to.state_dir.clone_from(&from.state_dir),
        },
        help: "Directory for what a restart keeps: history, jobs, publishers' names, numbers. One that cannot be used is an \
               error. none = nothing is kept",
    },
    Setting {
        name: "drain_seconds",
        default: Initial::Text("10"),
        unit: "seconds",
        change: Change::AtStart,
        kind: Kind::Seconds { field: |config| &mut config.drain_seconds, min: 0.0, max: HOUR, or_zero: true },
        help: "Longest time from SIGTERM or SIGINT to the end of the daemon",
    },
    Setting {
        name: "overrun",
        default: Initial::Text("gap"),
        unit: "word",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_word(&mut config.overrun, &OVERRUNS, text),
            show: |config| show_word(config.overrun, &OVERRUNS),
            copy: |to, from| to.overrun = from.overrun,
        },
        help: "gap: watchers never slow a publisher; wait: publishers wait for watchers that still read",
    },
    Setting {
        name: "publishers_max",
        default: Initial::Text("4096"),
        unit: "publishers",
        change: Change::OnReload,
        kind: Kind::Count { field: |config| &mut config.publishers_max, min: 1, max: 1_000_000 },
        help: "Most publishers connected at once to the Unix socket; the next one is turned away and learns why. Those over HTTP are \
               bounded by connections_max",
    },
    Setting {
        name: "line_bytes_max",
        default: Initial::Text("1000000"),
        unit: "bytes",
        change: Change::AtStart,
        kind: Kind::Count { field: |config| &mut config.line_bytes_max, min: 256, max: 1 << 30 },
        help: "Longest line of the feed; lowered to an eighth of history_bytes, with a warning, if it is more. With bus, the \
               stream's own bound holds where it is smaller",
    },
    Setting {
        name: "message_bytes_max",
        default: Initial::Text("65536"),
        unit: "bytes",
        change: Change::OnReload,
        // A control frame of 125 bytes (RFC 6455, 5.5) must always fit.
        kind: Kind::Count { field: |config| &mut config.message_bytes_max, min: 125, max: 1 << 26 },
        help: "Longest message from a client; a compressed one counts as what it inflates to",
    },
    Setting {
        name: "compression",
        default: Initial::Text("on"),
        unit: "word",
        change: Change::OnReload,
        kind: Kind::Text {
            store: |config, text| store_word(&mut config.compression, &COMPRESSIONS, text),
            show: |config| show_word(config.compression, &COMPRESSIONS),
            copy: |to, from| to.compression = from.compression,
        },
        help: "on: messages are compressed for WebSocket clients that offer permessage-deflate; off: for nobody. Open \
               connections keep what was agreed on",
    },
    Setting {
        name: "request_head_bytes_max",
        default: Initial::Text("16384"),
        unit: "bytes",
        change: Change::OnReload,
        kind: Kind::Count { field: |config| &mut config.request_head_bytes_max, min: 512, max: 1 << 20 },
        help: "Longest head of a client's HTTP request",
    },
    Setting {
        name: "handshake_seconds",
        default: Initial::Text("10"),
        unit: "seconds",
        change: Change::OnReload,
        kind: Kind::Seconds {
            field: |config| &mut config.handshake_seconds,
            min: 0.1,
            max: HOUR,
            or_zero: false,
        },
        help: "Time for a client's whole request head, and as much before it for the TLS handshake",
    },
    Setting {
        name: "connections_max",
        default: Initial::Text("0"),
        unit: "connections",
        change: Change::OnReload,
        kind: Kind::Count { field: |config| &mut config.connections_max, min: 0, max: 10_000_000 },
        help: "Most connections in all; 0 = what the file limit allows",
    },
    Setting {
        name: "connections_per_address_max",
        default: Initial::Text("0"),
        unit: "connections",
        change: Change::OnReload,
        kind: Kind::Count {
            field: |config| &mut config.connections_per_address_max,
            min: 0,
            max: 10_000_000,
        },
        help: "Most connections from one address (IPv6: from one /64); 0 = no limit",
    },
    Setting {
        name: "handshakes_per_second",
        default: Initial::Text("200"),
        unit: "handshakes",
        change: Change::OnReload,
        kind: Kind::Count { field: |config| &mut config.handshakes_per_second, min: 0, max: 1_000_000 },
        help: "Most new connections a second from one address, in the long run and in one burst; 0 = no limit. \
               Loopback is exempt",
    },
    Setting {
        name: "messages_per_second",
        default: Initial::Text("50"),
        unit: "messages",
        change: Change::OnReload,
        kind: Kind::Count { field: |config| &mut config.messages_per_second, min: 1, max: 1_000_000 },
        help: "Most messages a second from a client in the long run; a burst may have four times as many (at \
               least 2048 on the multi-job endpoint)",
    },
    Setting {
        name: "jobs_per_connection_max",
        default: Initial::Text("1024"),
        unit: "jobs",
        change: Change::OnReload,
        kind: Kind::Count { field: |config| &mut config.jobs_per_connection_max, min: 1, max: 1_000_000 },
        help: "Most jobs that one connection to the multi-job endpoint may watch",
    },
    Setting {
        name: "allowed_origins",
        default: Initial::Computed("none"),
        unit: "origin",
        change: Change::OnReload,
        kind: Kind::List {
            store: store_allowed_origins,
            show: |config| show_list(&config.allowed_origins),
            copy: |to, from| to.allowed_origins.clone_from(&from.allowed_origins),
        },
        help: "Web pages that may connect besides those of the daemon's own host and port: scheme://host or \
               scheme://host:port; * for all, and null is as open; repeatable",
    },
    Setting {
        name: "allowed_hosts",
        default: Initial::Computed("none"),
        unit: "host",
        change: Change::OnReload,
        kind: Kind::List {
            store: store_allowed_hosts,
            show: |config| show_list(&config.allowed_hosts),
            copy: |to, from| to.allowed_hosts.clone_from(&from.allowed_hosts),
        },
        help: "Host names, without a port, that requests over loopback may use, also through a proxy there; * for \
               any; repeatable. localhost, loopback addresses and the hosts of allowed_origins are always allowed",
    },
    Setting {
        name: "trusted_proxies",
        default: Initial::Computed("none"),
        unit: "network",
        change: Change::OnReload,
        kind: Kind::List {
            store: store_trusted_proxies,
            show: |config| show_list(&config.trusted_proxies),
            copy: |to, from| to.trusted_proxies.clone_from(&from.trusted_proxies),
        },
        help: "Proxies whose X-Forwarded-For names the client: addresses, or networks such as 10.0.0.0/8; \
               repeatable. Needs tokens or allow_anonymous",
    },
    Setting {
        name: "depth_max",
        default: Initial::Text("64"),
        unit: "levels",
        change: Change::AtStart,
        // The daemon's own `metrics` have two levels; the parser behind the dialect gives up beyond 127.
        kind: Kind::Count { field: |config| &mut config.depth_max, min: 2, max: 100 },
        help: "Deepest nesting of a line's JSON. With bus, the stream's own bound holds where it is smaller",
    },
    Setting {
        name: "tls_certificate_file",
        default: Initial::Computed("none"),
        unit: "path",
        change: Change::OnReload,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.tls_certificate_file, text),
            show: |config| show_path(config.tls_certificate_file.as_deref()),
            copy: |to, from| to.tls_certificate_file.clone_from(&from.tls_certificate_file),
        },
        help: "PEM file with the certificate and its intermediate certificates. With it and tls_key_file every \
               address of listen speaks TLS (wss://)",
    },
    Setting {
        name: "tls_key_file",
        default: Initial::Computed("none"),
        unit: "path",
        change: Change::OnReload,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.tls_key_file, text),
            show: |config| show_path(config.tls_key_file.as_deref()),
            copy: |to, from| to.tls_key_file.clone_from(&from.tls_key_file),
        },
        help: "PEM file with the certificate's private key, without a passphrase",
    },
    Setting {
        name: "log_level",
        default: Initial::Text("info"),
        unit: "word",
        change: Change::OnReload,
        kind: Kind::Text {
            store: |config, text| store_word(&mut config.log_level, &LOG_LEVELS, text),
            show: |config| show_word(config.log_level, &LOG_LEVELS),
            copy: |to, from| to.log_level = from.log_level,
        },
        help: "What is logged on standard error: off, error, warn, info, debug or trace",
    },
    Setting {
        name: "log_format",
        default: Initial::Text("human"),
        unit: "word",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_word(&mut config.log_format, &LOG_FORMATS, text),
            show: |config| show_word(config.log_format, &LOG_FORMATS),
            copy: |to, from| to.log_format = from.log_format,
        },
        help: "Format of the log: human, or json with one object per line",
    },
    Setting {
        name: "token_file",
        default: Initial::Text("none"),
        unit: "path",
        change: Change::OnReload,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.token_file, text),
            show: |config| show_path(config.token_file.as_deref()),
            copy: |to, from| to.token_file.clone_from(&from.token_file),
        },
        help: "File with tokens and what each allows; with it every watcher needs a token. none = no such file",
    },
    Setting {
        name: "jwt_key_file",
        default: Initial::Text("none"),
        unit: "path",
        change: Change::OnReload,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.jwt_key_file, text),
            show: |config| show_path(config.jwt_key_file.as_deref()),
            copy: |to, from| to.jwt_key_file.clone_from(&from.jwt_key_file),
        },
        help: "File with the key of JSON Web Tokens: the secret (HS256), or a public key in PEM",
    },
    Setting {
        name: "jwt_algorithm",
        default: Initial::Text("none"),
        unit: "word",
        change: Change::OnReload,
        kind: Kind::Text {
            store: store_algorithm,
            show: show_algorithm,
            copy: |to, from| to.jwt_algorithm = from.jwt_algorithm,
        },
        help: "How JSON Web Tokens are signed: HS256, RS256, ES256 or EdDSA",
    },
    Setting {
        name: "http_publish",
        default: Initial::Text("scope"),
        unit: "word",
        change: Change::OnReload,
        kind: Kind::Text {
            store: |config, text| store_word(&mut config.http_publish, &HTTP_PUBLISH, text),
            show: |config| show_word(config.http_publish, &HTTP_PUBLISH),
            copy: |to, from| to.http_publish = from.http_publish,
        },
        help: "Who may publish over HTTP. scope: whoever has a token with the scope publish; anyone: whoever may connect, \
               which beyond loopback needs allow_anonymous; off: nobody",
    },
    Setting {
        name: "allow_anonymous",
        default: Initial::Text("false"),
        unit: "",
        change: Change::OnReload,
        kind: Kind::Switch(|config| &mut config.allow_anonymous),
        help: "Let anyone who reaches a listener watch everything, also beyond loopback and through proxies",
    },
    Setting {
        name: "demo",
        default: Initial::Text("false"),
        unit: "",
        change: Change::AtStart,
        kind: Kind::Switch(|config| &mut config.demo),
        help: "Also start a simulated workflow engine that feeds the daemon",
    },
];
