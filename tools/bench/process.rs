//! A server under test as a process: started on its own core, observed through `/proc`, ended with the tool.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::machine::Pinning;

/// How long a server may take to end when asked to.
const END: Duration = Duration::from_secs(12);

pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts `program` on the server's core.
    pub fn start(program: &Path, arguments: &[String], pinning: &Pinning) -> Outcome<Self> {
        let mut command = match pinning.server {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(core.to_string()).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let out = child.stdout.take().ok_or("a child without standard output")?;
        Ok(Self { child, lines: BufReader::new(out).lines() })
    }

    /// The next line of its standard output.
    pub fn line(&mut self) -> Outcome<String> {
        Ok(self.lines.next().ok_or("the server ended before it was ready")??)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ask = |signal| {
            // If it has ended by itself, other checks show it.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        };
        ask(Signal::TERM);
        // It may have been stopped.
        ask(Signal::CONT);
        // A second signal ends luxcast at once: its watchers are gone, so there is nobody to say goodbye to.
        ask(Signal::TERM);
        let begin = Instant::now();
        while begin.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process and its children have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_nanos: u64,
    pub resident_bytes: u64,
}

impl Usage {
    /// From `/proc`: CPU time of all threads (schedstat), resident memory (VmRSS).
    pub fn of(process: u32) -> Outcome<Self> {
        let mut usage = Self::default();
        let mut processes = vec![process];
        while let Some(process) = processes.pop() {
            for task in fs::read_dir(format!("/proc/{process}/task"))? {
                let task = task?.path();
                // A thread may end between the two reads.
                if let Ok(text) = fs::read_to_string(task.join("schedstat")) {
                    usage.cpu_nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
                }
                if let Ok(children) = fs::read_to_string(task.join("children")) {
                    processes.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
                }
            }
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = resident.and_then(|text| text.split_whitespace().next()).ok_or("no VmRSS")?;
            usage.resident_bytes += kib.parse::<u64>()? * 1024;
        }
        Ok(usage)
    }
}

/// Counts the system calls of a process while it lives, with `perf`.
pub struct SyscallCount {
    perf: Child,
}

impl SyscallCount {
    /// None: this machine has no `perf`, or does not allow it to count.
    pub fn begin(process: u32) -> Option<Self> {
        let mut perf = Command::new("perf")
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &process.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        thread::sleep(Duration::from_millis(300));
        let is_there = matches!(perf.try_wait(), Ok(None));
        is_there.then_some(Self { perf })
    }

    pub fn end(mut self) -> Option<u64> {
        kill_process(Pid::from_child(&self.perf), Signal::INT).ok()?;
        let mut text = String::new();
        std::io::Read::read_to_string(self.perf.stderr.as_mut()?, &mut text).ok()?;
        let _ = self.perf.wait();
        let line = text.lines().find(|line| line.contains("raw_syscalls"))?;
        line.split(',').next()?.parse().ok()
    }
}
