//! What one run of the daemon saves for the next, if there is a `state_dir`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::config::Config;
use crate::net::clock;
use crate::net::host::state_dir::{
    FinalState, NumberMark, StateDir, Unusable, WantedMark, keep_mark, mark_ahead_of,
};
use crate::server::threads::{ThreadHandle, join, spawn};
use crate::stream::directory::Directory;
use crate::stream::numbers::{SEQ_END, SEQ_MIN};
use crate::stream::snapshot::{Restored, Saver};

/// The part of the drain time that is kept for the end of the snapshot: a quarter, and at most this.
const RESERVE_MAX: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Persistence {
    dir: Option<Arc<StateDir>>,
    /// Set when the directory could not be read or written.
    pub has_failed: Arc<AtomicBool>,
}

/// What the previous run left.
pub struct PreviousRun {
    pub restored: Option<Restored>,
    /// The number before the first of this run.
    pub run_start: u64,
}

impl Persistence {
    /// # Errors
    /// Why the directory cannot be used.
    pub fn open(config: &Config) -> Result<Self, Unusable> {
        let has_failed = Arc::default();
        // With a bus, a restart reads the shared stream.
        let path = config.state_dir.as_deref().filter(|_| config.bus.is_empty());
        let dir = path.map(|path| StateDir::open(path, &has_failed)).transpose()?.flatten();
        Ok(Self { dir: dir.map(Arc::new), has_failed })
    }

    /// Reads the saved state, and decides where the numbers of this run begin.
    pub fn begin(&self) -> PreviousRun {
        let restored = self.dir.as_ref().and_then(|dir| dir.take_snapshot());
        let mark = self.dir.as_ref().map_or(0, |dir| dir.mark());
        let before = restored.as_ref().map_or(0, Restored::seq).max(mark);
        let run_start = before.max(clock::unix_micros() as u64).clamp(SEQ_MIN, SEQ_END - 1);
        PreviousRun { restored, run_start }
    }

    /// Sets how far the numbers of a run may go that begins behind `run_start`, before the first is given.
    pub fn mark(&self, run_start: u64) -> (NumberMark, Receiver<WantedMark>) {
        match &self.dir {
            None => (NumberMark::none(), bounded(0).1),
            Some(dir) => {
                dir.set_mark(mark_ahead_of(run_start));
                NumberMark::new(run_start)
            }
        }
    }

    /// Starts the run that takes over what was read. A separate thread keeps the mark ahead of the run's numbers, so that no
    /// other thread waits for a disk.
    pub fn start(&self, mark: Receiver<WantedMark>) -> io::Result<Option<ThreadHandle<()>>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let keeper = dir.clone();
        let thread = spawn("mark".to_owned(), move || keep_mark(&keeper, &mark))?;
        dir.forget_snapshot();
        Ok(Some(thread))
    }

    /// Undoes [`Persistence::begin`], because the daemon does not start.
    pub fn cancel(&self) {
        if let Some(dir) = &self.dir {
            dir.put_back_snapshot();
        }
    }

    /// Saves what the next run needs, in the background, once the last requested mark is written. The receiver gets
    /// the outcome.
    pub fn save(
        &self,
        final_state: FinalState,
        marks: Option<ThreadHandle<()>>,
        began: Instant,
        limit: Duration,
    ) -> io::Result<Receiver<io::Result<()>>> {
        let (done, outcome) = bounded(1);
        let Some(dir) = self.dir.clone() else {
            return Ok(outcome);
        };
        let until = began + limit - RESERVE_MAX.min(limit / 4);
        spawn("save".to_owned(), move || {
            marks.map_or(Ok(()), join)?;
            // The receiver may have given up.
            let _ = done.send(save(&dir, &final_state, until));
            Ok(())
        })?;
        Ok(outcome)
    }

    /// Waits for [`Persistence::save`] to finish, at most until the end of the drain time.
    ///
    /// # Errors
    /// It did not finish, or failed: the state is lost.
    pub fn await_saved(&self, outcome: &Receiver<io::Result<()>>, until: Instant) -> io::Result<()> {
        if self.dir.is_none() {
            return Ok(());
        }
        outcome.recv_deadline(until).unwrap_or_else(|_| {
            let message = "the state was not saved within drain_seconds: the next start begins without it";
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        })
    }
}

impl PreviousRun {
    pub fn directory(&self, topics_max: usize) -> Directory {
        match &self.restored {
            None => Directory::new(self.run_start, topics_max),
            Some(restored) => {
                Directory::with_earlier(self.run_start, restored.earlier_runs(self.run_start), topics_max)
            }
        }
    }
}

/// Writes the snapshot and the mark.
///
/// # Errors
/// Why there is no snapshot.
fn save(dir: &StateDir, final_state: &FinalState, until: Instant) -> io::Result<()> {
    let FinalState { sequencer, dedupe, now } = final_state;
    let mut saver = Saver::new(sequencer, dedupe.parts(now.millis), *now);
    let saved = dir.save(&mut saver, until);
    // Reserved numbers that were not used are free again.
    dir.set_mark(sequencer.seq());
    let bytes = saved.map_err(|error| {
        let message = format!("cannot save the state, so the next start begins without it: {error}");
        io::Error::new(error.kind(), message)
    })?;
    match saver.batches_left_out() {
        0 => tracing::info!("saved the state, {bytes} bytes"),
        _ => tracing::warn!(
            "saved the state, {bytes} bytes, but not all of the history: drain_seconds was too short"
        ),
    }
    Ok(())
}
