//! The requests of a shard's connections: read, judged, answered or refused, and what they open.

use std::net::IpAddr;
use std::time::Duration;

use tracing::Level;

use crate::access::address_limits::TooMany;
use crate::access::allowed_origins;
use crate::access::redaction;
use crate::delivery::keys::WatcherKey;
use crate::delivery::owned_body::{Body, OwnedBody};
use crate::net::report::arrivals::Range;
use crate::net::report::jobs::Listing;
use crate::net::report::{Inquiry, Question};
use crate::net::shard::Shard;
use crate::net::shard::connection::Phase;
use crate::net::shard::handle::Counted;
use crate::session::context::SessionContext;
use crate::session::conversation::Session;
use crate::session::endpoint::{Data, Endpoint, Opening, Route, find, is_path, permit};
use crate::tick::ticks;
use crate::wire::asked::Asked;
use crate::wire::handshake::{accept_key, write_switching};
use crate::wire::http::{HeadLimits, HeadResult, Refusal, Request, parse_head, write_ok, write_refusal};
use crate::wire::page::{self, PageAnswer};

/// How long the making of an answer may take: longer than whoever makes it waits for the others.
const MAKING: Duration = Duration::from_secs(10);

/// What a good request is answered with.
enum Answer {
    Health,
    Page(PageAnswer),
    /// What somebody else makes.
    Made(Question),
    Watch(Watch),
}

/// A good request to upgrade.
struct Watch {
    opening: Opening,
    accept: String,
    offers_protocol: bool,
}

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
        let length = match parse_head(head, limits) {
            Ok(HeadResult::Partial) => {
                if held.is_empty() {
                    held.extend_from_slice(taken);
                }
                self.connection(key).phase = Phase::Head(held);
                return;
            }
            Ok(HeadResult::Complete { request, length }) => {
                match self.judge(key, &request, &head[..length]) {
                    Ok(Answer::Health) => return self.answer_health(key, request.method),
                    Ok(Answer::Page(answer)) => {
                        return self.answer(key, &answer.head, Body::Static(answer.body));
                    }
                    Ok(Answer::Made(wish)) => return self.order(key, wish, request.method == "HEAD"),
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

    /// All that a request is asked before it is obeyed; what does not depend on the id comes before the id.
    fn judge(&mut self, key: WatcherKey, request: &Request<'_>, head: &[u8]) -> Result<Answer, Refusal> {
        let peer = self.connection(key).address();
        self.recognise(key, head);
        let unix_micros = self.moment.now.unix_micros;
        let place = find(request)?;
        if let Route::Health = place {
            return Ok(Answer::Health);
        }
        self.parts.live_config.hosts.check(request, peer)?;
        if let Route::Page(page) = place {
            self.admit(key)?;
            return Ok(Answer::Page(page::answer(page, request, unix_micros)));
        }
        allowed_origins::check(request, &self.parts.live_config.allowed_origins)?;
        self.admit(key)?;
        let permit = permit(request, &self.parts.live_config.auth, unix_micros)?;
        let opening = place.open(request, permit)?;
        if let Endpoint::Data(data) = opening.endpoint {
            return match data {
                Data::Jobs => {
                    Ok(Answer::Made(Question::Jobs(Listing::parse(request.query)?, opening.permit)))
                }
                Data::Arrivals => Ok(Answer::Made(Question::Arrivals(Range::parse(request.query)?))),
                Data::Daemon => Ok(Answer::Made(Question::Figures)),
            };
        }
        let accept = accept_key(request)?;
        match self.parts.admission.is_draining() {
            true => Err(Refusal::draining()),
            false => {
                let offers_protocol = request.upgrade.offers_protocol;
                Ok(Answer::Watch(Watch { opening, accept, offers_protocol }))
            }
        }
    }

    /// Whoever has come through a trusted proxy is known by what that says.
    fn recognise(&mut self, key: WatcherKey, head: &[u8]) {
        let connection = self.connections[key.index()].as_mut().expect("the key is that of a connection");
        if connection.counted == Counted::InAll {
            connection.recognise(self.parts.live_config.proxies.client(connection.address(), head));
        }
    }

    /// The limits of an address, where they did not hold at the admission already.
    fn admit(&mut self, key: WatcherKey) -> Result<(), Refusal> {
        let now = self.moment.tick();
        let connection = self.connections[key.index()].as_mut().expect("the key is that of a connection");
        if connection.counted == Counted::InAll {
            self.parts.admission.admit(connection.address(), now).map_err(TooMany::refusal)?;
            connection.counted = Counted::WithAddress;
        }
        Ok(())
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

    fn answer_health(&mut self, key: WatcherKey, method: &str) {
        let unix_micros = self.moment.now.unix_micros;
        self.watchers.enqueue_control(key, |out| write_ok(out, method, "text/plain", b"ok\n", unix_micros));
        self.end(key);
    }

    /// Has an answer made, without waiting for it.
    fn order(&mut self, key: WatcherKey, wish: Question, is_of_head: bool) {
        let due = self.moment.tick().wrapping_add(ticks(MAKING));
        let connection = self.connection(key);
        connection.phase = Phase::Asking { is_of_head };
        connection.due = due;
        let order = Inquiry { shard: self.parts.index, key, wish };
        self.wheel.schedule(key.slot, due);
        if self.parts.inquiries.try_send(order).is_err() {
            self.refuse(key, &Refusal::full("too many such requests wait; try again"), None);
        }
    }

    /// The answer is made; the connection that wanted it may have gone.
    pub(super) fn handle_answer(&mut self, key: WatcherKey, answer: Result<OwnedBody, Refusal>) {
        if !self.is_there(key) {
            return;
        }
        let Phase::Asking { is_of_head } = self.connection(key).phase else {
            return;
        };
        match answer {
            Err(refusal) => self.refuse(key, &refusal, None),
            Ok(parcel) => {
                let body = Body::Made(parcel);
                let mut head = Vec::new();
                page::write_data_head(&mut head, body.len(), self.moment.now.unix_micros);
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
        let is_of_head = refusal.is_of_head || matches!(connection.phase, Phase::Asking { is_of_head: true });
        self.note_refusal(address, refusal, asked);
        let refusal = Refusal { is_of_head, ..refusal.clone() };
        let unix_micros = self.moment.now.unix_micros;
        self.watchers.enqueue_control(key, |out| write_refusal(out, &refusal, unix_micros));
        self.end(key);
    }

    /// Counts a refusal and logs it: of each reason one a second, whichever shard it was.
    pub(super) fn note_refusal(&mut self, address: IpAddr, refusal: &Refusal, asked: Option<Asked<'_>>) {
        self.counters().refusals[Refusal::place(refusal.code)].add(1);
        let Refusal { code, message, .. } = refusal;
        let unlogged = self.parts.admission.note_refusal(refusal.reason(), self.moment.now.millis);
        if unlogged.is_none() && !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let asked = asked.map_or(String::new(), |asked| {
            let exists = is_path(asked.path);
            redaction::describe(&asked, exists, &self.parts.live_config.auth, self.moment.now.unix_micros)
        });
        match unlogged {
            Some(unlogged) => {
                tracing::info!(%address, code, unlogged, "refused a request: {message}{asked}");
            }
            None => tracing::debug!(%address, code, "refused a request: {message}{asked}"),
        }
    }
}
