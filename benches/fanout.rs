//! A first look at speed: one job, many watchers, a publisher as fast as it is accepted (`overrun=wait`).
//!
//! Prints the daemon's CPU microseconds per delivered message beside a floor: a program that does nothing but one
//! `send` per message and socket. Each watcher's stream is checked number by number.
//! `cargo bench --bench fanout [-- WATCHERS EVENTS]`; where there are two cores, the server has one and the load
//! the other.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs, thread};

use mio::{Events, Interest, Poll, Token};

/// A frame of 260 bytes, as in all figures of the project.
const FRAME_BYTES: usize = 260;
const HEADER_BYTES: usize = 4;
/// `{"stream_seq":` and sixteen digits.
const MEMBER_BYTES: usize = 30;
const READ_BYTES: usize = 256 << 10;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [mode, watchers, events] = &arguments[..]
        && mode == "floor-server"
    {
        return Ok(serve_floor(watchers.parse()?, events.parse()?)?);
    }
    let watchers: usize = arguments.first().map_or(Ok(1_000), |argument| argument.parse())?;
    let events: usize = arguments.get(1).map_or(Ok(20_000), |argument| argument.parse())?;
    let floor_events = (events / 20).max(100);
    println!("{watchers} watchers, {FRAME_BYTES}-byte frames, server on one core, load on another");
    let floor = measure_floor(watchers, floor_events)?;
    println!("floor    {}", floor);
    let daemon = measure_daemon(watchers, events)?;
    println!("luxcast  {}", daemon);
    println!("ratio    {:.1} times cheaper per delivered message", floor.micros() / daemon.micros());
    Ok(())
}

struct Figure {
    messages: u64,
    cpu_nanos: u64,
    seconds: f64,
}

impl Figure {
    fn micros(&self) -> f64 {
        self.cpu_nanos as f64 / 1e3 / self.messages as f64
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.messages as f64 / self.seconds / 1e6;
        let micros = self.micros();
        write!(
            out,
            "{micros:.4} CPU µs a message, {} messages in {:.2} s, {rate:.2} M/s",
            self.messages, self.seconds
        )
    }
}

/// CPU time of all threads of a process so far.
fn cpu_nanos(process: u32) -> Outcome<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

fn pinned(program: &str) -> Command {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0", program]);
    command
}

fn pin_self() -> Outcome<()> {
    if thread::available_parallelism().map_or(1, usize::from) >= 2 {
        let process = std::process::id().to_string();
        let status =
            Command::new("taskset").args(["-a", "-p", "-c", "1", &process]).stdout(Stdio::null()).status()?;
        assert!(status.success(), "taskset failed");
    }
    Ok(())
}

fn measure_daemon(watchers: usize, events: usize) -> Outcome<Figure> {
    let directory = env::temp_dir().join(format!("luxcast-fanout-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let ingest = directory.join("ingest.sock");
    let command = &mut pinned(env!("CARGO_BIN_EXE_luxcast"));
    let mut daemon = Server(
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "off",
                "--shards",
                "1",
                "--overrun",
                "wait",
            ])
            .args([
                "--metrics-seconds",
                "0",
                "--heartbeat-seconds",
                "3600",
                "--log-level",
                "warn",
                "--ingest",
            ])
            .arg(&ingest)
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let address = ready_line(&mut daemon.0, "listening ws://")?;
    pin_self()?;
    let request = format!(
        "GET /api/ws/jobs/bench/monitor HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let sockets = connect(&address, watchers, request.as_bytes())?;
    let publisher = thread::spawn(move || publish(&ingest, events).expect("the feed takes lines"));
    let before = cpu_nanos(daemon.0.id())?;
    let begin = Instant::now();
    let messages = receive(sockets, events)?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu_nanos = cpu_nanos(daemon.0.id())? - before;
    publisher.join().expect("the publisher ends");
    drop(daemon);
    fs::remove_dir_all(&directory)?;
    Ok(Figure { messages, cpu_nanos, seconds })
}

fn measure_floor(watchers: usize, events: usize) -> Outcome<Figure> {
    let program = env::current_exe()?;
    let command = &mut pinned(program.to_str().ok_or("the path of this program is not UTF-8")?);
    let mut server = Server(
        command
            .args(["floor-server", &watchers.to_string(), &events.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let address = ready_line(&mut server.0, "listening ")?;
    pin_self()?;
    let sockets = connect(&address, watchers, b"")?;
    let before = cpu_nanos(server.0.id())?;
    let begin = Instant::now();
    server.0.stdin.as_mut().ok_or("no pipe")?.write_all(b"go\n")?;
    let messages = receive(sockets, events)?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu_nanos = cpu_nanos(server.0.id())? - before;
    Ok(Figure { messages, cpu_nanos, seconds })
}

/// The least that any server could do with one `send` per message and socket.
fn serve_floor(watchers: usize, events: usize) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening {}", listener.local_addr()?);
    let mut sockets = Vec::new();
    for _ in 0..watchers {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    io::stdin().read_line(&mut String::new())?;
    for event in 0..events {
        let frame = frame(event as u64 + 1);
        for socket in &mut sockets {
            socket.write_all(&frame)?;
        }
    }
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn frame(seq: u64) -> Vec<u8> {
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&((FRAME_BYTES - HEADER_BYTES) as u16).to_be_bytes());
    frame.extend_from_slice(format!("{{\"stream_seq\":{seq:016},").as_bytes());
    frame.resize(FRAME_BYTES, b'x');
    frame
}

fn publish(ingest: &std::path::Path, events: usize) -> io::Result<()> {
    let mut socket = UnixStream::connect(ingest)?;
    let mut line = String::from(r#"{"type":"routine_completed","job_id":"bench","data":{"text":""#);
    // The frame has the member and its comma in place of the line's brace.
    let bytes = FRAME_BYTES - HEADER_BYTES - MEMBER_BYTES - 3;
    line.extend(std::iter::repeat_n('x', bytes - line.len()));
    line.push_str("\"}}\n");
    let block = line.repeat(256);
    for _ in 0..events / 256 {
        socket.write_all(block.as_bytes())?;
    }
    socket.write_all(line.repeat(events % 256).as_bytes())
}

fn ready_line(server: &mut Child, start: &str) -> Outcome<String> {
    let mut lines = BufReader::new(server.stdout.as_mut().ok_or("no pipe")?).lines();
    let line = lines.next().ok_or("the server did not start")??;
    Ok(line.strip_prefix(start).ok_or("an unexpected first line")?.to_owned())
}

/// A server that does not outlive this program.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which shows elsewhere.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(address: &str, watchers: usize, request: &[u8]) -> Outcome<Vec<TcpStream>> {
    let mut sockets = Vec::new();
    for _ in 0..watchers {
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(request)?;
        if !request.is_empty() {
            skip_greeting(&mut socket)?;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Reads the answer to the handshake and the first message.
fn skip_greeting(socket: &mut TcpStream) -> Outcome<()> {
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !seen.ends_with(b"}") {
        socket.read_exact(&mut byte)?;
        seen.push(byte[0]);
    }
    assert!(seen.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&seen));
    Ok(())
}

/// One watcher's stream: frames in place, the incomplete one kept.
struct Watcher {
    socket: mio::net::TcpStream,
    rest: Vec<u8>,
    last: Option<u64>,
    received: usize,
}

/// Reads until every watcher has all events; each has to come once, in order.
fn receive(sockets: Vec<TcpStream>, events: usize) -> Outcome<u64> {
    let mut poll = Poll::new()?;
    let mut watchers = Vec::new();
    for socket in sockets {
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(watchers.len()), Interest::READABLE)?;
        watchers.push(Watcher { socket, rest: Vec::new(), last: None, received: 0 });
    }
    let mut ready = Events::with_capacity(1024);
    let mut block = vec![0; READ_BYTES];
    let mut left = watchers.len();
    while left > 0 {
        poll.poll(&mut ready, None)?;
        for event in &ready {
            let watcher = &mut watchers[event.token().0];
            loop {
                let held = watcher.rest.len();
                block[..held].copy_from_slice(&watcher.rest);
                match watcher.socket.read(&mut block[held..]) {
                    Ok(0) => return Err("a watcher was cut off".into()),
                    Ok(count) => {
                        let before = watcher.received;
                        watcher.take(&block[..held + count]);
                        left -= usize::from(before < events && watcher.received == events);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(watchers.len() as u64 * events as u64)
}

impl Watcher {
    fn take(&mut self, bytes: &[u8]) {
        let mut whole = 0;
        while let Some(frame) = first_frame(&bytes[whole..]) {
            whole += frame.len();
            // Heartbeats are shorter.
            if frame.len() == FRAME_BYTES {
                let digits = &frame[HEADER_BYTES + MEMBER_BYTES - 16..HEADER_BYTES + MEMBER_BYTES];
                let seq = digits.iter().fold(0, |seq, digit| seq * 10 + u64::from(digit - b'0'));
                assert!(
                    self.last.is_none_or(|last| last + 1 == seq),
                    "lost or doubled: {:?}, then {seq}",
                    self.last
                );
                self.last = Some(seq);
                self.received += 1;
            }
        }
        self.rest.clear();
        self.rest.extend_from_slice(&bytes[whole..]);
    }
}

/// The first frame of `bytes`, if it is complete.
fn first_frame(bytes: &[u8]) -> Option<&[u8]> {
    let length = match bytes.get(1)? {
        126 => HEADER_BYTES + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])),
        length => 2 + usize::from(*length),
    };
    bytes.get(..length)
}
