//! What a request asks for: path and query to an [`Endpoint`] of the listener that it came by, and where and with
//! which filter a stream opens.
//!
//! The checks go from what concerns everyone to what concerns this one request: the path (404), the
//! method (405), the version (505), the token (401) and whether it is for this kind of endpoint at all (403), the id
//! (400) and the right to it (403), the parameters (400). So nobody without a token learns anything of
//! an id, not even whether it is one. Whether the upgrade itself is correct (426) is
//! judged after them by [`accept_key`](crate::wire::handshake::accept_key): the bad id of a plain
//! GET is told as it is, since an upgrade would not mend it. What must be known before tokens are
//! looked at belongs between [`find`] and [`permit`].

use crate::access::credential::token_of;
use crate::access::keyring::Auth;
use crate::access::rights::Permit;
use crate::console::page::Page;
use crate::session::stream_query::{self, StreamQuery};
use crate::wire::client_action::Since;
use crate::wire::framing::Framing;
use crate::wire::http::{Methods, Refusal, Request};
use crate::wire::line::is_id;
use crate::wire::text::{decode, split_once};

/// What a listener offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The streams, the live page with its data, `/healthz`.
    Watchers,
    /// What operators ask, of whoever has the scope `admin`, where tokens are asked for.
    Operators,
    /// The same where nobody is asked for a token: on loopback.
    OpenToOperators,
}

impl Offer {
    pub fn is_of_operators(self) -> bool {
        match self {
            Offer::Watchers => false,
            Offer::Operators | Offer::OpenToOperators => true,
        }
    }

    /// What the sender of a request may do, at `unix_micros`.
    ///
    /// # Errors
    /// 400 or 401.
    pub fn permit(self, request: &Request<'_>, auth: &Auth, unix_micros: i64) -> Result<Permit, Refusal> {
        match self {
            Offer::OpenToOperators => Ok(Permit::Everything),
            Offer::Watchers | Offer::Operators => permit(request, auth, unix_micros),
        }
    }

    fn not_found(self) -> Refusal {
        match self {
            Offer::Watchers => Refusal::not_found(),
            Offer::Operators | Offer::OpenToOperators => Refusal {
                message: "the paths here are /healthz, /readyz, /metrics, /connections and /jobs".into(),
                ..Refusal::not_found()
            },
        }
    }
}

/// What can be asked for. Ids are percent-decoded and valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Every event of one job.
    JobMonitor(String),
    /// Of those, the debug set.
    JobDebug(String),
    /// Every event of one flow and its jobs.
    FlowMonitor(String),
    /// Every event of the daemon.
    Events,
    /// The jobs that the client names as it goes.
    MultiJob,
    /// Plain HTTP, no upgrade: always the same text.
    Text(&'static str),
    /// Likewise.
    Page(Page),
    /// Likewise.
    Data(Data),
    /// Plain HTTP: what can be asked of a path.
    Options(Methods),
}

/// What is made anew for whoever asks: for the live page in JSON, and for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// The jobs that the asker may see.
    Jobs,
    /// When the events of a range came in: of any that the asker may see some of.
    Arrivals,
    /// The daemon's own figures.
    Daemon,
    /// The same and more of them, for Prometheus.
    Metrics,
    /// Where each connection stands.
    Connections,
    /// All jobs, with what only operators are told of them.
    AllJobs,
    /// Whether every thread turns.
    Ready,
}

/// The kind of an endpoint that is watched: its place in [`ENDPOINTS`](crate::metrics::ENDPOINTS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    JobMonitor,
    JobDebug,
    FlowMonitor,
    Events,
    MultiJob,
}

/// How a connection opens.
#[derive(Debug, PartialEq, Eq)]
pub struct Opening {
    pub endpoint: Endpoint,
    /// Only these types, each once; `None`: all. Same bounds as in the client's messages.
    pub events: Option<Vec<String>>,
    pub since: Since,
    /// How messages stand on the connection, if it does not ask for an upgrade.
    pub framing: Framing,
    /// What its token allows beyond the endpoint itself.
    pub permit: Permit,
}

/// Finds what a request is for, neither token nor id looked at yet.
///
/// # Errors
/// 404, 405, or 505 for a stream in HTTP/1.0, in this order; see the top of this file.
pub fn find<'a>(offer: Offer, request: &Request<'a>) -> Result<Route<'a>, Refusal> {
    let place = place_of(offer, request.path).filter(|place| place.is_for(request));
    let place = place.ok_or_else(|| offer.not_found().of_method(request.method))?;
    let methods = place.methods(offer);
    match request.method {
        method if !methods.has(method) => Err(Refusal::method_not_allowed(methods).of_method(method)),
        "OPTIONS" => Ok(Route::Options(methods)),
        "GET" if place.is_stream() && request.is_http_1_0 => Err(Refusal::too_old_for_streams()),
        _ => Ok(place),
    }
}

/// What the sender of a request may do, at `unix_micros`.
///
/// # Errors
/// 400 or 401.
pub fn permit(request: &Request<'_>, auth: &Auth, unix_micros: i64) -> Result<Permit, Refusal> {
    match auth {
        // A token is neither needed nor judged.
        Auth::Off => Ok(Permit::Everything),
        Auth::On(_) => auth.admit(token_of(request)?.as_deref(), unix_micros),
    }
}

/// A path that exists, its id as it was sent.
pub enum Route<'a> {
    JobMonitor(&'a str),
    JobDebug(&'a str),
    FlowMonitor(&'a str),
    Events,
    MultiJob,
    /// What is sent here is published.
    Publish,
    Text(&'static str),
    Page(Page),
    Data(Data),
    /// Of a path that takes these.
    Options(Methods),
}

impl Route<'_> {
    /// Whoever would watch and names no path is told which there are, instead of being led to the page.
    fn is_for(&self, request: &Request<'_>) -> bool {
        !(matches!(self, Route::Page(Page::Entrance)) && request.upgrade.is_requested)
    }

    /// What it answers has no end.
    fn is_stream(&self) -> bool {
        match self {
            Route::JobMonitor(_)
            | Route::JobDebug(_)
            | Route::FlowMonitor(_)
            | Route::Events
            | Route::MultiJob => true,
            Route::Publish | Route::Text(_) | Route::Page(_) | Route::Data(_) | Route::Options(_) => false,
        }
    }

    /// What can be asked of this path.
    fn methods(&self, offer: Offer) -> Methods {
        match (self, offer) {
            (Route::Publish, _) => Methods::OfPublishing,
            (_, _) if self.is_stream() => Methods::OfStream,
            (_, Offer::Watchers) => Methods::OfAnswer,
            (_, Offer::Operators | Offer::OpenToOperators) => Methods::OfOperators,
        }
    }

    /// Reads the id and the query, as far as the permit goes.
    ///
    /// # Errors
    /// 403 or 400; see the top of this file.
    pub fn open(self, request: &Request<'_>, permit: Permit) -> Result<Opening, Refusal> {
        let endpoint = self.enter(&permit)?;
        if let Endpoint::Text(_) | Endpoint::Page(_) | Endpoint::Data(_) | Endpoint::Options(_) = endpoint {
            // These have parameters of their own, or none that mean anything.
            let framing = Framing::WebSocket;
            return Ok(Opening { endpoint, events: None, since: Since::Now, framing, permit });
        }
        let StreamQuery { events, since, framing } = stream_query::read(request)?;
        let framing = if endpoint == Endpoint::MultiJob { Framing::WebSocket } else { framing };
        Ok(Opening { endpoint, events, since, framing, permit })
    }

    /// The endpoint, if the permit is for it.
    fn enter(self, permit: &Permit) -> Result<Endpoint, Refusal> {
        let needs = |is_allowed: bool, scope: &str| match is_allowed {
            true => Ok(()),
            false => Err(Refusal::forbidden_scope(scope)),
        };
        match self {
            Route::JobMonitor(raw) => Ok(Endpoint::JobMonitor(job(raw, permit)?)),
            Route::JobDebug(raw) => {
                needs(permit.may_debug(), "debug")?;
                Ok(Endpoint::JobDebug(job(raw, permit)?))
            }
            Route::FlowMonitor(raw) => {
                needs(permit.may_watch_some_flow(), "flows=ID or all")?;
                let flow_id = read_id(raw, "flow_id")?;
                needs(permit.may_watch_flow(&flow_id), &format!("flows={flow_id} or all"))?;
                Ok(Endpoint::FlowMonitor(flow_id))
            }
            Route::Events => {
                needs(permit.may_watch_all(), "all")?;
                Ok(Endpoint::Events)
            }
            Route::MultiJob => {
                needs(permit.may_watch_some_job(), "jobs=ID or all")?;
                Ok(Endpoint::MultiJob)
            }
            Route::Publish => Err(Refusal::method_not_allowed(Methods::OfPublishing)),
            Route::Text(text) => Ok(Endpoint::Text(text)),
            Route::Page(page) => Ok(Endpoint::Page(page)),
            Route::Options(methods) => Ok(Endpoint::Options(methods)),
            Route::Data(data @ (Data::Jobs | Data::Arrivals)) => {
                needs(
                    permit.may_watch_some_job() || permit.may_watch_some_flow(),
                    "jobs=ID, flows=ID or all",
                )?;
                Ok(Endpoint::Data(data))
            }
            Route::Data(
                data @ (Data::Daemon | Data::Metrics | Data::Connections | Data::AllJobs | Data::Ready),
            ) => {
                needs(permit.is_admin(), "admin")?;
                Ok(Endpoint::Data(data))
            }
        }
    }
}

/// The id of a job that may be watched.
fn job(raw: &str, permit: &Permit) -> Result<String, Refusal> {
    if !permit.may_watch_some_job() {
        return Err(Refusal::forbidden_scope("jobs=ID or all"));
    }
    let job_id = read_id(raw, "job_id")?;
    if !permit.may_watch_job(&job_id) {
        return Err(Refusal::forbidden_scope(&format!("jobs={job_id} or all")));
    }
    Ok(job_id)
}

/// Whether there is something at this path.
pub fn is_path(offer: Offer, path: &str) -> bool {
    place_of(offer, path).is_some()
}

/// Whether what is sent to this path is published.
pub fn takes_events(offer: Offer, path: &str) -> bool {
    matches!(place_of(offer, path), Some(Route::Publish))
}

/// Paths are compared as they stand: only ids are percent-decoded, and a slash at the end makes
/// another path.
fn place_of(offer: Offer, path: &str) -> Option<Route<'_>> {
    match offer {
        Offer::Watchers => of_watchers(path),
        Offer::Operators | Offer::OpenToOperators => of_operators(path),
    }
}

const HEALTH: &str = "ok\n";

/// What operators are told at `/`.
const OPERATORS_INDEX: &str = "luxcast, for operators\n\n\
    /healthz      the process is there\n\
    /readyz       every thread of it turns\n\
    /metrics      figures for Prometheus\n\
    /connections  where each connection stands, as JSON\n\
    /jobs         the jobs that are known, as JSON\n";

fn of_operators(path: &str) -> Option<Route<'_>> {
    Some(match path {
        "/" => Route::Text(OPERATORS_INDEX),
        "/healthz" => Route::Text(HEALTH),
        "/readyz" => Route::Data(Data::Ready),
        "/metrics" => Route::Data(Data::Metrics),
        "/connections" => Route::Data(Data::Connections),
        "/jobs" => Route::Data(Data::AllJobs),
        _ => return None,
    })
}

fn of_watchers(path: &str) -> Option<Route<'_>> {
    match path {
        // The page's address is the same relative to both.
        "/" => return Some(Route::Page(Page::Entrance)),
        "/healthz" => return Some(Route::Text(HEALTH)),
        "/console/jobs" => return Some(Route::Data(Data::Jobs)),
        "/console/arrivals" => return Some(Route::Data(Data::Arrivals)),
        "/console/daemon" => return Some(Route::Data(Data::Daemon)),
        "/api/v1/events" | "/api/events" => return Some(Route::Publish),
        "/api/v1/websocket" | "/api/v1/ws" => return Some(Route::MultiJob),
        _ => {}
    }
    if let Some(local) = path.strip_prefix("/console") {
        return Page::find(local).map(Route::Page);
    }
    let local = path.strip_prefix("/api/ws/").or_else(|| path.strip_prefix("/api/v1/ws/"))?;
    if local == "events" {
        return Some(Route::Events);
    }
    let (kind, rest) = split_once(local, b'/')?;
    let (id, view) = split_once(rest, b'/')?;
    match (kind, view) {
        ("jobs", "monitor") => Some(Route::JobMonitor(id)),
        ("jobs", "debug") => Some(Route::JobDebug(id)),
        ("flows", "monitor") => Some(Route::FlowMonitor(id)),
        _ => None,
    }
}

fn read_id(raw: &str, which: &str) -> Result<String, Refusal> {
    match decode(raw) {
        Some(id) if is_id(&id) => Ok(id.into_owned()),
        _ => Err(Refusal::bad_id(which)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Data, Endpoint, HEALTH, OPERATORS_INDEX, Offer, Opening, Route, find, is_path};
    use crate::access::keyring::{Auth, Keyring};
    use crate::access::rights::Permit;
    use crate::access::token_file;
    use crate::console::page::Page;
    use crate::wire::http::{HeadLimits, HeadResult, Refusal, parse_head};

    fn request(method: &str, target: &str) -> Result<Opening, Refusal> {
        request_with(&Auth::Off, method, target, "")
    }

    fn request_with(auth: &Auth, method: &str, target: &str, fields: &str) -> Result<Opening, Refusal> {
        request_of(Offer::Watchers, auth, method, target, fields)
    }

    fn request_of(
        offer: Offer,
        auth: &Auth,
        method: &str,
        target: &str,
        fields: &str,
    ) -> Result<Opening, Refusal> {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        match parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => match find(offer, &request)? {
                place @ (Route::Text(_) | Route::Page(_)) => place.open(&request, Permit::Everything),
                place => place.open(&request, offer.permit(&request, auth, 0)?),
            },
            other => panic!("{other:?}"),
        }
    }

    fn endpoint(target: &str) -> Result<Endpoint, (u16, &'static str)> {
        match request("GET", target) {
            Ok(opening) => Ok(opening.endpoint),
            Err(refusal) => Err((refusal.status.code(), refusal.code)),
        }
    }

    #[test]
    fn each_path_has_its_endpoint() {
        let id = || "a.B_1:-".to_owned();
        for prefix in ["/api/ws", "/api/v1/ws"] {
            assert_eq!(endpoint(&format!("{prefix}/jobs/a.B_1:-/monitor")), Ok(Endpoint::JobMonitor(id())));
            assert_eq!(endpoint(&format!("{prefix}/jobs/a.B_1:-/debug")), Ok(Endpoint::JobDebug(id())));
            assert_eq!(endpoint(&format!("{prefix}/flows/a.B_1:-/monitor")), Ok(Endpoint::FlowMonitor(id())));
            assert_eq!(endpoint(&format!("{prefix}/events")), Ok(Endpoint::Events));
        }
        assert_eq!(endpoint("/api/v1/websocket"), Ok(Endpoint::MultiJob));
        assert_eq!(endpoint("/api/v1/ws"), Ok(Endpoint::MultiJob));
        assert_eq!(endpoint("/healthz?since=x&%"), Ok(Endpoint::Text(HEALTH)));
        assert_eq!(endpoint("/console"), Ok(Endpoint::Page(Page::Entrance)));
        assert!(matches!(endpoint("/console/?x=%"), Ok(Endpoint::Page(Page::Asset(_)))));
        assert_eq!(endpoint("/console/jobs?limit=x"), Ok(Endpoint::Data(Data::Jobs)));
        assert_eq!(endpoint("/console/daemon"), Ok(Endpoint::Data(Data::Daemon)));
        assert_eq!(endpoint("/console/arrivals?from=1"), Ok(Endpoint::Data(Data::Arrivals)));
        assert_eq!(endpoint("ws://b:1/api/ws/events?since=5"), Ok(Endpoint::Events));
    }

    #[test]
    fn other_paths_are_404() {
        let paths = [
            "*",
            "/readyz",
            "/metrics",
            "/connections",
            "/jobs",
            "/api",
            "/api/ws",
            "/api/ws/",
            "/api/v1/ws/",
            "/api/v1/websocket/",
            "/api/websocket",
            "/api/v2/ws/events",
            "/api/ws/events/",
            "/api/ws//events",
            "/api/ws/events/x",
            "/api/ws/jobs",
            "/api/ws/jobs/a",
            "/api/ws/jobs/a/",
            "/api/ws/jobs/a/monitor/",
            "/api/ws/jobs/a/b/monitor",
            "/api/ws/jobs/a/Monitor",
            "/api/ws/flows/a/debug",
            "/healthz/",
            "/consoles",
            "/console//",
            "/console/jobs/",
            "/api/ws/console/",
            "/api/ws/%65vents",
            "/API/ws/events",
            "//api/ws/events",
        ];
        for path in paths {
            assert_eq!(endpoint(path), Err((404, "not_found")), "{path}");
        }
    }

    #[test]
    fn each_listener_has_its_own_paths() {
        let of_operators = |target: &str| {
            let opened = request_of(Offer::OpenToOperators, &Auth::Off, "GET", target, "");
            opened.map(|opening| opening.endpoint).map_err(|refusal| (refusal.status.code(), refusal.message))
        };
        assert_eq!(of_operators("/"), Ok(Endpoint::Text(OPERATORS_INDEX)));
        assert_eq!(of_operators("/healthz"), Ok(Endpoint::Text(HEALTH)));
        for (path, data) in [
            ("/readyz", Data::Ready),
            ("/metrics", Data::Metrics),
            ("/connections?limit=x", Data::Connections),
            ("/jobs?limit=x", Data::AllJobs),
        ] {
            assert_eq!(of_operators(path), Ok(Endpoint::Data(data)), "{path}");
            assert!(OPERATORS_INDEX.contains(&path[..path.find('?').unwrap_or(path.len())]), "{path}");
        }
        for path in
            ["/console/", "/console/jobs", "/api/ws/events", "/api/v1/ws", "/jobs/", "/metrics/x", "*"]
        {
            let (status, message) = of_operators(path).unwrap_err();
            assert!(status == 404 && message.contains("/readyz"), "{path}: {message}");
            assert!(!is_path(Offer::Operators, path), "{path}");
        }
        assert!(is_path(Offer::Operators, "/jobs") && !is_path(Offer::Watchers, "/jobs"));
    }

    #[test]
    fn operators_beyond_loopback_need_the_scope() {
        let auth = Auth::On(Keyring::new(token_file::parse("every all debug\nboss admin\n").unwrap(), None));
        let verdict = |offer: Offer, path: &str, token: &str| {
            let field = if token.is_empty() { String::new() } else { format!("X-API-Key: {token}\r\n") };
            request_of(offer, &auth, "GET", path, &field).err().map_or(0, |refusal| refusal.status.code())
        };
        for path in ["/metrics", "/connections", "/jobs"] {
            for (token, expected) in [("", 401), ("wrong", 401), ("every", 403), ("boss", 0)] {
                assert_eq!(verdict(Offer::Operators, path, token), expected, "{path} {token}");
                assert_eq!(verdict(Offer::OpenToOperators, path, token), 0, "{path} {token}");
            }
        }
    }

    #[test]
    fn the_root_leads_to_the_page_and_who_would_watch_there_is_told_the_paths() {
        assert_eq!(endpoint("/"), Ok(Endpoint::Page(Page::Entrance)));
        assert_eq!(endpoint("/?job=a"), Ok(Endpoint::Page(Page::Entrance)));
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        for path in ["/", "/console"] {
            let refusal = request_with(&Auth::Off, "GET", path, fields).unwrap_err();
            assert!(refusal.status.code() == 404 && refusal.message.contains("/monitor"), "{path}");
        }
    }

    #[test]
    fn ids_are_decoded_and_checked() {
        let longest = "a".repeat(128);
        assert_eq!(endpoint("/api/ws/jobs/%61%3ab/monitor"), Ok(Endpoint::JobMonitor("a:b".to_owned())));
        assert_eq!(
            endpoint(&format!("/api/ws/jobs/{longest}/monitor")),
            Ok(Endpoint::JobMonitor(longest.clone()))
        );
        let too_long = format!("{longest}a");
        for id in [
            "", "%", "%4", "%zz", "a%2Fb", "a%20b", "a+b", "%C3%A4", "%FF", "a%00", "%2561", "a~", "a@b",
            &too_long,
        ] {
            for path in ["/api/ws/jobs/ID/monitor", "/api/v1/ws/jobs/ID/debug", "/api/ws/flows/ID/monitor"] {
                assert_eq!(endpoint(&path.replace("ID", id)), Err((400, "bad_id")), "{id} in {path}");
            }
        }
    }

    #[test]
    fn path_comes_before_method_before_id_before_parameters() {
        let refused = |method: &str, target: &str| request(method, target).unwrap_err().status.code();
        assert_eq!(refused("POST", "/nowhere"), 404);
        assert_eq!(refused("POST", "/api/ws/jobs/%/monitor"), 405);
        for plain in ["/", "/healthz", "/console/", "/console", "/console/jobs", "/console/daemon"] {
            assert!(request("HEAD", plain).is_ok(), "{plain}");
            assert_eq!(refused("POST", plain), 405, "{plain}");
        }
        assert_eq!(refused("HEAD", "/api/ws/jobs/%/monitor"), 405);
        assert_eq!(refused("HEAD", "/console/x"), 404);
        assert_eq!(refused("get", "/api/ws/events"), 405);
        assert_eq!(request("GET", "/api/ws/jobs/%/monitor?since=x").unwrap_err().code, "bad_id");
    }

    #[test]
    fn the_token_comes_before_the_id_and_the_right_to_it_before_parameters() {
        let text = "one jobs=a\nbug jobs=a debug\nflow flows=f\nevery all\nnone\nfigures admin\n";
        let auth = Auth::On(Keyring::new(token_file::parse(text).unwrap(), None));
        let verdict = |method: &str, target: &str, token: &str| {
            let field = if token.is_empty() { String::new() } else { format!("X-API-Key: {token}\r\n") };
            request_with(&auth, method, target, &field).err().map_or(0, |refusal| refusal.status.code())
        };
        let job = |id: &str| format!("/api/ws/jobs/{id}/monitor?since=x");
        assert_eq!(verdict("GET", "/nowhere", ""), 404);
        assert_eq!(verdict("POST", &job("a"), ""), 405);
        assert_eq!(verdict("GET", "/healthz", ""), 0);
        for token in ["", "wrong"] {
            for id in ["a", "b", "%", "a%2Fb"] {
                assert_eq!(verdict("GET", &job(id), token), 401, "{id} {token}");
            }
        }
        for token in ["none", "flow"] {
            assert_eq!(verdict("GET", &job("%"), token), 403, "no job is open to it: {token}");
        }
        assert_eq!(verdict("GET", &job("%"), "one"), 400);
        assert_eq!(verdict("GET", &job("b"), "one"), 403);
        assert_eq!(verdict("GET", &job("a"), "one"), 400, "since");
        assert_eq!(verdict("GET", "/api/ws/jobs/%/debug", "one"), 403);
        assert_eq!(verdict("GET", "/api/ws/jobs/%61/debug", "bug"), 0);
        assert_eq!(verdict("GET", "/api/ws/jobs/b/debug", "bug"), 403);
        assert_eq!(verdict("GET", "/api/ws/jobs/b/debug", "every"), 403, "all is not debug");
        assert_eq!(verdict("GET", "/api/ws/jobs/b/monitor", "every"), 0);
        assert_eq!(verdict("GET", "/api/ws/flows/f/monitor", "flow"), 0);
        assert_eq!(verdict("GET", "/api/ws/flows/g/monitor", "flow"), 403);
        assert_eq!(verdict("GET", "/api/ws/flows/%/monitor", "one"), 403);
        for (token, expected) in [
            ("", [401, 401]),
            ("one", [0, 403]),
            ("flow", [0, 403]),
            ("every", [0, 403]),
            ("none", [403, 403]),
            ("figures", [403, 0]),
        ] {
            let verdicts = ["/console/jobs", "/console/daemon"].map(|path| verdict("GET", path, token));
            assert_eq!(verdicts, expected, "{token}");
        }
        for (token, expected) in
            [("one", [403, 0]), ("flow", [403, 403]), ("every", [0, 0]), ("none", [403, 403])]
        {
            let verdicts = ["/api/ws/events", "/api/v1/ws"].map(|path| verdict("GET", path, token));
            assert_eq!(verdicts, expected, "{token}");
        }
        let twice = request_with(&auth, "GET", "/api/ws/events?token=every", "X-API-Key: every\r\n");
        assert_eq!(twice.unwrap_err().code, "bad_request");
    }
}
