//! Waits that also watch the output: a command that waits for events to show or send learns at once when nobody reads
//! them any more.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Longest single wait: a bound on what the kernel is asked for.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Where events go, as far as its closing can be noticed: a pipe, a socket or a terminal, but not a file. May be
/// opened later.
#[derive(Clone, Default)]
pub struct Outlet(Arc<OnceLock<OwnedFd>>);

#[derive(Debug, PartialEq, Eq)]
pub enum Woken {
    /// The socket has something to read, or ended.
    Readable,
    /// Nobody reads the output any more.
    OutputClosed,
    Elapsed,
}

impl Outlet {
    pub fn of(output: &impl AsFd) -> Self {
        let outlet = Self::default();
        outlet.open(output);
        outlet
    }

    /// Watches this output from now on, in all clones; watches nothing if the process has no descriptor left.
    pub fn open(&self, output: &impl AsFd) {
        if let Ok(output) = output.as_fd().try_clone_to_owned() {
            let _ = self.0.set(output);
        }
    }

    /// Sleeps up to `limit`; returns whether the output was closed, which ends the sleep.
    pub fn sleep(&self, limit: Duration) -> bool {
        // A wait that fails (no memory) must still take its time.
        self.wait(None, limit).unwrap_or_else(|_| {
            std::thread::sleep(limit);
            Woken::Elapsed
        }) == Woken::OutputClosed
    }

    /// Waits until the socket is readable, at most for `limit`. Signals and a stop in between change nothing.
    pub fn wait(&self, socket: Option<BorrowedFd<'_>>, limit: Duration) -> io::Result<Woken> {
        let began = Instant::now();
        loop {
            let left = limit.saturating_sub(began.elapsed());
            // In this order: what has arrived is shown before anything ends.
            let mut watched: arrayvec::ArrayVec<PollFd<'_>, 2> = arrayvec::ArrayVec::new();
            if let Some(socket) = socket {
                watched.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
            }
            if let Some(output) = self.0.get() {
                watched.push(PollFd::new(output, PollFlags::empty()));
            }
            let timeout = Timespec::try_from(left.min(WAIT_MAX)).expect("an hour fits");
            match poll(&mut watched, Some(&timeout)) {
                Ok(0) if left <= WAIT_MAX => return Ok(Woken::Elapsed),
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let is_socket_up = socket.is_some() && !watched[0].revents().is_empty();
            return Ok(if is_socket_up { Woken::Readable } else { Woken::OutputClosed });
        }
    }
}

/// The error of a read that ended because nobody reads the output any more.
#[derive(Debug)]
struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for OutputClosed {}

pub fn is_output_closed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<OutputClosed>())
}

/// An input that may be silent for long, such as a pipe. Reads end when the outlet closes.
pub struct Waiting<R> {
    pub input: R,
    pub outlet: Outlet,
}

impl<R: Read + AsFd> Read for Waiting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.outlet.wait(Some(self.input.as_fd()), Duration::MAX)? {
            Woken::OutputClosed => Err(io::Error::other(OutputClosed)),
            Woken::Readable | Woken::Elapsed => self.input.read(into),
        }
    }
}

/// A socket whose reads wait for a limited time, and end when the output closes.
pub struct Patient {
    pub socket: TcpStream,
    pub outlet: Outlet,
    /// A read that gets nothing for this long fails with `WouldBlock`.
    pub patience: Duration,
    /// From then on, each read that would have to wait fails with it.
    pub until: Option<Instant>,
}

impl Read for Patient {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let left =
                self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            match self.outlet.wait(Some(self.socket.as_fd()), left.min(self.patience))? {
                Woken::Elapsed => return Err(io::ErrorKind::WouldBlock.into()),
                Woken::OutputClosed => return Err(io::Error::other(OutputClosed)),
                Woken::Readable => match self.socket.read(into) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => return outcome,
                },
            }
        }
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.socket.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::{Outlet, Patient, Waiting, Woken, is_output_closed};

    const LONG: Duration = Duration::from_secs(600);

    fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    #[test]
    fn the_end_of_the_output_is_seen_while_nothing_comes() {
        let (reader, writer) = io::pipe().unwrap();
        let (socket, mut theirs) = sockets();
        let outlet = Outlet::default();
        outlet.clone().open(&writer);
        assert!(!outlet.sleep(Duration::ZERO));
        assert_eq!(outlet.wait(Some(socket.as_fd()), Duration::from_millis(1)).unwrap(), Woken::Elapsed);
        drop(reader);
        assert!(outlet.sleep(LONG));
        let mut patient = Patient { socket, outlet, patience: LONG, until: None };
        assert!(is_output_closed(&patient.read(&mut [0]).unwrap_err()));
        // What has arrived can still be read.
        theirs.write_all(b"x").unwrap();
        assert_eq!(patient.outlet.wait(Some(patient.socket.as_fd()), LONG).unwrap(), Woken::Readable);
        assert_eq!(patient.read(&mut [0]).unwrap(), 1);
    }

    #[test]
    fn an_input_that_has_nothing_ends_with_the_output() {
        let (input, mut feeding) = io::pipe().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let mut waiting = Waiting { input, outlet: Outlet::of(&writer) };
        feeding.write_all(b"x").unwrap();
        drop(reader);
        assert_eq!(waiting.read(&mut [0; 9]).unwrap(), 1);
        assert!(is_output_closed(&waiting.read(&mut [0; 9]).unwrap_err()));
        drop(feeding);
        assert_eq!(waiting.read(&mut [0; 9]).unwrap(), 0);
    }

    #[test]
    fn a_read_waits_as_long_as_it_may() {
        let (socket, _theirs) = sockets();
        let soon = Instant::now() + Duration::from_millis(20);
        let mut patient = Patient { socket, outlet: Outlet::default(), patience: LONG, until: Some(soon) };
        for _ in 0..2 {
            assert_eq!(patient.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert!(Instant::now() >= soon);
        }
        (patient.until, patient.patience) = (None, Duration::from_millis(1));
        assert_eq!(patient.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
