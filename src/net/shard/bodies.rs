//! Requests that publish: their bodies are read, as far as ingest has room for them, and answered with its word.

use std::time::Duration;

use crate::config::HttpPublish;
use crate::delivery::keys::WatcherKey;
use crate::delivery::owned_body::Body;
use crate::net::ingest::posted::{BodyEnd, PORTION_BYTES, Posted, PostedFrom};
use crate::net::shard::clients::Clients;
use crate::net::shard::connection::Phase;
use crate::net::shard::live_config::LiveConfig;
use crate::net::shard::publishing::Publishing;
use crate::net::shard::reads::READ_BYTES;
use crate::session::publishing::{BodyForm, Publish};
use crate::tick::{Tick, ticks};
use crate::wire::body::BodyReader;
use crate::wire::cross_origin::Readers;
use crate::wire::http::{Refusal, Status, Then};
use crate::wire::json_lines::JsonLines;
use crate::wire::receipt::Receipt;
use crate::wire::request_for_log::{Asked, AskedBefore};

const _: () = assert!(PORTION_BYTES >= READ_BYTES);

/// RFC 9110, 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How long a refusal waits for ingest's word. It takes longer only if ingest takes nothing for the moment.
const WORD: Duration = Duration::from_secs(2);

impl Clients {
    /// Begins to take a body. `bytes` are what has come behind the head.
    pub(super) fn publish(
        &mut self,
        key: WatcherKey,
        publish: Publish,
        readers: Readers,
        asked: &Asked<'_>,
        bytes: &[u8],
    ) {
        let Publish { length, form, greeting, permit, rights, awaits_continue, then } = publish;
        let (ingest, now) = (self.environment.ingest.clone(), self.moment.tick());
        let connection = self.connections.at(key);
        let address = connection.address();
        let greeting_lines = memchr::memchr_iter(b'\n', &greeting).count();
        let from = PostedFrom { shard: self.environment.index, key, address, rights, greeting_lines };
        let line_bytes_max = self.environment.line_bytes_max;
        let publishing = Publishing {
            posted: Posted::new(&ingest.posted, from),
            ingest,
            body: BodyReader::new(length),
            json: (form == BodyForm::Json).then(|| JsonLines::new(line_bytes_max)),
            first: None,
            permit,
            readers,
            then,
            rest: Vec::new(),
            heard_at: now,
            asked: AskedBefore::of(asked),
            refusal: None,
        };
        // It reports the request, so that what follows wakes nobody.
        if publishing.posted.add(self.moment.instant, |out| out.extend_from_slice(&greeting)) {
            publishing.ingest.wake();
        }
        let is_asked_for = awaits_continue && bytes.is_empty() && !publishing.is_whole();
        connection.phase = Phase::Publishing(Box::new(publishing));
        if is_asked_for {
            self.watchers.enqueue_control(key, |out| out.extend_from_slice(CONTINUE));
        }
        self.schedule_body(key, now);
        self.handle_body(key, bytes);
    }

    /// More of a body has come, or of what follows it.
    pub(super) fn handle_body(&mut self, key: WatcherKey, bytes: &[u8]) {
        let (now, instant, line_bytes_max) =
            (self.moment.tick(), self.moment.instant, self.environment.line_bytes_max);
        let bytes_max = self.live_config().limits.pipelined_bytes_max();
        if self.refuse_expired(key) {
            return;
        }
        let Phase::Publishing(publishing) = &mut self.connections.at(key).phase else { return };
        if publishing.refusal.is_some() {
            return;
        }
        publishing.heard_at = now;
        let used = match publishing.take(bytes, line_bytes_max, instant) {
            Ok(used) => used,
            // Nothing was taken before the first value.
            Err(refusal) if refusal.status == Status::ContentTooLarge => {
                return self.refuse(key, &refusal, None);
            }
            Err(refusal) => return self.refuse_within(key, refusal),
        };
        let rest = &bytes[used..];
        if publishing.rest.len() + rest.len() > bytes_max {
            publishing.then = Then::Close;
        }
        match publishing.then {
            Then::Next => publishing.rest.extend_from_slice(rest),
            Then::Close => publishing.rest = Vec::new(),
        }
        if publishing.is_whole() {
            publishing.end(BodyEnd::Whole);
        }
    }

    /// Ends a request whose token has expired before its body was whole. False: there is none.
    fn refuse_expired(&mut self, key: WatcherKey) -> bool {
        let now = self.moment.now.unix_micros;
        let Phase::Publishing(publishing) = &self.connections.at(key).phase else { return false };
        let is_expired = publishing.permit.is_expired(now) && !publishing.is_whole();
        if is_expired {
            self.refuse_within(key, Refusal::bad_token("the token has expired"));
        }
        is_expired
    }

    /// New tokens and settings hold for requests that are coming in, too.
    pub(super) fn refuse_revoked(&mut self, key: WatcherKey) {
        let Phase::Publishing(publishing) = &self.connections.at(key).phase else { return };
        let LiveConfig { auth, http_publish, .. } = &*self.environment.live_config;
        if publishing.is_whole() {
            return;
        }
        if *http_publish == HttpPublish::Off {
            return self.refuse_within(key, Refusal::no_publishing());
        }
        // Without scopes nobody was asked for one.
        let needs_scope = *http_publish == HttpPublish::Scope && !publishing.has_scope();
        if needs_scope || !auth.upholds(&publishing.permit) {
            self.refuse_within(key, Refusal::bad_token("the token is not valid any more"));
        }
    }

    /// Refuses a request in the middle of its body. First ingest says what became of its lines: the answer has that.
    fn refuse_within(&mut self, key: WatcherKey, refusal: Refusal) {
        let Phase::Publishing(publishing) = &mut self.connections.at(key).phase else { return };
        publishing.refusal = Some(refusal.into());
        publishing.rest = Vec::new();
        publishing.end(BodyEnd::Cut);
        self.schedule(key, self.moment.tick().wrapping_add(ticks(WORD)));
    }

    /// Whether a portion of what comes can be taken from a connection. If not, it is read again once there is room.
    pub(super) fn has_room_or_waits(&mut self, key: WatcherKey) -> bool {
        match &self.connections.at(key).phase {
            Phase::Publishing(publishing) => publishing.is_whole() || publishing.posted.has_room_or_waits(),
            _ => true,
        }
    }

    /// Ingest has made room for more of a request's body.
    pub(super) fn handle_room(&mut self, key: WatcherKey) {
        if self.is_there(key) && matches!(self.connections.at(key).phase, Phase::Publishing(_)) {
            self.handle_readable(key);
        }
    }

    /// Ingest has dealt with a request, or could not; its connection may have gone.
    pub(super) fn handle_published(&mut self, key: WatcherKey, answer: Result<Receipt, Refusal>) {
        if !self.is_there(key) {
            return;
        }
        let Phase::Publishing(publishing) = &mut self.connections.at(key).phase else { return };
        let (then, rest) = (publishing.then, std::mem::take(&mut publishing.rest));
        let readers = publishing.readers.clone();
        let is_array = publishing.is_array_as_lines();
        let answer = answer.map(|receipt| Receipt { is_array, ..receipt });
        let answer = match (publishing.refusal.take(), answer) {
            (Some(refusal), Ok(receipt)) => Err(refusal.behind(receipt)),
            (_, answer) => answer,
        };
        match answer {
            Err(refusal) => self.refuse(key, &refusal, None),
            Ok(receipt) => {
                let mut out = Vec::new();
                receipt.write(&mut out, &readers.fields(""), then, self.moment.now.unix_micros);
                self.answer(key, &out, Body::default(), then, rest);
                if let Phase::Answering { is_publisher, .. } = &mut self.connections.at(key).phase {
                    *is_publisher = true;
                }
            }
        }
    }

    /// The deadline of a request that publishes has come: ends it if nothing of its body came for long.
    pub(super) fn check_body(&mut self, key: WatcherKey) {
        let (now, stalled) = (self.moment.tick(), self.live_config().limits.stalled);
        if self.refuse_expired(key) {
            return;
        }
        let connection = self.connections.at(key);
        let Phase::Publishing(publishing) = &mut connection.phase else { return };
        if let Some(refusal) = publishing.refusal.take() {
            return self.refuse(key, &refusal, None);
        }
        // While it waits for ingest, that is not the client's fault.
        let waits = publishing.is_whole() || connection.has_more || !publishing.posted.has_room_or_waits();
        let since = if waits { now } else { publishing.heard_at };
        match now.wrapping_sub(since) >= stalled {
            true => self.refuse_within(key, Refusal::body_timeout()),
            false => self.schedule_body(key, since),
        }
    }

    /// Looks after a body that was heard of at `since`: when it has been silent for too long, or its token ends.
    fn schedule_body(&mut self, key: WatcherKey, since: Tick) {
        let (now, unix_micros) = (self.moment.tick(), self.moment.now.unix_micros);
        let mut left = since.wrapping_add(self.live_config().limits.stalled).wrapping_sub(now);
        if let Phase::Publishing(publishing) = &self.connections.at(key).phase
            && let Some(expires_at) = publishing.permit.expires_at()
        {
            // As for watchers: this tick has begun already, and the last of the span is not a whole one.
            let span = Duration::from_micros(expires_at.saturating_sub(unix_micros).max(0) as u64);
            left = left.min(ticks(span).saturating_add(2));
        }
        self.schedule(key, now.wrapping_add(left));
    }
}
