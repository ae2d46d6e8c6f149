//! The commands beside the daemon.

use std::io::Write;
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

pub fn publish(daemon: &Daemon, arguments: &[&str]) -> Tool {
    let mut command = luxcast();
    command.arg("publish").arg("--ingest").arg(&daemon.ingest).args(arguments);
    Tool::start(&mut command)
}
