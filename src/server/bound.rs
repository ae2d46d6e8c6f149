//! Everything that has an address: the listeners, and the socket of the feed.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use mio::net::UnixListener;

use crate::config::Config;
use crate::net::activation::Passed;
use crate::net::listener;

pub struct Bound {
    /// Each, and whether it outlives the daemon.
    pub sockets: Vec<(mio::net::TcpListener, bool)>,
    pub admin: Option<TcpListener>,
    pub feed: UnixListener,
    pub ingest: PathBuf,
    pub leftover: Leftover,
}

/// What is to be removed from the file system at the end.
#[derive(Clone, Default)]
pub struct Leftover {
    /// The socket of the feed, unless it outlives the daemon.
    socket: Option<PathBuf>,
    /// A directory made for that socket alone.
    private: Option<PathBuf>,
}

impl Bound {
    /// # Errors
    /// What cannot be bound, and why; nothing is left behind.
    pub fn new(config: &Config) -> io::Result<Self> {
        let cannot = |address: SocketAddr| move |error| at(error, format!("cannot listen on {address}"));
        let mut passed = Passed::take()?;
        let sockets = config.listen.iter().map(|&address| match passed.listener(address) {
            Some(socket) => Ok((listener::adopt(socket)?, true)),
            None => Ok((listener::bind(address).map_err(cannot(address))?, false)),
        });
        let sockets = sockets.collect::<io::Result<_>>()?;
        let bind = |address: SocketAddr| match passed.listener(address) {
            Some(socket) => socket.set_nonblocking(false).map(|()| socket),
            None => TcpListener::bind(address).map_err(cannot(address)),
        };
        let admin = config.admin.map(bind).transpose()?;
        let feed = passed.feed(config.ingest.as_ref());
        passed.finish()?;
        if let Some((feed, ingest)) = feed {
            feed.set_nonblocking(true)?;
            let feed = UnixListener::from_std(feed);
            return Ok(Self { sockets, admin, feed, ingest, leftover: Leftover::default() });
        }
        let (ingest, private) = ingest_path(config)?;
        let leftover = Leftover { socket: Some(ingest.clone()), private };
        let feed = bind_ingest(&ingest).inspect_err(|_| leftover.remove_private())?;
        Ok(Self { sockets, admin, feed, ingest, leftover })
    }
}

impl Leftover {
    pub fn remove(&self) {
        if let Some(socket) = &self.socket {
            // It may be gone already: someone else may have removed it.
            let _ = fs::remove_file(socket);
        }
        self.remove_private();
    }

    fn remove_private(&self) {
        if let Some(directory) = &self.private {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Where the feed's socket will be, and the private directory made for it.
fn ingest_path(config: &Config) -> io::Result<(PathBuf, Option<PathBuf>)> {
    if config.ingest.is_some() || !config.demo {
        return Ok((config.ingest_path(), None));
    }
    let directory = std::env::temp_dir().join(format!("luxcast-demo-{}", std::process::id()));
    fs::create_dir(&directory).map_err(|error| at(error, format!("cannot make {}", directory.display())))?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
    Ok((directory.join("ingest.sock"), Some(directory)))
}

/// Binds the feed's socket. A stale one is replaced; a live one, or any other file, is an error.
fn bind_ingest(path: &Path) -> io::Result<UnixListener> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(error, format!("cannot look at {shown}"))),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let message =
                format!("{shown} is there and is not a socket: remove it, or choose another ingest path");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => {
                let message = format!("another daemon takes lines at {shown}");
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)
                    .map_err(|error| at(error, format!("cannot remove the stale socket {shown}")))?;
            }
            Err(error) => return Err(at(error, format!("cannot tell whether {shown} is in use"))),
        },
    }
    let listener = UnixListener::bind(path).map_err(|error| {
        at(error, format!("cannot make the socket {shown} (--ingest names another place)"))
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
        .map_err(|error| at(error, format!("cannot set the mode of {shown}")))?;
    Ok(listener)
}

fn at(error: io::Error, doing: String) -> io::Error {
    io::Error::new(error.kind(), format!("{doing}: {error}"))
}
