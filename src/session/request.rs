//! Judges a request: all checks before it is obeyed. Checks that do not depend on its id come before the id.

use std::net::IpAddr;

use crate::access::allowed_hosts::Hosts;
use crate::access::allowed_origins;
use crate::access::keyring::Auth;
use crate::config::HttpPublish;
use crate::console::page::Page;
use crate::session::endpoint::{Data, Endpoint, Offer, Opening, Route, find, takes_events};
use crate::session::publishing::{self, Publish};
use crate::session::questions::Question;
use crate::wire::framing::Framing;
use crate::wire::handshake::accept_key;
use crate::wire::http::{Methods, Refusal, Request, Then};
use crate::wire::permessage_deflate::{Agreement, Form};

/// What a request is judged by, beside its own bytes.
pub struct Circumstances<'a> {
    /// The offer of its listener.
    pub offer: Offer,
    /// The other end of the connection itself, even if that is a proxy.
    pub peer: IpAddr,
    pub auth: &'a Auth,
    pub hosts: &'a Hosts,
    pub allowed_origins: &'a [String],
    pub http_publish: HttpPublish,
    /// Compression is agreed on with whoever offers it.
    pub compresses: bool,
    pub is_draining: bool,
    /// Another request may follow on this connection, unless this one forbids it.
    pub may_stay: bool,
    pub unix_micros: i64,
}

impl Circumstances<'_> {
    /// What happens to the connection after the answer to a request that is not refused.
    fn then(&self, request: &Request<'_>) -> Then {
        match self.may_stay && !self.is_draining && !request.is_last {
            true => Then::Next,
            false => Then::Close,
        }
    }
}

/// The answer to a valid request.
pub enum Answer {
    Text(&'static str, Then),
    Page(Page, Then),
    /// What can be asked of the path.
    Options(Methods, Then),
    /// Another thread makes it.
    Made(Question, Then),
    Watch(Watch),
    Publish(Publish),
}

/// A valid request for a stream.
pub struct Watch {
    pub opening: Opening,
    /// None: the stream comes in an HTTP answer.
    pub upgrade: Option<Upgrade>,
}

/// What the answer to a request to upgrade needs.
pub struct Upgrade {
    pub accept: String,
    pub offers_protocol: bool,
    pub deflate: Option<Agreement>,
}

impl Upgrade {
    /// How messages stand on the connection.
    fn framing(&self) -> Framing {
        match self.deflate.map(|agreement| agreement.form) {
            None => Framing::WebSocket,
            Some(Form::Shared) => Framing::Deflate,
            Some(Form::Alone) => Framing::DeflateAlone,
        }
    }
}

/// Judges a request. Once the checks before it have passed, `admit` counts its client or refuses it.
///
/// # Errors
/// Why it is refused. [`endpoint`](crate::session::endpoint) has the order of the checks.
pub fn judge(
    request: &Request<'_>,
    circumstances: &Circumstances<'_>,
    admit: impl FnOnce() -> Result<(), Refusal>,
) -> Result<Answer, Refusal> {
    let Circumstances {
        offer,
        peer,
        auth,
        hosts,
        allowed_origins,
        http_publish,
        compresses,
        is_draining,
        unix_micros,
        ..
    } = *circumstances;
    let then = circumstances.then(request);
    if http_publish == HttpPublish::Off && takes_events(offer, request.path) {
        return Err(Refusal::no_publishing().of_method(request.method));
    }
    let route = match find(offer, request)? {
        // Probes may ask under any host name: they learn nothing.
        Route::Text(text) => return Ok(Answer::Text(text, then)),
        Route::Data(Data::Ready) if is_draining => return Err(Refusal::draining()),
        Route::Data(Data::Ready) => return Ok(Answer::Made(Question::Ready, then)),
        route => route,
    };
    hosts.check(request, peer)?;
    if let Route::Page(page) = route {
        admit()?;
        return Ok(Answer::Page(page, then));
    }
    if !offer.is_of_operators() {
        allowed_origins::check(request, allowed_origins)?;
        admit()?;
    }
    // A browser that asks whether a page may send a token has none yet.
    if let Route::Options(methods) = route {
        return Ok(Answer::Options(methods, then));
    }
    let permit = offer.permit(request, auth, unix_micros)?;
    if let Route::Publish = route {
        let publish = publishing::judge(request, http_publish, permit, then)?;
        return if is_draining { Err(Refusal::draining()) } else { Ok(Answer::Publish(publish)) };
    }
    let opening = route.open(request, permit)?;
    if let Endpoint::Data(data) = opening.endpoint {
        let question = Question::parse(data, request.query, opening.permit)?;
        return Ok(Answer::Made(question, then));
    }
    let is_plain = !request.upgrade.is_requested && opening.framing.is_http();
    let upgrade = match is_plain {
        true => None,
        false => {
            let accept = accept_key(request)?;
            let deflate = request.upgrade.deflate.filter(|_| compresses);
            Some(Upgrade { accept, offers_protocol: request.upgrade.offers_protocol, deflate })
        }
    };
    let framing = upgrade.as_ref().map_or(opening.framing, Upgrade::framing);
    match is_draining {
        true => Err(Refusal::draining()),
        false => {
            let opening = Opening { framing, ..opening };
            Ok(Answer::Watch(Watch { opening, upgrade }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Circumstances, judge};
    use crate::access::allowed_hosts::Hosts;
    use crate::access::keyring::{Auth, Keyring};
    use crate::access::token_file;
    use crate::config::HttpPublish;
    use crate::session::endpoint::Offer;
    use crate::session::questions::Question;
    use crate::wire::http::{HeadLimits, HeadResult, Refusal, Then, parse_head};

    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    /// A word for the answer, or the code of the refusal; and whether the client was counted.
    fn judged(offer: Offer, is_draining: bool, path: &str, fields: &str) -> (String, bool) {
        let auth = Auth::On(Keyring::new(token_file::parse("every all\nboss admin\n").unwrap(), None));
        let fields = if fields.contains("Host: ") {
            fields.to_owned()
        } else {
            format!("Host: localhost\r\n{fields}")
        };
        let method = if fields.contains("Access-Control-Request-Method: ") { "OPTIONS" } else { "GET" };
        let text = format!("{method} {path} HTTP/1.1\r\n{fields}\r\n");
        let Ok(HeadResult::Complete { request, .. }) =
            parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 })
        else {
            panic!("{text}");
        };
        let circumstances = Circumstances {
            offer,
            peer: "127.0.0.1".parse().unwrap(),
            auth: &auth,
            hosts: &Hosts::new(&[], &[]),
            allowed_origins: &[],
            http_publish: HttpPublish::Scope,
            compresses: true,
            is_draining,
            may_stay: true,
            unix_micros: 0,
        };
        let mut is_admitted = false;
        let answer = judge(&request, &circumstances, || {
            is_admitted = true;
            match path.contains("greedy") {
                true => Err(Refusal::too_many_requests("greedy")),
                false => Ok(()),
            }
        });
        let word = match answer {
            Ok(Answer::Text(..)) => "text",
            Ok(Answer::Page(..)) => "page",
            Ok(Answer::Options(..)) => "options",
            Ok(Answer::Made(Question::Jobs(_), _)) => "jobs",
            Ok(Answer::Made(Question::Connections(_), _)) => "connections",
            Ok(Answer::Made(Question::Metrics, _)) => "metrics",
            Ok(Answer::Made(Question::Ready, _)) => "ready",
            Ok(Answer::Made(Question::Figures | Question::Arrivals(_), _)) => "figures",
            Ok(Answer::Watch(_)) => "watch",
            Ok(Answer::Publish(_)) => "publish",
            Err(refusal) => refusal.code,
        };
        (word.to_owned(), is_admitted)
    }

    fn of_watchers(path: &str, fields: &str) -> (String, bool) {
        judged(Offer::Watchers, false, path, fields)
    }

    fn is(word: &str, is_admitted: bool) -> (String, bool) {
        (word.to_owned(), is_admitted)
    }

    #[test]
    fn checks_are_made_in_their_order() {
        let evil = "Host: evil.example\r\n";
        let all = format!("{evil}Origin: http://other\r\n");
        assert_eq!(of_watchers("/nowhere", &all), is("not_found", false));
        assert_eq!(of_watchers("/healthz", &all), is("text", false));
        assert_eq!(of_watchers("/api/ws/jobs/%/monitor", &all), is("forbidden_host", false));
        assert_eq!(of_watchers("/console/", &all), is("forbidden_host", false));
        assert_eq!(of_watchers("/console/", "Origin: http://other\r\n"), is("page", true));
        let origin = "Origin: http://other\r\n";
        assert_eq!(of_watchers("/api/ws/jobs/%/monitor?greedy", origin), is("forbidden_origin", false));
        assert_eq!(of_watchers("/api/ws/jobs/%/monitor?greedy", ""), is("too_many_requests", true));
        assert_eq!(of_watchers("/console/?greedy", ""), is("too_many_requests", true));
        assert_eq!(of_watchers("/api/ws/jobs/%/monitor", ""), is("unauthorized", true));
        let token = "X-API-Key: every\r\n";
        assert_eq!(of_watchers("/api/ws/jobs/%/monitor?since=x", token), is("bad_id", true));
        assert_eq!(of_watchers("/api/ws/events?since=x", token), is("bad_parameter", true));
        assert_eq!(of_watchers("/api/ws/events", token), is("upgrade_required", true));
        assert_eq!(of_watchers("/api/ws/events", &format!("{token}{UPGRADE}")), is("watch", true));
        assert_eq!(of_watchers("/console/jobs?limit=x", ""), is("unauthorized", true));
        assert_eq!(of_watchers("/console/jobs?limit=x", token), is("bad_parameter", true));
        assert_eq!(of_watchers("/console/daemon", token), is("forbidden_scope", true));
    }

    #[test]
    fn a_browser_that_asks_before_its_page_is_judged_as_the_page_but_for_its_token() {
        let asks = "Access-Control-Request-Method: GET\r\n";
        let of_page = format!("{asks}Origin: http://localhost\r\n");
        let evil = format!("{asks}Origin: http://evil.example\r\n");
        for path in ["/api/ws/events?since=x", "/console/jobs?limit=x", "/console/", "/healthz", "/"] {
            assert_eq!(of_watchers(path, &of_page), is("options", true), "{path}");
            assert_eq!(of_watchers(path, asks), is("options", true), "{path}");
            assert_eq!(of_watchers(path, &evil), is("forbidden_origin", false), "{path}");
            let rebound = format!("{asks}Host: evil.example\r\nOrigin: http://evil.example\r\n");
            assert_eq!(of_watchers(path, &rebound), is("forbidden_host", false), "{path}");
            assert_eq!(judged(Offer::Watchers, true, path, &of_page).0, "options", "{path}");
        }
        assert_eq!(of_watchers("/api/ws/events?greedy", &of_page), is("too_many_requests", true));
        assert_eq!(of_watchers("/nowhere", &of_page), is("not_found", false));
        for path in ["/healthz", "/jobs", "/"] {
            assert_eq!(judged(Offer::OpenToOperators, false, path, &of_page).0, "method_not_allowed");
        }
    }

    #[test]
    fn operators_are_checked_by_host_and_token_and_never_counted() {
        let beyond = |path: &str, fields: &str| judged(Offer::Operators, false, path, fields);
        let here = |path: &str, fields: &str| judged(Offer::OpenToOperators, false, path, fields);
        for path in ["/healthz", "/"] {
            assert_eq!(beyond(path, "Host: evil.example\r\n"), is("text", false));
        }
        assert_eq!(beyond("/readyz", "Host: evil.example\r\n"), is("ready", false));
        for (path, word) in [("/metrics", "metrics"), ("/connections", "connections"), ("/jobs", "jobs")] {
            assert_eq!(here(path, "Host: evil.example\r\n"), is("forbidden_host", false));
            assert_eq!(here(path, "Origin: http://other\r\n"), is(word, false));
            assert_eq!(beyond(path, ""), is("unauthorized", false));
            assert_eq!(beyond(path, "X-API-Key: every\r\n"), is("forbidden_scope", false));
            assert_eq!(beyond(path, "X-API-Key: boss\r\n"), is(word, false));
        }
        assert_eq!(beyond("/jobs?limit=x", "X-API-Key: every\r\n"), is("forbidden_scope", false));
        assert_eq!(here("/jobs?limit=x", ""), is("bad_parameter", false));
        assert_eq!(here("/api/ws/events", UPGRADE), is("not_found", false));
    }

    #[test]
    fn a_draining_daemon_takes_no_watchers_and_is_not_ready() {
        let token = format!("X-API-Key: every\r\n{UPGRADE}");
        assert_eq!(judged(Offer::Watchers, true, "/api/ws/events", &token).0, "draining");
        assert_eq!(judged(Offer::Watchers, true, "/api/ws/events?since=x", &token).0, "bad_parameter");
        assert_eq!(judged(Offer::OpenToOperators, true, "/readyz", "").0, "draining");
        for (path, word) in [("/healthz", "text"), ("/metrics", "metrics")] {
            assert_eq!(judged(Offer::OpenToOperators, true, path, "").0, word);
        }
    }

    #[test]
    fn a_connection_stays_unless_something_forbids_it() {
        let then = |text: &str, may_stay: bool, is_draining: bool| {
            let head = parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 });
            let Ok(HeadResult::Complete { request, .. }) = head else { panic!("{text}") };
            let circumstances = Circumstances {
                offer: Offer::Watchers,
                peer: "127.0.0.1".parse().unwrap(),
                auth: &Auth::Off,
                hosts: &Hosts::new(&[], &[]),
                allowed_origins: &[],
                http_publish: HttpPublish::Scope,
                compresses: true,
                is_draining,
                may_stay,
                unix_micros: 0,
            };
            match judge(&request, &circumstances, || Ok(())) {
                Ok(
                    Answer::Text(_, then)
                    | Answer::Page(_, then)
                    | Answer::Options(_, then)
                    | Answer::Made(_, then),
                ) => then,
                Ok(Answer::Watch(_) | Answer::Publish(_)) | Err(_) => panic!("{text}"),
            }
        };
        for path in ["/healthz", "/", "/console/", "/console/jobs"] {
            let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(then(&text, true, false), Then::Next, "{path}");
            assert_eq!(then(&text, false, false), Then::Close, "{path}");
            assert_eq!(then(&text, true, true), Then::Close, "{path}");
            let last = text.replace("Host", "Connection: close\r\nHost");
            assert_eq!(then(&last, true, false), Then::Close, "{path}");
            assert_eq!(then(&text.replace("/1.1", "/1.0"), true, false), Then::Close, "{path}");
            assert_eq!(then(&text.replace("GET", "OPTIONS"), true, false), Then::Next, "{path}");
        }
    }
}
