//! The rows of the table of settings that are about the bus: one stream for many daemons.

use crate::config::setting::{Change, Initial, Kind, Setting};
use crate::config::value::{show_list, show_path, store_bus, store_path, store_stream_name, store_subject};

const DAY: f64 = 86_400.0;

/// `bus` comes first; the others mean nothing without it.
pub(super) const BUS_SETTINGS: [Setting; 12] = [
    Setting {
        name: "bus",
        default: Initial::Computed("none"),
        unit: "address",
        change: Change::AtStart,
        kind: Kind::List {
            store: store_bus,
            show: |config| show_list(&config.bus),
            copy: |to, from| to.bus.clone_from(&from.bus),
        },
        help: "NATS servers whose JetStream stream this daemon shares with others: nats:// or tls://HOST:PORT; \
               repeatable. tls:// may have USER:PASSWORD@ or TOKEN@ before the host",
    },
    Setting {
        name: "bus_stream",
        default: Initial::Text("LUXCAST"),
        unit: "name",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_stream_name(&mut config.bus_stream, text),
            show: |config| config.bus_stream.clone(),
            copy: |to, from| to.bus_stream.clone_from(&from.bus_stream),
        },
        help: "The stream's name; luxcast bus create makes it",
    },
    Setting {
        name: "bus_subject",
        default: Initial::Text("luxcast.events"),
        unit: "subject",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_subject(&mut config.bus_subject, text),
            show: |config| config.bus_subject.clone(),
            copy: |to, from| to.bus_subject.clone_from(&from.bus_subject),
        },
        help: "The one subject of the stream, without wildcards. Whoever may publish to it can invent events",
    },
    Setting {
        name: "bus_allow_plaintext",
        default: Initial::Text("false"),
        unit: "",
        change: Change::AtStart,
        kind: Kind::Switch(|config| &mut config.bus_allow_plaintext),
        help: "Let bus go beyond this machine without TLS: everybody on the way can read and change events",
    },
    Setting {
        name: "bus_credentials_file",
        default: Initial::Computed("none"),
        unit: "path",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.bus_credentials_file, text),
            show: |config| show_path(config.bus_credentials_file.as_deref()),
            copy: |to, from| to.bus_credentials_file.clone_from(&from.bus_credentials_file),
        },
        help: "Credentials file of NATS (.creds: a JSON Web Token and its seed); read again at each connection",
    },
    Setting {
        name: "bus_nkey_file",
        default: Initial::Computed("none"),
        unit: "path",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.bus_nkey_file, text),
            show: |config| show_path(config.bus_nkey_file.as_deref()),
            copy: |to, from| to.bus_nkey_file.clone_from(&from.bus_nkey_file),
        },
        help: "File with the seed of an nkey of NATS, instead of bus_credentials_file; read again at each connection",
    },
    Setting {
        name: "bus_ca_file",
        default: Initial::Computed("none"),
        unit: "path",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.bus_ca_file, text),
            show: |config| show_path(config.bus_ca_file.as_deref()),
            copy: |to, from| to.bus_ca_file.clone_from(&from.bus_ca_file),
        },
        help: "PEM file with the authorities whose NATS servers are trusted, instead of those of this system",
    },
    Setting {
        name: "bus_certificate_file",
        default: Initial::Computed("none"),
        unit: "path",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.bus_certificate_file, text),
            show: |config| show_path(config.bus_certificate_file.as_deref()),
            copy: |to, from| to.bus_certificate_file.clone_from(&from.bus_certificate_file),
        },
        help: "PEM file with the certificate that this daemon shows to NATS servers which ask for one",
    },
    Setting {
        name: "bus_key_file",
        default: Initial::Computed("none"),
        unit: "path",
        change: Change::AtStart,
        kind: Kind::Text {
            store: |config, text| store_path(&mut config.bus_key_file, text),
            show: |config| show_path(config.bus_key_file.as_deref()),
            copy: |to, from| to.bus_key_file.clone_from(&from.bus_key_file),
        },
        help: "PEM file with the private key of bus_certificate_file, without a passphrase",
    },
    Setting {
        name: "bus_past_bytes",
        default: Initial::Text("67108864"),
        unit: "bytes",
        change: Change::AtStart,
        kind: Kind::Count { field: |config| &mut config.bus_past_bytes, min: 4 << 20, max: 1 << 40 },
        help: "Memory for events older than the history, while they are read from the stream for watchers who asked for \
               them",
    },
    Setting {
        name: "bus_replay_bytes",
        default: Initial::Text("1073741824"),
        unit: "bytes",
        change: Change::AtStart,
        kind: Kind::Count { field: |config| &mut config.bus_replay_bytes, min: 0, max: 1 << 44 },
        help: "Bytes at the end of the stream that are read again for watchers who ask for events older than the history; \
               for what is before them they get a gap. 0: they get one for all that is older than the history",
    },
    Setting {
        name: "bus_start_seconds",
        default: Initial::Text("60"),
        unit: "seconds",
        change: Change::AtStart,
        kind: Kind::Seconds {
            field: |config| &mut config.bus_start_seconds,
            min: 0.1,
            max: DAY,
            or_zero: false,
        },
        help: "Longest time that a start waits for the stream, and for all that it has to be read",
    },
];
