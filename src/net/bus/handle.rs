//! What the ingest thread and the bus thread send each other.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::Message;
use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::bus::verdict::{Hole, Standing};
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
    Standing(Standing),
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
    pub content: Message,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.content.headers.as_ref(), name)
    }
}

/// The first value of a header.
pub(super) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(|value| value.as_str())
}

/// The ingest thread's end.
pub struct BusHandle {
    commands: UnboundedSender<Command>,
    pub reports: Receiver<Report>,
}

impl BusHandle {
    pub fn send(&self, command: Command) {
        // A bus thread that has ended needs no more commands.
        let _ = self.commands.send(command);
    }
}

/// The bus thread's end.
pub struct Ends {
    pub commands: UnboundedReceiver<Command>,
    reports: Sender<Report>,
    ingest: Arc<IngestWaker>,
}

impl Ends {
    pub fn report(&self, report: Report) {
        // An ingest thread that has ended needs no more reports.
        if self.reports.send(report).is_ok() {
            self.ingest.waker.wake().expect("the ingest thread's waker works");
        }
    }
}

pub fn ends(ingest: Arc<IngestWaker>) -> (BusHandle, Ends) {
    let (commands, of_ingest) = unbounded_channel();
    let (reports, of_bus) = unbounded();
    (BusHandle { commands, reports: of_bus }, Ends { commands: of_ingest, reports, ingest })
}
