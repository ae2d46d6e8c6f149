//! Opens everything that has an address: the listeners and the feed's socket.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use mio::net::UnixListener;

use crate::config::Config;
use crate::net::listen::inherited::Passed;
use crate::net::listen::listener::{self, ListeningSocket};
use crate::server::claim::{Claim, at};
use crate::session::endpoint::Offer;

pub struct Listeners {
    /// The watchers' listeners in the order of the setting `listen`, then the admin listener, if there is one.
    pub sockets: Vec<ListeningSocket>,
    pub feed: UnixListener,
    pub ingest: PathBuf,
    pub leftover: Leftover,
}

/// What to remove from the file system at the end.
#[derive(Clone, Default)]
pub struct Leftover {
    /// The claim to the feed's path, unless its socket outlives the daemon.
    claim: Option<Claim>,
    /// A directory made only for that socket.
    private: Option<PathBuf>,
}

impl Listeners {
    /// # Errors
    /// What cannot be bound, and why; nothing is left behind.
    pub fn new(config: &Config) -> io::Result<Self> {
        let cannot = |address: SocketAddr| move |error| at(error, format!("cannot listen on {address}"));
        let mut passed = Passed::take()?;
        let of_watchers = config.listen.iter().map(|&address| (address, Offer::Watchers));
        let of_operators = config.admin.map(|address| (address, to_operators(config)));
        let sockets = of_watchers.chain(of_operators).map(|(address, offer)| {
            let (socket, is_passed) = match passed.listener(address) {
                Some(socket) => (listener::adopt(socket)?, true),
                None => (listener::bind(address).map_err(cannot(address))?, false),
            };
            Ok(ListeningSocket { socket, offer, is_passed })
        });
        let sockets = sockets.collect::<io::Result<_>>()?;
        let feed = passed.feed(config.ingest.as_ref());
        passed.finish()?;
        if let Some((feed, ingest)) = feed {
            feed.set_nonblocking(true)?;
            let feed = UnixListener::from_std(feed);
            return Ok(Self { sockets, feed, ingest, leftover: Leftover::default() });
        }
        let (ingest, private) = ingest_path(config)?;
        let mut leftover = Leftover { claim: None, private };
        let (claim, feed) = Claim::listen(&ingest).inspect_err(|_| leftover.remove())?;
        leftover.claim = Some(claim);
        Ok(Self { sockets, feed: UnixListener::from_std(feed), ingest, leftover })
    }
}

impl Leftover {
    /// Frees the path for another daemon. Call it when no more lines are read.
    pub fn remove(&self) {
        if let Some(claim) = &self.claim {
            claim.give_back();
        }
        if let Some(directory) = &self.private {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// What the admin listener offers: on loopback it asks for no token.
pub fn to_operators(config: &Config) -> Offer {
    match config.admin {
        Some(address) if address.ip().to_canonical().is_loopback() => Offer::OpenToOperators,
        Some(_) | None => Offer::Operators,
    }
}

/// The path for the feed's socket, and the private directory made for it.
fn ingest_path(config: &Config) -> io::Result<(PathBuf, Option<PathBuf>)> {
    if config.ingest.is_some() || !config.demo {
        return Ok((config.ingest_path(), None));
    }
    let directory = std::env::temp_dir().join(format!("luxcast-demo-{}", std::process::id()));
    fs::create_dir(&directory).map_err(|error| at(error, format!("cannot make {}", directory.display())))?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
    Ok((directory.join("ingest.sock"), Some(directory)))
}
