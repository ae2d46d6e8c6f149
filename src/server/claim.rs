//! The feed's socket and the claim to its path: one daemon at a time, which removes only its own files.
//!
//! A lock file beside the socket, `PATH.lock`, is locked for as long as a daemon reads lines there. The kernel
//! releases the lock however the daemon ends, and removing the socket does not remove the lock. Only the holder of
//! the lock changes anything at the path.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{Access, Mode, access, fchmod};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::net::host::making::{self, Made};

/// Publishers that the kernel queues until they are accepted.
const BACKLOG: i32 = 1_024;
/// For owner and group only.
const SOCKET_MODE: u32 = 0o660;
/// The content of a lock file: any other file of that name belongs to another program.
const LOCK_MARK: &[u8] = b"luxcast\n";

/// The claim to a path. Given back once, by the first caller.
#[derive(Clone)]
pub struct Claim {
    held: Arc<Mutex<Option<Held>>>,
}

struct Held {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
    /// Device and inode of the socket, once it exists.
    socket: Option<(u64, u64)>,
}

impl Claim {
    /// Claims the path and listens there. A stale socket is replaced; a live one, or any other file, is an error.
    ///
    /// # Errors
    /// Another daemon has the path, or a file cannot be made there. Nothing is left behind.
    pub fn listen(path: &Path) -> io::Result<(Self, UnixListener)> {
        let (lock_path, lock) = lock(path)?;
        let mut held = Held { path: path.to_owned(), lock_path, _lock: lock, socket: None };
        match held.bind() {
            Ok(listener) => Ok((Self { held: Arc::new(Mutex::new(Some(held))) }, listener)),
            Err(error) => {
                held.leave();
                Err(error)
            }
        }
    }

    /// Removes the socket if it is still the one made here, and frees the path for others.
    pub fn give_back(&self) {
        if let Some(held) = self.held.lock().take() {
            held.leave();
        }
    }
}

impl Held {
    fn bind(&mut self) -> io::Result<UnixListener> {
        let path = &self.path;
        clear(path)?;
        let shown = path.display();
        let cannot =
            |error| at(error, format!("cannot make the socket {shown} (--ingest names another place)"));
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(cannot)?;
        // The file gets the socket's mode less the umask, so it never allows more users than in the end. No client can
        // connect before it listens.
        fchmod(&socket, Mode::from_raw_mode(SOCKET_MODE)).map_err(|error| cannot(error.into()))?;
        socket.bind(&SockAddr::unix(path).map_err(cannot)?).map_err(cannot)?;
        let made = fs::symlink_metadata(path).map_err(cannot)?;
        self.socket = Some((made.dev(), made.ino()));
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
            .map_err(|error| at(error, format!("cannot set the mode of {shown}")))?;
        socket.listen(BACKLOG).map_err(cannot)?;
        socket.set_nonblocking(true)?;
        Ok(UnixListener::from(OwnedFd::from(socket)))
    }

    /// The lock file is removed last, while still locked; a process that waits for it checks whether it still exists.
    fn leave(self) {
        let is_own = |there: fs::Metadata| Some((there.dev(), there.ino())) == self.socket;
        if fs::symlink_metadata(&self.path).is_ok_and(is_own) {
            // A file that cannot be removed is stale, and the next daemon replaces it.
            let _ = fs::remove_file(&self.path);
        }
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Checks whether the lock could be taken, without changing anything.
///
/// # Errors
/// As for [`Claim::listen`].
pub fn check(path: &Path) -> io::Result<()> {
    let lock_path = lock_path(path);
    let checked = match fs::symlink_metadata(&lock_path) {
        Err(_) => making::check(directory_of(path), Made::File),
        Ok(metadata) if metadata.is_symlink() => Err(Errno::LOOP.into()),
        Ok(metadata) if metadata.is_dir() => Err(Errno::ISDIR.into()),
        Ok(_) => access(&lock_path, Access::READ_OK | Access::WRITE_OK).map_err(io::Error::from),
    };
    checked.map_err(|error| cannot_lock(path, error))
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn cannot_lock(path: &Path, error: io::Error) -> io::Error {
    let doing = format!(
        "cannot lock {}, for the socket {} (--ingest names another place)",
        lock_path(path).display(),
        path.display()
    );
    let directory = directory_of(path);
    if error.kind() == io::ErrorKind::NotFound && !directory.exists() {
        let directory = directory.display();
        return io::Error::new(error.kind(), format!("{doing}: the directory {directory} does not exist"));
    }
    at(error, doing)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Locks the lock file of a path, and makes it if needed.
fn lock(path: &Path) -> io::Result<(PathBuf, File)> {
    let lock_path = lock_path(path);
    let cannot = |error| cannot_lock(path, error);
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed())
            .open(&lock_path)
            .map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(path)),
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        // Between opening and locking, the previous holder may have removed it.
        let mine = file.metadata().map_err(cannot)?;
        let is_there = |there: fs::Metadata| (there.dev(), there.ino()) == (mine.dev(), mine.ino());
        if fs::symlink_metadata(&lock_path).is_ok_and(is_there) {
            mark(&file, &mine).map_err(cannot)?;
            return Ok((lock_path, file));
        }
    }
}

/// Marks an empty file as a lock file. A file with other content is an error.
fn mark(mut file: &File, metadata: &fs::Metadata) -> io::Result<()> {
    let mut content = Vec::new();
    let is_short = metadata.is_file() && metadata.len() <= LOCK_MARK.len() as u64;
    if is_short {
        file.read_to_end(&mut content)?;
    }
    match &content[..] {
        b"" if is_short => file.write_all(LOCK_MARK),
        LOCK_MARK => Ok(()),
        _ => {
            let message =
                "it exists and is not a lock file of luxcast: remove it, or choose another ingest path";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
        }
    }
}

fn in_use(path: &Path) -> io::Error {
    let message = format!("another daemon takes lines at {}", path.display());
    io::Error::new(io::ErrorKind::AddrInUse, message)
}

/// Removes a stale socket. Anything else at its path is an error.
fn clear(path: &Path) -> io::Result<()> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(error, format!("cannot examine {shown}"))),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let message =
                format!("{shown} exists and is not a socket: remove it, or choose another ingest path");
            Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
        }
        // A listener may hold no lock: a service manager, or another program.
        Ok(_) => match connect(path) {
            Ok(()) => Err(in_use(path)),
            // It listens, but does not accept waiting connections.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(in_use(path)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
                .map_err(|error| at(error, format!("cannot remove the stale socket {shown}"))),
            Err(error) => Err(at(error, format!("cannot tell whether {shown} is in use"))),
        },
    }
}

/// Connects without waiting for the listener to accept.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// The same error, with what failed.
pub(super) fn at(error: io::Error, doing: String) -> io::Error {
    io::Error::new(error.kind(), format!("{doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::Claim;

    #[test]
    fn only_one_of_many_gets_the_path_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("feed.sock");
        for _ in 0..50 {
            let begin = Arc::new(Barrier::new(4));
            let starts: Vec<_> = (0..4)
                .map(|_| {
                    let (path, begin) = (path.clone(), begin.clone());
                    thread::spawn(move || {
                        begin.wait();
                        Claim::listen(&path)
                    })
                })
                .collect();
            let ends: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
            let (got, refused): (Vec<_>, Vec<_>) = ends.into_iter().partition(Result::is_ok);
            assert_eq!((got.len(), refused.len()), (1, 3));
            for error in refused.into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
            }
            UnixStream::connect(&path).unwrap();
            got.into_iter().flatten().for_each(|(claim, _)| claim.give_back());
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn removing_the_socket_does_not_free_the_path_and_foreign_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("feed.sock");
        let (claim, _listener) = Claim::listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(Claim::listen(&path).err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
        // Another file has taken its place.
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        claim.give_back();
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        UnixStream::connect(&path).unwrap();
        claim.give_back();
    }

    #[test]
    fn a_file_that_is_no_lock_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("poetry");
        let lock = directory.path().join("poetry.lock");
        for content in ["precious", "a long file of somebody else's\n", "luxcast!"] {
            fs::write(&lock, content).unwrap();
            assert_eq!(Claim::listen(&path).err().map(|error| error.kind()), Some(ErrorKind::AlreadyExists));
            assert_eq!(fs::read_to_string(&lock).unwrap(), content);
            assert!(!path.exists());
        }
        fs::remove_file(&lock).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &lock, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(Claim::listen(&path).is_err());
        assert!(fs::symlink_metadata(&lock).unwrap().file_type().is_fifo());
        // The lock stays with a path where another file has taken the socket's place.
        fs::remove_file(&lock).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(Claim::listen(&path).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_listener_that_does_not_accept_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("feed.sock");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let waiting: Vec<_> = (0..4).map(|_| super::connect(&path)).collect();
        assert!(waiting.iter().any(Result::is_err), "its backlog is full");
        assert_eq!(Claim::listen(&path).err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
    }

    #[test]
    fn what_a_killed_daemon_left_is_replaced_and_the_mode_is_for_owner_and_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("feed.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        fs::write(directory.path().join("feed.sock.lock"), "").unwrap();
        let (claim, _listener) = Claim::listen(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        claim.give_back();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
