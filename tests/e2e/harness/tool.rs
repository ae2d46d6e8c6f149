//! The commands beside the daemon.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::harness::daemon::{Gathered, read_lines};
use crate::harness::{Daemon, PATIENCE, luxcast};

/// A tool that runs beside the daemon; it never outlives its test.
pub struct Tool {
    pub child: Child,
    pub lines: Receiver<String>,
    pub stderr: Gathered,
}

impl Tool {
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let stderr = Gathered::start(child.stderr.take().unwrap());
        let lines = read_lines(child.stdout.take().unwrap(), Arc::default());
        Self { child, lines, stderr }
    }

    pub fn tail(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut command = luxcast();
        command.args(["tail", "--url", &format!("ws://{}", daemon.address)]).args(arguments);
        Self::start(&mut command)
    }

    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line; {}", self.stderr.so_far()))
    }

    /// Writes a line of its standard input.
    pub fn write_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is open");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("it reads");
    }

    /// Waits for its end; returns the exit code and standard error.
    pub fn end(&mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().expect("it ended by itself");
        (code, self.stderr.wait_for_all())
    }

    /// Writes its standard input and waits for its end.
    pub fn finish(mut self, input: &[u8]) -> (i32, String) {
        self.child.stdin.take().unwrap().write_all(input).expect("it reads");
        self.end()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Go, as `tools/test` installs it beside Python. What it builds is kept for the next time.
pub fn go() -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_luxcast")).parent().expect("they are in a directory");
    let cache = programs.join("go-cache");
    let mut command = Command::new(programs.with_file_name("e2e-venv").join("bin/go"));
    command
        .env("GOCACHE", &cache)
        .env("GOPATH", &cache)
        .envs([("GOTOOLCHAIN", "local"), ("CGO_ENABLED", "0")]);
    command
}

pub fn publish(daemon: &Daemon, arguments: &[&str]) -> Tool {
    let mut command = luxcast();
    command.arg("publish").arg("--ingest").arg(&daemon.ingest).args(arguments);
    Tool::start(&mut command)
}
