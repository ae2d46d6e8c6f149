//! Listening sockets that the service manager has opened and passed to the daemon (sd_listen_fds(3)). They outlive the
//! daemon, so no connection is refused between two runs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;
use socket2::SockRef;

/// The first passed descriptor.
const FIRST: usize = 3;

/// The passed sockets that no setting has taken yet.
#[derive(Default)]
pub struct Passed {
    tcp: Vec<(String, SocketAddr, TcpListener)>,
    unix: Vec<(String, PathBuf, UnixListener)>,
}

impl Passed {
    /// Takes all sockets that were passed to this process. A second call finds none.
    ///
    /// # Errors
    /// One of them is no listener that the daemon can use, or the variables are wrong.
    pub fn take() -> io::Result<Self> {
        let names: Vec<String> = sd_notify::listen_fds_with_names()
            .map_err(|error| {
                io::Error::other(format!("LISTEN_PID, LISTEN_FDS or LISTEN_FDNAMES is wrong: {error}"))
            })?
            .map(|(_, name)| name)
            .collect();
        let mut passed = Self::default();
        if names.is_empty() {
            return Ok(passed);
        }
        let mut all = ListenFd::from_env();
        for (index, name) in names.into_iter().enumerate() {
            let name = format!("{} ({name})", FIRST + index);
            let wrong = |problem: &str| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("the passed socket {name} {problem}"))
            };
            if let Ok(Some(listener)) = all.take_tcp_listener(index) {
                if !SockRef::from(&listener).is_listener()? {
                    return Err(wrong("does not listen"));
                }
                passed.tcp.push((name, listener.local_addr()?, listener));
            } else if let Ok(Some(listener)) = all.take_unix_listener(index) {
                if !SockRef::from(&listener).is_listener()? {
                    return Err(wrong("does not listen"));
                }
                let path = listener.local_addr()?.as_pathname().map(PathBuf::from);
                passed.unix.push((name.clone(), path.ok_or_else(|| wrong("has no path"))?, listener));
            } else {
                return Err(wrong("is neither a TCP listener nor a Unix stream listener"));
            }
        }
        Ok(passed)
    }

    /// Takes the socket that listens at this address. Port 0 means any port.
    pub fn listener(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_right = |at: SocketAddr| at == address || address.port() == 0 && at.ip() == address.ip();
        let index = self.tcp.iter().position(|(_, at, _)| is_right(*at))?;
        Some(self.tcp.remove(index).2)
    }

    /// Takes the socket for publishers, and its path. None means any path.
    pub fn feed(&mut self, path: Option<&PathBuf>) -> Option<(UnixListener, PathBuf)> {
        let index = self.unix.iter().position(|(_, at, _)| path.is_none_or(|path| path == at))?;
        let (_, path, listener) = self.unix.remove(index);
        Some((listener, path))
    }

    /// # Errors
    /// A passed socket matches no setting.
    pub fn finish(self) -> io::Result<()> {
        let tcp = self.tcp.iter().map(|(name, at, _)| (name, at.to_string()));
        let unix = self.unix.iter().map(|(name, at, _)| (name, at.display().to_string()));
        match tcp.chain(unix).next() {
            None => Ok(()),
            Some((name, at)) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the passed socket {name} listens at {at}, which is none of the settings listen, admin and ingest"
                ),
            )),
        }
    }
}
