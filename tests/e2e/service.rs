//! Under a service manager: readiness, signs of life, and sockets that outlive the daemon.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;

use parking_lot::Mutex;
use rustix::process::Signal;

use crate::harness::daemon::{Setup, read_lines};
use crate::harness::{Client, Feed, PATIENCE, Scratch, luxcast, wait_until};

/// What a service manager receives.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("the directory is ours");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { socket }
    }

    fn message(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("the daemon says something");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    /// The next message other than a sign of life.
    fn state(&self) -> String {
        loop {
            let message = self.message();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }
}

#[test]
fn a_service_manager_hears_of_readiness_reloads_life_and_the_end() {
    let scratch = Scratch::new();
    let path = scratch.path().join("notify.sock");
    let manager = Manager::bind(&path);
    let mut daemon = Setup::default()
        .variable("NOTIFY_SOCKET", path.to_str().unwrap())
        .variable("WATCHDOG_USEC", "1000000")
        .start();
    assert_eq!(manager.state(), "READY=1\n");
    // Nothing happens at all, and it is still alive.
    for _ in 0..5 {
        assert_eq!(manager.message(), "WATCHDOG=1\n");
    }
    daemon.signal(Signal::HUP);
    let reloading = manager.state();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.state(), "READY=1\n");
    daemon.stop();
    assert_eq!(manager.state(), "STOPPING=1\n");
}

/// A daemon that gets its sockets from another process.
struct Launcher {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    address: SocketAddr,
    feed: PathBuf,
    _scratch: Scratch,
}

impl Launcher {
    fn start() -> Self {
        let scratch = Scratch::new();
        let feed = scratch.path().join("feed.sock");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/launcher.py");
        let daemon = luxcast();
        let mut command = Command::new("python3");
        command.arg(script).arg(&feed).arg(daemon.get_program());
        command.args(["serve", "--listen", "LISTEN_ADDRESS", "--admin", "off", "--metrics-seconds", "0"]);
        command.arg("--ingest").arg(&feed).arg("--state-dir").arg(scratch.path().join("state"));
        for (name, _) in daemon.get_envs() {
            command.env_remove(name);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a python3");
        let lines = read_lines(child.stdout.take().expect("piped"), Arc::new(Mutex::new(String::new())));
        let input = child.stdin.take();
        let address = lines.recv_timeout(PATIENCE).expect("the address").parse().expect("an address");
        Self { child, input, lines, address, feed, _scratch: scratch }
    }

    fn wait_for(&self, wanted: &str) {
        while self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("waited for {wanted}")) != wanted {}
    }

    fn restart(&mut self) {
        self.input.as_mut().expect("it goes on").write_all(b"restart\n").expect("the launcher reads");
        self.wait_for("restarted");
    }

    /// Ends the daemon and then the launcher, which fails if the daemon did.
    fn end(&mut self) {
        self.input = None;
        self.wait_for("ended");
        assert!(self.child.wait().expect("it is ours").success());
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

#[test]
fn no_connection_is_refused_while_one_daemon_follows_another_on_passed_sockets() {
    let mut launcher = Launcher::start();
    let (address, feed) = (launcher.address, launcher.feed.clone());
    let is_over = Arc::new(AtomicBool::new(false));
    let [served, turned_away, published] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let mut threads = Vec::new();
    for _ in 0..4 {
        let (is_over, served, turned_away) = (is_over.clone(), served.clone(), turned_away.clone());
        threads.push(thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                let stream = TcpStream::connect(address).expect("no connection is refused");
                match Client::handshake(stream, address, "/api/ws/events") {
                    Ok(mut watcher) => {
                        watcher.connected();
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                    // It had been accepted, and its request came when the daemon was already ending.
                    Err(refused) => {
                        assert_eq!((refused.status, refused.code().as_str()), (503, "draining"));
                        turned_away.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        }));
    }
    threads.push(thread::spawn({
        let (is_over, published) = (is_over.clone(), published.clone());
        move || {
            while !is_over.load(Ordering::SeqCst) {
                let mut stream = UnixStream::connect(&feed).expect("no publisher is refused");
                match stream.write_all(b"{\"type\":\"x\",\"job_id\":\"j\"}\n") {
                    Ok(()) => {
                        published.fetch_add(1, Ordering::SeqCst);
                    }
                    // The daemon that had accepted it has ended.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::BrokenPipe),
                }
            }
        }
    }));
    for _ in 0..4 {
        let (before, published_before) = (served.load(Ordering::SeqCst), published.load(Ordering::SeqCst));
        wait_until("clients are served", || served.load(Ordering::SeqCst) >= before + 20);
        wait_until("lines are taken", || published.load(Ordering::SeqCst) >= published_before + 20);
        launcher.restart();
    }
    let before = served.load(Ordering::SeqCst);
    wait_until("the last daemon serves", || served.load(Ordering::SeqCst) >= before + 20);
    is_over.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (served, turned_away) = (served.load(Ordering::SeqCst), turned_away.load(Ordering::SeqCst));
    assert!(turned_away <= 4 * 4, "{turned_away} of {served} were turned away");
    // The last daemon has what the first one accepted.
    Feed::connect(&launcher.feed).line(r#"{"type":"end","job_id":"end"}"#);
    let mut watcher = Client::connect(address, "/api/ws/events?since=start");
    watcher.connected();
    let mut numbers: Vec<u64> = Vec::new();
    loop {
        let text = watcher.text();
        assert!(!text.contains("stream:gap"), "{text}");
        if text.contains("\"end\"") {
            break;
        }
        numbers.extend(crate::harness::seq_of(&text));
    }
    assert!(numbers.len() > 80 && numbers.is_sorted(), "{} events", numbers.len());
    launcher.end();
    assert!(launcher.feed.exists(), "the socket is not the daemon's to remove");
}

/// Passes on the socket that this Python expression makes, and runs the daemon to its end.
fn run_with(socket: &str, ingest: &Path) -> Output {
    let script = "import os, socket, sys\n\
                  passed = eval(sys.argv[1])\n\
                  copy = os.dup2(passed.fileno(), 20)\n\
                  os.dup2(copy, 3, inheritable=True)\n\
                  os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='odd')\n\
                  os.execv(sys.argv[2], sys.argv[2:])\n";
    let daemon = luxcast();
    let mut command = Command::new("python3");
    command.args(["-c", script, socket]).arg(daemon.get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--ingest"]).arg(ingest);
    for (name, _) in daemon.get_envs() {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).output().expect("there is a python3")
}

#[test]
fn a_passed_socket_that_is_of_no_use_is_an_error_that_names_it() {
    let scratch = Scratch::new();
    let ingest = scratch.path().join("ingest.sock");
    let other = scratch.path().join("other.sock");
    let unix = format!(
        "(lambda s: (s.bind('{}'), s.listen(), s)[2])(socket.socket(socket.AF_UNIX))",
        other.display()
    );
    let table = [
        ("socket.socket(type=socket.SOCK_DGRAM)", "neither a TCP listener nor a Unix stream listener"),
        ("open('/dev/null')", "neither a TCP listener nor a Unix stream listener"),
        ("socket.socket()", "does not listen"),
        ("socket.create_server(('127.0.0.2', 0))", "127.0.0.2:"),
        (unix.as_str(), "other.sock"),
    ];
    for (socket, words) in table {
        let output = run_with(socket, &ingest);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{socket}: {error}");
        assert!(error.contains(words) && error.contains("3 (odd)"), "{socket}: {error}");
        assert!(output.stdout.is_empty() && !ingest.exists());
    }
}
