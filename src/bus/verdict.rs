//! What the reader is told, what it says of it, and what it wants done.

use std::fmt;

use crate::bus::numbers::Epochs;

/// Bytes that may be on their way to those who take the messages.
pub const CREDIT_BYTES: u64 = 8 << 20;

/// What the server says of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// When it was made; another stream of the same name has another time.
    pub created_nanos: u64,
    pub epochs: Epochs,
    /// The oldest message, and the newest; `last + 1` and `last` if there is none.
    pub first: u64,
    pub last: u64,
}

/// A message as it came, without what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Of the consumer that it came through.
    pub attempt: u64,
    /// The consumer's own count: 1, 2, 3.
    pub delivery: u64,
    /// Its sequence in the stream.
    pub message: u64,
    /// When the stream took it.
    pub time_nanos: u64,
    /// How many wait behind it.
    pub pending: u64,
    /// What it takes of a pull.
    pub bytes: u64,
}

/// Numbers that nobody will get: `from` to `to`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    pub from: u64,
    pub to: u64,
    pub why: HoleReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoleReason {
    /// The stream does not have these messages, or not any more. What was in them is unknown.
    Expired,
    /// The stream, or the end of it, is another one.
    Restart,
}

impl fmt::Display for HoleReason {
    /// The word that watchers get.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Expired => "expired",
            Self::Restart => "restart",
        })
    }
}

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was passed on before, or came through an earlier consumer.
    Drop,
    /// Its lines are the next. First tell of the hole, if there is one.
    Take(Option<Hole>),
    /// It comes before what is to be passed on. It only tells what is known of publishers.
    Fold,
}

/// Why the reader does not go on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Messages that it has passed on are not in the stream. An operator has to begin a new epoch.
    LostTail,
    /// Another stream stands in its place, whose numbers were in use.
    OtherStream,
    /// The numbers that were given are not those of the stream's metadata.
    OtherNumbers,
    /// The stream's numbers are used up.
    Full,
}

impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::LostTail => {
                "the stream has lost its end, which was delivered already; see luxcast bus new-epoch"
            }
            Self::OtherStream => {
                "another stream stands in its place, with numbers that were in use; see luxcast bus new-epoch --from 1"
            }
            Self::OtherNumbers => "the numbers in the stream's metadata are not those that were given",
            Self::Full => "the numbers of the stream are used up",
        })
    }
}

/// How things stand, for people and for those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The server does not answer.
    Away,
    /// It reads what came while it was not there.
    CatchingUp,
    /// It has all that the stream had a moment ago.
    Following,
    Stopped(Stop),
}

/// Why a consumer was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The connection was made anew.
    Reconnected,
    /// Messages of the consumer are missing, or came twice.
    Skipped,
    /// Nothing came, not even a sign of life, or no answer.
    Silent,
    /// Signs of life came and no message, though there are some.
    Stalled,
    /// The server has removed it, or did not make it.
    Gone,
    /// The stream has changed.
    Changed,
}

/// What is to be done. An `attempt` is to be named in what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask about the stream. The answer is to name the question.
    Ask {
        question: u64,
    },
    /// Make a consumer of the messages from `from` on: in memory, without acks.
    Create {
        attempt: u64,
        from: u64,
    },
    /// Read the first message from `from` on, without a consumer.
    ReadAlone {
        attempt: u64,
        from: u64,
    },
    /// Pull messages through it, at most so many bytes, with a sign of life each second.
    Pull {
        attempt: u64,
        bytes: u64,
    },
    /// Remove the consumer, if it is there.
    Remove {
        attempt: u64,
        why: Restart,
    },
    /// End the connection and make another one.
    Reconnect,
    /// These numbers are lost. The reader goes on behind message `last`. With [`HoleReason::Restart`] what is known of
    /// publishers is to be forgotten: it comes again.
    Skip {
        hole: Hole,
        last: u64,
    },
    /// All that the stream had at `asked_at` has been passed on, up to message `last`.
    Complete {
        asked_at: u64,
        last: u64,
    },
    Stand(Standing),
}
