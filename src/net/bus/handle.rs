//! What the ingest thread and the bus thread send each other.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::bus::chunk::{Bounds, Headers};
use crate::bus::header_block::HeaderBlock;
use crate::bus::numbers::Epochs;
use crate::bus::verdict::{Hole, Restart, Standing};
use crate::bus::writer::{LaneKey, Outgoing};
use crate::net::ingest::handle::IngestWaker;

/// From the ingest thread. Bytes on their way are bounded by `bus::writer::BYTES_MAX`.
pub enum Command {
    Publish(Outgoing),
    /// All that the stream has by now is waited for.
    Hurry,
    /// So many bytes of messages have been dealt with.
    Release(u64),
}

/// To the ingest thread. Bytes on their way are bounded by the reader's credit.
pub enum Report {
    /// Where this daemon begins in the stream; before all others.
    Begun(Box<Beginning>),
    /// No daemon, or not this one, can use the stream, for the reason given. Nothing follows.
    Unfit(String),
    /// The next message of the stream.
    Message(Box<Received>),
    /// Numbers that nobody gets; the stream goes on behind message `last`.
    Skip {
        hole: Hole,
        last: u64,
    },
    /// All that the stream had at `asked_at` has been sent before this.
    Complete {
        asked_at: u64,
        last: u64,
    },
    /// The server says that the chunk is message `message`, or that one with its id is.
    Stored {
        key: LaneKey,
        serial: u64,
        message: u64,
        is_duplicate: bool,
    },
    Failed {
        key: LaneKey,
        serial: u64,
    },
    /// The newest message that the stream has, and the greatest number that may have been given anywhere.
    Newest {
        message: u64,
        possible: u64,
        /// The greatest that can have been given by now; None: it is another stream.
        given: Option<u64>,
    },
    /// A consumer was given up.
    Restarted(Restart),
    Standing(Standing),
    /// Why there is no connection, in words.
    Trouble(String),
}

/// Where a daemon begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    pub epochs: Epochs,
    /// The first message that is published here. It has numbers.
    pub passed_from: u64,
    /// The stream has had messages before that one.
    pub has_older: bool,
    /// For how long the server takes an id once.
    pub window_millis: u64,
    /// For how long lines of publishers are remembered.
    pub accounts_millis: u64,
    pub chunk_bytes_max: usize,
    /// Of the lines of the stream: all daemons have the same, whatever their settings allow.
    pub bounds: Bounds,
    /// How the stream differs from one that is made here; daemons can use it all the same.
    pub differences: Vec<String>,
}

/// A message of the stream.
pub struct Received {
    pub message: u64,
    /// The number of its first line.
    pub first: u64,
    /// When the stream took it.
    pub time_nanos: u64,
    /// To be given back with [`Command::Release`].
    pub bytes: u64,
    /// It comes before what is published: it only says what is known of publishers.
    pub is_folded: bool,
    /// Told before it.
    pub hole: Option<Hole>,
    /// None: no client can read them.
    pub headers: Option<HeaderBlock>,
    /// In the client's own buffer.
    pub payload: Box<dyn AsRef<[u8]> + Send>,
}

impl Received {
    pub fn headers(&self) -> Headers<'_> {
        self.headers.as_ref().map(HeaderBlock::headers).unwrap_or_default()
    }
}

/// The ingest thread's end. The bus thread ends when it is dropped.
pub struct BusHandle {
    commands: Box<dyn Fn(Command) + Send>,
    pub reports: Receiver<Report>,
}

impl BusHandle {
    pub fn send(&self, command: Command) {
        (self.commands)(command);
    }
}

/// The bus thread's end.
pub struct Outlet {
    reports: Sender<Report>,
    ingest: Arc<IngestWaker>,
}

impl Outlet {
    pub fn report(&self, report: Report) {
        // An ingest thread that has ended needs no more reports.
        if self.reports.send(report).is_ok() {
            self.ingest.wake();
        }
    }
}

/// `commands` takes what the ingest thread wants.
pub fn ends(ingest: Arc<IngestWaker>, commands: impl Fn(Command) + Send + 'static) -> (BusHandle, Outlet) {
    let (reports, of_bus) = unbounded();
    (BusHandle { commands: Box::new(commands), reports: of_bus }, Outlet { reports, ingest })
}
