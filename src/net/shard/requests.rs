//! The requests of a shard's connections: read, answered or refused as they are judged, and what they open.

use std::net::IpAddr;
use std::time::Duration;

use tracing::Level;

use crate::access::address_limits::TooMany;
use crate::access::redaction;
use crate::delivery::keys::WatcherKey;
use crate::delivery::owned_body::{Body, OwnedBody};
use crate::net::report::Inquiry;
use crate::net::shard::Shard;
use crate::net::shard::connection::{Connection, Phase};
use crate::net::shard::handle::{Counted, LiveConfig};
use crate::session::context::SessionContext;
use crate::session::conversation::Session;
use crate::session::endpoint::{Offer, is_path};
use crate::session::questions::Question;
use crate::session::request::{Answer, Circumstances, Watch, judge};
use crate::tick::ticks;
use crate::wire::asked::Asked;
use crate::wire::handshake::write_switching;
use crate::wire::http::{HeadLimits, HeadResult, Refusal, Request, parse_head, write_ok, write_refusal};
use crate::wire::page;

/// How long the making of an answer may take: longer than whoever makes it waits for the others.
const MAKING: Duration = Duration::from_secs(10);

impl Shard {
    pub(super) fn handle_head(&mut self, key: WatcherKey, bytes: &mut [u8]) {
        let limits = HeadLimits { head_bytes_max: self.parts.live_config.limits.head_bytes_max };
        let Phase::Head(held) = &mut self.connection(key).phase else {
            return;
        };
        let mut held = std::mem::take(held);
        let before = held.len();
        // One byte over the limit shows that it is too long. A reload may have lowered it below what is held.
        let bytes_max = limits.head_bytes_max + 1;
        let taken = &bytes[..bytes.len().min(bytes_max.saturating_sub(before))];
        // Nearly every head comes in one piece and is read where it lies.
        let head = if held.is_empty() {
            taken
        } else {
            // It doubles, but not beyond what is looked at.
            let doubled = (2 * before).min(bytes_max).max(before + taken.len());
            held.reserve_exact(doubled - before);
            held.extend_from_slice(taken);
            &held
        };
        let read = parse_head(head, limits);
        if !matches!(read, Ok(HeadResult::Partial)) {
            self.operators.note_served(key, true);
        }
        let length = match read {
            Ok(HeadResult::Partial) => {
                if held.is_empty() {
                    held.extend_from_slice(taken);
                }
                self.connection(key).phase = Phase::Head(held);
                return;
            }
            Ok(HeadResult::Complete { request, length }) => {
                match self.judge(key, &request, &head[..length]) {
                    Ok(Answer::Text(text)) => return self.answer_text(key, request.method, text),
                    Ok(Answer::Page(answer)) => {
                        return self.answer(key, &answer.head, Body::Static(answer.body));
                    }
                    Ok(Answer::Made(question)) => {
                        return self.inquire(key, question, request.method == "HEAD");
                    }
                    Ok(Answer::Watch(watch)) => {
                        self.open(key, &watch, Asked::of(&request));
                        length
                    }
                    Err(refusal) => {
                        let refusal = refusal.of_method(request.method);
                        return self.refuse(key, &refusal, Some(Asked::of(&request)));
                    }
                }
            }
            Err(refusal) => return self.refuse(key, &refusal, Asked::in_part_of(head)),
        };
        // Frames may stand right behind the request.
        let used = length - before;
        if matches!(self.connection(key).phase, Phase::Open(_)) && used < bytes.len() {
            self.handle_frames(key, &mut bytes[used..]);
        }
    }

    /// Judges a request by what is in force now.
    fn judge(&mut self, key: WatcherKey, request: &Request<'_>, head: &[u8]) -> Result<Answer, Refusal> {
        let (offer, now) = (self.offer(key), self.moment.tick());
        let connection = self.connections[key.index()].as_mut().expect("the key is that of a connection");
        let LiveConfig { auth, hosts, allowed_origins, proxies, .. } = &*self.parts.live_config;
        let admission = &self.parts.admission;
        let circumstances = Circumstances {
            offer,
            peer: connection.address(),
            auth,
            hosts,
            allowed_origins,
            is_draining: admission.is_draining(),
            unix_micros: self.moment.now.unix_micros,
        };
        if connection.counted == Counted::InAll {
            // Whoever has come through a trusted proxy is known by what that says.
            connection.recognise(proxies.client(connection.address(), head));
        }
        judge(request, &circumstances, || {
            // Elsewhere the limits of the address held at the admission already.
            if connection.counted == Counted::InAll {
                admission.admit(connection.address(), now).map_err(TooMany::refusal)?;
                connection.counted = Counted::WithAddress;
            }
            Ok(())
        })
    }

    /// What the listener offers that a connection has come by.
    pub(super) fn offer(&self, key: WatcherKey) -> Offer {
        match &self.connections[key.index()] {
            Some(Connection { counted: Counted::AsOperator, .. }) => self.parts.to_operators,
            Some(_) | None => Offer::Watchers,
        }
    }

    fn open(&mut self, key: WatcherKey, watch: &Watch, asked: Asked<'_>) {
        let Watch { opening, accept, offers_protocol } = watch;
        let mut context = SessionContext {
            key,
            watchers: &mut self.watchers,
            sink: &mut self.sockets,
            limits: &self.parts.live_config.limits,
            tick: self.moment.tick(),
            unix_micros: self.moment.now.unix_micros,
        };
        match Session::open(opening, &mut context, |out| write_switching(out, accept, *offers_protocol)) {
            Err(refusal) => self.refuse(key, &refusal, Some(asked)),
            Ok(session) => {
                // The golden ratio spreads any number of connections evenly over the interval.
                self.spread = self.spread.wrapping_add(0x9e37_79b9);
                let heartbeat = u64::from(self.parts.live_config.limits.heartbeat);
                let first = ((heartbeat * u64::from(self.spread)) >> 32) as u32 + 1;
                let due = self.moment.tick().wrapping_add(first);
                self.counters().opened[session.view() as usize].add(1);
                let connection = self.connection(key);
                connection.phase = Phase::Open(session);
                connection.due = due;
                self.wheel.schedule(key.slot, due);
                self.note_expiry(key);
            }
        }
    }

    fn answer_text(&mut self, key: WatcherKey, method: &str, text: &str) {
        let unix_micros = self.moment.now.unix_micros;
        self.watchers.enqueue_control(key, |out| write_ok(out, method, text.as_bytes(), unix_micros));
        self.end(key);
    }

    /// Has an answer made, without waiting for it.
    fn inquire(&mut self, key: WatcherKey, question: Question, is_of_head: bool) {
        let due = self.moment.tick().wrapping_add(ticks(MAKING));
        let connection = self.connection(key);
        connection.phase = Phase::Asking { is_of_head, content_type: question.content_type() };
        connection.due = due;
        self.wheel.schedule(key.slot, due);
        let inquiries = &self.parts.inquiries;
        let inquiries = match self.offer(key).is_of_operators() {
            true => &inquiries.of_operators,
            false => &inquiries.of_watchers,
        };
        if inquiries.try_send(Inquiry { shard: self.parts.index, key, question }).is_err() {
            self.refuse(key, &Refusal::full("too many such requests wait; try again"), None);
        }
    }

    /// The answer is made; the connection that wanted it may have gone.
    pub(super) fn handle_answer(&mut self, key: WatcherKey, answer: Result<OwnedBody, Refusal>) {
        if !self.is_there(key) {
            return;
        }
        let Phase::Asking { is_of_head, content_type } = self.connection(key).phase else {
            return;
        };
        match answer {
            Err(refusal) => self.refuse(key, &refusal, None),
            Ok(body) => {
                let body = Body::Made(body);
                let mut head = Vec::new();
                page::write_data_head(&mut head, content_type, body.len(), self.moment.now.unix_micros);
                self.answer(key, &head, if is_of_head { Body::default() } else { body });
            }
        }
    }

    /// Answers in HTTP. The client may take as long as it likes, as long as it takes something.
    fn answer(&mut self, key: WatcherKey, head: &[u8], body: Body) {
        self.watchers.answer(key, head, body);
        self.connection(key).phase = Phase::Answering;
    }

    /// Answers a request with why not, and lets the client read that. `asked` is what is known of the request.
    pub(super) fn refuse(&mut self, key: WatcherKey, refusal: &Refusal, asked: Option<Asked<'_>>) {
        let connection = self.connection(key);
        let address = connection.address();
        let is_of_head =
            refusal.is_of_head || matches!(connection.phase, Phase::Asking { is_of_head: true, .. });
        self.note_refusal(self.offer(key), address, refusal, asked);
        let refusal = Refusal { is_of_head, ..refusal.clone() };
        let unix_micros = self.moment.now.unix_micros;
        self.watchers.enqueue_control(key, |out| write_refusal(out, &refusal, unix_micros));
        self.end(key);
    }

    /// Counts a refusal, unless it is an operator's, and logs it: of each reason one a second, whichever shard it was.
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
        let unlogged = self.parts.admission.note_refusal(refusal.reason(), self.moment.now.millis);
        if unlogged.is_none() && !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let asked = asked.map_or(String::new(), |asked| {
            let exists = is_path(offer, asked.path);
            redaction::describe(&asked, exists, &self.parts.live_config.auth, self.moment.now.unix_micros)
        });
        match unlogged {
            Some(unlogged) => {
                tracing::info!(%address, code, unlogged, "refused a request{whose}: {message}{asked}");
            }
            None => tracing::debug!(%address, code, "refused a request{whose}: {message}{asked}"),
        }
    }
}
