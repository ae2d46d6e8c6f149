//! Reads the request head that opens a connection; the answers to it are in [`http_answer`](crate::wire::http_answer).
//!
//! httparse reads it; what httparse tolerates and RFC 9112 calls an error is refused here. A GET or a HEAD has no body,
//! or one of length 0. A body's length is sure, or the request is refused ([`body`](crate::wire::body)), and every refusal
//! closes the connection. So nothing can be smuggled in behind a request.

use std::fmt;
use std::mem::MaybeUninit;

use memchr::{memchr, memchr_iter, memrchr};

use crate::wire::accept::{StreamTypes, accepts_gzip};
use crate::wire::body::BodyFields;
pub use crate::wire::field::Field;
use crate::wire::framing::Framing;
pub use crate::wire::http_answer::{Then, write_come_again, write_ok, write_options, write_stream_head};
pub use crate::wire::methods::Methods;
use crate::wire::permessage_deflate::{Agreement, agree};
pub use crate::wire::refusal::{FIELDS_MAX, Refusal, Status, TARGET_BYTES_MAX, printable, write_refusal};
use crate::wire::text::{digits, split_once};

/// Bounds of a request head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes from the first one to the empty line, which is included.
    pub head_bytes_max: usize,
}

/// What is known from the bytes so far.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one call")]
pub enum HeadResult<'a> {
    /// No fault yet: call again with more bytes behind the same ones. Each call starts over, which `head_bytes_max`
    /// keeps cheap.
    Partial,
    /// The head is `length` bytes long; frames may follow it.
    Complete { request: Request<'a>, length: usize },
}

/// A request head that follows the rules of HTTP/1.1, with any method and any path.
pub struct Request<'a> {
    pub method: &'a str,
    /// The request is HTTP/1.0, which cannot be upgraded (RFC 6455, 4.2.1). A later minor version is read as HTTP/1.1
    /// (RFC 9110, 2.5).
    pub is_http_1_0: bool,
    /// No other request follows on this connection: the client says so (RFC 9112, 9.6), or it speaks HTTP/1.0.
    pub is_last: bool,
    /// As it was sent, not percent-decoded; it is `*` or begins with `/`.
    pub path: &'a str,
    /// What follows the first `?`, not percent-decoded.
    pub query: Option<&'a str>,
    /// `host[:port]` from the target if that is absolute, else from `Host` (RFC 9112, 3.2.2); never empty. `None`
    /// only in HTTP/1.0.
    pub host: Option<&'a str>,
    pub origin: Option<&'a str>,
    /// Only for the log; `None` also if it is not UTF-8.
    pub user_agent: Option<&'a str>,
    pub authorization: Option<&'a str>,
    /// `X-API-Key`.
    pub api_key: Option<&'a str>,
    /// `Accept-Encoding`, unparsed: it is read only for an answer that can be compressed.
    pub accept_encoding: Field<'a>,
    /// The form that `Accept` asks for.
    stream_types: StreamTypes,
    /// `Last-Event-ID`, unparsed.
    pub last_event_id: Field<'a>,
    pub content_length: Field<'a>,
    /// None: the method has no body.
    pub body: Option<Box<BodyFields<'a>>>,
    /// `If-None-Match`; of several lines the first. At worst a known file is sent again.
    pub if_none_match: Option<&'a [u8]>,
    pub upgrade: Upgrade<'a>,
}

/// Leaves out what may hold a token.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { method, path, host, origin, user_agent, upgrade, .. } = self;
        formatter
            .debug_struct("Request")
            .field("method", method)
            .field("path", path)
            .field("host", host)
            .field("origin", origin)
            .field("user_agent", user_agent)
            .field("upgrade", upgrade)
            .finish_non_exhaustive()
    }
}

/// The request's fields for the WebSocket handshake, not checked yet.
#[derive(Debug, Default)]
pub struct Upgrade<'a> {
    /// `Connection` has `upgrade` and `Upgrade` has `websocket`, each perhaps among other items.
    pub is_requested: bool,
    pub key: Field<'a>,
    pub version: Field<'a>,
    /// What can be agreed on for compression.
    pub deflate: Option<Agreement>,
    /// [`PROTOCOL`] is among the subprotocols that the client offers.
    pub offers_protocol: bool,
}

/// The only subprotocol, chosen if the client offers it.
pub const PROTOCOL: &str = "luxcast.v1";

/// Reads a request head from the first bytes of a connection.
///
/// # Errors
/// The refusal, as soon as a byte shows that the head cannot become a good one.
pub fn parse_head(bytes: &[u8], limits: HeadLimits) -> Result<HeadResult<'_>, Refusal> {
    // The content type of a TLS handshake record (RFC 8446, 5.1).
    if bytes.first() == Some(&0x16) {
        let message =
            "this looks like TLS on a plain port: use ws:// or http://, or put a TLS proxy in front";
        return Err(Refusal::bad_request(message));
    }
    let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
    // Empty lines before the request are skipped (RFC 9112, 2.2), within `head_bytes_max`.
    let start = window.chunks(2).take_while(|pair| *pair == b"\r\n").count() * 2;
    let fault = first_fault(&window[start..]);
    // httparse sees only the bytes before our own finding, so that the first bad byte decides.
    let text = match &fault {
        Some((place, _)) => &window[start..start + place],
        None => &window[start..],
    };
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(text, &mut fields);
    let line = RequestLine::of(&parsed);
    let later = match (status, &line) {
        (Err(httparse::Error::Version), Some(line)) => {
            line.behind_later_version(text).map(|rest| (line, rest))
        }
        _ => None,
    };
    let read = match (later, status) {
        (Some((line, rest)), _) => {
            read_later(line, rest)?.map(|(request, length)| (request, text.len() - rest.len() + length))
        }
        (None, Err(error)) => return Err(refusal_of(error, text)),
        (None, Ok(httparse::Status::Partial)) => None,
        (None, Ok(httparse::Status::Complete(length))) => {
            let line = line.expect("httparse has found the end of the head");
            Some((read_request(&line, parsed.headers)?, length))
        }
    };
    match (read, fault) {
        (Some((request, length)), _) => Ok(HeadResult::Complete { request, length: start + length }),
        (None, Some((_, refusal))) => Err(refusal),
        (None, None) if window.len() == limits.head_bytes_max => {
            Err(Refusal::head_too_large(limits.head_bytes_max))
        }
        (None, None) => Ok(HeadResult::Partial),
    }
}

/// The request line, as far as httparse has read it.
#[derive(Clone, Copy)]
struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    is_http_1_0: bool,
}

impl<'a> RequestLine<'a> {
    fn of(parsed: &httparse::Request<'_, 'a>) -> Option<Self> {
        let is_http_1_0 = parsed.version == Some(0);
        Some(Self { method: parsed.method?, target: parsed.path?, is_http_1_0 })
    }

    /// What follows the version, if that is HTTP/1.2 to HTTP/1.9, which httparse does not know.
    fn behind_later_version(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        // One blank follows each of the two.
        let version = text.get(self.method.len() + 1 + self.target.len() + 1..)?;
        match version.strip_prefix(b"HTTP/1.") {
            Some([b'2'..=b'9', rest @ ..]) => Some(rest),
            _ => None,
        }
    }
}

/// Reads the rest of a head, from the end of its first line on. Once it is whole, returns the request and how many
/// bytes of `rest` it takes.
fn read_later<'a>(line: &RequestLine<'a>, rest: &'a [u8]) -> Result<Option<(Request<'a>, usize)>, Refusal> {
    let lines = match rest {
        [] | [b'\r'] => return Ok(None),
        [b'\r', b'\n', lines @ ..] => lines,
        _ => return Err(refusal_of(httparse::Error::NewLine, rest)),
    };
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(lines, &mut fields).map_err(|error| refusal_of(error, rest))? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete((length, fields)) => {
            Ok(Some((read_request(line, fields)?, rest.len() - lines.len() + length)))
        }
    }
}

/// Finds the first break of a rule that httparse does not enforce: line ends, and the size of the target. A finding
/// behind the end of the head does no harm: httparse ends before it.
fn first_fault(text: &[u8]) -> Option<(usize, Refusal)> {
    // Most heads are shorter than the longest target.
    if text.len() > TARGET_BYTES_MAX {
        let target_start = memchr(b' ', text).map_or(text.len(), |place| place + 1);
        let target = &text[target_start..];
        let target_length = target.iter().position(|byte| byte.is_ascii_whitespace()).unwrap_or(target.len());
        if target_length > TARGET_BYTES_MAX {
            return Some((target_start + TARGET_BYTES_MAX, Refusal::target_too_large()));
        }
    }
    for place in memchr_iter(b'\n', text) {
        let line = &text[..place];
        // RFC 9112, 2.2: a recipient may take a bare LF for a line end. Two readers that differ in this see different
        // requests, so it is refused here.
        if !line.ends_with(b"\r") {
            return Some((place, Refusal::bad_request("a line of the request ends with a bare LF")));
        }
    }
    None
}

fn refusal_of(error: httparse::Error, text: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::too_many_fields(),
        httparse::Error::Version if is_other_version(text) => Refusal::http_version(),
        httparse::Error::Token | httparse::Error::Version => Refusal::bad_request(NO_REQUEST_LINE),
        httparse::Error::HeaderName => Refusal::bad_request(
            "a header line is malformed: it is folded, has no colon or a blank before it, or a forbidden byte in its name",
        ),
        httparse::Error::HeaderValue => Refusal::bad_request("a header's value has a forbidden byte"),
        httparse::Error::NewLine | httparse::Error::Status => Refusal::bad_request(NO_LINE_END),
    }
}

/// The same words wherever the fault is: a request gets one verdict however it is cut.
const NO_LINE_END: &str =
    "a line of the request does not end with CR LF, or the first has more behind HTTP/1.1";
const NO_REQUEST_LINE: &str = "the first line is not that of an HTTP/1.1 request";

/// Whether the first line, as far as it has arrived, names another major version of HTTP: `HTTP/` DIGIT `.` DIGIT
/// (RFC 9112, 2.3). That is answered with 505 (RFC 9110, 15.6.6).
fn is_other_version(text: &[u8]) -> bool {
    let version = text.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    match version.strip_prefix(b"HTTP/") {
        Some([major, ..]) => major.is_ascii_digit() && *major != b'1',
        _ => false,
    }
}

fn read_request<'a>(line: &RequestLine<'a>, fields: &[httparse::Header<'a>]) -> Result<Request<'a>, Refusal> {
    let read = read_fields(line, fields).and_then(|fields| request_of(line, fields));
    read.map_err(|refusal| refusal.of_method(line.method))
}

/// The fields that are used here, as they came.
#[derive(Default)]
struct Fields<'a> {
    host: Field<'a>,
    origin: Field<'a>,
    authorization: Field<'a>,
    api_key: Field<'a>,
    user_agent: Option<&'a str>,
    accept_encoding: Field<'a>,
    stream_types: StreamTypes,
    last_event_id: Field<'a>,
    if_none_match: Option<&'a [u8]>,
    content_length: Field<'a>,
    body: Option<Box<BodyFields<'a>>>,
    upgrade: Upgrade<'a>,
    /// `Connection` says `close`.
    is_last: bool,
}

#[inline]
fn read_fields<'a>(line: &RequestLine<'a>, fields: &[httparse::Header<'a>]) -> Result<Fields<'a>, Refusal> {
    let body = (!is_bodiless(line.method)).then(Box::default);
    let mut read = Fields { body, ..Fields::default() };
    let (mut has_connection, mut has_websocket) = (false, false);
    for field in fields {
        // httparse has cut off the blanks around it.
        let value = field.value;
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("host") {
            read.host.add(value);
        } else if is("origin") {
            read.origin.add(value);
        } else if is("authorization") {
            read.authorization.add(value);
        } else if is("x-api-key") {
            read.api_key.add(value);
        } else if is("user-agent") {
            read.user_agent = str::from_utf8(value).ok();
        } else if is("connection") {
            match value.eq_ignore_ascii_case(b"upgrade") {
                // Nearly all watchers send exactly this.
                true => has_connection = true,
                false => {
                    has_connection |= has_item(value, "upgrade");
                    read.is_last |= has_item(value, "close");
                }
            }
        } else if is("upgrade") {
            has_websocket |= has_item(value, "websocket");
        } else if is("sec-websocket-key") {
            read.upgrade.key.add(value);
        } else if is("sec-websocket-version") {
            read.upgrade.version.add(value);
        } else if is("sec-websocket-protocol") {
            read.upgrade.offers_protocol |= offers(value, PROTOCOL);
        } else if is("sec-websocket-extensions") {
            read.upgrade.deflate = read.upgrade.deflate.or_else(|| agree(value));
        } else if is("accept-encoding") {
            read.accept_encoding.add(value);
        } else if is("accept") {
            read.stream_types.add(value);
        } else if is("last-event-id") {
            read.last_event_id.add(value);
        } else if is("if-none-match") {
            read.if_none_match = read.if_none_match.or(Some(value));
        } else if is("content-length") {
            read.content_length.add(value);
        } else if let Some(body) = &mut read.body {
            body.add(field.name, value);
        } else if is("transfer-encoding") {
            return Err(Refusal::bad_request("Transfer-Encoding is not allowed: this request has no body"));
        }
    }
    read.upgrade.is_requested = has_connection && has_websocket;
    Ok(read)
}

#[inline]
fn request_of<'a>(line: &RequestLine<'a>, fields: Fields<'a>) -> Result<Request<'a>, Refusal> {
    let RequestLine { method, target, is_http_1_0 } = *line;
    check_length(method, fields.content_length)?;
    let host = fields.host.text("Host")?;
    let origin = fields.origin.text("Origin")?;
    let authorization = fields.authorization.text("Authorization")?;
    let api_key = fields.api_key.text("X-API-Key")?;
    let (authority, path, query) = split_target(target)?;
    // RFC 9112, 3.2.2: the authority of an absolute target replaces Host.
    let host = authority.or(host);
    check_host(host, is_http_1_0)?;
    Ok(Request {
        method,
        is_http_1_0,
        is_last: is_http_1_0 || fields.is_last,
        path,
        query,
        host,
        origin,
        user_agent: fields.user_agent,
        authorization,
        api_key,
        accept_encoding: fields.accept_encoding,
        stream_types: fields.stream_types,
        last_event_id: fields.last_event_id,
        content_length: fields.content_length,
        body: fields.body,
        if_none_match: fields.if_none_match,
        upgrade: fields.upgrade,
    })
}

/// Either field announces a body (RFC 9112, 6). A length of 0 means none (6.3): some clients always send it.
fn check_length(method: &str, content_length: Field<'_>) -> Result<(), Refusal> {
    match content_length {
        Field::Absent | Field::One(b"0") => Ok(()),
        _ if !is_bodiless(method) => Ok(()),
        _ => Err(Refusal::bad_request("Content-Length must be absent or 0: this request has no body")),
    }
}

/// Whether an authority's port, if it has one, is a number of 16 bits (RFC 3986, 3.2.3; RFC 9293, 3.1).
fn has_good_port(host: &str) -> bool {
    match memrchr(b':', host.as_bytes()).map(|place| &host[place + 1..]) {
        Some(port) if !port.ends_with(']') => {
            port.is_empty() || digits(port).is_some_and(|port| u16::try_from(port).is_ok())
        }
        _ => true,
    }
}

/// RFC 9112, 3.2: Host is required, except in HTTP/1.0.
fn check_host(host: Option<&str>, is_http_1_0: bool) -> Result<(), Refusal> {
    match host {
        Some(host) if !is_host(host) || !has_good_port(host) => {
            Err(Refusal::bad_request("Host is malformed"))
        }
        None if !is_http_1_0 => Err(Refusal::bad_request("Host is missing")),
        Some(_) | None => Ok(()),
    }
}

/// Whether requests with this method have no body here. Others may have one: they are refused for their method, with
/// 405.
fn is_bodiless(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Whether a list of subprotocols has this one; case matters (RFC 6455, 4.1). A request may have several lists
/// (11.3.4).
fn offers(list: &[u8], wanted: &str) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii() == wanted.as_bytes())
}

/// Whether a comma-separated list has this item, in any case (RFC 9110, 5.6.1 and 7.8).
fn has_item(list: &[u8], wanted: &str) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
}

impl Request<'_> {
    /// How a stream is to come in an HTTP answer; [`Framing::WebSocket`] if `Accept` asks for none.
    pub fn accepts_stream(&self) -> Framing {
        self.stream_types.best()
    }

    /// Whether the client accepts gzip. Several lines count as no: the plain form is always right.
    pub fn accepts_gzip(&self) -> bool {
        matches!(self.accept_encoding, Field::One(list) if accepts_gzip(list))
    }
}

/// Authority, path and query of a target in origin, absolute or asterisk form (RFC 9112, 3.2).
fn split_target(target: &str) -> Result<(Option<&str>, &str, Option<&str>), Refusal> {
    // RFC 3986, 2 and 3.5: a URI is ASCII, and its fragment is not sent.
    if !target.is_ascii() || memchr(b'#', target.as_bytes()).is_some() {
        return Err(Refusal::bad_request("the request target has a character that must be percent-encoded"));
    }
    let (authority, local) = if target.starts_with('/') || target == "*" {
        (None, target)
    } else {
        let (authority, local) = split_address(target).ok_or_else(|| {
            Refusal::bad_request("the request target is neither a path nor an http or ws address")
        })?;
        (Some(authority), local)
    };
    let (path, query) = match split_once(local, b'?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    };
    // RFC 9110, 4.2.3: an empty path means "/".
    Ok((authority, if path.is_empty() { "/" } else { path }, query))
}

/// Authority, and what follows it, of a target in absolute form.
fn split_address(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let is_known = ["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    is_known.then(|| rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// Whether the text is not empty and has only the characters of `uri-host [":" port]` (RFC 9110, 7.2, and RFC 3986,
/// 3.2.2).
fn is_host(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(':')
        && text.bytes().fold(true, |good, byte| good & HOST_BYTES[usize::from(byte)])
}

const HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut others: &[u8] = b"-._~%!$&'()*+,;=:[]";
    while let [first, rest @ ..] = others {
        table[*first as usize] = true;
        others = rest;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::{Field, HeadLimits, HeadResult, Refusal, Request, Status, parse_head};

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8192 };

    /// The verdict on the text: whether the head is complete.
    fn verdict(text: &[u8]) -> Result<bool, Refusal> {
        parse_head(text, LIMITS).map(|head| matches!(head, HeadResult::Complete { .. }))
    }

    fn with_request<T>(text: &str, look: impl FnOnce(Request<'_>) -> T) -> T {
        match parse_head(text.as_bytes(), LIMITS) {
            Ok(HeadResult::Complete { request, length }) => {
                assert_eq!(length, text.len());
                look(request)
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn status(text: &[u8]) -> u16 {
        verdict(text).map_or_else(|refusal| refusal.status.code(), |_| 0)
    }

    /// Asserts that the last byte of the text, and none before, brings this refusal.
    fn assert_refused_at_end(text: &[u8], status_code: u16) {
        assert_eq!(status(text), status_code, "{:?}", text.escape_ascii().to_string());
        for length in 0..text.len() {
            assert_eq!(
                verdict(&text[..length]),
                Ok(false),
                "{length} of {:?}",
                text.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn a_good_head_is_read() {
        let text = "GET /api/ws/events?since=5 HTTP/1.1\r\nHOST: a:20555\r\nuser-agent:  x y \r\nOrigin: http://a\r\n\
                    Connection: keep-alive\r\nconnection: foo , UpGrade\r\nUpgrade: h2c, WebSocket\r\nUpgrade: x\r\n\
                    Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n";
        with_request(text, |request| {
            assert_eq!(
                (request.method, request.path, request.query),
                ("GET", "/api/ws/events", Some("since=5"))
            );
            assert_eq!((request.host, request.origin), (Some("a:20555"), Some("http://a")));
            assert!(!request.is_http_1_0);
            assert_eq!(request.user_agent, Some("x y"));
            assert!(request.upgrade.is_requested);
            assert_eq!(request.upgrade.key, Field::One(b"k"));
            assert_eq!(request.upgrade.version, Field::One(b"13"));
        });
        for length in 0..text.len() {
            assert_eq!(verdict(&text.as_bytes()[..length]), Ok(false), "{length}");
        }
    }

    #[test]
    fn bytes_behind_the_head_are_not_read() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\n\0\x81\x80\n";
        match parse_head(text, LIMITS) {
            Ok(HeadResult::Complete { length, .. }) => assert_eq!(length, text.len() - 5),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn empty_lines_before_the_request_are_skipped() {
        with_request("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", |request| assert_eq!(request.path, "/"));
        assert_refused_at_end(b"\r\n\n", 400);
        assert_refused_at_end(b"\rG", 400);
        assert_refused_at_end(b"\n", 400);
    }

    #[test]
    fn bad_bytes_are_refused_at_once() {
        let heads: [&[u8]; 24] = [
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nHost: a\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            b"GET / HTTP/1.1\rH",
            b"GET / HTTP/1.1\r\nHost: a\rb",
            b"GET / HTTP/1.1\r\n\rb",
            b"GET / HTTP/1.1\r\nHost: a\0",
            b"GET / HTTP/1.1\r\nHost: a\x1B",
            b"GET / HTTP/1.1\r\nHost: a\x7F",
            b"GET / HTTP/1.1\r\nHo\0",
            b"GET / HTTP/1.1\r\nHost: a\r\n ",
            b"GET / HTTP/1.1\r\nHost: a\r\n\t",
            b"GET / HTTP/1.1\r\nHost ",
            b"GET / HTTP/1.1\r\n ",
            b"GET / HTTP/1.1\r\n:",
            b"GET / HTTP/1.1\r\nHost\r",
            b"GET  ",
            b"GET /a\0",
            b"GET /\r",
            b"GET / HTTP/1.1 ",
            b"GET / http",
            b"GET / FTP",
            b"{",
            b"\0",
        ];
        for head in heads {
            if head.ends_with(b"http") || head.ends_with(b"FTP") {
                assert_eq!(status(head), 400);
            } else {
                assert_refused_at_end(head, 400);
            }
        }
    }

    #[test]
    fn tls_is_named() {
        let refusal = verdict(b"\x16\x03\x01\x02\x00\x01").unwrap_err();
        assert_eq!((refusal.status, refusal.code), (Status::BadRequest, "bad_request"));
        assert!(refusal.message.contains("looks like TLS on a plain port"));
        assert_refused_at_end(b"\x16", 400);
    }

    #[test]
    fn other_versions_are_505() {
        assert_refused_at_end(b"GET / HTTP/2", 505);
        assert_refused_at_end(b"PRI * HTTP/2", 505);
        for text in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/3.1\r\n\r\n", "GET / HTTP/0.9\r\n\r\n"] {
            assert_eq!(status(text.as_bytes()), 505, "{text:?}");
        }
        for text in
            ["GET / HTTP/1.x\r\n\r\n", "GET / HTTP/10.1\r\n\r\n", "GET / HTTP/x.1\r\n\r\n", "GET /\r\n\r\n"]
        {
            assert_eq!(status(text.as_bytes()), 400, "{text:?}");
        }
    }

    #[test]
    fn every_minor_version_is_read() {
        for minor in 0..=9 {
            let text = format!(
                "GET /x?y HTTP/1.{minor}\r\nHost: a\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n"
            );
            with_request(&text, |request| {
                assert_eq!((request.path, request.query, request.host), ("/x", Some("y"), Some("a")));
                assert_eq!(request.is_http_1_0, minor == 0);
                assert!(request.upgrade.is_requested);
            });
            for length in 0..text.len() {
                assert_eq!(verdict(&text.as_bytes()[..length]), Ok(false), "{length} of {text:?}");
            }
            let with = |rest: &str| format!("GET / HTTP/1.{minor}{rest}");
            for bad in [" ", "\rH", "\n", "0", "\r\nHost ", "\r\nHost: a\0", "\r\nHost: a\r\n ", "\r\n "] {
                assert_refused_at_end(with(bad).as_bytes(), 400);
            }
            let many = "X: y\r\n".repeat(65);
            assert_eq!(status(with(&format!("\r\n{many}")).as_bytes()), 431);
        }
    }

    #[test]
    fn only_http_1_0_may_do_without_host() {
        with_request("GET /healthz HTTP/1.0\r\n\r\n", |request| assert_eq!(request.host, None));
        assert_eq!(status(b"GET / HTTP/1.2\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.0\r\nHost : a\r\n\r\n"), 400);
    }

    #[test]
    fn a_body_of_length_0_is_no_body() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let with =
                |fields: &str| status(format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
            assert_eq!(with("Content-Length: 0\r\n"), 0);
            assert_eq!(with("content-length:0 \r\n"), 0);
            let bad = ["", "1", "00", "+0", "-0", "0x0", "0, 0", "0,", "0 0", "\u{660}"];
            for length in bad {
                assert_eq!(with(&format!("Content-Length: {length}\r\n")), 400, "{length:?}");
            }
            assert_eq!(with("Content-Length: 0\r\nContent-Length: 0\r\n"), 400);
            assert_eq!(with("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), 400);
            assert_eq!(with("Transfer-encoding: identity\r\n"), 400);
        }
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\x81\x80";
        match parse_head(text, LIMITS) {
            Ok(HeadResult::Complete { length, .. }) => {
                assert_eq!(length, text.len() - 2, "what follows are frames")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn our_subprotocol_is_found_among_others() {
        let table = [
            ("", false),
            ("Sec-WebSocket-Protocol: luxcast.v1\r\n", true),
            ("sec-websocket-protocol: chat , luxcast.v1,, ;;\"\r\n", true),
            ("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: luxcast.v1\r\n", true),
            ("Sec-WebSocket-Protocol: LUXCAST.V1\r\n", false),
            ("Sec-WebSocket-Protocol: luxcast.v2, luxcast.v10, \"luxcast.v1\"\r\n", false),
            ("Sec-WebSocket-Protocol: luxcast.v1 chat\r\n", false),
        ];
        for (fields, expected) in table {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            with_request(&text, |request| assert_eq!(request.upgrade.offers_protocol, expected, "{fields}"));
        }
    }

    #[test]
    fn what_is_too_large_is_named_with_its_limit() {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nCookie: ";
        let refusal = verdict(format!("{start}{}", "x".repeat(8192)).as_bytes()).unwrap_err();
        assert!(refusal.message.contains("8192 bytes (request_head_bytes_max)"), "{}", refusal.message);
        let refusal = verdict(format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(65)).as_bytes()).unwrap_err();
        assert!(refusal.message.contains("64 fields"), "{}", refusal.message);
        let refusal = verdict(format!("GET /{}", "x".repeat(5000)).as_bytes()).unwrap_err();
        assert!(refusal.message.contains("4096 bytes"), "{}", refusal.message);
    }

    #[test]
    fn host_is_required_once_and_well_formed() {
        let with = |fields: &str| status(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
        assert_eq!(with("Host: [::1]:80\r\n"), 0);
        let bad = [
            "",
            "Host:\r\n",
            "Host: a b\r\n",
            "Host: u@a\r\n",
            "Host: a/b\r\n",
            "Host: \u{FC}\r\n",
            "Host: :80\r\n",
            "Host: a:80x\r\n",
            "Host: a:99999\r\n",
            "Host: [::1]:x\r\n",
        ];
        for fields in bad {
            assert_eq!(with(fields), 400, "{fields:?}");
        }
        assert_eq!(with("Host: a\r\nhost: a\r\n"), 400);
        assert_eq!(with("Host: a\r\nOrigin: b\r\nOrigin: b\r\n"), 400);
        assert_eq!(status(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"), 0);
    }

    #[test]
    fn absolute_targets_are_split() {
        let cases = [
            ("http://b:1/x?y", "b:1", "/x", Some("y")),
            ("WS://b", "b", "/", None),
            ("https://b?y=a?z", "b", "/", Some("y=a?z")),
            ("/x://y?", "a", "/x://y", Some("")),
            ("*", "a", "*", None),
        ];
        for (target, host, path, query) in cases {
            with_request(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), |request| {
                assert_eq!(
                    (request.host, request.path, request.query),
                    (Some(host), path, query),
                    "{target}"
                );
            });
        }
        with_request("GET http://b/ HTTP/1.1\r\n\r\n", |request| assert_eq!(request.host, Some("b")));
        for target in ["x", "a:80", "ftp://b/", "http:///x", "http://u@b/", "/a#b", "/\u{FC}", "?x"] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(status(text.as_bytes()), 400, "{target}");
        }
        assert_eq!(status(b"GET http://b/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    }

    #[test]
    fn sizes_are_bounded() {
        let target = format!("GET /{}", "a".repeat(4096));
        assert_refused_at_end(target.as_bytes(), 414);
        let longest = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(4095));
        assert_eq!(verdict(longest.as_bytes()), Ok(true));

        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        let fitting = format!("{start}{}\r\n\r\n", "a".repeat(8192 - start.len() - 4));
        assert_eq!((fitting.len(), verdict(fitting.as_bytes())), (8192, Ok(true)));
        let over = format!("{start}{}\r\n\r\n", "a".repeat(8192 - start.len() - 3));
        assert_refused_at_end(&over.as_bytes()[..8192], 431);
        assert_eq!(status(over.as_bytes()), 431);

        let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(count - 1));
        assert_eq!(verdict((fields(64) + "\r\n").as_bytes()), Ok(true));
        assert_eq!(status(fields(65).as_bytes()), 431);
        assert_eq!(status((fields(200) + "\r\n").as_bytes()), 431);
    }

    #[test]
    fn gzip_is_accepted_by_its_name_or_by_a_star() {
        let table = [
            ("", false),
            ("Accept-Encoding:\r\n", false),
            ("Accept-Encoding: gzip, deflate, br, zstd\r\n", true),
            ("accept-encoding: br;q=1.0 , GZIP ; q=0.5\r\n", true),
            ("Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", false),
            ("Accept-Encoding: *\r\n", true),
            ("Accept-Encoding: identity, br\r\n", false),
            ("Accept-Encoding: gzip;q=0\r\n", false),
            ("Accept-Encoding: gzip; q=0.000, *\r\n", false),
            ("Accept-Encoding: *;q=0, gzip\r\n", true),
            ("Accept-Encoding: xgzip\r\n", false),
        ];
        for (field, expected) in table {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
            with_request(&text, |request| assert_eq!(request.accepts_gzip(), expected, "{field}"));
        }
    }

    #[test]
    fn the_last_request_says_so_or_is_http_1_0() {
        let table = [
            ("1.1", "", false),
            ("1.1", "Connection: close\r\n", true),
            ("1.1", "Connection: Upgrade\r\n", false),
            ("1.1", "Connection: keep-alive, Upgrade\r\n", false),
            ("1.1", "Connection: Upgrade\r\nconnection: keep-alive ,CLOSE\r\n", true),
            ("1.1", "Connection: closed\r\n", false),
            ("1.2", "", false),
            ("1.0", "", true),
            ("1.0", "Connection: keep-alive\r\n", true),
        ];
        for (version, fields, expected) in table {
            let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
            with_request(&text, |request| assert_eq!(request.is_last, expected, "{text}"));
        }
    }

    #[test]
    fn a_head_request_has_no_body_and_gets_none() {
        let text = b"HEAD /console/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
        let refusal = verdict(text).unwrap_err();
        assert!(refusal.status.code() == 400 && refusal.is_of_head);
    }
}
