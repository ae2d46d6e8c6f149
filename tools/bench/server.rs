//! The measured servers: luxcast itself, the floor, the peers; how each is started, fed and watched.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use rustix::process::Signal;

use crate::Outcome;
use crate::crowd::PATIENCE;
use crate::feed::{Inlet, handshake, stream_request};
use crate::layout::{OFFER, Transport};
use crate::machine::Pinning;
use crate::peers::{Compression, Peer};
use crate::process::{Process, Usage};
use crate::result::Role;
use crate::sealed::{self, Trust};
use crate::wire::topic_name;

/// The server to measure.
#[derive(Clone, Debug)]
pub enum Which {
    /// With these flags besides `listen` and `ingest`; without `admin` and with warnings unless a flag sets it.
    Luxcast(Vec<String>),
    /// The same with TLS, and whether clients return with their sessions.
    LuxcastTls { flags: Vec<String>, resumes: bool },
    /// A daemon that is already running.
    Running { address: SocketAddr, ingest: PathBuf },
    /// Sends frames of `frame_bytes` to `watchers`, `events_per_send` at once.
    Floor { watchers: usize, frame_bytes: usize, events_per_send: usize },
    /// Answers handshakes and nothing else.
    DoorFloor,
    /// As it is, or compressing.
    Peer(Peer, Option<Compression>),
}

impl Which {
    /// The same with further flags, if it is a luxcast that we start.
    pub fn with_flags(&self, more: &[&str]) -> Self {
        let mut which = self.clone();
        if let Which::Luxcast(flags) | Which::LuxcastTls { flags, .. } = &mut which {
            flags.extend(more.iter().map(|&flag| flag.to_owned()));
        }
        which
    }
}

pub struct Server {
    pub role: Role,
    pub address: SocketAddr,
    pub inlet: Inlet,
    /// How its clients speak TLS, if it does.
    pub trust: Option<Trust>,
    /// What its watchers speak.
    pub transport: Transport,
    process: Option<Process>,
    id: u32,
    directory: PathBuf,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

impl Server {
    pub fn start(which: &Which, pinning: &Pinning) -> Outcome<Self> {
        let directory = env::temp_dir().join(format!(
            "luxcast-bench-{}-{}",
            std::process::id(),
            STARTED.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&directory)?;
        let started = Self::start_in(which, pinning, &directory);
        if started.is_err() {
            // The user wants to know why it did not start.
            let _ = fs::remove_dir_all(&directory);
        }
        started
    }

    fn start_in(which: &Which, pinning: &Pinning, directory: &Path) -> Outcome<Self> {
        let socket = directory.join("feed.sock");
        let mut trust = None;
        let (role, process, address, inlet) = match which {
            Which::Running { address, ingest } => {
                let id = peer_process(ingest)?;
                let directory = directory.to_owned();
                let inlet = Inlet::Lines(ingest.clone());
                return Ok(Self {
                    role: Role::Luxcast,
                    address: *address,
                    inlet,
                    trust,
                    transport: Transport::WebSocket,
                    process: None,
                    id,
                    directory,
                });
            }
            Which::Luxcast(flags) => {
                let (process, address) = start_daemon(flags, "listening ws://", &socket, pinning)?;
                (Role::Luxcast, process, address, Inlet::Lines(socket))
            }
            Which::LuxcastTls { flags, resumes } => {
                let (more, config) = sealed::prepare(directory, *resumes)?;
                trust = Some(config);
                let flags = [flags.clone(), more].concat();
                let (process, address) = start_daemon(&flags, "listening wss://", &socket, pinning)?;
                (Role::Luxcast, process, address, Inlet::Lines(socket))
            }
            Which::Floor { watchers, frame_bytes, events_per_send } => {
                let mut arguments = words("floor-server --feed");
                arguments.push(socket.display().to_string());
                arguments.extend(words(&format!(
                    "--watchers {watchers} --bytes {frame_bytes} --events-per-send {events_per_send}"
                )));
                let mut process = Process::start(&env::current_exe()?, &arguments, pinning)?;
                let address = ready_address(&mut process, "listening ")?;
                (Role::Floor, process, address, Inlet::Frames(socket))
            }
            Which::DoorFloor => {
                let arguments = words("door-server");
                let mut process = Process::start(&env::current_exe()?, &arguments, pinning)?;
                let address = ready_address(&mut process, "listening ")?;
                (Role::Floor, process, address, Inlet::Frames(socket))
            }
            Which::Peer(peer, compression) => {
                let port = free_port()?;
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                let mut arguments =
                    vec![peer.name.to_owned(), port.to_string(), socket.display().to_string()];
                arguments.extend(compression.map(|compression| compression.name.to_owned()));
                let mut process = Process::start(&peer.program()?, &arguments, pinning)?;
                wait_for_port(&mut process, address)?;
                let inlet = if peer.is_fed_by_web { Inlet::Web(address) } else { Inlet::Tabbed(socket) };
                (Role::Peer, process, address, inlet)
            }
        };
        let id = process.id();
        let (transport, process, directory) = (Transport::WebSocket, Some(process), directory.to_owned());
        Ok(Self { role, address, inlet, trust, transport, process, id, directory })
    }

    /// The same for watchers that speak this.
    pub fn over(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends a signal to the process, if we started it.
    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(signal))
    }

    pub fn usage(&self) -> Outcome<Usage> {
        Usage::of(self.id)
    }

    /// The request of a watcher of a topic; `query` is for luxcast.
    pub fn request(&self, topic: usize, query: &str) -> Vec<u8> {
        let name = topic_name(topic);
        let path = match self.role {
            Role::Luxcast => format!("/api/ws/jobs/{name}/monitor{query}"),
            _ => format!("/w/{name}"),
        };
        match self.transport.media_type() {
            Some(media_type) => stream_request(self.address, &path, media_type),
            None => {
                let offer = Some(OFFER).filter(|_| self.transport == Transport::Deflate);
                handshake(self.address, &path, offer)
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process first: it may remove its socket itself.
        self.process = None;
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn start_daemon(
    flags: &[String],
    ready: &str,
    socket: &Path,
    pinning: &Pinning,
) -> Outcome<(Process, SocketAddr)> {
    let mut arguments = words("serve --listen 127.0.0.1:0");
    for usual in ["--admin off", "--log-level warn"].map(words) {
        if !flags.contains(&usual[0]) {
            arguments.extend(usual);
        }
    }
    arguments.extend(["--ingest".to_owned(), socket.display().to_string()]);
    arguments.extend(flags.iter().cloned());
    let mut process = Process::start(&daemon_program()?, &arguments, pinning)?;
    let address = ready_address(&mut process, ready)?;
    while !process.line()?.starts_with("ingest ") {}
    Ok((process, address))
}

/// The daemon that was built beside this tool.
fn daemon_program() -> Outcome<PathBuf> {
    let own = env::current_exe()?;
    let beside = own.parent().map(|directory| directory.join("luxcast"));
    let program = beside.filter(|program| program.exists());
    program.ok_or_else(|| "there is no luxcast beside this program: cargo build --release".into())
}

fn ready_address(process: &mut Process, start: &str) -> Outcome<SocketAddr> {
    let line = process.line()?;
    let address = line.strip_prefix(start).ok_or_else(|| format!("an unexpected first line: {line}"))?;
    Ok(address.parse()?)
}

pub fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for_port(process: &mut Process, address: SocketAddr) -> Outcome<()> {
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        if process.has_ended() {
            return Err("it ended before it listened".into());
        }
        if begin.elapsed() > PATIENCE {
            return Err("it does not listen".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The process that listens at the other end of a Unix socket.
fn peer_process(path: &Path) -> Outcome<u32> {
    let socket = UnixStream::connect(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let peer = rustix::net::sockopt::socket_peercred(&socket)?;
    Ok(peer.pid.as_raw_nonzero().get() as u32)
}
