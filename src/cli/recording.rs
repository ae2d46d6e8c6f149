//! The file that a recording goes to. An existing file stays untouched until the first event is safe. Nothing but the
//! recording's own file is ever removed, emptied or followed.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Access, access};

use crate::cli::outlet::Outlet;

pub struct Recording {
    state: State,
    /// Bytes of whole lines written.
    length: u64,
    outlet: Outlet,
    /// Held while a file is replaced, so that no signal ends the process halfway.
    replacing: Arc<Mutex<()>>,
}

enum State {
    Stdout(io::Stdout),
    /// A device; any other output from the first event on.
    Open(File),
    /// A named pipe, opened at the first event: opening it waits for a reader.
    Pipe(PathBuf),
    /// A file made for this recording.
    Fresh {
        path: PathBuf,
        file: File,
    },
    /// The old recording, until the first event is written beside it.
    Old {
        path: PathBuf,
        metadata: Metadata,
    },
}

impl Recording {
    /// # Errors
    /// Why nothing can be recorded there.
    pub fn open(path: &Path, replaces: bool) -> Result<Self, String> {
        let state = match path == Path::new("-") {
            true => State::Stdout(io::stdout()),
            false => open(path, replaces).map_err(|problem| format!("{}: {problem}", path.display()))?,
        };
        let outlet = Outlet::default();
        match &state {
            State::Stdout(stdout) => outlet.open(stdout),
            State::Open(file) => outlet.open(file),
            State::Pipe(_) | State::Fresh { .. } | State::Old { .. } => {}
        }
        Ok(Self { state, length: 0, outlet, replacing: Arc::default() })
    }

    /// The lock to hold before ending the process.
    pub fn replacing(&self) -> Arc<Mutex<()>> {
        self.replacing.clone()
    }

    pub fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }

    /// Removes a file made for this recording: no event came, and none will.
    pub fn abandon(self) {
        if let State::Fresh { path, file } = self.state {
            let made = file.metadata();
            let found = fs::symlink_metadata(&path);
            if let (Ok(made), Ok(found)) = (made, found)
                && (made.dev(), made.ino(), made.len()) == (found.dev(), found.ino(), 0)
            {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// Takes one whole line a call; the first one replaces an old recording.
impl Write for Recording {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let opened = match &mut self.state {
            State::Stdout(stdout) => return stdout.write(line),
            State::Open(file) | State::Fresh { file, .. } => {
                if let Err(error) = file.write_all(line) {
                    // Half a line is not an event. (A pipe or a device cannot be cut.)
                    let _ = file.set_len(self.length);
                    return Err(error);
                }
                None
            }
            State::Pipe(path) => {
                let mut file = OpenOptions::new().write(true).open(path)?;
                self.outlet.open(&file);
                file.write_all(line)?;
                Some(file)
            }
            State::Old { path, metadata } => {
                let _held = hold(&self.replacing);
                Some(replace(path, metadata, line)?)
            }
        };
        if let Some(file) = opened {
            self.state = State::Open(file);
        }
        self.length += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.state {
            State::Stdout(stdout) => stdout.flush(),
            _ => Ok(()),
        }
    }
}

pub fn hold(replacing: &Mutex<()>) -> MutexGuard<'_, ()> {
    replacing.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(path: &Path, replaces: bool) -> Result<State, String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = OpenOptions::new().write(true).create_new(true).open(path);
            let path = path.to_owned();
            return made.map(|file| State::Fresh { path, file }).map_err(|error| error.to_string());
        }
        Err(error) => return Err(error.to_string()),
    };
    // Links are followed here, as for /dev/stdout: a pipe or a terminal holds nothing to lose.
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    if kind.as_ref().is_ok_and(|kind| kind.is_fifo()) {
        return Ok(State::Pipe(path.to_owned()));
    }
    if kind.as_ref().is_ok_and(|kind| kind.is_char_device()) {
        let opened = OpenOptions::new().write(true).open(path);
        return opened.map(State::Open).map_err(|error| error.to_string());
    }
    if metadata.is_symlink() {
        return Err("is a link; name the file itself".to_owned());
    }
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if !replaces {
        return Err("already exists: --force replaces it".to_owned());
    }
    access(directory(path), Access::WRITE_OK)
        .map_err(|_| "cannot be replaced: its directory is not writable".to_owned())?;
    Ok(State::Old { path: path.to_owned(), metadata })
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes the first line to a new file, and renames that over the old one, with the old owner and mode.
fn replace(path: &Path, old: &Metadata, line: &[u8]) -> io::Result<File> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", process::id()));
    let part = directory(path).join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let mut put = || {
        // Only root may change the owner; other users usually own the file already.
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
        file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
        file.write_all(line)?;
        // Some file systems report a full disk only now.
        file.sync_data()?;
        if fs::symlink_metadata(path).is_ok_and(|now| !now.is_file()) {
            return Err(io::Error::other("the file to replace has become something other than a file"));
        }
        fs::rename(&part, path)
    };
    if let Err(error) = put() {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::Recording;

    fn problem(path: &Path, replaces: bool) -> String {
        Recording::open(path, replaces).err().expect("it is refused")
    }

    fn names(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn an_old_recording_stays_until_the_first_event_of_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("events.ndjson");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(problem(&file, false).contains("--force"));
        Recording::open(&file, true).unwrap().abandon();
        let mut recording = Recording::open(&file, true).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        recording.write_all(b"{}\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{}\n");
        recording.write_all(b"[]\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{}\n[]\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        recording.abandon();
        assert_eq!(names(directory.path()), 1);
    }

    #[test]
    fn what_came_in_its_place_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let [file, other] = ["events.ndjson", "other"].map(|name| directory.path().join(name));
        fs::write(&file, "old").unwrap();
        fs::write(&other, "other").unwrap();
        let mut recording = Recording::open(&file, true).unwrap();
        fs::remove_file(&file).unwrap();
        symlink(&other, &file).unwrap();
        assert!(recording.write_all(b"{}\n").is_err());
        recording.abandon();
        assert_eq!(fs::read_to_string(&other).unwrap(), "other");
        assert_eq!(names(directory.path()), 2);
    }

    #[test]
    fn a_new_file_is_removed_only_if_it_is_still_ours_and_empty() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("events.ndjson");
        Recording::open(&file, false).unwrap().abandon();
        assert!(!file.exists());
        let recording = Recording::open(&file, false).unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
        recording.abandon();
        assert!(file.exists());
        fs::remove_file(&file).unwrap();
        let mut recording = Recording::open(&file, false).unwrap();
        recording.write_all(b"{}\n").unwrap();
        recording.abandon();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{}\n");
        assert!(Recording::open(&directory.path().join("no/such"), true).is_err());
    }

    #[test]
    fn links_and_devices_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let [target, link] = ["target", "link"].map(|name| directory.path().join(name));
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        for replaces in [false, true] {
            assert!(problem(&link, replaces).ends_with("is a link; name the file itself"));
            assert!(problem(directory.path(), replaces).contains("is not a regular file"));
            let mut recording = Recording::open(Path::new("/dev/null"), replaces).unwrap();
            recording.write_all(b"{}\n").unwrap();
            recording.abandon();
            assert!(Path::new("/dev/null").exists());
        }
        fs::remove_file(&target).unwrap();
        assert!(problem(&link, true).contains("is a link"), "also a dangling link");
        assert_eq!(names(directory.path()), 1);
    }
}
