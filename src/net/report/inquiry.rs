//! The questions of clients to the report thread, and the queues that shards put them in.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::delivery::keys::WatcherKey;
use crate::session::operators::OPERATORS_MAX;
use crate::session::questions::Question;

/// Most inquiries of watchers that wait. Those that wait together are answered from one list of jobs.
const INQUIRIES_MAX: usize = 256;

/// A question, and the connection that asks it.
pub struct Inquiry {
    pub shard: usize,
    pub key: WatcherKey,
    pub question: Question,
}

/// The queues' ends for shards.
#[derive(Clone)]
pub struct Inquiries {
    pub of_operators: Sender<Inquiry>,
    pub of_watchers: Sender<Inquiry>,
}

/// The queues' ends for the report thread.
#[derive(Clone)]
pub struct Inbox {
    pub(super) of_operators: Receiver<Inquiry>,
    pub(super) of_watchers: Receiver<Inquiry>,
}

pub fn inquiries() -> (Inquiries, Inbox) {
    // Each operator's connection has one at most.
    let operators = bounded(OPERATORS_MAX);
    let watchers = bounded(INQUIRIES_MAX);
    let inquiries = Inquiries { of_operators: operators.0, of_watchers: watchers.0 };
    (inquiries, Inbox { of_operators: operators.1, of_watchers: watchers.1 })
}
