//! Real nats-servers for daemons on one stream: one of them, or three that keep three copies. They can be killed and
//! started again, and end with the tool. Both tools have this file.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;

/// How long servers may take to find each other. It only bounds hanging.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(2);
/// The stream drops its oldest events beyond this.
const STREAM_BYTES: u64 = 512 << 20;

static STARTED: AtomicU32 = AtomicU32::new(0);

pub struct Servers {
    /// The program, behind the words that start it.
    words: Vec<String>,
    directory: PathBuf,
    places: Vec<Place>,
}

struct Place {
    /// Where clients connect, and the other servers.
    ports: [u16; 2],
    child: Option<Child>,
}

impl Servers {
    /// Starts one or three, and makes the stream. `prefix` are words before the program: `taskset -c 0`.
    pub fn start(program: &Path, prefix: &[&str], copies: usize) -> Outcome<Self> {
        let mut words: Vec<String> = prefix.iter().map(|&word| word.to_owned()).collect();
        words.push(program.display().to_string());
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("luxcast-nats-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let place = || Ok(Place { ports: free_ports()?, child: None });
        let places = (0..copies).map(|_| place()).collect::<io::Result<_>>()?;
        let mut servers = Self { words, directory, places };
        (0..copies).try_for_each(|place| servers.restart(place))?;
        servers.create_stream(copies)?;
        Ok(servers)
    }

    /// The daemon's flags that make it use them.
    pub fn flags(&self) -> Vec<String> {
        let urls = self.places.iter().map(|place| format!("nats://127.0.0.1:{}", place.ports[0]));
        urls.flat_map(|url| ["--bus".to_owned(), url]).collect()
    }

    /// Starts the server of this place again, with all that it has on the disk.
    pub fn restart(&mut self, place: usize) -> Outcome<()> {
        let route = |place: &Place| format!("nats://127.0.0.1:{}", place.ports[1]);
        let own = &self.places[place];
        let file = |name: &str| self.directory.join(format!("{name}-{}", place + 1));
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(["-js", "-a", "127.0.0.1", "-p"]).arg(own.ports[0].to_string());
        command.arg("-sd").arg(file("store")).arg("-l").arg(file("log")).arg("-n").arg(name(place));
        if self.places.len() > 1 {
            let routes: Vec<String> = self.places.iter().map(route).collect();
            command.args([
                "--cluster_name",
                "three",
                "--cluster",
                &route(own),
                "--routes",
                &routes.join(","),
            ]);
        }
        let said = File::create(file("said"))?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child =
            command.spawn().map_err(|error| format!("cannot start {}: {error}", self.words.join(" ")))?;
        self.places[place].child = Some(child);
        Ok(())
    }

    /// Kills the server of this place like `kill -9`.
    pub fn kill(&mut self, place: usize) -> Outcome<()> {
        if let Some(mut child) = self.places[place].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// The server that decides on the order of messages. None: nobody does now.
    pub fn leader(&self) -> Option<usize> {
        if self.places.len() == 1 {
            return Some(0);
        }
        let running = self.places.iter().filter(|place| place.child.is_some());
        let mut infos = running.filter_map(|place| stream_info(place.ports[0]).ok());
        infos.find_map(|info| {
            let leader = info["cluster"]["leader"].as_str()?;
            (0..self.places.len()).find(|&place| name(place) == leader)
        })
    }

    /// Has `luxcast bus create` make the stream as soon as the servers can have one.
    fn create_stream(&self, copies: usize) -> Outcome<()> {
        let begin = Instant::now();
        let luxcast = env::current_exe()?.with_file_name("luxcast");
        loop {
            let mut command = Command::new(&luxcast);
            command.args(["bus", "create", "--replicas", &copies.to_string(), "--max-bytes"]);
            let done = command.arg(STREAM_BYTES.to_string()).args(self.flags()).output();
            let done = done.map_err(|error| format!("cannot start {}: {error}", luxcast.display()))?;
            if done.status.success() {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
            }
            thread::sleep(RETRY);
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for place in 0..self.places.len() {
            // It may have ended by itself.
            let _ = self.kill(place);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn name(place: usize) -> String {
    format!("n{}", place + 1)
}

fn free_ports() -> io::Result<[u16; 2]> {
    // Both at once, so that they differ.
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()])
}

/// What a server says of the stream, asked in the protocol's own words.
fn stream_info(port: u16) -> Outcome<Value> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.write_all(
        b"CONNECT {\"verbose\":false}\r\nSUB luxcast.answer 1\r\nPUB $JS.API.STREAM.INFO.LUXCAST luxcast.answer 0\r\n\r\n",
    )?;
    let mut answers = BufReader::new(socket);
    let mut line = String::new();
    loop {
        line.clear();
        if answers.read_line(&mut line)? == 0 {
            return Err("the server said nothing".into());
        }
        if let Some(length) = line.strip_prefix("MSG ").and_then(|words| words.trim().rsplit(' ').next()) {
            let mut payload = vec![0; length.parse()?];
            answers.read_exact(&mut payload)?;
            return Ok(serde_json::from_slice(&payload)?);
        }
    }
}
