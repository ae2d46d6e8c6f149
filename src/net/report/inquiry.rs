//! What shards ask the report thread, and where they put it.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::delivery::keys::WatcherKey;
use crate::session::operators::OPERATORS_MAX;
use crate::session::questions::Question;

/// Of watchers that wait: those that wait together are answered from one look at the jobs.
const INQUIRIES_MAX: usize = 256;

/// A question, and the connection that has it.
pub struct Inquiry {
    pub shard: usize,
    pub key: WatcherKey,
    pub question: Question,
}

/// Where inquiries go.
#[derive(Clone)]
pub struct Inquiries {
    pub of_operators: Sender<Inquiry>,
    pub of_watchers: Sender<Inquiry>,
}

/// Where they come out.
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
