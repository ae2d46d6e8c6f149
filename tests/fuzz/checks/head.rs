//! A request head: the same verdict at the same byte however it comes, nothing accepted that tungstenite and the
//! `http` crate refuse, and every refusal a proper answer.

use luxcast::access::allowed_hosts::Hosts;
use luxcast::access::allowed_origins;
use luxcast::access::keyring::{Auth, Keyring};
use luxcast::access::rights::Permit;
use luxcast::session::endpoint::{Endpoint, Offer, find, permit};
use luxcast::wire::client_action::Since;
use luxcast::wire::cross_origin::Readers;
use luxcast::wire::handshake::accept_key;
use luxcast::wire::http::{HeadLimits, HeadResult, Refusal, Request, parse_head, write_refusal};
use luxcast::wire::request_for_log::Asked;
use serde_json::Value;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request as Theirs, create_response};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8192 };
/// Up to so many bytes a head is tried at every length.
const PREFIXES_MAX: usize = 700;

/// Words and statuses of refusals that a head by itself can get; src/session/README.md, "Refusals".
const REFUSALS: [(u16, &str); 12] = [
    (400, "bad_request"),
    (400, "bad_id"),
    (400, "bad_parameter"),
    (401, "unauthorized"),
    (403, "forbidden_origin"),
    (404, "not_found"),
    (405, "method_not_allowed"),
    (414, "too_large"),
    (421, "forbidden_host"),
    (426, "upgrade_required"),
    (431, "too_large"),
    (505, "http_version"),
];

/// Panics where something does not hold for these first bytes of a connection.
pub fn check(bytes: &[u8]) {
    let whole = parse_head(bytes, LIMITS);
    let verdict = summary(&whole);
    check_prefixes(bytes, &verdict);
    let _ = Asked::in_part_of(bytes);
    match whole {
        Ok(HeadResult::Partial) => assert!(bytes.len() < LIMITS.head_bytes_max, "it never ends"),
        Ok(HeadResult::Complete { request, length }) => {
            let head = &bytes[..length];
            assert!(length <= LIMITS.head_bytes_max && head.ends_with(b"\r\n\r\n"));
            check_lines(head);
            check_request(&request);
            check_route(head, &request);
        }
        Err(refusal) => check_refusal(&refusal),
    }
}

/// None: more is needed.
type Verdict = Option<Result<usize, Refusal>>;

fn summary(head: &Result<HeadResult<'_>, Refusal>) -> Verdict {
    match head {
        Ok(HeadResult::Partial) => None,
        Ok(HeadResult::Complete { length, .. }) => Some(Ok(*length)),
        Err(refusal) => Some(Err(refusal.clone())),
    }
}

/// Once it is known, more bytes change nothing; and it is complete with its last byte, not later.
fn check_prefixes(bytes: &[u8], verdict: &Verdict) {
    if bytes.len() > PREFIXES_MAX {
        return;
    }
    let mut first = None;
    for length in 0..=bytes.len() {
        let early = summary(&parse_head(&bytes[..length], LIMITS));
        match (&first, early) {
            (None, None) => {}
            (None, Some(early)) => {
                assert!(
                    !matches!(early, Ok(end) if end != length),
                    "complete {early:?}, but seen at {length}"
                );
                first = Some(early);
            }
            (Some(first), early) => assert_eq!(early.as_ref(), Some(first), "after {length} bytes"),
        }
    }
    assert_eq!(&first, verdict);
}

/// RFC 9112, 2.2: lines end with CR LF, and neither stands elsewhere.
fn check_lines(head: &[u8]) {
    for (place, byte) in head.iter().enumerate() {
        match byte {
            b'\n' => assert!(place > 0 && head[place - 1] == b'\r', "a bare LF"),
            b'\r' => assert_eq!(head.get(place + 1), Some(&b'\n'), "a bare CR"),
            b'\t' | 0x20..=0x7e | 0x80.. => {}
            _ => panic!("a control byte at {place}"),
        }
    }
}

fn check_request(request: &Request<'_>) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    assert!(!request.method.is_empty() && request.method.bytes().all(is_token));
    assert!(request.path == "*" || request.path.starts_with('/'));
    assert!(request.host.is_some() || request.is_http_1_0);
    for part in [request.path, request.query.unwrap_or_default(), request.host.unwrap_or_default()] {
        assert!(part.bytes().all(|byte| byte.is_ascii_graphic()) && !part.contains('#'), "{part:?}");
    }
    assert!(request.host.is_none_or(|host| !host.is_empty() && !host.contains(['/', '@', '?'])));
    for part in [request.origin, request.user_agent].into_iter().flatten() {
        assert!(!part.contains(['\r', '\n', '\0', '\x1b']), "{part:?}");
    }
}

fn check_route(head: &[u8], request: &Request<'_>) {
    match find(Offer::Watchers, request).and_then(|place| place.open(request, Permit::Everything)) {
        Err(refusal) => check_refusal(&refusal),
        Ok(opening) => {
            let id = match &opening.endpoint {
                Endpoint::JobMonitor(id) | Endpoint::JobDebug(id) | Endpoint::FlowMonitor(id) => id.as_str(),
                Endpoint::Events
                | Endpoint::MultiJob
                | Endpoint::Text(_)
                | Endpoint::Page(_)
                | Endpoint::Data(_)
                | Endpoint::Options(_) => "x",
            };
            let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_.:-".contains(letter);
            assert!((1..=128).contains(&id.len()) && id.chars().all(is_word), "{id:?}");
            for name in opening.events.iter().flatten() {
                assert!((1..=64).contains(&name.len()), "{name:?}");
            }
            assert!(opening.events.as_ref().is_none_or(|names| (1..=128).contains(&names.len())));
            assert_eq!(Since::parse(&opening.since.to_string()), Some(opening.since));
        }
    }
    let hosts = Hosts::new(&[], &[]);
    assert!(hosts.check(request, [192, 0, 2, 1].into()).is_ok());
    if let Err(refusal) = hosts.check(request, [127, 0, 0, 1].into()) {
        let host = request.host.expect("only who names a host can be refused for it");
        let (name, port) = host.split_once(':').unwrap_or((host, ""));
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        assert!(!(is_port && name == "localhost"), "{host}");
        check_refusal(&refusal);
    }
    if let Err(refusal) = allowed_origins::check(request, &[]) {
        assert!(request.origin.is_some(), "only who names an origin can be refused for it");
        check_refusal(&refusal);
    }
    assert!(allowed_origins::check(request, &["*".to_owned()]).is_ok());
    let nobody = Auth::On(Keyring::new(Vec::new(), None));
    check_refusal(&permit(request, &nobody, 0).expect_err("no token opens"));
    match accept_key(request) {
        Err(refusal) => check_refusal(&refusal),
        Ok(accept) => compare(head, &accept),
    }
}

/// What is upgraded here, tungstenite would upgrade with the same answer, but that it looks at the first `Upgrade` and
/// `Connection` alone and takes no key whose unused bits are not zero (as in an example of RFC 6455, 4.1) and no HTTP/1.2 or later,
/// and that the `http` crate takes fewer characters in a target and other absolute ones.
fn compare(head: &[u8], accept: &str) {
    let start = head.chunks(2).take_while(|pair| *pair == b"\r\n").count() * 2;
    let Ok(Some((length, theirs))) = Theirs::try_parse(&head[start..]) else {
        let target = head[start..].split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let is_odd = |byte: &u8| b"\"<>[\\]^`{|}".contains(byte);
        let is_absolute = !target.starts_with(b"/");
        let is_later = !head.windows(9).any(|bytes| bytes == b" HTTP/1.1");
        assert!(
            target.iter().any(is_odd) || is_absolute || is_later,
            "tungstenite refuses {}",
            head.escape_ascii()
        );
        return;
    };
    assert_eq!(start + length, head.len());
    match create_response(&theirs) {
        Ok(response) => assert_eq!(response.headers()["Sec-WebSocket-Accept"], accept),
        Err(error) => {
            let is_first = |name: &str, wanted: &str| {
                let value = theirs.headers().get(name).and_then(|value| value.to_str().ok());
                value.is_some_and(|value| value.trim().eq_ignore_ascii_case(wanted))
            };
            let is_list = !is_first("Upgrade", "websocket") || !is_first("Connection", "upgrade");
            let key = theirs.headers().get("Sec-WebSocket-Key").map_or(&b""[..], |key| key.as_bytes());
            let has_bits_left = !matches!(key[21], b'A' | b'Q' | b'g' | b'w');
            assert!(is_list || has_bits_left, "tungstenite refuses {}: {error}", head.escape_ascii());
        }
    }
}

fn check_refusal(refusal: &Refusal) {
    let status = refusal.status.code();
    assert!(REFUSALS.contains(&(status, refusal.code)), "{refusal:?}");
    let mut out = Vec::new();
    write_refusal(&mut out, refusal, &Readers::of("http://a"), 0);
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut answer = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = answer.parse(&out) else {
        panic!("{}", out.escape_ascii());
    };
    assert_eq!(answer.code, Some(status));
    let announced = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let announced = announced.and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    let has = |name: &str| answer.headers.iter().any(|field| field.name.eq_ignore_ascii_case(name));
    assert!(has("date") && has("cache-control"));
    if refusal.is_of_head {
        assert_eq!(out.len(), length, "a HEAD is answered without a body");
        return;
    }
    assert_eq!(announced, Some(out.len() - length));
    let body: Value = serde_json::from_slice(&out[length..]).expect("a refusal has a JSON body");
    assert_eq!(body["error"], refusal.code);
    assert!(body["message"].is_string());
    assert!(out[length..].iter().filter(|byte| byte.is_ascii_control()).all(|byte| *byte == b'\n'));
}
