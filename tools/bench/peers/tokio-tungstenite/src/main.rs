//! The peer tokio-tungstenite: one task a connection and one `tokio::sync::broadcast` channel a topic, on one thread.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender, channel};
use tokio::task::yield_now;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// Twice what the bench has in flight, so that only a watcher that does not keep up can lag.
const TOPIC_MESSAGES_MAX: usize = 2048;

/// As much as one read takes from a publisher; more than a Unix socket holds.
const FEED_BLOCK_BYTES: usize = 256 * 1024;

/// Watchers send next to nothing; the default of 128 KiB would be allocated for each.
const READ_BUFFER_BYTES: usize = 4 * 1024;

const BACKLOG_CONNECTIONS: u32 = 4096;

#[derive(Default)]
struct Topics {
    senders: Mutex<HashMap<Bytes, Sender<Message>>>,
}

impl Topics {
    fn watch(&self, topic: &str) -> Receiver<Message> {
        let mut senders = self.senders.lock().expect("nobody panics with the lock held");
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        senders.entry(topic).or_insert_with(|| channel(TOPIC_MESSAGES_MAX).0).subscribe()
    }

    /// Publishes `lines`, each `TOPIC<TAB>PAYLOAD\n`, without copying a payload.
    fn publish(&self, lines: &Bytes) -> io::Result<()> {
        let senders = self.senders.lock().expect("nobody panics with the lock held");
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', lines) {
            let tab = memchr::memchr(b'\t', &lines[start..end]).ok_or(io::ErrorKind::InvalidData)?;
            if let Some(sender) = senders.get(&lines[start..start + tab]) {
                let payload = Utf8Bytes::try_from(lines.slice(start + tab + 1..end));
                let message = Message::Text(payload.map_err(io::Error::other)?);
                // An error says that all watchers of the topic have gone.
                let _ = sender.send(message);
            }
            start = end + 1;
        }
        Ok(())
    }
}

/// One publisher. The watchers have their turn after each block.
async fn feed(mut publisher: UnixStream, topics: Arc<Topics>) -> io::Result<()> {
    let mut block = BytesMut::new();
    loop {
        block.reserve(FEED_BLOCK_BYTES);
        if publisher.read_buf(&mut block).await? == 0 {
            return Ok(());
        }
        if let Some(last) = memchr::memrchr(b'\n', &block) {
            topics.publish(&block.split_to(last + 1).freeze())?;
            yield_now().await;
        }
    }
}

/// One watcher, from its handshake to its end. All that waits for it is sent in one write.
async fn watch(socket: TcpStream, topics: Arc<Topics>) -> Result<(), Error> {
    socket.set_nodelay(true)?;
    let mut watched = None;
    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    let answer = |request: &Request, response: Response| match request.uri().path().strip_prefix("/w/") {
        Some(topic) => {
            watched = Some(topics.watch(topic));
            Ok(response)
        }
        None => Err(not_found()),
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let mut websocket = accept_hdr_async_with_config(socket, answer, Some(config)).await?;
    let mut messages = watched.expect("an accepted handshake had a topic");
    loop {
        tokio::select! {
            biased;
            message = messages.recv() => {
                let mut waiting = message.map_err(|error| match error {
                    RecvError::Lagged(count) => exit_lagged(count),
                    RecvError::Closed => unreachable!("topics live as long as the process"),
                }).ok();
                while let Some(message) = waiting {
                    websocket.feed(message).await?;
                    waiting = next_waiting(&mut messages);
                }
                websocket.flush().await?;
            }
            received = websocket.next() => match received {
                Some(received) => drop(received?),
                None => return Ok(()),
            },
        }
    }
}

fn next_waiting(messages: &mut Receiver<Message>) -> Option<Message> {
    match messages.try_recv() {
        Ok(message) => Some(message),
        Err(TryRecvError::Lagged(count)) => exit_lagged(count),
        Err(TryRecvError::Empty | TryRecvError::Closed) => None,
    }
}

fn exit_lagged(count: u64) -> ! {
    eprintln!("tokio-tungstenite-peer: a watcher lost {count} messages");
    std::process::exit(1)
}

fn not_found() -> ErrorResponse {
    let mut response = ErrorResponse::new(None);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

async fn accept_publishers(listener: UnixListener, topics: Arc<Topics>) -> io::Result<()> {
    loop {
        let (publisher, _) = listener.accept().await?;
        let topics = topics.clone();
        tokio::spawn(async move {
            if let Err(error) = feed(publisher, topics).await {
                eprintln!("tokio-tungstenite-peer: publisher: {error}");
                std::process::exit(1);
            }
        });
    }
}

async fn accept_watchers(listener: TcpListener, topics: Arc<Topics>) -> io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        // A watcher's error ends that watcher, as its leaving does.
        tokio::spawn(watch(socket, topics.clone()));
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    socket.listen(BACKLOG_CONNECTIONS)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, path] = &arguments[..] else {
        eprintln!("usage: tokio-tungstenite-peer PORT FEED");
        std::process::exit(2);
    };
    let topics = Arc::new(Topics::default());
    let publishers = UnixListener::bind(path)?;
    let watchers = listen(port.parse().map_err(io::Error::other)?)?;
    tokio::spawn(accept_publishers(publishers, topics.clone()));
    accept_watchers(watchers, topics).await
}
