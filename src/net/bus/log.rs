//! What the log is told of the connection and of the stream. What goes on is told once, or once a minute.

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::{ClientError, Event, ServerInfo};

use crate::bus::chunk::Bounds;
use crate::bus::writer::LaneKey;
use crate::net::bus::begin::chunk_bytes_max;
use crate::net::bus::connect::BusConfig;
use crate::net::bus::said::Said;
use crate::net::bus::trouble::Trouble;
use crate::net::bus::words::in_words;

pub(super) struct Log {
    stream: String,
    subject: String,
    bounds: Bounds,
    /// Of connections and trouble with them, since there was word of the stream last.
    said: Said,
    /// The connection is made anew because this daemon wants that.
    is_wanted_anew: bool,
    /// Each line fits into a message of the server.
    has_room: bool,
    answers: Trouble<()>,
    consumers: Trouble<()>,
    chunks: Trouble<LaneKey>,
}

/// What an event says of trouble with the connection.
pub(super) fn words_of(event: &Event) -> Option<String> {
    match event {
        Event::Connected | Event::Disconnected | Event::Closed => None,
        Event::ClientError(ClientError::Other(words)) => Some(in_words(words)),
        other => Some(in_words(other)),
    }
}

impl Log {
    pub fn new(config: &BusConfig, bounds: Bounds) -> Self {
        Self {
            stream: config.stream.clone(),
            subject: config.subject.clone(),
            bounds,
            said: Said::default(),
            is_wanted_anew: false,
            has_room: true,
            answers: Trouble::default(),
            consumers: Trouble::default(),
            chunks: Trouble::default(),
        }
    }

    pub fn handle_connected(&mut self, server: &ServerInfo) {
        let words = format!("bus: connected to {}", server.server_name);
        let is_usual = std::mem::take(&mut self.is_wanted_anew) && self.said.is_empty();
        // A server that is cut off from the others lets this in again and again.
        match !is_usual && self.said.is_new(&words) {
            true => tracing::info!("{words}"),
            false => tracing::debug!("{words} again"),
        }
        let room = chunk_bytes_max(server.max_payload, self.bounds);
        match &room {
            Err(why) if self.has_room => tracing::error!("bus: long lines wait until this is mended: {why}"),
            Ok(_) if !self.has_room => {
                tracing::info!("bus: long lines go through again: max_payload is {}", server.max_payload);
            }
            _ => {}
        }
        self.has_room = room.is_ok();
    }

    /// The connection that is there is about to be ended, and another one made.
    pub fn handle_wanted_anew(&mut self) {
        self.is_wanted_anew = true;
    }

    pub fn handle_disconnected(&self) {
        match self.is_wanted_anew {
            true => tracing::debug!("bus: the connection is made anew"),
            false => tracing::warn!("bus: the connection has ended; trying again"),
        }
    }

    pub fn handle_event(&mut self, event: &Event) {
        if let Some(words) = words_of(event)
            && self.said.is_new(&words)
        {
            tracing::warn!("bus: {words}");
        }
    }

    /// The server was asked about the stream.
    pub fn handle_answer(&mut self, now: u64, answer: Result<(), &str>) {
        let stream = &self.stream;
        if answer.is_ok() {
            self.said.clear();
        }
        match answer {
            Ok(()) if self.answers.handle_good(now, &()) => {
                tracing::info!("bus: there is word of the stream {stream} again");
            }
            Err(why) if self.answers.handle_bad(now, ()) => {
                tracing::warn!("bus: no word of the stream {stream}: {why}; trying again");
            }
            _ => {}
        }
    }

    /// The server was asked for a consumer.
    pub fn handle_consumer(&mut self, now: u64, answer: Result<(), &str>) {
        let stream = &self.stream;
        match answer {
            Ok(()) if self.consumers.handle_good(now, &()) => {
                tracing::info!("bus: the stream {stream} can be read again");
            }
            Err(why) if self.consumers.handle_bad(now, ()) => {
                tracing::warn!("bus: the stream {stream} cannot be read: no consumer: {why}; trying again");
            }
            _ => {}
        }
    }

    /// The stream has, or has not, taken a chunk of this publisher.
    pub fn handle_chunk(&mut self, now: u64, key: LaneKey, result: Result<(), &PublishError>) {
        match result {
            Ok(()) if self.chunks.handle_good(now, &key) => {
                tracing::info!("bus: the stream takes lines again");
            }
            Err(error) if self.chunks.handle_bad(now, key) => {
                let why = match error.kind() {
                    PublishErrorKind::StreamNotFound => format!("no stream takes {}", self.subject),
                    PublishErrorKind::TimedOut => "nobody answers".to_owned(),
                    _ => error.to_string(),
                };
                tracing::warn!(
                    "bus: the stream does not take lines, and publishers wait: {why}; see luxcast bus check"
                );
            }
            _ => {}
        }
    }
}
