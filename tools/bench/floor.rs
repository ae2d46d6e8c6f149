//! The floor: the least that any server could do. It has no logic, no history and no filters; it only sends.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tungstenite::handshake::derive_accept_key;

use crate::Outcome;

/// Frames that wait for more of their topic are sent after this long without any.
const LINGER: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 64 << 10;
const HEAD_BYTES_MAX: usize = 4096;
/// Connections that the handshake server keeps before it closes the oldest.
const DOOR_CONNECTIONS: usize = 256;

#[derive(Args, Debug)]
pub struct FloorArgs {
    #[arg(long)]
    feed: PathBuf,
    #[arg(long)]
    watchers: usize,
    #[arg(long)]
    bytes: usize,
    #[arg(long)]
    events_per_send: usize,
}

/// The sockets of one topic, and its unsent frames.
#[derive(Default)]
struct Topic {
    sockets: Vec<TcpStream>,
    frames: Vec<u8>,
}

impl Topic {
    fn send(&mut self) -> io::Result<()> {
        for socket in &mut self.sockets {
            socket.write_all(&self.frames)?;
        }
        self.frames.clear();
        Ok(())
    }
}

/// Accepts the watchers, then sends each frame of the feed to each watcher of its topic: one `send` for
/// `events_per_send` of them.
pub fn serve(arguments: &FloorArgs) -> Outcome<()> {
    let feed = UnixListener::bind(&arguments.feed)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening {}", listener.local_addr()?);
    let mut topics: Vec<Topic> = Vec::new();
    for _ in 0..arguments.watchers {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let topic = let_in(&mut socket, false)?;
        if topics.len() <= topic {
            topics.resize_with(topic + 1, Topic::default);
        }
        topics[topic].sockets.push(socket);
    }
    let (mut feed, _) = feed.accept()?;
    feed.set_read_timeout(Some(LINGER))?;
    let record = 4 + arguments.bytes;
    let mut block = vec![0; READ_BYTES.max(4 * record)];
    let mut held = 0;
    loop {
        match feed.read(&mut block[held..]) {
            Ok(0) => return Ok(()),
            Ok(count) => held += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                topics.iter_mut().filter(|topic| !topic.frames.is_empty()).try_for_each(Topic::send)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        let whole = held - held % record;
        for record in block[..whole].chunks_exact(record) {
            let topic = u32::from_be_bytes([record[0], record[1], record[2], record[3]]) as usize;
            // A topic without watchers.
            let Some(topic) = topics.get_mut(topic) else { continue };
            topic.frames.extend_from_slice(&record[4..]);
            if topic.frames.len() >= arguments.events_per_send * arguments.bytes {
                topic.send()?;
            }
        }
        block.copy_within(whole..held, 0);
        held -= whole;
    }
}

/// Parses handshakes and answers them, for ever.
pub fn serve_door() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening {}", listener.local_addr()?);
    let mut open = VecDeque::new();
    loop {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        // A connection that is already gone does not count.
        if let_in(&mut socket, true).is_ok() {
            open.push_back(socket);
        }
        if open.len() > DOOR_CONNECTIONS {
            open.pop_front();
        }
    }
}

/// Reads a request head and answers it; returns the number at the end of its path.
fn let_in(socket: &mut TcpStream, greets: bool) -> Outcome<usize> {
    let mut head = [0; HEAD_BYTES_MAX];
    let mut held = 0;
    loop {
        let count = socket.read(&mut head[held..])?;
        held += count;
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        if count == 0 || held == head.len() {
            return Err("no request".into());
        }
        if request.parse(&head[..held])?.is_partial() {
            continue;
        }
        let path = request.path.ok_or("no path")?;
        let digits = path.find("job-").map(|at| &path[at + 4..]).unwrap_or_default();
        let number = digits.split('/').next().unwrap_or_default().parse().unwrap_or(0);
        let key = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("sec-websocket-key"));
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.ok_or("no key")?.value)
        )
        .into_bytes();
        if greets {
            let greeting = br#"{"type":"connection:status","status":"connected","timestamp":"2026-11-25T10:00:00.000Z","server_time":"2026-11-25T10:00:00.000Z","stream_seq":1764064800000000}"#;
            answer.extend_from_slice(&[0x81, 126, 0, greeting.len() as u8]);
            answer.extend_from_slice(greeting);
        }
        socket.write_all(&answer)?;
        return Ok(number);
    }
}
