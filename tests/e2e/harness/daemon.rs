//! The real daemon as a child process; it never outlives its test.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::client::{Client, Raw, Refused};
use super::feed::Feed;
use super::{PATIENCE, Scratch, wait_until};

/// The program under test, without any of the machine's own settings.
pub fn luxcast() -> Command {
    luxcast_under(&[])
}

fn luxcast_under(under: &[String]) -> Command {
    let program = env!("CARGO_BIN_EXE_luxcast");
    let mut command = match under {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("LUXCAST_") {
            command.env_remove(name);
        }
    }
    command
}

/// How to start a daemon. Unless flags or variables say otherwise, ports are 0 and the socket is in a directory of its
/// own. The daemon makes no metrics events then, so that every number belongs to a published line.
#[derive(Default)]
pub struct Setup {
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    /// A program that becomes the daemon, and its arguments.
    under: Vec<String>,
    stderr: Option<Stdio>,
}

impl Setup {
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the daemon through another program that runs it in its own place, such as `prlimit`.
    pub fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Uses this as standard error, which the [`Daemon`] then cannot read.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(mut self) -> Daemon {
        let scratch = Scratch::new();
        let ingest = scratch.path().join("ingest.sock");
        let mut command = luxcast_under(&self.under);
        command.arg("serve").args(&self.flags);
        command.stderr(self.stderr.take().unwrap_or_else(Stdio::piped));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let defaults = [
            ("--listen", "127.0.0.1:0"),
            ("--admin", "127.0.0.1:0"),
            ("--ingest", ingest.to_str().expect("the path is UTF-8")),
            ("--metrics-seconds", "0"),
        ];
        for (flag, value) in defaults {
            let variable = format!("LUXCAST_{}", flag[2..].to_uppercase().replace('-', "_"));
            let is_set = self.flags.iter().any(|given| given == flag)
                || self.variables.iter().any(|(name, _)| *name == variable);
            if !is_set {
                command.args([flag, value]);
            }
        }
        Daemon::spawn(command, scratch)
    }
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    /// The address of its first listener.
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    pub ingest: PathBuf,
    /// Lines of standard output so far.
    pub ready_lines: Vec<String>,
    stdout: Arc<Mutex<String>>,
    stderr: Gathered,
    _scratch: Scratch,
}

impl Daemon {
    /// With the defaults, except for `flags`.
    pub fn start(flags: &[&str]) -> Self {
        Setup::default().flags(flags).start()
    }

    fn spawn(mut command: Command, scratch: Scratch) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let stderr = child.stderr.take().map_or_else(Gathered::default, Gathered::start);
        let stdout = Arc::new(Mutex::new(String::new()));
        let lines = read_lines(child.stdout.take().expect("piped"), stdout.clone());
        let mut ready_lines: Vec<String> = Vec::new();
        // The last ready line names the socket of the feed.
        while !ready_lines.last().is_some_and(|line| line.starts_with("ingest ")) {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => ready_lines.push(line),
                Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("the daemon did not become ready: {ready_lines:?}\n{}", stderr.so_far());
                }
            }
        }
        let find = |start: &str| ready_lines.iter().find_map(|line| line.strip_prefix(start));
        let address = find("listening ws://")
            .or_else(|| find("listening wss://"))
            .and_then(|address| address.parse().ok());
        let admin = find("admin http://").and_then(|address| address.parse().ok());
        let ingest = PathBuf::from(find("ingest ").expect("the loop above has seen it"));
        let address = address.unwrap_or_else(|| panic!("no listener in {ready_lines:?}"));
        Self { child, address, admin, ingest, ready_lines, stdout, stderr, _scratch: scratch }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A watcher at this path, which must be accepted.
    pub fn watch(&self, path: &str) -> Client {
        Client::connect(self.address, path)
    }

    /// A watcher that must be refused.
    pub fn refuse(&self, path: &str) -> Refused {
        match Client::try_connect(self.address, path) {
            Ok(_) => panic!("{path} was let in"),
            Err(refused) => refused,
        }
    }

    /// A plain connection to the first listener.
    pub fn raw(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// A publisher that has sent nothing yet.
    pub fn feed(&self) -> Feed {
        Feed::connect(&self.ingest)
    }

    /// A publisher with acks.
    pub fn acked_feed(&self) -> Feed {
        let mut feed = self.feed();
        feed.hello();
        feed
    }

    /// The admin listener's answer to a GET: status and body.
    pub fn admin_get(&self, path: &str) -> (u16, String) {
        let mut raw = Raw::connect(self.admin.expect("the admin listener is on"));
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let answer = raw.read_answer();
        (answer.status, answer.body)
    }

    /// The rows of `/connections`.
    pub fn connections(&self) -> Vec<Value> {
        let (status, body) = self.admin_get("/connections?limit=1000000");
        assert_eq!(status, 200, "{body}");
        match serde_json::from_str(&body) {
            Ok(Value::Array(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until this many connections are open.
    pub fn wait_for_connections(&self, count: usize) {
        wait_until(&format!("{count} connections"), || self.connections().len() == count);
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Waits for a word in standard error: the log is written a little after the event.
    pub fn wait_for_log(&self, word: &str) {
        wait_until(&format!("{word} in the log"), || self.stderr().contains(word));
    }

    /// Makes it reload its settings; returns the log lines since.
    pub fn reload(&self) -> String {
        let before = self.stderr().len();
        self.signal(Signal::HUP);
        let since = || self.stderr()[before..].to_owned();
        wait_until("the outcome of a reload in the log", || {
            let lines = since();
            lines.ends_with('\n') && lines.contains("reloaded")
        });
        since()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().clone()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("the child has a pid");
        kill_process(pid, signal).expect("the child can be signalled");
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills it like `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(Instant::now() < until, "the daemon does not end\n{}", self.stderr());
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Ends it as an operator does; the end must be clean.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.stderr());
    }

    /// Whether the process still exists.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_none()
    }

    /// A figure of `/proc/PID/status`, in bytes.
    pub fn memory_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the child lives");
        let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel tells it");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number of KiB") << 10
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- the daemon's standard error ---\n{}", self.stderr());
        }
    }
}

/// The output of a child, read continuously so that the child never waits for us.
#[derive(Default)]
pub struct Gathered {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Gathered {
    pub fn start(mut from: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let gathered = text.clone();
        let thread = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut chunk) {
                gathered.lock().push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        Self { text, thread: Some(thread) }
    }

    pub fn so_far(&self) -> String {
        self.text.lock().clone()
    }

    /// All of it, once the child has ended.
    pub fn wait_for_all(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it only reads");
        }
        self.so_far()
    }
}

/// The lines of a child, one by one as they come, and all of them in `text`.
pub fn read_lines(from: impl Read + Send + 'static, text: Arc<Mutex<String>>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            text.lock().push_str(&format!("{line}\n"));
            if sender.send(line).is_err() {
                // Nobody may be receiving; the output is still read, so that the child never blocks.
            }
        }
    });
    receiver
}

/// Whether something is at this path.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
