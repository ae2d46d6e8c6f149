//! Messages that have come are handed to the reader, and on to the ingest thread if they are the next.

use async_nats::jetstream::Message;

use crate::bus::chunk;
use crate::bus::header_block::HeaderBlock;
use crate::bus::verdict::{Arrival, Verdict};
use crate::net::bus::alone::Alone;
use crate::net::bus::handle::{Received, Report};
use crate::net::bus::pull::{self, Status, header};
use crate::net::bus::thread::Bus;

impl Bus {
    /// Something came to the inbox of the consumer, or that has ended.
    pub(super) fn handle_message(&mut self, message: Option<async_nats::Message>) {
        let now = self.now();
        let Some(attempt) = self.inbox.as_ref().map(|inbox| inbox.attempt) else { return };
        let Some(message) = message else {
            self.inbox = None;
            return self.reader.handle_gone(now, attempt);
        };
        let bytes = message.length as u64;
        let content = Message { message, context: self.link.jetstream.clone() };
        // What a message of the stream says of itself is not the server's word.
        let Ok(info) = content.info() else { return self.handle_status(now, attempt, &content.message) };
        let arrival = Arrival {
            attempt,
            delivery: info.consumer_sequence,
            message: info.stream_sequence,
            time_nanos: info.published.unix_timestamp_nanos().max(0) as u64,
            pending: info.pending,
            bytes,
        };
        let verdict = self.reader.handle_message(now, arrival);
        let async_nats::Message { headers, payload, .. } = content.message;
        let owned = |name| header(headers.as_ref(), name).map(Into::into);
        let (message_id, lines, from) = (owned(chunk::MESSAGE_ID), owned(chunk::LINES), owned(chunk::FROM));
        let block = HeaderBlock { message_id, lines, from };
        self.pass_on(verdict, &arrival, Some(block), Box::new(payload));
    }

    fn handle_status(&mut self, now: u64, attempt: u64, message: &async_nats::Message) {
        match pull::status_of(message) {
            Some(Status::Alive) => self.reader.handle_alive(now, attempt),
            Some(Status::Gone) => self.reader.handle_gone(now, attempt),
            Some(Status::PullEnded { left, is_too_large }) => {
                self.reader.handle_pull_ended(now, attempt, left, is_too_large);
            }
            // Somebody else knows the inbox.
            None => tracing::debug!("bus: a message that is none of the stream's"),
        }
    }

    /// A message came without a consumer.
    pub(super) fn handle_alone(&mut self, attempt: u64, found: Alone) {
        let Alone { message, time, headers, payload, bytes } = found;
        let time_nanos = time.unix_timestamp_nanos().max(0) as u64;
        let arrival = Arrival { attempt, delivery: 1, message, time_nanos, pending: 0, bytes };
        let is_odd = headers.is_none();
        let verdict = self.reader.handle_read_alone(self.now(), arrival, is_odd);
        if is_odd && verdict != Verdict::Drop {
            let words = "has headers that no client can read: it was read carefully, without them";
            // There may be many in a row.
            match self.last_odd.replace(message) {
                Some(last) if message == last + 1 => {
                    tracing::debug!("bus: message {message} of the stream {words}");
                }
                _ => tracing::warn!("bus: message {message} of the stream {words}"),
            }
        }
        self.pass_on(verdict, &arrival, headers, Box::new(payload));
    }

    /// Hands a message on, if it is the next. `headers`: None if no client can read them.
    fn pass_on(
        &self,
        verdict: Verdict,
        arrival: &Arrival,
        headers: Option<HeaderBlock>,
        payload: Box<dyn AsRef<[u8]> + Send>,
    ) {
        let (is_folded, hole) = match verdict {
            Verdict::Drop => return,
            Verdict::Take(hole) => (false, hole),
            Verdict::Fold => (true, None),
        };
        let &Arrival { message, time_nanos, bytes, .. } = arrival;
        let first = self.reader.epochs().and_then(|epochs| epochs.number(message, 0).ok());
        let first = first.expect("a message that is taken has numbers");
        let received = Received { message, first, time_nanos, bytes, is_folded, hole, headers, payload };
        self.outlet.report(Report::Message(Box::new(received)));
    }
}
