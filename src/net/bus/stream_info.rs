//! What the server says of the stream.

use std::fmt;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{self, ClusterInfo};
use serde_json::Value;

use crate::bus::lease;
use crate::bus::numbers::Epochs;
use crate::bus::verdict::Info;
use crate::net::bus::words::in_words;

/// The format of chunks and numbers that this daemon reads.
pub const FORMAT: &str = "1";
/// Names in the stream's metadata.
pub const METADATA_FORMAT: &str = "luxcast.format";
pub const METADATA_BASE: &str = "luxcast.base";
pub const METADATA_EPOCHS: &str = "luxcast.epochs";

/// "stream not found"
pub(super) const NO_STREAM: u64 = 10_059;

/// Why a stream cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadStream(String);

impl fmt::Display for BadStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether the server that says this leads the stream, and has not lost touch with the other copies.
pub fn is_of_leader(cluster: Option<&ClusterInfo>) -> bool {
    // A server that is alone has no cluster.
    let Some(cluster) = cluster else { return true };
    let heard = cluster.replicas.iter().map(|replica| replica.active.as_nanos() as u64);
    lease::holds(cluster.leader.as_deref().is_some_and(|leader| !leader.is_empty()), heard)
}

/// Asks the server what the reader wants to know.
///
/// # Errors
/// In words, why nobody says it.
pub async fn ask(jetstream: &Context, stream: &str) -> Result<Info, String> {
    let found = jetstream.get_stream(stream).await.map_err(|error| in_words(&error))?;
    let info = found.cached_info();
    if !is_of_leader(info.cluster.as_ref()) {
        return Err("no server leads it".to_owned());
    }
    read(info).map_err(|error| error.to_string())
}

/// What the reader wants to know.
///
/// # Errors
/// What of the stream's metadata is missing or not understood.
pub fn read(info: &stream::Info) -> Result<Info, BadStream> {
    let metadata = &info.config.metadata;
    let get = |name: &str| metadata.get(name).map(String::as_str);
    match get(METADATA_FORMAT) {
        Some(FORMAT) => {}
        Some(other) => {
            return Err(BadStream(format!("its {METADATA_FORMAT} is {other}; this version reads {FORMAT}")));
        }
        None => {
            return Err(BadStream(format!("it has no {METADATA_FORMAT}: make it with luxcast bus create")));
        }
    }
    let base = get(METADATA_BASE).ok_or_else(|| BadStream(format!("it has no {METADATA_BASE}")))?;
    let epochs = Epochs::parse(base, get(METADATA_EPOCHS).unwrap_or_default())
        .map_err(|error| BadStream(format!("{METADATA_BASE} or {METADATA_EPOCHS}: {error:?}")))?;
    Ok(Info {
        created_nanos: info.created.unix_timestamp_nanos().max(0) as u64,
        epochs,
        first: info.state.first_sequence,
        last: info.state.last_sequence,
    })
}

/// The number and the words of an error that the API answered with.
pub(super) fn error_of(answer: &Value) -> Option<(u64, String)> {
    let error = answer.get("error").filter(|error| !error.is_null())?;
    let words = error["description"].as_str().unwrap_or("an error without words");
    Some((error["err_code"].as_u64().unwrap_or(0), words.to_owned()))
}
