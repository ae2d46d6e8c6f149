//! The connections of operators that are under way: bounded, and whoever comes gets in at once. Who has asked nothing yet
//! gives way first, the oldest before the others.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Each has a thread, of a page or two of memory, and a descriptor: more than operators and their tools need.
const GUESTS_MAX: usize = 32;
/// One that has to go is gone by then, unless it waits for a thread that does not turn; then the next has to go as well.
const GOING_MAX: Duration = Duration::from_millis(20);

#[derive(Default)]
pub struct Guests {
    all: Mutex<Vec<Guest>>,
    left: Condvar,
}

struct Guest {
    id: u64,
    /// Its thread has it, too.
    socket: Arc<TcpStream>,
    has_asked: bool,
    is_shut: bool,
}

impl Guests {
    /// Takes one in, in place of another if need be.
    pub fn enter(&self, id: u64, socket: Arc<TcpStream>) {
        let mut all = self.all.lock();
        while all.len() >= GUESTS_MAX {
            let open = || (0..all.len()).filter(|&place| !all[place].is_shut);
            let oldest = open().find(|&place| !all[place].has_asked).or_else(|| open().next());
            if let Some(place) = oldest {
                all[place].shut();
            }
            self.left.wait_for(&mut all, GOING_MAX);
        }
        all.push(Guest { id, socket, has_asked: false, is_shut: false });
    }

    /// Its request has come.
    pub fn note_asked(&self, id: u64) {
        if let Some(guest) = self.all.lock().iter_mut().find(|guest| guest.id == id) {
            guest.has_asked = true;
        }
    }

    pub fn leave(&self, id: u64) {
        self.all.lock().retain(|guest| guest.id != id);
        self.left.notify_all();
    }

    /// Lets those who have asked have their answers until then, and nobody longer.
    pub fn send_away(&self, until: Instant) {
        let mut all = self.all.lock();
        all.iter_mut().filter(|guest| !guest.has_asked).for_each(Guest::shut);
        while !all.is_empty() && !self.left.wait_until(&mut all, until).timed_out() {}
        all.iter_mut().for_each(Guest::shut);
    }
}

impl Guest {
    fn shut(&mut self) {
        // Its thread is told of the end by the next read or write.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.is_shut = true;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{GUESTS_MAX, Guests};

    fn pair(listener: &TcpListener) -> (Arc<TcpStream>, TcpStream) {
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(listener.accept().unwrap().0), theirs)
    }

    /// Waits for its end and leaves, as the thread of a connection does.
    fn serve(guests: &Arc<Guests>, id: u64, socket: Arc<TcpStream>) -> thread::JoinHandle<()> {
        let guests = guests.clone();
        thread::spawn(move || {
            let _ = (&*socket).read(&mut [0]);
            guests.leave(id);
        })
    }

    #[test]
    fn who_has_asked_nothing_gives_way_and_who_has_asked_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let guests = Arc::new(Guests::default());
        let mut theirs = Vec::new();
        for id in 0..3 * GUESTS_MAX as u64 {
            let (ours, peer) = pair(&listener);
            guests.enter(id, ours.clone());
            if id == 0 {
                guests.note_asked(id);
            }
            serve(&guests, id, ours);
            theirs.push(peer);
        }
        assert!(guests.all.lock().iter().any(|guest| guest.id == 0 && !guest.is_shut));
        assert_eq!(theirs[1].read(&mut [0]).unwrap(), 0, "the oldest that had not asked");
        // Without anybody who waits for a request, the oldest goes.
        for id in 1_000..1_000 + GUESTS_MAX as u64 {
            let (ours, peer) = pair(&listener);
            guests.enter(id, ours.clone());
            guests.note_asked(id);
            serve(&guests, id, ours);
            theirs.push(peer);
        }
        assert_eq!(theirs[0].read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn everybody_is_sent_away_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let guests = Arc::new(Guests::default());
        let ((idle, mut idle_peer), (busy, mut busy_peer)) = (pair(&listener), pair(&listener));
        guests.enter(0, idle.clone());
        guests.enter(1, busy.clone());
        guests.note_asked(1);
        let served = serve(&guests, 0, idle);
        guests.send_away(Instant::now() + Duration::from_millis(50));
        assert_eq!(idle_peer.read(&mut [0]).unwrap() + busy_peer.read(&mut [0]).unwrap(), 0);
        served.join().unwrap();
        drop(busy);
    }
}
