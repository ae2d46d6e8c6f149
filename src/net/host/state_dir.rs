//! The files of `state_dir`: a lock, the mark ahead of the numbering, and one snapshot between two runs.
//!
//! A directory that cannot be used as it is set is an error at the start: nobody shall believe that something is kept.
//! A disk that is full, or a file that is damaged, is said in one line, and the daemon runs without that part.

use std::fmt::Arguments;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::fs::{Access, FlockOperation, OFlags, access, flock};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};

use crate::net::host::making::{self, Made};
use crate::net::ingest::dedupe::Dedupe;
use crate::stream::now::Now;
use crate::stream::numbers::{SEQ_END, SEQ_MIN};
use crate::stream::sequencer::Sequencer;
use crate::stream::snapshot::{Restored, Saver, load};

const LOCK: &str = "lock";
const MARK: &str = "mark";
const SNAPSHOT: &str = "snapshot";
/// A snapshot that a run has begun with: it is not used again.
const USED: &str = "snapshot.used";
const NEW: &str = ".new";

/// Numbers between what is in use and the mark: four and a half minutes of the clock that numbers start at. At four
/// million events a second the mark moves twice a minute.
const MARK_STEP: u64 = 1 << 28;
/// Mode bits of those who may write: the group, and everybody else.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// Written to the disk at once: what one wait for it may cost.
const SYNC_BYTES: usize = 8 << 20;
/// Read or written with one call.
const BUFFER_BYTES: usize = 1 << 20;

/// What is left when no more lines are taken; all of it is published.
pub struct FinalState {
    pub sequencer: Sequencer,
    pub dedupe: Dedupe,
    pub now: Now,
}

pub struct StateDir {
    path: PathBuf,
    /// Held for as long as the daemon runs (flock(2)).
    _lock: File,
    /// Something could not be read or written, which has been said.
    has_failed: Arc<AtomicBool>,
}

/// Why a directory is not used at all.
#[derive(Debug)]
pub enum Unusable {
    /// Another daemon uses it.
    InUse(io::Error),
    /// The setting cannot be honoured.
    Setting(io::Error),
}

impl StateDir {
    /// Makes the directory if need be, and locks it. `has_failed` becomes true when something cannot be read or written.
    /// None: the disk is full or faulty, which has been said.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn open(path: &Path, has_failed: &Arc<AtomicBool>) -> Result<Option<Self>, Unusable> {
        let shown = path.display();
        match Self::try_open(path, has_failed) {
            Ok(state) => Ok(Some(state)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let message = format!("another daemon uses the state_dir {shown}");
                Err(Unusable::InUse(io::Error::new(ErrorKind::AddrInUse, message)))
            }
            Err(error) if is_of_the_disk(&error) => {
                has_failed.store(true, Ordering::Relaxed);
                tracing::error!("the state_dir {shown} cannot be written, nothing will be kept: {error}");
                Ok(None)
            }
            Err(error) => Err(Unusable::Setting(unusable(path, &error))),
        }
    }

    fn try_open(path: &Path, has_failed: &Arc<AtomicBool>) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        check_owner(path)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        for name in [MARK, SNAPSHOT] {
            // A half, of a run that ended as it wrote it; most often there is none.
            let _ = fs::remove_file(path.join(format!("{name}{NEW}")));
        }
        Ok(Self { path: path.to_owned(), _lock: lock, has_failed: has_failed.clone() })
    }

    /// Says what could not be read or written.
    fn report_failure(&self, problem: Arguments<'_>) {
        self.has_failed.store(true, Ordering::Relaxed);
        tracing::error!("{problem}");
    }

    /// The number that no earlier run has gone beyond, 0 if that is not known.
    pub fn mark(&self) -> u64 {
        let path = self.path.join(MARK);
        let mark = match open(&path).and_then(read_all) {
            Ok(bytes) => parse_mark(&bytes).ok_or_else(|| ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => return 0,
            Err(error) => Err(error),
        };
        mark.unwrap_or_else(|error: io::Error| {
            let path = path.display();
            self.report_failure(format_args!("cannot read {path}, the numbers begin at the clock: {error}"));
            0
        })
    }

    /// Saves how far the numbers go.
    pub fn set_mark(&self, mark: u64) {
        let written = self.replace(MARK, |file| file.write_all(write_mark(mark).as_bytes()));
        if let Err(error) = written {
            let path = self.path.join(MARK);
            self.report_failure(format_args!(
                "cannot write {}, after an unclean end the numbers begin at the clock: {error}",
                path.display()
            ));
        }
    }

    /// The snapshot of the run before, once: from now on it counts as used.
    pub fn take_snapshot(&self) -> Option<Restored> {
        let from = self.path.join(SNAPSHOT);
        let shown = from.display();
        let used = self.path.join(USED);
        match fs::rename(&from, &used).and_then(|()| self.sync()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Of a run that died as it began: to put it back later would bring an old past back.
                let _ = fs::remove_file(&used);
                if self.path.join(MARK).exists() {
                    tracing::warn!(
                        "the run before did not end clean, or could not save its state: its history, jobs and \
                         publishers' names are gone, only the numbers go on"
                    );
                }
                return None;
            }
            Err(error) => {
                self.report_failure(format_args!(
                    "cannot use {shown}, it would be used again after this run: {error}"
                ));
                return None;
            }
        }
        let opened = open(&used).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (length, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.report_failure(format_args!("cannot read {shown}, the history is lost: {error}"));
                return None;
            }
        };
        match load(BufReader::with_capacity(BUFFER_BYTES, file), length) {
            Ok(restored) => {
                self.report(&restored, &from);
                Some(restored)
            }
            Err(unusable) => {
                let text = unusable.text();
                self.report_failure(format_args!("cannot use {shown}, the history is lost: {text}"));
                None
            }
        }
    }

    /// The run that took the snapshot has not begun after all.
    pub fn put_back_snapshot(&self) {
        // There is none, if none was taken.
        let _ = fs::rename(self.path.join(USED), self.path.join(SNAPSHOT));
    }

    /// The run that took the snapshot has begun.
    pub fn forget_snapshot(&self) {
        // It would not be used anyway.
        let _ = fs::remove_file(self.path.join(USED));
    }

    /// Saves a snapshot: as many batches as can be written before `until`, and the rest of it.
    ///
    /// # Errors
    /// It could not be written; then there is none.
    pub fn save(&self, saver: &mut Saver<'_>, until: Instant) -> io::Result<u64> {
        let mut bytes = 0;
        self.replace(SNAPSHOT, |file| {
            let mut out = Vec::with_capacity(BUFFER_BYTES);
            let mut unsynced = 0;
            let mut goes_on = true;
            while goes_on {
                goes_on = saver.write_next(&mut out, Instant::now() >= until);
                if out.len() < BUFFER_BYTES && goes_on {
                    continue;
                }
                file.write_all(&out)?;
                bytes += out.len() as u64;
                unsynced += out.len();
                out.clear();
                if unsynced >= SYNC_BYTES {
                    // So that the time is that of the disk, and the wait at the end is short.
                    file.sync_data()?;
                    unsynced = 0;
                }
            }
            Ok(())
        })
        .inspect_err(|_| {
            self.has_failed.store(true, Ordering::Relaxed);
            // One from before that could not be taken: by now it is too old.
            let _ = fs::remove_file(self.path.join(SNAPSHOT));
        })?;
        Ok(bytes)
    }

    /// Writes a file beside the one of this name, and puts it in its place once it is on the disk.
    fn replace(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let new = self.path.join(format!("{name}{NEW}"));
        // Not truncated: what stands there may be a link to elsewhere.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = write(&mut file).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&new, self.path.join(name))).inspect_err(|_| {
            // A half is of no use, and the disk may be full because of it.
            let _ = fs::remove_file(&new);
        })?;
        self.sync()
    }

    /// One line about what was found.
    fn report(&self, restored: &Restored, path: &Path) {
        let damage = restored.damage;
        let (events, topics) = (restored.events(), restored.topics());
        let path = path.display();
        if damage.is_damaged {
            self.report_failure(format_args!(
                "{path} is damaged: {} events and {} jobs and flows are lost, {events} events and {topics} jobs and \
                 flows were read",
                damage.events, damage.topics
            ));
        } else {
            let lost = damage.events;
            tracing::info!(
                "read {events} events and {topics} jobs and flows from {path}, {lost} were not saved"
            );
        }
    }

    /// A name lasts only once its directory is on the disk (fsync(2)).
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// What keeps a daemon with this `state_dir` from starting, as far as it can be told without touching anything.
///
/// # Errors
/// What that is.
pub fn check(path: &Path) -> io::Result<()> {
    let try_check = || match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => Err(Errno::EXIST.into()),
        Ok(_) => {
            fs::read_dir(path)?;
            check_owner(path)?;
            access(path, Access::WRITE_OK | Access::EXEC_OK)?;
            let lock = path.join(LOCK);
            match fs::metadata(&lock) {
                Ok(metadata) if metadata.is_dir() => Err(Errno::ISDIR.into()),
                // Of another user, perhaps, who ran it before.
                Ok(_) => Ok(access(&lock, Access::WRITE_OK)?),
                Err(_) => making::check(path, Made::File),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // It would be made, with those above it that are missing.
            let there = path.ancestors().find(|above| fs::symlink_metadata(above).is_ok());
            match there {
                // A link that leads nowhere is in the way of what would be made.
                Some(link) if !link.exists() => Err(Errno::EXIST.into()),
                above => making::check(above.unwrap_or(Path::new(".")), Made::Directory),
            }
        }
        Err(error) => Err(error),
    };
    try_check().map_err(|error: io::Error| unusable(path, &error))
}

fn unusable(path: &Path, error: &io::Error) -> io::Error {
    let message = format!("the state_dir {} cannot be used: {error}", path.display());
    io::Error::new(ErrorKind::InvalidInput, message)
}

/// Whoever owns the directory, or can write there, could make the daemon believe anything: only the daemon's own user
/// and root, and a group of the daemon if the operator lets it.
fn check_owner(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
    let own = geteuid().as_raw();
    if owner != own && owner != 0 {
        return Err(io::Error::other(format!("it belongs to the user {owner}, and this is {own}")));
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(io::Error::other(format!("everybody can write there (mode {:04o})", mode & 0o7777)));
    }
    let is_own = || {
        let others = getgroups().unwrap_or_default();
        getegid().as_raw() == group || others.iter().any(|own| own.as_raw() == group)
    };
    if mode & GROUP_WRITES != 0 && !is_own() {
        let mode = mode & 0o7777;
        let problem =
            format!("the group {group} can write there, which is not the daemon's (mode {mode:04o})");
        return Err(io::Error::other(problem));
    }
    Ok(())
}

/// The disk has no room or does not work: no fault of whoever set `state_dir`.
fn is_of_the_disk(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::IO))
}

/// The mark as the next run needs it, for numbers from `seq` on.
pub fn mark_ahead_of(seq: u64) -> u64 {
    (seq + MARK_STEP).min(SEQ_END)
}

/// Tells when the mark has to move. The one who asks does not wait for a disk.
pub struct NumberMark {
    wanted: Option<Sender<u64>>,
    /// Beyond this number, the mark moves.
    due_at: u64,
}

impl NumberMark {
    /// Without a directory: it never moves.
    pub fn none() -> Self {
        Self { wanted: None, due_at: u64::MAX }
    }

    /// `seq`: the number that the last mark was ahead of.
    pub fn new(seq: u64) -> (Self, Receiver<u64>) {
        let (wanted, requests) = unbounded();
        (Self { wanted: Some(wanted), due_at: seq + MARK_STEP / 2 }, requests)
    }

    /// The newest number is `seq`.
    pub fn note(&mut self, seq: u64) {
        if seq <= self.due_at {
            return;
        }
        self.due_at = seq + MARK_STEP / 2;
        if let Some(wanted) = &self.wanted {
            // Whoever writes it has ended only with the daemon.
            let _ = wanted.send(mark_ahead_of(seq));
        }
    }
}

/// Writes marks until nobody can want one any more.
pub fn keep_mark(state: &Arc<StateDir>, requests: &Receiver<u64>) -> io::Result<()> {
    requests.iter().for_each(|mark| state.set_mark(mark));
    Ok(())
}

fn write_mark(mark: u64) -> String {
    let text = format!("luxcast mark 1 {mark}");
    let checksum = crc32fast::hash(text.as_bytes());
    format!("{text} {checksum:08x}\n")
}

fn parse_mark(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mark = text.strip_prefix("luxcast mark 1 ")?.split(' ').next()?.parse().ok()?;
    ((SEQ_MIN..=SEQ_END).contains(&mark) && write_mark(mark) == text).then_some(mark)
}

/// Opens a file of the daemon's own to read it. Anything else at its path is an error, and nobody is waited for there.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
    }
}

fn read_all(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::process::{getegid, geteuid};

    use super::{
        MARK, MARK_STEP, NumberMark, SNAPSHOT, StateDir, USED, Unusable, check, mark_ahead_of, parse_mark,
        write_mark,
    };
    use crate::stream::numbers::SEQ_MIN;

    /// A directory that goes with its test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("luxcast-state-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn open(path: &Path) -> Result<Option<StateDir>, Unusable> {
        StateDir::open(path, &Arc::default())
    }

    /// Why a daemon would not start with it.
    fn refusal(path: &Path) -> String {
        match open(path).err() {
            Some(Unusable::Setting(error)) => error.to_string(),
            other => panic!("{}: {other:?}", path.display()),
        }
    }

    #[test]
    fn the_directory_is_made_for_its_owner_alone_and_has_one_daemon() {
        let scratch = Scratch::new("one");
        let state = open(&scratch.0).unwrap().expect("it can be made");
        state.set_mark(SEQ_MIN);
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(scratch.0.clone()), mode(scratch.0.join(MARK))), (0o700, 0o600));
        let Some(Unusable::InUse(error)) = open(&scratch.0).err() else { panic!("it is in use") };
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another daemon uses the state_dir"), "{error}");
        drop(state);
        assert!(open(&scratch.0).unwrap().is_some());
    }

    #[test]
    fn a_snapshot_of_a_run_that_died_as_it_began_never_comes_back() {
        let scratch = Scratch::new("used");
        let state = open(&scratch.0).unwrap().unwrap();
        fs::write(scratch.0.join(USED), "an old past").unwrap();
        assert!(state.take_snapshot().is_none());
        state.put_back_snapshot();
        assert!(!scratch.0.join(SNAPSHOT).exists() && !scratch.0.join(USED).exists());
    }

    #[test]
    fn a_directory_is_as_its_operator_wants_it_and_no_strangers() {
        let scratch = Scratch::new("open");
        fs::create_dir(&scratch.0).unwrap();
        // Of a group of ours; the latter as a volume of Kubernetes.
        for good in [0o700, 0o750, 0o755, 0o770, 0o2770, 0o2775] {
            fs::set_permissions(&scratch.0, fs::Permissions::from_mode(good)).unwrap();
            assert!(open(&scratch.0).unwrap().is_some(), "{good:o}");
            check(&scratch.0).unwrap();
        }
        for bad in [0o702, 0o777, 0o1777, 0o2777] {
            fs::set_permissions(&scratch.0, fs::Permissions::from_mode(bad)).unwrap();
            let error = refusal(&scratch.0);
            assert!(error.contains("everybody can write there"), "{bad:o}: {error}");
            assert_eq!(check(&scratch.0).unwrap_err().to_string(), error);
        }
        if !geteuid().is_root() {
            return;
        }
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o770)).unwrap();
        chown(&scratch.0, None, Some(getegid().as_raw() + 4711)).unwrap();
        assert!(refusal(&scratch.0).contains("which is not the daemon's"));
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(open(&scratch.0).unwrap().is_some(), "that group can only read");
        chown(&scratch.0, Some(4711), None).unwrap();
        assert!(refusal(&scratch.0).contains("belongs to the user 4711"));
        assert!(check(&scratch.0).is_err());
    }

    #[test]
    fn what_is_no_directory_is_refused_and_what_is_missing_would_be_made() {
        let scratch = Scratch::new("file");
        let missing = scratch.0.join("a/b");
        check(&missing).unwrap();
        assert!(!scratch.0.exists(), "it only looks");
        assert!(open(&missing).unwrap().is_some());
        let file = scratch.0.join("file");
        fs::write(&file, "precious").unwrap();
        for path in [&file, &file.join("below")] {
            refusal(path);
            check(path).unwrap_err();
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[test]
    fn what_is_damaged_is_told_and_done_without() {
        let scratch = Scratch::new("damaged");
        let has_failed = Arc::new(AtomicBool::new(false));
        let state = StateDir::open(&scratch.0, &has_failed).unwrap().unwrap();
        assert!(state.take_snapshot().is_none() && state.mark() == 0);
        assert!(!has_failed.load(Ordering::Relaxed), "a first start");
        fs::write(scratch.0.join(SNAPSHOT), "nonsense").unwrap();
        assert!(state.take_snapshot().is_none());
        assert!(has_failed.swap(false, Ordering::Relaxed));
        fs::write(scratch.0.join(MARK), "nonsense").unwrap();
        assert_eq!(state.mark(), 0);
        assert!(has_failed.load(Ordering::Relaxed));
    }

    #[test]
    fn a_mark_that_is_not_what_was_written_is_none() {
        let scratch = Scratch::new("mark");
        let state = open(&scratch.0).unwrap().unwrap();
        assert_eq!(state.mark(), 0);
        state.set_mark(1_764_000_000_000_000);
        assert_eq!(state.mark(), 1_764_000_000_000_000);
        let bytes = fs::read(scratch.0.join(MARK)).unwrap();
        assert_eq!(bytes, write_mark(1_764_000_000_000_000).as_bytes());
        for cut in 0..bytes.len() {
            assert_eq!(parse_mark(&bytes[..cut]), None);
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[cut] ^= 1 << bit;
                assert_eq!(parse_mark(&flipped), None, "{}", String::from_utf8_lossy(&flipped));
            }
        }
        fs::write(scratch.0.join(MARK), "nonsense").unwrap();
        assert_eq!(state.mark(), 0);
    }

    #[test]
    fn the_mark_moves_long_before_it_is_reached() {
        let (mut mark, requests) = NumberMark::new(SEQ_MIN);
        mark.note(SEQ_MIN + MARK_STEP / 2);
        assert!(requests.is_empty());
        mark.note(SEQ_MIN + MARK_STEP / 2 + 1);
        mark.note(SEQ_MIN + MARK_STEP / 2 + 2);
        assert_eq!(requests.try_iter().collect::<Vec<_>>(), [mark_ahead_of(SEQ_MIN + MARK_STEP / 2 + 1)]);
    }
}
