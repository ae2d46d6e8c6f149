//! The real nats-server as a child process; it never outlives its test.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::wait_until;

/// What `tools/test` installs, oldest first.
pub const VERSIONS: [&str; 3] = ["2.11.11", "2.12.8", "2.15.1"];
pub const NEWEST: &str = VERSIONS[2];

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
    pub name: String,
    pub address: SocketAddr,
    pub directory: TempDir,
    variables: Vec<(String, String)>,
    child: Option<Child>,
}

impl NatsServer {
    /// Starts one with JetStream, and with these lines in its configuration.
    pub fn start(version: &'static str, more: &str) -> Self {
        let mut server = Self::prepare(version, "one", more);
        server.restart();
        server
    }

    /// The same without a process.
    pub fn prepare(version: &'static str, name: &str, more: &str) -> Self {
        let directory = tempfile::tempdir().expect("the directory for temporary files can be written");
        let (name, address, variables) = (name.to_owned(), free_address(), Vec::new());
        let server = Self { version, name, address, directory, variables, child: None };
        server.configure(more);
        server
    }

    /// What it reads at its next start.
    pub fn configure(&self, more: &str) {
        let Self { name, address, .. } = self;
        let store = self.store();
        self.write(&format!(
            "server_name: {name}\nlisten: \"{address}\"\njetstream {{ store_dir: \"{}\" }}\n{more}\n",
            store.display()
        ));
    }

    /// The same with a whole file of ours, which has these variables.
    pub fn configure_with(&mut self, text: &str, variables: &[(&str, &str)]) {
        self.write(text);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.variables = variables.iter().map(owned).collect();
    }

    fn write(&self, text: &str) {
        fs::write(self.directory.path().join("nats.conf"), text).expect("it can be written");
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
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
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
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
        self.end(Signal::KILL);
    }

    /// Ends it with all that it has on the disk.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
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
