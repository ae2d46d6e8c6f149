//! Something between client and daemon that does not know WebSocket, or does something else to it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

/// What it does to a request to upgrade; every other request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Pass,
    /// Passes it on without the fields of this connection, as a proxy of HTTP/1.1 must.
    Strip,
    /// Answers 200 with a page.
    Page,
    /// Closes the connection.
    Close,
    /// Passes on the 101, and nothing behind it.
    Swallow,
}

pub struct Middle {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    daemon: Mutex<SocketAddr>,
    manner: Mutex<Manner>,
    upgrades: AtomicUsize,
    plain: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Middle {
    pub fn start(daemon: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            daemon: Mutex::new(daemon),
            manner: Mutex::new(manner),
            upgrades: AtomicUsize::new(0),
            plain: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let own = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let own = own.clone();
                thread::spawn(move || own.serve(client));
            }
        });
        Self { address, shared }
    }

    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock() = manner;
    }

    /// From now on it leads there.
    pub fn lead_to(&self, daemon: SocketAddr) {
        *self.shared.daemon.lock() = daemon;
    }

    /// Ends every connection in the middle of whatever it does.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Requests to upgrade, and others.
    pub fn requests(&self) -> (usize, usize) {
        (self.shared.upgrades.load(Ordering::SeqCst), self.shared.plain.load(Ordering::SeqCst))
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) {
        let Some((head, rest)) = read_head(&mut client) else { return };
        let is_upgrade = head.to_lowercase().contains("upgrade: websocket");
        if is_upgrade { &self.upgrades } else { &self.plain }.fetch_add(1, Ordering::SeqCst);
        let manner = if is_upgrade { *self.manner.lock() } else { Manner::Pass };
        match manner {
            Manner::Page => {
                let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
                let _ = client.write_all(page.as_bytes());
                return;
            }
            Manner::Close => return,
            Manner::Pass | Manner::Strip | Manner::Swallow => {}
        }
        let Ok(mut daemon) = TcpStream::connect(*self.daemon.lock()) else { return };
        let is_of_connection = |line: &&str| {
            let line = line.to_lowercase();
            line.starts_with("connection:") || line.starts_with("upgrade:")
        };
        let passed: String = match manner {
            Manner::Strip => head.split_inclusive("\r\n").filter(|line| !is_of_connection(line)).collect(),
            _ => head,
        };
        for stream in [&client, &daemon] {
            self.open.lock().push(stream.try_clone().expect("a descriptor"));
        }
        let _ = daemon.write_all(&[passed.as_bytes(), &rest].concat());
        if manner == Manner::Swallow {
            let Some((head, _)) = read_head(&mut daemon) else { return };
            let _ = client.write_all(head.as_bytes());
            let _ = std::io::copy(&mut client, &mut daemon);
            return;
        }
        let (mut from, mut to) =
            (client.try_clone().expect("a descriptor"), daemon.try_clone().expect("a descriptor"));
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut daemon, &mut client);
        let _ = client.shutdown(Shutdown::Both);
    }
}

/// A head, and what came with it.
fn read_head(from: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).expect("text"), rest));
        }
        let mut chunk = [0; 4096];
        match from.read(&mut chunk) {
            Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}
