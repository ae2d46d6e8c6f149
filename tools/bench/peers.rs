//! Servers that people use for the same work; `tools/bench/peers` installs and starts them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::layout::Transport;

#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name in the scripts.
    pub name: &'static str,
    /// Its name for users.
    pub title: &'static str,
    /// What its watchers can speak.
    pub transports: &'static [Transport],
    /// Publishers reach it over WebSocket; the others read lines from a Unix socket.
    pub is_fed_by_web: bool,
    /// Whether it can serve ten thousand watchers.
    pub is_large: bool,
    /// How many times fewer events than luxcast it gets, so that a run ends in a few seconds.
    pub share: u64,
    /// How it can compress what it sends.
    pub compressions: &'static [Compression],
}

/// A way to compress with permessage-deflate.
#[derive(Clone, Copy, Debug)]
pub struct Compression {
    /// Its name in the scripts.
    pub name: &'static str,
    /// Its name for users, behind the peer's.
    pub title: &'static str,
    /// As the peer's own.
    pub share: u64,
}

const WEB_SOCKET: &[Transport] = &[Transport::WebSocket];

pub const PEERS: [Peer; 6] = [
    Peer {
        name: "uwebsockets",
        title: "uWebSockets",
        transports: WEB_SOCKET,
        is_fed_by_web: true,
        is_large: true,
        share: 8,
        compressions: &[
            Compression { name: "shared", title: "deflate shared", share: 80 },
            Compression { name: "dedicated", title: "deflate dedicated", share: 80 },
        ],
    },
    Peer {
        name: "nchan",
        title: "nchan on nginx",
        transports: &[Transport::WebSocket, Transport::Sse],
        is_fed_by_web: true,
        is_large: true,
        share: 40,
        compressions: &[Compression { name: "deflate", title: "deflate", share: 40 }],
    },
    Peer {
        name: "tokio-tungstenite",
        title: "tokio-tungstenite",
        transports: WEB_SOCKET,
        is_fed_by_web: false,
        is_large: true,
        share: 40,
        compressions: &[],
    },
    Peer {
        name: "ws",
        title: "ws on Node",
        transports: WEB_SOCKET,
        is_fed_by_web: false,
        is_large: true,
        share: 100,
        compressions: &[
            Compression { name: "once", title: "deflate once", share: 100 },
            Compression { name: "deflate", title: "deflate", share: 400 },
        ],
    },
    Peer {
        name: "node-http",
        title: "http on Node",
        transports: &[Transport::Sse],
        is_fed_by_web: false,
        is_large: true,
        share: 100,
        compressions: &[],
    },
    Peer {
        name: "websockets",
        title: "websockets on Python",
        transports: WEB_SOCKET,
        is_fed_by_web: false,
        is_large: false,
        share: 400,
        compressions: &[Compression { name: "deflate", title: "deflate", share: 400 }],
    },
];

impl Peer {
    pub fn program(&self) -> Outcome<PathBuf> {
        let program = directory().join("run");
        if program.exists() { Ok(program) } else { Err(format!("{} is missing", program.display()).into()) }
    }

    /// Installs what it needs; quick if that is already there.
    pub fn set_up(&self) -> Outcome<()> {
        let output = Command::new(directory().join("setup"))
            .arg(self.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(|error| format!("tools/bench/peers/setup: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        Err(format!("could not be installed: {last}").into())
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}
