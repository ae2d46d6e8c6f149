//! Pull requests, and what the server's status messages mean (ADR-13 of the NATS project).

use std::time::Duration;

use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{HeaderMap, Message, StatusCode};

/// More messages than a pull can have: its bytes are the bound.
const MESSAGES_MAX: usize = 1 << 20;
/// A pull ends after so long, used up or not.
const EXPIRES: Duration = Duration::from_secs(30);
/// While a pull waits, the server says so often that it is there.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub(super) fn request(bytes: u64) -> BatchConfig {
    BatchConfig {
        batch: MESSAGES_MAX,
        expires: Some(EXPIRES),
        max_bytes: bytes as usize,
        idle_heartbeat: HEARTBEAT,
        ..BatchConfig::default()
    }
}

/// The first value of a header.
pub(super) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(|value| value.as_str())
}

/// What a message of a consumer's inbox is, if it is none of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Alive,
    /// A pull has ended with so many bytes unused; `is_too_large`: since the next message needs more.
    PullEnded {
        left: u64,
        is_too_large: bool,
    },
    /// The consumer is not there any more.
    Gone,
}

/// None: it is a message of the stream.
pub(super) fn status_of(message: &Message) -> Option<Status> {
    let status = message.status?;
    let description = message.description.as_deref().unwrap_or_default().to_ascii_lowercase();
    let left = header(message.headers.as_ref(), "Nats-Pending-Bytes").and_then(|text| text.parse().ok());
    let ended = |is_too_large| Status::PullEnded { left: left.unwrap_or(0), is_too_large };
    Some(match status {
        StatusCode::IDLE_HEARTBEAT => Status::Alive,
        StatusCode::NO_RESPONDERS => Status::Gone,
        _ if description.contains("consumer deleted") => Status::Gone,
        // It has moved to another server, or its server ends: what it had been asked for is lost.
        _ if description.contains("leadership change") || description.contains("server shutdown") => {
            Status::Gone
        }
        _ => ended(description.contains("message size exceeds")),
    })
}
