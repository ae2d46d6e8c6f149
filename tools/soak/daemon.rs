//! The daemon under test: started with a small history, observed through `/proc`, ended as an operator does.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::publisher::Door;
use crate::{Outcome, PATIENCE};

pub struct Daemon {
    child: Child,
    pub address: SocketAddr,
    ingest: PathBuf,
    directory: PathBuf,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

/// What it uses at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub resident_bytes: u64,
    pub descriptors: u64,
}

impl Daemon {
    pub fn start(flags: &[String]) -> Outcome<Self> {
        // No two have the same socket, also not one after the other.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("luxcast-soak-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let ingest = directory.join("ingest.sock");
        let beside = env::current_exe()?.with_file_name("luxcast");
        let mut command = Command::new(&beside);
        command.args("serve --listen 127.0.0.1:0 --admin off --log-level error --ingest".split(' '));
        command.arg(&ingest).args(flags).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("cannot start {}: {error}", beside.display()))?;
        let out = child.stdout.take().ok_or("a child without standard output")?;
        let mut daemon = Self { child, address: SocketAddr::from(([0; 4], 0)), ingest, directory };
        for line in BufReader::new(out).lines() {
            let line = line?;
            if let Some(address) = line.strip_prefix("listening ws://") {
                daemon.address = address.parse()?;
            }
            if line.starts_with("ingest ") {
                return Ok(daemon);
            }
        }
        Err("the daemon ended before it was ready".into())
    }

    /// Where publishers reach it.
    pub fn door(&self) -> Door {
        Door { socket: self.ingest.clone(), address: self.address }
    }

    pub fn usage(&self) -> Outcome<Usage> {
        let id = self.child.id();
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.split_whitespace().next()).ok_or("no VmRSS")?;
        let descriptors = fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64;
        Ok(Usage { resident_bytes: kib.parse::<u64>()? * 1024, descriptors })
    }

    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    pub fn has_ended(&mut self) -> Outcome<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end after a signal.
    pub fn wait(&mut self) -> Outcome<ExitStatus> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err("the daemon does not end".into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
