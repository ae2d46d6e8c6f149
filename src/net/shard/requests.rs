//! HTTP on a shard's connections: request heads are read and judged, answers and refusals are sent, sessions opened.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use tracing::Level;

use crate::access::address_limits::TooMany;
use crate::access::admission::{Counted, TurnAway};
use crate::access::allowed_origins;
use crate::access::redaction;
use crate::delivery::keys::WatcherKey;
use crate::delivery::owned_body::{Body, OwnedBody};
use crate::delivery::watcher::Flags;
use crate::net::report::inquiry::Inquiry;
use crate::net::shard::clients::{Clients, context_of};
use crate::net::shard::connection::{Asking, Connection, Phase, Sides};
use crate::net::shard::live_config::LiveConfig;
use crate::session::conversation::Session;
use crate::session::endpoint::{Offer, is_path};
use crate::session::questions::Question;
use crate::session::request::{Answer, Circumstances, Upgrade, Watch, judge};
use crate::tick::ticks;
use crate::wire::cross_origin::Readers;
use crate::wire::handshake::write_switching;
use crate::wire::head_buffer::HeadBuffer;
use crate::wire::http::{
    HeadLimits, HeadResult, Refusal, Request, Status, Then, parse_head, write_come_again, write_ok,
    write_options, write_refusal, write_stream_head,
};
use crate::wire::page;
use crate::wire::request_for_log::{Asked, AskedBefore};

/// When an `EventSource` that is refused for now comes again. They are spread, so that not all come at once.
const COME_AGAIN_MILLIS: RangeInclusive<u64> = 1_000..=6_000;
/// How long an answer may take to be made: longer than the report thread waits for the other threads.
const MAKING: Duration = Duration::from_secs(10);

/// The bytes behind a request that are kept as the beginning of the next.
fn kept(rest: &[u8], then: Then) -> Vec<u8> {
    match then {
        Then::Next => rest.to_vec(),
        Then::Close => Vec::new(),
    }
}

impl Clients {
    pub(super) fn handle_head(&mut self, key: WatcherKey, bytes: &mut [u8]) {
        let limits = HeadLimits { head_bytes_max: self.live_config().limits.head_bytes_max };
        let Phase::Head(held) = &mut self.connections.at(key).phase else {
            return;
        };
        let mut held = std::mem::take(held);
        let before = held.len();
        let head = held.with(bytes, limits.head_bytes_max);
        let read = parse_head(head, limits);
        if matches!(read, Ok(HeadResult::Partial)) {
            held.keep(bytes);
            self.connections.at(key).phase = Phase::Head(held);
            return;
        }
        self.operators.note_served(key, true);
        let length = match read {
            Ok(HeadResult::Partial) => return,
            Ok(HeadResult::Complete { request, length }) => {
                let asked = Asked::of(&request);
                if let Some(turn_away) = self.connections.at(key).turn_away {
                    return self.refuse(key, &turn_away.refusal(), Some(asked));
                }
                let rest = &bytes[length - before..];
                match self.judge(key, &request, &head[..length], rest.len()) {
                    Ok(Answer::Watch(watch)) => self.open(key, &watch, asked),
                    Ok(Answer::Publish(publish)) => {
                        let readers = self.readers(key, asked.origin, asked.host);
                        return self.publish(key, publish, readers, &asked, rest);
                    }
                    Ok(answer) => return self.give(key, answer, &request, rest),
                    Err(refusal) => return self.refuse(key, &refusal, Some(asked)),
                }
                length
            }
            Err(refusal) => {
                let refusal = self.connections.at(key).turn_away.map_or(refusal, TurnAway::refusal);
                return self.refuse(key, &refusal, Asked::in_part_of(head));
            }
        };
        // Frames may follow right behind the request.
        let used = length - before;
        if matches!(self.connections.at(key).phase, Phase::Open(_)) && used < bytes.len() {
            self.handle_frames(key, &mut bytes[used..]);
        }
    }

    /// Gives an answer that ends, or has it made. `rest` has come behind the request.
    fn give(&mut self, key: WatcherKey, answer: Answer, request: &Request<'_>, rest: &[u8]) {
        let readers = self.readers(key, request.origin, request.host);
        let unix_micros = self.moment.now.unix_micros;
        let mut head = Vec::new();
        let (body, then) = match answer {
            Answer::Text(text, then) => {
                write_ok(&mut head, request.method, text.as_bytes(), &readers, then, unix_micros);
                (Body::default(), then)
            }
            Answer::Page(page, then) => {
                let answer = page::answer(page, request, &readers, then, unix_micros);
                head = answer.head;
                (Body::Static(answer.body), then)
            }
            Answer::Options(methods, then) => {
                write_options(&mut head, methods, &readers, then, unix_micros);
                (Body::default(), then)
            }
            Answer::Made(question, then) => {
                let (is_of_head, content_type) = (request.method == "HEAD", question.content_type());
                let asking = Asking { is_of_head, content_type, readers, then, rest: kept(rest, then) };
                return self.inquire(key, question, asking);
            }
            Answer::Watch(_) | Answer::Publish(_) => panic!("they have phases of their own"),
        };
        self.answer(key, &head, body, then, kept(rest, then));
    }

    /// The pages that may read an answer to a request with this `Origin` and `Host`.
    fn readers(&self, key: WatcherKey, origin: Option<&str>, host: Option<&str>) -> Readers {
        match self.offer(key).is_of_operators() {
            true => Readers::NoPage,
            false => allowed_origins::readers(origin, host, &self.live_config().allowed_origins),
        }
    }

    /// Judges a request by the present settings. `behind`: how many bytes have come behind it.
    fn judge(
        &mut self,
        key: WatcherKey,
        request: &Request<'_>,
        head: &[u8],
        behind: usize,
    ) -> Result<Answer, Refusal> {
        let (offer, now) = (self.offer(key), self.moment.tick());
        let connection = self.connections.at(key);
        let LiveConfig { auth, hosts, allowed_origins, http_publish, compresses, proxies, limits, .. } =
            &*self.environment.live_config;
        let is_proxied = connection.counted == Counted::InAll;
        let admission = &self.environment.admission;
        let circumstances = Circumstances {
            offer,
            peer: connection.address(),
            auth,
            hosts,
            allowed_origins,
            http_publish: *http_publish,
            compresses: *compresses,
            is_draining: admission.is_draining(),
            // The next request through a proxy may be another client's. Behind a POST is its body.
            may_stay: !is_proxied && (request.method == "POST" || behind <= limits.pipelined_bytes_max()),
            unix_micros: self.moment.now.unix_micros,
        };
        if is_proxied {
            // A trusted proxy names the client.
            connection.recognise(proxies.client(connection.address(), head));
        }
        judge(request, &circumstances, || {
            // For other connections the address was counted when they were accepted.
            if connection.counted == Counted::InAll {
                admission.admit(connection.address(), now).map_err(TooMany::refusal)?;
                connection.counted = Counted::WithAddress;
            }
            Ok(())
        })
    }

    fn open(&mut self, key: WatcherKey, watch: &Watch, asked: Asked<'_>) {
        let Watch { opening, upgrade } = watch;
        let readers = match upgrade {
            None => self.readers(key, asked.origin, asked.host),
            // Browsers do not ask whether a page may read a WebSocket.
            Some(_) => Readers::NoPage,
        };
        let unix_micros = self.moment.now.unix_micros;
        let mut context =
            context_of(key, &mut self.watchers, &mut self.sockets, &self.environment, self.moment);
        let accept = |out: &mut Vec<u8>| match upgrade {
            Some(Upgrade { accept, offers_protocol, deflate }) => {
                write_switching(out, accept, *offers_protocol, deflate.as_ref());
            }
            None => write_stream_head(out, opening.framing.content_type(), &readers, unix_micros),
        };
        match Session::open(opening, &mut context, accept) {
            Err(refusal) => self.refuse(key, &refusal, Some(asked)),
            Ok(session) => {
                let first = self.heartbeats.first(self.environment.live_config.limits.heartbeat);
                let due = self.moment.tick().wrapping_add(first);
                self.counters().opened[session.view() as usize].add(1);
                let connection = self.connections.at(key);
                connection.phase = Phase::Open(session);
                connection.due = due;
                self.wheel.schedule(key.slot, due);
                self.note_expiry(key);
                if self.is_stream_away {
                    self.tell_standing(key);
                }
            }
        }
    }

    /// Has the report thread make an answer, without waiting for it.
    fn inquire(&mut self, key: WatcherKey, question: Question, asking: Asking) {
        let due = self.moment.tick().wrapping_add(ticks(MAKING));
        let connection = self.connections.at(key);
        connection.phase = Phase::Asking(asking.into());
        connection.due = due;
        self.wheel.schedule(key.slot, due);
        let inquiries = &self.environment.inquiries;
        let inquiries = match self.offer(key).is_of_operators() {
            true => &inquiries.of_operators,
            false => &inquiries.of_watchers,
        };
        if inquiries.try_send(Inquiry { shard: self.environment.index, key, question }).is_err() {
            self.refuse(key, &Refusal::full("too many such requests wait; try again"), None);
        }
    }

    /// The report thread has made an answer; its connection may have gone.
    pub(super) fn handle_answer(&mut self, key: WatcherKey, answer: Result<OwnedBody, Refusal>) {
        if !self.is_there(key) {
            return;
        }
        let Phase::Asking(asking) = &mut self.connections.at(key).phase else {
            return;
        };
        match answer {
            Err(refusal) => self.refuse(key, &refusal, None),
            Ok(body) => {
                let Asking { is_of_head, content_type, then, .. } = **asking;
                let rest = std::mem::take(&mut asking.rest);
                let body = Body::Made(body);
                let mut head = Vec::new();
                let unix_micros = self.moment.now.unix_micros;
                page::write_data_head(
                    &mut head,
                    content_type,
                    body.len(),
                    &asking.readers,
                    then,
                    unix_micros,
                );
                self.answer(key, &head, if is_of_head { Body::default() } else { body }, then, rest);
            }
        }
    }

    /// Sends an answer. Its client may be slow, as long as it takes something.
    pub(super) fn answer(&mut self, key: WatcherKey, head: &[u8], body: Body, then: Then, rest: Vec<u8>) {
        self.watchers.answer(key, head, body);
        self.connections.at(key).phase = Phase::Answering { then, is_publisher: false, rest };
    }

    /// The kernel has the last bytes of an answer, or of a connection that ends.
    pub(super) fn finish(&mut self, key: WatcherKey) {
        let connection = self.connections.at(key);
        let Phase::Answering { then: Then::Next, is_publisher, rest } = &mut connection.phase else {
            return self.shut(key);
        };
        let (is_publisher, mut rest) = (*is_publisher, std::mem::take(rest));
        let says_more = connection.sides == Sides::Open || !rest.is_empty();
        let admission = &self.environment.admission;
        let keeps_place = is_publisher && !admission.is_draining();
        let rests = match says_more {
            true if keeps_place => Some(connection.counted),
            true => admission.make_idle(connection.counted, connection.address()),
            false => None,
        };
        // A connection whose next request has come does not become idle: it keeps its place.
        let stays = (!rest.is_empty()).then_some(connection.counted);
        let Some(counted) = rests.or(stays) else {
            return self.shut(key);
        };
        connection.counted = counted;
        connection.phase = Phase::Idle;
        // The next request is like the first.
        self.watchers.watchers[key].unset(Flags::ENDING | Flags::ENDED | Flags::LAGS);
        self.operators.note_served(key, false);
        match is_publisher {
            true => self.schedule(key, self.moment.tick().wrapping_add(self.live_config().limits.stalled)),
            false => self.await_head(key),
        }
        if !rest.is_empty() {
            self.handle_bytes(key, &mut rest);
        }
        // The peer had ended its side: half a request will never be whole, and a WebSocket ends with that.
        let is_cut = |connection: &Connection| {
            connection.sides == Sides::TheirsShut
                && matches!(connection.phase, Phase::Head(_) | Phase::Open(_))
        };
        if self.connections.get(key).is_some_and(is_cut) {
            self.drop_connection(key);
        }
    }

    /// Gives the next request head its time to come.
    pub(super) fn await_head(&mut self, key: WatcherKey) {
        let turn_away = self.connections.at(key).turn_away;
        let time = self.head_ticks(turn_away);
        let due = self.moment.tick().wrapping_add(time);
        self.schedule(key, due);
    }

    /// The next request begins on an idle connection.
    pub(super) fn handle_next(&mut self, key: WatcherKey, bytes: &mut [u8]) {
        let now = self.moment.tick();
        let connection = self.connections.at(key);
        let (counted, address) = (connection.counted, connection.address());
        let proxies = &self.environment.live_config.proxies;
        let newcomer = self.environment.admission.readmit(counted, address, proxies, now);
        connection.counted = newcomer.counted;
        connection.turn_away = newcomer.turn_away;
        connection.phase = Phase::Head(HeadBuffer::default());
        self.await_head(key);
        match newcomer.counted {
            // There is no place left to send a refusal from.
            Counted::Not => self.drop_connection(key),
            _ => self.handle_head(key, bytes),
        }
    }

    /// Refuses a request, and leaves the client time to read why. `asked`: what is known of the request.
    pub(super) fn refuse(&mut self, key: WatcherKey, refusal: &Refusal, asked: Option<Asked<'_>>) {
        let before = match &mut self.connections.at(key).phase {
            Phase::Publishing(publishing) => Some(std::mem::take(&mut publishing.asked)),
            _ => None,
        };
        let asked = asked.or(before.as_ref().map(AskedBefore::asked));
        let Asked { method, origin, host, is_event_source_back, .. } = asked.unwrap_or_default();
        // A page is not the daemon's own because it uses a name that is not the daemon's.
        let host = host.filter(|_| refusal.status != Status::Misdirected);
        let (is_of_head, readers) = match &self.connections.at(key).phase {
            Phase::Asking(asking) => (asking.is_of_head, asking.readers.clone()),
            Phase::Publishing(publishing) => (false, publishing.readers.clone()),
            _ => (method == "HEAD", self.readers(key, origin, host)),
        };
        let address = self.connections.at(key).address();
        self.note_refusal(self.offer(key), address, refusal, asked);
        let refusal = Refusal { is_of_head: is_of_head || refusal.is_of_head, ..refusal.clone() };
        let unix_micros = self.moment.now.unix_micros;
        self.watchers.enqueue_control(key, |out| match refusal.status.is_for_now() && is_event_source_back {
            // It would give up for good at any answer but a stream.
            true => write_come_again(out, fastrand::u64(COME_AGAIN_MILLIS), &readers, unix_micros),
            false => write_refusal(out, &refusal, &readers, unix_micros),
        });
        self.end(key);
    }

    /// Logs how many refusals were not logged, of each reason that has stopped coming.
    pub fn log_refusals(&self) {
        let admission = &self.environment.admission;
        while let Some(((status, message), count)) = admission.take_refusal_rest(self.moment.now.millis) {
            tracing::info!(status, count, "refused more requests since then: {message}");
        }
    }

    /// Counts a refusal, unless it is an operator's, and logs it: one a second for each reason, over all shards.
    pub(super) fn note_refusal(
        &mut self,
        offer: Offer,
        address: IpAddr,
        refusal: &Refusal,
        asked: Option<Asked<'_>>,
    ) {
        let whose = match offer.is_of_operators() {
            true => " of an operator",
            false => {
                self.counters().refusals[Refusal::place(refusal.code)].add(1);
                ""
            }
        };
        let Refusal { code, message, .. } = refusal;
        let unlogged = self.environment.admission.note_refusal(refusal.reason(), self.moment.now.millis);
        if unlogged.is_none() && !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let asked = asked.map_or(String::new(), |asked| {
            let exists = is_path(offer, asked.path);
            redaction::describe(
                &asked,
                exists,
                &self.environment.live_config.auth,
                self.moment.now.unix_micros,
            )
        });
        match unlogged {
            Some(unlogged) => {
                tracing::info!(%address, code, unlogged, "refused a request{whose}: {message}{asked}");
            }
            None => tracing::debug!(%address, code, "refused a request{whose}: {message}{asked}"),
        }
    }
}
