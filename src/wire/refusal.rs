//! HTTP answers in place of what was asked for: the one table of refusals.

use std::borrow::Cow;

use http::StatusCode;

use crate::wire::cross_origin::Readers;
use crate::wire::http_answer::{NO_STORE, Then, write_head};
use crate::wire::methods::Methods;
use crate::wire::receipt::{Receipt, ReceiptBody};

/// Most header fields in one request; browsers send about 15, proxies add a few.
pub const FIELDS_MAX: usize = 64;
/// Most bytes of the request target: an id has at most 384 (percent-encoded), a token a few hundred, which leaves
/// room for a long list of names.
pub const TARGET_BYTES_MAX: usize = 4096;

/// Most characters that are shown of a client's text: enough to recognise it.
pub const SHOWN_CHARACTERS_MAX: usize = 200;

/// The status of a refusal: its number, its phrase and the fields that must go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    BadRequest,
    /// 400 for tokens in more than one place.
    TwoTokens,
    /// 401 without a token.
    Unauthorized,
    /// 401 with an invalid token.
    BadToken,
    Forbidden,
    /// 403 with a token that does not allow this.
    ForbiddenScope,
    NotFound,
    MethodNotAllowed(Methods),
    RequestTimeout,
    ContentTooLarge,
    UnsupportedType,
    ExpectationFailed,
    TargetTooLarge,
    Misdirected,
    UpgradeRequired,
    TooManyRequests,
    HeadTooLarge,
    Unavailable,
    HttpVersion,
}

impl Status {
    /// The number of the status line.
    pub fn code(self) -> u16 {
        self.row().0.as_u16()
    }

    /// The extra fields of the answer, each line with its CR LF.
    fn fields(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (StatusCode, &'static str) {
        match self {
            Status::BadRequest => (StatusCode::BAD_REQUEST, ""),
            // RFC 9110, 11.6.1, requires a challenge; RFC 6750, 3, requires this one with a parameter, and an error
            // word (3.1) if a token was sent.
            Status::TwoTokens => (
                StatusCode::BAD_REQUEST,
                "WWW-Authenticate: Bearer realm=\"luxcast\", error=\"invalid_request\"\r\n",
            ),
            Status::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "WWW-Authenticate: Bearer realm=\"luxcast\"\r\n")
            }
            Status::BadToken => (
                StatusCode::UNAUTHORIZED,
                "WWW-Authenticate: Bearer realm=\"luxcast\", error=\"invalid_token\"\r\n",
            ),
            Status::Forbidden => (StatusCode::FORBIDDEN, ""),
            Status::ForbiddenScope => (
                StatusCode::FORBIDDEN,
                "WWW-Authenticate: Bearer realm=\"luxcast\", error=\"insufficient_scope\"\r\n",
            ),
            Status::NotFound => (StatusCode::NOT_FOUND, ""),
            Status::MethodNotAllowed(methods) => (StatusCode::METHOD_NOT_ALLOWED, methods.field()),
            Status::ContentTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, ""),
            Status::UnsupportedType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Accept-Post: application/x-ndjson, application/jsonl, application/json\r\n",
            ),
            Status::ExpectationFailed => (StatusCode::EXPECTATION_FAILED, ""),
            Status::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, ""),
            Status::TargetTooLarge => (StatusCode::URI_TOO_LONG, ""),
            Status::Misdirected => (StatusCode::MISDIRECTED_REQUEST, ""),
            // RFC 6455, 4.4, requires the version; RFC 9110, 15.5.22, requires Upgrade, and 7.8 its name in
            // Connection, which may come on several lines.
            Status::UpgradeRequired => (
                StatusCode::UPGRADE_REQUIRED,
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
            ),
            // Rates are counted per second.
            Status::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "Retry-After: 1\r\n"),
            Status::HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ""),
            // Usually the longest wait that a drain asks of watchers.
            Status::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Retry-After: 5\r\n"),
            Status::HttpVersion => (StatusCode::HTTP_VERSION_NOT_SUPPORTED, ""),
        }
    }

    /// Whether the same request may be taken later: its answer has `Retry-After`.
    pub fn is_for_now(self) -> bool {
        matches!(self, Status::TooManyRequests | Status::Unavailable)
    }
}

/// An HTTP answer in place of the upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: Status,
    /// The stable word for programs.
    pub code: &'static str,
    /// For people; never holds a token. Borrowed if nothing in it depends on the request.
    pub message: Cow<'static, str>,
    /// The request was a HEAD: its answer has no body (RFC 9110, 9.3.2).
    pub is_of_head: bool,
    /// What became of the lines that had come by then, if any could be published.
    pub taken: Option<Box<Receipt>>,
}

impl Refusal {
    /// Every `code`, each once, and `tls`: a failed TLS handshake, which has no HTTP answer.
    pub const CODES: [&str; 18] = [
        "bad_request",
        "bad_id",
        "bad_parameter",
        "unauthorized",
        "forbidden_origin",
        "forbidden_scope",
        "forbidden_host",
        "not_found",
        "method_not_allowed",
        "timeout",
        "too_large",
        "unsupported_media_type",
        "upgrade_required",
        "too_many_requests",
        "full",
        "draining",
        "http_version",
        "tls",
    ];

    /// Whether an answer of the daemon can have this word.
    pub fn is_code(word: &str) -> bool {
        word != "tls" && Self::CODES.contains(&word)
    }

    /// Whether the same request may pass later, by the `code` of the refusal.
    pub fn may_pass(code: &str) -> bool {
        matches!(code, "timeout" | "too_many_requests" | "full" | "draining")
    }

    /// Whether a refusal with this `code` may end a request that publishes in the middle of its body.
    pub fn comes_within(code: &str) -> bool {
        matches!(code, "bad_request" | "timeout" | "draining" | "unauthorized" | "not_found")
    }

    /// The place of a code in [`Refusal::CODES`].
    pub fn place(code: &str) -> usize {
        let place = Self::CODES.iter().position(|&known| known == code);
        place.expect("every code is in the table")
    }

    fn new(status: Status, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        debug_assert!(Self::CODES.contains(&code), "{code}");
        Refusal { status, code, message: message.into(), is_of_head: false, taken: None }
    }

    /// Distinguishes refusals by their reason. It holds only words of the program, so there are few.
    pub fn reason(&self) -> (u16, &'static str) {
        let word = match self.message {
            Cow::Borrowed(message) => message,
            Cow::Owned(_) => self.code,
        };
        (self.status.code(), word)
    }

    /// The same refusal as the answer to a request with this method.
    pub fn of_method(self, method: &str) -> Self {
        Refusal { is_of_head: method == "HEAD", ..self }
    }

    /// The same refusal of a request that was to publish, and of which so much was taken.
    pub fn behind(self, taken: Receipt) -> Self {
        Refusal { taken: Some(taken.into()), ..self }
    }

    /// 400: the request breaks a rule of HTTP or of the handshake.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::BadRequest, "bad_request", message)
    }

    /// 400: `which` (`job_id` or `flow_id`) of the path is not an id.
    pub fn bad_id(which: &str) -> Self {
        let message =
            format!("{which} must be 1 to 128 of the characters A-Z a-z 0-9 _ . : - once percent-decoded");
        Refusal::new(Status::BadRequest, "bad_id", message)
    }

    /// 400 with `WWW-Authenticate`: the request has more than one token.
    pub fn two_tokens() -> Self {
        let message = "more than one token was sent: send it in one place only";
        Refusal::new(Status::TwoTokens, "bad_request", message)
    }

    /// 400: a query parameter is malformed or was sent twice.
    pub fn bad_parameter(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::BadRequest, "bad_parameter", message)
    }

    /// 403: a web page with this origin may not connect.
    pub fn forbidden_origin(origin: &str) -> Self {
        let message = format!(
            "web pages of the origin \"{}\" may not connect: it neither matches Host nor is in allowed_origins",
            printable(origin)
        );
        Refusal::new(Status::Forbidden, "forbidden_origin", message)
    }

    /// 421: `host` is none of this daemon's names.
    pub fn forbidden_host(host: &str) -> Self {
        let message = format!(
            "the host \"{}\" is not known here: over loopback it must be localhost, a loopback address, or named in \
             allowed_hosts or by an entry of allowed_origins",
            printable(host)
        );
        Refusal::new(Status::Misdirected, "forbidden_host", message)
    }

    /// 401 with `WWW-Authenticate`: the token is invalid.
    pub fn bad_token(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::BadToken, "unauthorized", message)
    }

    /// 401 with `WWW-Authenticate`: no token.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::Unauthorized, "unauthorized", message)
    }

    /// 403 with `WWW-Authenticate`: the token is valid, but does not allow this; `scope` is what it needs.
    pub fn forbidden_scope(scope: &str) -> Self {
        let message = format!("the token does not allow this: it needs the scope {scope}");
        Refusal::new(Status::ForbiddenScope, "forbidden_scope", message)
    }

    /// 404.
    pub fn not_found() -> Self {
        let message = "no such path; there are {prefix}/jobs/{job_id}/monitor, {prefix}/jobs/{job_id}/debug, \
                       {prefix}/flows/{flow_id}/monitor and {prefix}/events under /api/ws and /api/v1/ws, \
                       /api/v1/websocket, /api/v1/events for POST, /console/ and /healthz";
        Refusal::new(Status::NotFound, "not_found", message)
    }

    /// 405 with `Allow`.
    pub fn method_not_allowed(methods: Methods) -> Self {
        let hint = match methods {
            Methods::OfPublishing => "; events are watched at /api/v1/ws/events",
            _ => "",
        };
        let message = format!("only these methods are allowed here: {}{hint}", methods.names());
        Refusal::new(Status::MethodNotAllowed(methods), "method_not_allowed", message)
    }

    /// 404: nobody may publish over HTTP.
    pub fn no_publishing() -> Self {
        Refusal::new(
            Status::NotFound,
            "not_found",
            "nothing is published over HTTP here (http_publish = off)",
        )
    }

    /// 415: a body of this type, or in this coding, is not read.
    pub fn unsupported_type(message: &'static str) -> Self {
        Refusal::new(Status::UnsupportedType, "unsupported_media_type", message)
    }

    /// 413: a JSON value is over `line_bytes_max`.
    pub fn line_too_large(line_bytes_max: usize) -> Self {
        let message = format!("the object has more than {line_bytes_max} bytes (line_bytes_max)");
        Refusal::new(Status::ContentTooLarge, "too_large", message)
    }

    /// 417.
    pub fn unknown_expectation() -> Self {
        let message = "Expect can only be 100-continue";
        Refusal::new(Status::ExpectationFailed, "bad_request", message)
    }

    /// 408: nothing of a body came for `stalled_seconds`.
    pub fn body_timeout() -> Self {
        let message = "nothing of the body came for stalled_seconds: whole lines before that were taken";
        Refusal::new(Status::RequestTimeout, "timeout", message)
    }

    /// 503: the daemon ends before it has taken a whole body.
    pub fn draining_within(taken: Receipt) -> Self {
        let accepted = taken.accepted;
        let message = format!("the daemon is shutting down: it has accepted {accepted} lines of this body");
        Refusal { message: message.into(), ..Refusal::draining() }.behind(taken)
    }

    /// 408: the head was not complete in time.
    pub fn timeout() -> Self {
        Refusal::new(Status::RequestTimeout, "timeout", "the request head took too long to arrive")
    }

    /// 414: the target alone is over [`TARGET_BYTES_MAX`].
    pub fn target_too_large() -> Self {
        const _: () = assert!(TARGET_BYTES_MAX == 4096);
        let message = "the request target has more than 4096 bytes";
        Refusal::new(Status::TargetTooLarge, "too_large", message)
    }

    /// 431: the head is over `head_bytes_max`, the setting `request_head_bytes_max`.
    pub fn head_too_large(head_bytes_max: usize) -> Self {
        let message =
            format!("the request head has more than {head_bytes_max} bytes (request_head_bytes_max)");
        Refusal::new(Status::HeadTooLarge, "too_large", message)
    }

    /// 431: the head has more than [`FIELDS_MAX`] fields.
    pub fn too_many_fields() -> Self {
        const _: () = assert!(FIELDS_MAX == 64);
        let message = "the request head has more than 64 fields";
        Refusal::new(Status::HeadTooLarge, "too_large", message)
    }

    /// 426 with the supported version.
    pub fn upgrade_required(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::UpgradeRequired, "upgrade_required", message)
    }

    /// 429 with `Retry-After`.
    pub fn too_many_requests(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::TooManyRequests, "too_many_requests", message)
    }

    /// 503 with `Retry-After`: a limit of the whole daemon is reached; `message` names it.
    pub fn full(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(Status::Unavailable, "full", message)
    }

    /// 503: a thread of the daemon hangs. Only for operators, whose refusals are not counted.
    pub fn stalled(thread: &str) -> Self {
        let message = format!("the thread {thread} does not turn").into();
        Refusal { status: Status::Unavailable, code: "stalled", message, is_of_head: false, taken: None }
    }

    /// 503 with `Retry-After`: the daemon is about to end.
    pub fn draining() -> Self {
        Refusal::new(Status::Unavailable, "draining", "the daemon is shutting down")
    }

    /// 505: the request has another major version of HTTP.
    pub fn http_version() -> Self {
        let message = "this daemon speaks HTTP/1.1, and HTTP/1.0 for all but streams";
        Refusal::new(Status::HttpVersion, "http_version", message)
    }

    /// 505: a stream was asked for in HTTP/1.0.
    pub fn too_old_for_streams() -> Self {
        let message = "a stream needs HTTP/1.1, but this request is HTTP/1.0: a proxy in front must speak HTTP/1.1 to \
                       the daemon (in nginx: proxy_http_version 1.1)";
        Refusal::new(Status::HttpVersion, "http_version", message)
    }
}

/// A client's text, made fit for logs and answers: printable ASCII, everything else escaped, and at most 200 of its
/// characters.
pub fn printable(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The body of a refusal; its members come in this order.
#[derive(serde::Serialize)]
struct RefusalBody<'a> {
    error: &'a str,
    message: &'a str,
    #[serde(flatten)]
    taken: Option<ReceiptBody<'a>>,
}

/// Appends the whole answer: status line, fields and the JSON body, one line with its newline. It closes the
/// connection. `unix_micros` is now.
pub fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal, readers: &Readers, unix_micros: i64) {
    let mut body = Vec::new();
    let taken = refusal.taken.as_deref().map(Receipt::body);
    let members = RefusalBody { error: refusal.code, message: &refusal.message, taken };
    serde_json::to_writer(&mut body, &members)
        .expect("strings and numbers are JSON, and a Vec takes every byte");
    body.push(b'\n');
    let status = refusal.status;
    // A HEAD gets the length that a GET's answer would have (RFC 9110, 8.6). If the method itself is refused, a GET
    // would get another answer.
    let is_known = !refusal.is_of_head || !matches!(status, Status::MethodNotAllowed(_));
    let length = is_known.then_some(body.len());
    let fields = [NO_STORE, status.fields(), &readers.fields(status.fields())].concat();
    write_head(out, status.row().0, &fields, Some("application/json"), length, Then::Close, unix_micros);
    if !refusal.is_of_head {
        out.extend_from_slice(&body);
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, printable, write_refusal};
    use crate::wire::cross_origin::Readers;
    use crate::wire::methods::Methods;
    use crate::wire::receipt::Receipt;

    /// 2026-11-29 19:16:59 UTC.
    const NOW: i64 = 1_795_979_819_000_000;

    #[test]
    fn refusals_are_whole_answers() {
        let written = |refusal: Refusal| {
            let mut out = Vec::new();
            write_refusal(&mut out, &refusal, &Readers::NoPage, NOW);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(Refusal::bad_request("a \"b\"\r\nc\u{1B}")),
            "HTTP/1.1 400 Bad Request\r\nDate: Sun, 29 Nov 2026 19:16:59 GMT\r\nCache-Control: no-store\r\n\
             Connection: close\r\nContent-Type: application/json\r\nContent-Length: 55\r\n\r\n\
             {\"error\":\"bad_request\",\"message\":\"a \\\"b\\\"\\r\\nc\\u001b\"}\n"
        );
        let taken = Receipt { accepted: 3, stream_seq: 9, ..Receipt::default() };
        let within = written(Refusal::bad_request("x").behind(taken));
        assert!(within.ends_with(
            "\r\n\r\n{\"error\":\"bad_request\",\"message\":\"x\",\"accepted\":3,\"refused\":[],\"refused_total\":0,\
             \"stream_seq\":9}\n"
        ));
        let upgrade = written(Refusal::upgrade_required("x"));
        assert!(upgrade.starts_with(
            "HTTP/1.1 426 Upgrade Required\r\nDate: Sun, 29 Nov 2026 19:16:59 GMT\r\nCache-Control: no-store\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nConnection: close\r\n"
        ));
        let refusal = Refusal::method_not_allowed(Methods::OfStream);
        assert!(written(refusal).contains("\r\nAllow: GET, OPTIONS\r\n"));
        for (refusal, parameters) in [
            (Refusal::unauthorized("x"), ""),
            (Refusal::bad_token("x"), ", error=\"invalid_token\""),
            (Refusal::forbidden_scope("x"), ", error=\"insufficient_scope\""),
            (Refusal::two_tokens(), ", error=\"invalid_request\""),
        ] {
            let field = format!("\r\nWWW-Authenticate: Bearer realm=\"luxcast\"{parameters}\r\n");
            assert!(written(refusal).contains(&field), "{field}");
        }
        for refusal in [Refusal::too_many_requests("x"), Refusal::full("x"), Refusal::draining()] {
            assert!(written(refusal).contains("\r\nRetry-After: "));
        }
    }

    #[test]
    fn every_code_has_its_place() {
        let refusals = [
            Refusal::bad_request(""),
            Refusal::bad_id("job_id"),
            Refusal::bad_parameter(""),
            Refusal::unauthorized(""),
            Refusal::forbidden_origin(""),
            Refusal::forbidden_scope(""),
            Refusal::forbidden_host(""),
            Refusal::not_found(),
            Refusal::method_not_allowed(Methods::OfAnswer),
            Refusal::timeout(),
            Refusal::target_too_large(),
            Refusal::unsupported_type(""),
            Refusal::upgrade_required(""),
            Refusal::too_many_requests(""),
            Refusal::full(""),
            Refusal::draining(),
            Refusal::http_version(),
        ];
        let places = refusals.map(|refusal| Refusal::place(refusal.code));
        assert_eq!(places, std::array::from_fn(|place| place));
        assert_eq!(Refusal::place(Refusal::head_too_large(1).code), Refusal::place("too_large"));
        assert_eq!(Refusal::place("tls"), Refusal::CODES.len() - 1);
    }

    #[test]
    fn the_answer_to_a_head_request_is_that_to_a_get_without_the_body() {
        for refusal in [Refusal::not_found(), Refusal::full("x"), Refusal::unauthorized("x")] {
            let (mut of_get, mut of_head) = (Vec::new(), Vec::new());
            write_refusal(&mut of_get, &refusal.clone().of_method("GET"), &Readers::NotThisPage, NOW);
            write_refusal(&mut of_head, &refusal.of_method("HEAD"), &Readers::NotThisPage, NOW);
            assert!(of_get.starts_with(&of_head) && of_head.ends_with(b"\r\n\r\n"));
            assert!(of_get.len() > of_head.len());
        }
        // A GET would get another answer.
        let mut out = Vec::new();
        let refusal = Refusal::method_not_allowed(Methods::OfStream).of_method("HEAD");
        write_refusal(&mut out, &refusal, &Readers::NoPage, NOW);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\r\nAllow: GET, OPTIONS\r\n") && !text.contains("Content-Length"), "{text}");
        assert_eq!(Refusal::not_found().of_method("GET"), Refusal::not_found());
    }

    #[test]
    fn reasons_hold_only_words_of_the_program() {
        assert_ne!(Refusal::bad_request("one").reason(), Refusal::bad_request("two").reason());
        assert_eq!(Refusal::forbidden_origin("a").reason(), Refusal::forbidden_origin("b").reason());
        assert_ne!(Refusal::forbidden_origin("a").reason(), Refusal::forbidden_host("a").reason());
        assert_ne!(Refusal::target_too_large().reason(), Refusal::head_too_large(1).reason());
    }

    #[test]
    fn each_refusal_has_its_status_and_word() {
        let rows = [
            (Refusal::bad_request(""), 400, "bad_request"),
            (Refusal::bad_id("job_id"), 400, "bad_id"),
            (Refusal::bad_parameter(""), 400, "bad_parameter"),
            (Refusal::forbidden_origin(""), 403, "forbidden_origin"),
            (Refusal::two_tokens(), 400, "bad_request"),
            (Refusal::unauthorized(""), 401, "unauthorized"),
            (Refusal::bad_token(""), 401, "unauthorized"),
            (Refusal::forbidden_scope(""), 403, "forbidden_scope"),
            (Refusal::not_found(), 404, "not_found"),
            (Refusal::method_not_allowed(Methods::OfStream), 405, "method_not_allowed"),
            (Refusal::timeout(), 408, "timeout"),
            (Refusal::target_too_large(), 414, "too_large"),
            (Refusal::upgrade_required(""), 426, "upgrade_required"),
            (Refusal::too_many_requests(""), 429, "too_many_requests"),
            (Refusal::forbidden_host(""), 421, "forbidden_host"),
            (Refusal::head_too_large(1), 431, "too_large"),
            (Refusal::too_many_fields(), 431, "too_large"),
            (Refusal::full(""), 503, "full"),
            (Refusal::draining(), 503, "draining"),
            (Refusal::http_version(), 505, "http_version"),
            (Refusal::too_old_for_streams(), 505, "http_version"),
        ];
        for (refusal, status, code) in rows {
            assert_eq!((refusal.status.code(), refusal.code), (status, code));
            assert!(refusal.status.row().0.canonical_reason().is_some(), "{status}");
        }
    }

    #[test]
    fn what_a_client_sent_is_shown_in_printable_ascii_and_bounded() {
        let table = [
            ("https://a.example:1", "https://a.example:1"),
            ("a\r\nb\u{1B}[31m\t\"\\", r#"a\r\nb\u{1b}[31m\t\"\\"#),
            // A C1 control character, and one that reverses the direction of writing.
            ("\u{9B}2J\u{202E}\u{FC}", r"\u{9b}2J\u{202e}\u{fc}"),
        ];
        for (text, expected) in table {
            assert_eq!(printable(text), expected);
        }
        assert_eq!(printable(&"x".repeat(200)), "x".repeat(200));
        assert_eq!(printable(&"x".repeat(201)), "x".repeat(200) + "...");
    }

    #[test]
    fn a_page_that_may_reads_refusals_with_the_fields_that_are_theirs() {
        let written = |refusal: &Refusal, readers: &Readers| {
            let mut out = Vec::new();
            write_refusal(&mut out, refusal, readers, NOW);
            String::from_utf8(out).unwrap()
        };
        let page = Readers::of("https://ui.example");
        for (refusal, exposed) in [
            (Refusal::full("x"), Some("Retry-After")),
            (Refusal::too_many_requests("x"), Some("Retry-After")),
            (Refusal::unauthorized("x"), Some("WWW-Authenticate")),
            (Refusal::method_not_allowed(Methods::OfStream), Some("Allow")),
            (Refusal::upgrade_required("x"), Some("Upgrade, Connection, Sec-WebSocket-Version")),
            (Refusal::not_found(), None),
        ] {
            let text = written(&refusal, &page);
            let allowed = "\r\nAccess-Control-Allow-Origin: https://ui.example\r\nVary: Origin\r\n";
            assert!(text.contains(allowed), "{text}");
            let found = text.lines().find_map(|line| line.strip_prefix("Access-Control-Expose-Headers: "));
            assert_eq!(found, exposed, "{text}");
            let text = written(&refusal, &Readers::NotThisPage);
            assert!(text.contains("\r\nVary: Origin\r\n") && !text.contains("Access-Control"), "{text}");
        }
    }
}
