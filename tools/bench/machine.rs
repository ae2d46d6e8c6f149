//! The machine that runs the measurements, and the use of its cores.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Outcome;
use crate::result::Machine;

/// The server's core; the load has the next one.
#[derive(Clone, Copy, Debug)]
pub struct Pinning {
    pub server: Option<usize>,
}

impl Pinning {
    /// With two cores, pins the server to one and this process to the other, if `taskset` works.
    pub fn apply() -> Self {
        let cores = cores();
        let process = std::process::id().to_string();
        let is_pinned = cores >= 2
            && Command::new("taskset")
                .args(["-a", "-p", "-c", "1", &process])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
        Self { server: is_pinned.then_some(0) }
    }

    pub fn describe(&self) -> String {
        match self.server {
            Some(core) => format!(
                "server on core {core}, load on core {}, which never sleeps (so waking it costs nothing)",
                core + 1
            ),
            None => "server and load share the cores".to_owned(),
        }
    }
}

pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// `cores` is the number before pinning.
pub fn describe(pinning: &Pinning, cores: usize) -> Machine {
    let field = |file: &str, name: &str| -> Option<String> {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = field("/proc/meminfo", "MemTotal");
    let kib = memory.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
        cores,
        memory_bytes: kib.unwrap_or(0) * 1024,
        kernel: kernel.trim().to_owned(),
        pinning: pinning.describe(),
    }
}

/// Raises the soft limit of open files to the hard one; returns how many connections that allows.
pub fn raise_file_limit() -> Outcome<usize> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.map_or(usize::MAX, |files| files.saturating_sub(256) as usize))
}
