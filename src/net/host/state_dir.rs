//! The files of `state_dir`: a lock, the mark ahead of the numbers in use, and one snapshot between two runs.
//!
//! A directory that cannot be used ends the start, so that no operator believes wrongly that state is kept. A full disk or
//! a damaged file is logged in one line, and the daemon runs without that part.

use std::fmt::Arguments;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
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
/// The snapshot that a run has started with, which is not used again.
const USED: &str = "snapshot.used";
const NEW: &str = ".new";

/// How far the mark is ahead of the numbers in use. Numbers start at the clock in microseconds, so this is four and a half
/// minutes. At four million events a second the mark moves twice a minute.
const MARK_STEP: u64 = 1 << 28;
/// Mode bits for writing: by the group, and by all others.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// Bytes written between two waits for the disk.
const SYNC_BYTES: usize = 8 << 20;
/// Bytes read or written with one call.
const BUFFER_BYTES: usize = 1 << 20;

/// The ingest thread's state at its end. All its events are published.
pub struct FinalState {
    pub sequencer: Sequencer,
    pub dedupe: Dedupe,
    pub now: Now,
}

pub struct StateDir {
    path: PathBuf,
    /// Held for as long as the daemon runs (flock(2)).
    _lock: File,
    /// Something could not be read or written. It is logged already.
    has_failed: Arc<AtomicBool>,
}

/// Why a directory is not used.
#[derive(Debug)]
pub enum Unusable {
    /// Another daemon uses it.
    InUse(io::Error),
    /// The directory cannot be used as the setting asks.
    Setting(io::Error),
}

impl StateDir {
    /// Makes the directory if it is missing, and locks it. `has_failed` becomes true when something cannot be read or
    /// written. None: the disk is full or faulty, which is logged.
    ///
    /// # Errors
    /// Why the directory is not used.
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
                tracing::error!("the state_dir {shown} cannot be written, so no state will be kept: {error}");
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
            // An unfinished file of a run that ended while it wrote. Usually there is none.
            let _ = fs::remove_file(path.join(format!("{name}{NEW}")));
        }
        Ok(Self { path: path.to_owned(), _lock: lock, has_failed: has_failed.clone() })
    }

    /// Logs what could not be read or written, and sets `has_failed`.
    fn report_failure(&self, problem: Arguments<'_>) {
        self.has_failed.store(true, Ordering::Relaxed);
        tracing::error!("{problem}");
    }

    /// A number that no earlier run has gone beyond, 0 if it is not known.
    pub fn mark(&self) -> u64 {
        let path = self.path.join(MARK);
        let mark = match open(&path).and_then(read_all) {
            Ok(bytes) => parse_mark(&bytes).ok_or_else(|| ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => return 0,
            Err(error) => Err(error),
        };
        mark.unwrap_or_else(|error: io::Error| {
            let path = path.display();
            self.report_failure(format_args!(
                "cannot read {path}, so the numbers begin at the clock: {error}"
            ));
            0
        })
    }

    /// Saves how far numbers may go.
    pub fn set_mark(&self, mark: u64) {
        let written = self.replace(MARK, |file| file.write_all(write_mark(mark).as_bytes()));
        if let Err(error) = written {
            let path = self.path.join(MARK);
            self.report_failure(format_args!(
                "cannot write {}, so after an unclean end the numbers begin at the clock: {error}",
                path.display()
            ));
        }
    }

    /// Reads the snapshot of the run before, and marks it as used.
    pub fn take_snapshot(&self) -> Option<Restored> {
        let from = self.path.join(SNAPSHOT);
        let shown = from.display();
        let used = self.path.join(USED);
        match fs::rename(&from, &used).and_then(|()| self.sync()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A used snapshot is from a run that died while it started. Putting it back later would restore an old state.
                let _ = fs::remove_file(&used);
                if self.path.join(MARK).exists() {
                    tracing::warn!(
                        "the run before did not end cleanly, or could not save its state: its history, jobs and \
                         publishers' names are lost, only the numbers go on"
                    );
                }
                return None;
            }
            Err(error) => {
                self.report_failure(format_args!(
                    "cannot mark {shown} as used, so this run begins without it: {error}"
                ));
                return None;
            }
        }
        let opened = open(&used).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (length, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.report_failure(format_args!("cannot read {shown}, so the history is lost: {error}"));
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
                self.report_failure(format_args!("cannot use {shown}, so the history is lost: {text}"));
                None
            }
        }
    }

    /// Makes the snapshot usable again: the run that took it does not start.
    pub fn put_back_snapshot(&self) {
        // This fails if no snapshot was taken.
        let _ = fs::rename(self.path.join(USED), self.path.join(SNAPSHOT));
    }

    /// Removes the used snapshot: the run that took it has started.
    pub fn forget_snapshot(&self) {
        // If this fails, the file still counts as used.
        let _ = fs::remove_file(self.path.join(USED));
    }

    /// Saves a snapshot, with as many batches as can be written before `until`. Returns its size in bytes.
    ///
    /// # Errors
    /// The snapshot could not be written; there is none then.
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
                    // So `until` bounds the time of the disk too, and the last wait is short.
                    file.sync_data()?;
                    unsynced = 0;
                }
            }
            Ok(())
        })
        .inspect_err(|_| {
            self.has_failed.store(true, Ordering::Relaxed);
            // An older snapshot that could not be taken would restore an old state.
            let _ = fs::remove_file(self.path.join(SNAPSHOT));
        })?;
        Ok(bytes)
    }

    /// Replaces a file: writes another beside it, and renames that once it is on the disk.
    fn replace(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let new = self.path.join(format!("{name}{NEW}"));
        // Removed, not truncated: it may be a link to another file.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = write(&mut file).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&new, self.path.join(name))).inspect_err(|_| {
            // The unfinished file is useless, and may be why the disk is full.
            let _ = fs::remove_file(&new);
        })?;
        self.sync()
    }

    /// Logs in one line what was restored.
    fn report(&self, restored: &Restored, path: &Path) {
        let damage = restored.damage;
        let (jobs, flows) = restored.jobs_and_flows();
        let read = format!(
            "read {}, {} and {}",
            counted(restored.events(), "event"),
            counted(jobs as u64, "job"),
            counted(flows as u64, "flow")
        );
        let lost = counted(damage.events, "event");
        let path = path.display();
        if damage.is_damaged {
            let topics = counted(damage.topics as u64, "topic");
            self.report_failure(format_args!("{path} is damaged: lost {lost} and {topics}, {read}"));
        } else {
            tracing::info!("{read} from {path}; {lost} had not been saved");
        }
    }

    /// Writes the directory itself to the disk: only then does a new name last (fsync(2)).
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// `1 job`, `2 jobs`.
fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Checks whether a daemon could start with this `state_dir`, without changing anything.
///
/// # Errors
/// Why it could not.
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
                // Another user may have run the daemon before, and own the lock.
                Ok(_) => Ok(access(&lock, Access::WRITE_OK)?),
                Err(_) => making::check(path, Made::File),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // The daemon would make it, with any parent that is missing.
            let there = path.ancestors().find(|above| fs::symlink_metadata(above).is_ok());
            match there {
                // A dangling link is in the way of the new directory.
                Some(link) if !link.exists() => Err(Errno::EXIST.into()),
                above => making::check(above.unwrap_or(Path::new(".")), Made::Directory),
            }
        }
        Err(error) => Err(error),
    };
    try_check().map_err(|error: io::Error| unusable(path, &error))
}

fn unusable(path: &Path, error: &io::Error) -> io::Error {
    let problem = match error.kind() {
        ErrorKind::AlreadyExists => "something else than a directory is there".to_owned(),
        _ => error.to_string(),
    };
    let message = format!("the state_dir {} cannot be used: {problem}", path.display());
    io::Error::new(ErrorKind::InvalidInput, message)
}

/// Checks who could forge state. Only the daemon's own user or root may own the directory. Only they may write there, and
/// a group of the daemon if the mode allows it.
///
/// # Errors
/// Another user owns it or may write there.
fn check_owner(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
    let own = geteuid().as_raw();
    if owner != own && owner != 0 {
        return Err(io::Error::other(format!(
            "it belongs to user {owner}, and the daemon runs as user {own}"
        )));
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(io::Error::other(format!("all users can write there (mode {:04o})", mode & 0o7777)));
    }
    let is_own = || {
        let others = getgroups().unwrap_or_default();
        getegid().as_raw() == group || others.iter().any(|own| own.as_raw() == group)
    };
    if mode & GROUP_WRITES != 0 && !is_own() {
        let mode = mode & 0o7777;
        let problem =
            format!("group {group} can write there, and is no group of the daemon (mode {mode:04o})");
        return Err(io::Error::other(problem));
    }
    Ok(())
}

/// Whether the disk is full or does not work. The setting is not wrong then.
fn is_of_the_disk(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::IO))
}

/// The mark for a run whose newest number is `seq`.
pub fn mark_ahead_of(seq: u64) -> u64 {
    (seq + MARK_STEP).min(SEQ_END)
}

/// Requests a new mark when the numbers come near the last one. The caller does not wait for a disk, unless they jump
/// beyond it.
pub struct NumberMark {
    wanted: Option<Sender<WantedMark>>,
    /// Beyond this number a new mark is requested.
    due_at: u64,
    /// The last mark requested: `due_at < mark`, except where all numbers are used up.
    mark: u64,
}

pub struct WantedMark {
    mark: u64,
    /// Dropped once the mark is written.
    _until_written: Option<Sender<()>>,
}

impl NumberMark {
    /// There is no directory, so there is no mark.
    pub fn none() -> Self {
        Self { wanted: None, due_at: u64::MAX, mark: u64::MAX }
    }

    /// `seq`: the number that the last mark was made for.
    pub fn new(seq: u64) -> (Self, Receiver<WantedMark>) {
        let (wanted, requests) = unbounded();
        (Self { wanted: Some(wanted), due_at: seq + MARK_STEP / 2, mark: mark_ahead_of(seq) }, requests)
    }

    /// Requests a new mark if `seq`, the newest number, needs one. Called before anybody sees that number. If it jumped
    /// beyond the last mark, this waits until the new one is written or has failed: a run after a kill would give it again.
    pub fn note(&mut self, seq: u64) {
        if seq <= self.due_at {
            return;
        }
        let has_jumped = seq > self.mark;
        (self.due_at, self.mark) = (seq + MARK_STEP / 2, mark_ahead_of(seq));
        let Some(wanted) = &self.wanted else { return };
        let (until_written, written) = bounded(0);
        let _until_written = has_jumped.then_some(until_written);
        // The thread that writes marks runs as long as this one.
        let _ = wanted.send(WantedMark { mark: self.mark, _until_written });
        if has_jumped {
            // Nothing is ever sent: the other end is dropped.
            let _ = written.recv();
        }
    }
}

/// Writes the requested marks until the [`NumberMark`] is dropped.
pub fn keep_mark(state: &Arc<StateDir>, requests: &Receiver<WantedMark>) -> io::Result<()> {
    requests.iter().for_each(|wanted| state.set_mark(wanted.mark));
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

/// Opens one of the daemon's files to read it. Anything but a regular file is an error; opening a FIFO does not wait.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
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
    use std::thread;

    use rustix::process::{getegid, geteuid};

    use super::{
        MARK, MARK_STEP, NumberMark, SNAPSHOT, StateDir, USED, Unusable, check, keep_mark, mark_ahead_of,
        parse_mark, write_mark,
    };
    use crate::stream::numbers::{SEQ_END, SEQ_MIN};

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
    fn the_snapshot_of_a_run_that_died_while_it_started_is_not_restored() {
        let scratch = Scratch::new("used");
        let state = open(&scratch.0).unwrap().unwrap();
        fs::write(scratch.0.join(USED), "an old state").unwrap();
        assert!(state.take_snapshot().is_none());
        state.put_back_snapshot();
        assert!(!scratch.0.join(SNAPSHOT).exists() && !scratch.0.join(USED).exists());
    }

    #[test]
    fn the_operator_and_a_group_of_the_daemon_may_own_the_directory() {
        let scratch = Scratch::new("open");
        fs::create_dir(&scratch.0).unwrap();
        // The group is this process's own. The modes with 2 are those of Kubernetes volumes.
        for good in [0o700, 0o750, 0o755, 0o770, 0o2770, 0o2775] {
            fs::set_permissions(&scratch.0, fs::Permissions::from_mode(good)).unwrap();
            assert!(open(&scratch.0).unwrap().is_some(), "{good:o}");
            check(&scratch.0).unwrap();
        }
        for bad in [0o702, 0o777, 0o1777, 0o2777] {
            fs::set_permissions(&scratch.0, fs::Permissions::from_mode(bad)).unwrap();
            let error = refusal(&scratch.0);
            assert!(error.contains("all users can write there"), "{bad:o}: {error}");
            assert_eq!(check(&scratch.0).unwrap_err().to_string(), error);
        }
        if !geteuid().is_root() {
            return;
        }
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o770)).unwrap();
        chown(&scratch.0, None, Some(getegid().as_raw() + 4711)).unwrap();
        assert!(refusal(&scratch.0).contains("is no group of the daemon"));
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(open(&scratch.0).unwrap().is_some(), "that group can only read");
        chown(&scratch.0, Some(4711), None).unwrap();
        assert!(refusal(&scratch.0).contains("belongs to user 4711"));
        assert!(check(&scratch.0).is_err());
    }

    #[test]
    fn a_path_that_is_no_directory_is_refused_and_a_missing_one_is_fine() {
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
    fn damaged_files_are_logged_and_not_used() {
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
    fn a_mark_that_is_not_as_written_is_ignored() {
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
        let marks: Vec<u64> = requests.try_iter().map(|wanted| wanted.mark).collect();
        assert_eq!(marks, [mark_ahead_of(SEQ_MIN + MARK_STEP / 2 + 1)]);
    }

    #[test]
    fn a_number_beyond_the_mark_is_given_only_once_a_mark_beyond_it_is_on_the_disk() {
        let scratch = Scratch::new("jump");
        let state = Arc::new(open(&scratch.0).unwrap().unwrap());
        state.set_mark(mark_ahead_of(SEQ_MIN));
        let (mut mark, requests) = NumberMark::new(SEQ_MIN);
        let keeper = thread::spawn({
            let state = state.clone();
            move || keep_mark(&state, &requests)
        });
        for seq in [mark_ahead_of(SEQ_MIN) + 1, SEQ_MIN + (1 << 40), SEQ_END - 1] {
            mark.note(seq);
            // As the next run would read it after a kill.
            assert!(state.mark() > seq, "{seq}");
        }
        drop(mark);
        keeper.join().unwrap().unwrap();
        // Where no mark can be written, the numbers go on.
        let (mut mark, requests) = NumberMark::new(SEQ_MIN);
        drop(requests);
        mark.note(SEQ_END - 1);
    }
}
