//! The real nats-server as a child process; it never outlives its test.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What `tools/test` installs, oldest first.
pub const VERSIONS: [&str; 3] = ["2.11.11", "2.12.8", "2.15.1"];
pub const NEWEST: &str = VERSIONS[2];

/// How long a test waits for what must come: it only bounds hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `is_so`, and fails naming `what` if it never is.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn program(version: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test is a file");
    let target = test.ancestors().nth(3).expect("a test is in target/PROFILE/deps");
    let program = target.join("nats").join(version).join("nats-server");
    assert!(program.exists(), "{} is not there: run tools/test, which installs it", program.display());
    program
}

/// An address of loopback that is free now, and is not given to others at once.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound")
}

pub struct NatsServer {
    version: &'static str,
    pub address: SocketAddr,
    pub directory: TempDir,
    child: Option<Child>,
}

impl NatsServer {
    /// Starts one with JetStream, and with these lines in its configuration.
    pub fn start(version: &'static str, more: &str) -> Self {
        let directory = tempfile::tempdir().expect("the directory for temporary files can be written");
        let address = free_address();
        let store = directory.path().join("store");
        let text = format!(
            "server_name: one\nlisten: \"{address}\"\njetstream {{ store_dir: \"{}\" }}\n{more}\n",
            store.display()
        );
        fs::write(directory.path().join("nats.conf"), text).expect("it can be written");
        let mut server = Self { version, address, directory, child: None };
        server.restart();
        server
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Starts it again, after its end.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let config = self.directory.path().join("nats.conf");
        let mut command = Command::new(program(self.version));
        command.arg("--config").arg(config).arg("--log").arg(self.log());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("nats-server starts"));
        let address = self.address;
        wait_until("nats-server listens", || TcpStream::connect(address).is_ok());
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_child(child);
        kill_process(pid, signal).expect("it is a child of this test");
    }

    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.take().expect("it runs").wait().expect("it is a child of this test");
    }

    pub fn log_text(&self) -> String {
        read(&self.log())
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
