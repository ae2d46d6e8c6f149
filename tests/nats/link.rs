//! A way between two programs that a test can break: a proxy on loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// Connections end, and new ones end at once.
    Cut,
    /// Connections stay and new ones are taken, but nothing comes through. What is on its way comes later.
    Silent,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Both sides of each connection.
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
}

/// Takes connections at [`Link::address`] and passes their bytes to another address.
pub struct Link {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Link {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Whole),
            changed: Condvar::new(),
            open: Mutex::new(Vec::new()),
        });
        let of_thread = shared.clone();
        // It stays until the process ends, as do the test's other proxies.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let shared = of_thread.clone();
                thread::spawn(move || serve(&shared, near, target));
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub fn cut(&self) {
        self.set(State::Cut);
        for (near, far) in self.shared.open.lock().drain(..) {
            // One of them may have gone.
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.shutdown(Shutdown::Both);
        }
    }

    pub fn silence(&self) {
        self.set(State::Silent);
    }

    pub fn heal(&self) {
        self.set(State::Whole);
    }

    fn set(&self, state: State) {
        *self.shared.state.lock() = state;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Waits while nothing comes through. Whether the way is open then.
    fn pass(&self) -> bool {
        let mut state = self.state.lock();
        while *state == State::Silent {
            self.changed.wait(&mut state);
        }
        *state == State::Whole
    }
}

fn serve(shared: &Arc<Shared>, near: TcpStream, target: SocketAddr) {
    if !shared.pass() {
        return;
    }
    let Ok(far) = TcpStream::connect(target) else { return };
    let twin = |stream: &TcpStream| stream.try_clone().expect("a socket");
    for stream in [&near, &far] {
        // It may have gone.
        let _ = stream.set_nodelay(true);
    }
    {
        // Whoever cuts sees the connection, or it sees the cut.
        let state = shared.state.lock();
        if *state == State::Cut {
            return;
        }
        shared.open.lock().push((twin(&near), twin(&far)));
    }
    let (other, near_twin, far_twin) = (shared.clone(), twin(&near), twin(&far));
    thread::spawn(move || copy(&other, far_twin, near_twin));
    copy(shared, near, far);
}

fn copy(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !shared.pass() || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
