//! Where to begin in the stream: far enough back to have what is wanted, and further to know what publishers have sent.

use std::fmt::Display;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::ClusterInfo;
use serde_json::{Value, json};

use crate::bus::accounts::history_millis;
use crate::bus::chunk::{Bounds, CHUNK_BYTES_MAX, OVERHEAD_BYTES_MAX};
use crate::net::bus::alone::{self, From};
use crate::net::bus::connect::BusConfig;
use crate::net::bus::handle::Beginning;
use crate::net::bus::stream_config::{Fault, bounds_of, epochs, faults};
use crate::net::bus::stream_info::{self, NO_STREAM, error_of};
use crate::net::bus::words::in_words;

/// What is asked of a beginning. In doubt it is later: what the stream does not have, and what is more than `bytes_max`,
/// is left out. Where the stream has messages, the newest is always wanted.
#[derive(Clone, Copy, Debug)]
pub struct BeginAt {
    /// The first message that is wanted; 1: all that the stream has.
    pub message: u64,
    /// So much of the stream at its end is wanted, at most, by the average of its messages.
    pub bytes_max: u64,
    /// Of the daemon's settings.
    pub bounds: Bounds,
}

pub(super) enum Failure {
    /// It is of no use to ask again.
    Unfit(String),
    NoAnswer(String),
}

pub(super) struct Begun {
    /// The first message to read. Those before `beginning.passed_from` only tell what is known of publishers.
    pub from: u64,
    pub beginning: Beginning,
}

/// What the stream has.
#[derive(Clone, Copy, Debug)]
struct Extent {
    messages: u64,
    bytes: u64,
    /// The oldest message, and the newest; `last + 1` and `last` if there is none.
    first: u64,
    last: u64,
}

impl Extent {
    fn read(state: &Value) -> Self {
        let number = |name: &str| state[name].as_u64().unwrap_or(0);
        let (messages, last) = (number("messages"), number("last_seq"));
        let first = if messages == 0 { last.saturating_add(1) } else { number("first_seq") };
        Self { messages, bytes: number("bytes"), first, last }
    }

    /// The first message to pass on, see [`BeginAt`].
    fn passed_from(self, message: u64, bytes_max: u64) -> u64 {
        let average = (self.bytes / self.messages.max(1)).max(1);
        let bounded = self.last.saturating_add(1).saturating_sub(bytes_max / average);
        // A server that is asked for what lies behind the newest message does not answer before there is one.
        message.max(bounded).min(self.last).max(self.first)
    }
}

/// Asks the server.
pub(super) async fn begin(
    client: &Client,
    jetstream: &Context,
    config: &BusConfig,
    begin_at: &BeginAt,
) -> Result<Begun, Failure> {
    let stream = &config.stream;
    let info: Value =
        jetstream.request(format!("STREAM.INFO.{stream}"), &json!({})).await.map_err(no_answer)?;
    match error_of(&info) {
        Some((NO_STREAM, _)) => {
            return Err(Failure::Unfit(format!(
                "there is no stream {stream}: make it with luxcast bus create"
            )));
        }
        Some((_, words)) => return Err(Failure::NoAnswer(words)),
        None => {}
    }
    let cluster: Option<ClusterInfo> = serde_json::from_value(info["cluster"].clone()).map_err(no_answer)?;
    if !stream_info::is_of_leader(cluster.as_ref()) {
        return Err(Failure::NoAnswer(format!("no server leads the stream {stream}")));
    }
    let unfit = |what: &str| Failure::Unfit(format!("the stream {stream} cannot be used: {what}"));
    let (fatal, others): (Vec<Fault>, Vec<Fault>) = faults(&info["config"], &config.subject, begin_at.bounds)
        .into_iter()
        .partition(|fault| fault.is_fatal);
    let words = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.what).collect::<Vec<String>>();
    if !fatal.is_empty() {
        return Err(unfit(&words(fatal).join("; ")));
    }
    let epochs = epochs(&info["config"]).map_err(|what| unfit(&what))?;
    let window_millis = info["config"]["duplicate_window"].as_u64().unwrap_or(0) / 1_000_000;
    if window_millis == 0 {
        return Err(unfit("duplicate_window is 0"));
    }
    let extent = Extent::read(&info["state"]);
    let passed_from = extent.passed_from(begin_at.message, begin_at.bytes_max);
    epochs.number(passed_from, 0).map_err(|_| unfit("its numbers are used up"))?;
    let accounts_millis = history_millis(window_millis);
    let mut from = extent.first;
    if passed_from > extent.first {
        // Not through a consumer: who knows what stands there.
        let first = async |from| {
            let found = alone::read(jetstream, stream, from).await.map_err(no_answer)?;
            found.ok_or_else(|| no_answer("the stream has no message there"))
        };
        let passed_at = first(From::Message(passed_from)).await?.time;
        let start_time = passed_at - Duration::from_millis(accounts_millis);
        from = first(From::Time(start_time)).await?.message;
    }
    let bounds = bounds_of(&info["config"], begin_at.bounds);
    let beginning = Beginning {
        epochs,
        passed_from,
        has_older: passed_from > 1,
        window_millis,
        accounts_millis,
        chunk_bytes_max: chunk_bytes_max(client.server_info().max_payload, bounds)
            .map_err(|what| unfit(&what))?,
        bounds,
        differences: words(others),
    };
    Ok(Begun { from: from.min(passed_from), beginning })
}

fn no_answer(error: impl Display) -> Failure {
    Failure::NoAnswer(in_words(&error))
}

/// # Errors
/// A line of the greatest length does not fit into a message of the server.
pub(super) fn chunk_bytes_max(max_payload: usize, bounds: Bounds) -> Result<usize, String> {
    let room = max_payload.saturating_sub(OVERHEAD_BYTES_MAX);
    if room < bounds.line_bytes_max {
        return Err(format!(
            "the server takes {max_payload} bytes (max_payload): line_bytes_max can be {room} at most"
        ));
    }
    Ok(room.min(CHUNK_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::Extent;

    #[test]
    fn a_beginning_is_as_far_back_as_wanted_and_allowed_and_there() {
        let full = Extent { messages: 100, bytes: 10_050, first: 11, last: 110 };
        for (message, bytes_max, expected) in [
            (1, u64::MAX, 11),
            (0, u64::MAX, 11),
            (1, 1_000, 101),
            (101, 1_000, 101),
            (102, 1_000, 102),
            (60, 1_000, 101),
            (60, 5_100, 60),
            (1, 10_000, 11),
            (110, 1_000, 110),
            (111, 1_000, 110),
            (u64::MAX, u64::MAX, 110),
            (1, 199, 110),
            (1, 99, 110),
            (50, 0, 110),
        ] {
            assert_eq!(full.passed_from(message, bytes_max), expected, "{message}, {bytes_max}");
        }
        for (empty, expected) in [
            (Extent { messages: 0, bytes: 0, first: 1, last: 0 }, 1),
            (Extent { messages: 0, bytes: 0, first: 8, last: 7 }, 8),
        ] {
            for (message, bytes_max) in [(1, u64::MAX), (1, 0), (5, 10), (9, 10)] {
                assert_eq!(empty.passed_from(message, bytes_max), expected, "{message}, {bytes_max}");
            }
        }
    }

    #[test]
    fn a_stream_without_messages_begins_behind_its_last() {
        let state = serde_json::json!({"messages": 0, "bytes": 0, "first_seq": 5, "last_seq": 7});
        let Extent { messages, bytes, first, last } = Extent::read(&state);
        assert_eq!((messages, bytes, first, last), (0, 0, 8, 7));
    }
}
