//! HTTP answers in place of the upgrade: one table of refusals, and what writes them.

/// Header fields in one request; browsers send about 15, proxies add a few.
pub const FIELDS_MAX: usize = 64;
/// Bytes of the request target: an id has at most 384 (percent-encoded), a token a few hundred,
/// which leaves room for a long list of names.
pub const TARGET_BYTES_MAX: usize = 4096;

/// What is shown of a text that a client has sent: enough to know it again.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// The status of a refusal: its number, its phrase and the fields that must go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// Where HEAD is allowed too.
    NeitherGetNorHead,
    RequestTimeout,
    TargetTooLarge,
    UpgradeRequired,
    TooManyRequests,
    HeadTooLarge,
    Unavailable,
    HttpVersion,
}

impl Status {
    /// The number of the status line.
    pub fn code(self) -> u16 {
        self.row().0
    }

    /// The extra fields of the answer, each line with its CR LF.
    fn fields(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u16, &'static str) {
        match self {
            Status::BadRequest => (400, ""),
            // RFC 9110, 11.6.1, asks for it; RFC 6750, 3, for this one.
            Status::Unauthorized => (401, "WWW-Authenticate: Bearer\r\n"),
            Status::Forbidden => (403, ""),
            Status::NotFound => (404, ""),
            Status::MethodNotAllowed => (405, "Allow: GET\r\n"),
            Status::NeitherGetNorHead => (405, "Allow: GET, HEAD\r\n"),
            Status::RequestTimeout => (408, ""),
            Status::TargetTooLarge => (414, ""),
            // RFC 6455, 4.4, asks for the version; RFC 9110, 15.5.22, for Upgrade, and 7.8 for its
            // name in Connection, which may stand on several lines.
            Status::UpgradeRequired => {
                (426, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n")
            }
            // Rates are counted by the second.
            Status::TooManyRequests => (429, "Retry-After: 1\r\n"),
            Status::HeadTooLarge => (431, ""),
            // As long as the longest wait that draining asks of watchers in general.
            Status::Unavailable => (503, "Retry-After: 5\r\n"),
            Status::HttpVersion => (505, ""),
        }
    }
}

/// An HTTP answer in place of the upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: Status,
    /// The stable word for programs.
    pub code: &'static str,
    /// For people; never holds a token.
    pub message: String,
    /// The request that it answers, for the log alone: what was asked for, without the query, and by what program.
    pub asked: String,
    /// The request was a HEAD: its answer has no body (RFC 9110, 9.3.2).
    pub is_of_head: bool,
}

impl Refusal {
    /// Every `code`, each once; and `tls`, which has no answer in HTTP: a handshake of TLS that came to nothing.
    pub const CODES: [&str; 16] = [
        "bad_request",
        "bad_id",
        "bad_parameter",
        "unauthorized",
        "forbidden_origin",
        "forbidden_scope",
        "not_found",
        "method_not_allowed",
        "timeout",
        "too_large",
        "upgrade_required",
        "too_many_requests",
        "full",
        "draining",
        "http_version",
        "tls",
    ];

    /// The place of a code in [`Refusal::CODES`].
    pub fn place(code: &str) -> usize {
        let place = Self::CODES.iter().position(|&known| known == code);
        place.expect("every code is in the table")
    }

    fn new(status: Status, code: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(Self::CODES.contains(&code), "{code}");
        Refusal { status, code, message: message.into(), asked: String::new(), is_of_head: false }
    }

    /// The same as the answer to a request with this method.
    pub fn of_method(self, method: &str) -> Self {
        Refusal { is_of_head: method == "HEAD", ..self }
    }

    /// The same with what the log is to say of its request.
    pub fn about(self, method: &str, path: &str, user_agent: Option<&str>) -> Self {
        let program = user_agent.map(|program| format!(" by \"{}\"", printable(program)));
        let asked =
            format!(" (asked: {} {}{})", printable(method), printable(path), program.unwrap_or_default());
        Refusal { asked, ..self }
    }

    /// 400: the request breaks a rule of HTTP or of the handshake.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Refusal::new(Status::BadRequest, "bad_request", message)
    }

    /// 400: `which` (`job_id` or `flow_id`) of the path is not an id.
    pub fn bad_id(which: &str) -> Self {
        let message =
            format!("{which} must be 1 to 128 of the characters A-Z a-z 0-9 _ . : - once percent-decoded");
        Refusal::new(Status::BadRequest, "bad_id", message)
    }

    /// 400: a query parameter is malformed or was sent twice.
    pub fn bad_parameter(message: impl Into<String>) -> Self {
        Refusal::new(Status::BadRequest, "bad_parameter", message)
    }

    /// 403: a web page of this origin may not connect.
    pub fn forbidden_origin(origin: &str) -> Self {
        let message = format!(
            "web pages of the origin \"{}\" may not connect: it is neither that of Host nor in allowed_origins",
            printable(origin)
        );
        Refusal::new(Status::Forbidden, "forbidden_origin", message)
    }

    /// 401 with `WWW-Authenticate`: no token, or none that is good.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Refusal::new(Status::Unauthorized, "unauthorized", message)
    }

    /// 403: the token is good, but not for this; `scope` is what it would need.
    pub fn forbidden_scope(scope: &str) -> Self {
        let message = format!("the token does not allow this, which needs {scope}");
        Refusal::new(Status::Forbidden, "forbidden_scope", message)
    }

    /// 404.
    pub fn not_found() -> Self {
        let message = "no such path; there are {prefix}/jobs/{job_id}/monitor, {prefix}/jobs/{job_id}/debug, \
                       {prefix}/flows/{flow_id}/monitor and {prefix}/events under /api/ws and /api/v1/ws, \
                       /api/v1/websocket, /console/ and /healthz";
        Refusal::new(Status::NotFound, "not_found", message)
    }

    /// 405 with `Allow`.
    pub fn method_not_allowed() -> Self {
        Refusal::new(Status::MethodNotAllowed, "method_not_allowed", "only GET is allowed here")
    }

    /// The same where HEAD is allowed too.
    pub fn neither_get_nor_head() -> Self {
        let message = "only GET and HEAD are allowed here";
        Refusal::new(Status::NeitherGetNorHead, "method_not_allowed", message)
    }

    /// 408: the head was not complete in time.
    pub fn timeout() -> Self {
        Refusal::new(Status::RequestTimeout, "timeout", "the request head took too long to arrive")
    }

    /// 414: the target alone is over [`TARGET_BYTES_MAX`].
    pub fn target_too_large() -> Self {
        let message = format!("the request target has more than {TARGET_BYTES_MAX} bytes");
        Refusal::new(Status::TargetTooLarge, "too_large", message)
    }

    /// 431: the head is over `head_bytes_max` or has more than [`FIELDS_MAX`] fields.
    pub fn head_too_large() -> Self {
        let message = format!("the request head is too large, or has more than {FIELDS_MAX} fields");
        Refusal::new(Status::HeadTooLarge, "too_large", message)
    }

    /// 426 with the version that would do.
    pub fn upgrade_required(message: impl Into<String>) -> Self {
        Refusal::new(Status::UpgradeRequired, "upgrade_required", message)
    }

    /// 429 with `Retry-After`.
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Refusal::new(Status::TooManyRequests, "too_many_requests", message)
    }

    /// 503 with `Retry-After`: a limit of the whole daemon is reached; `message` names it.
    pub fn full(message: impl Into<String>) -> Self {
        Refusal::new(Status::Unavailable, "full", message)
    }

    /// 503 with `Retry-After`: the daemon is about to end.
    pub fn draining() -> Self {
        Refusal::new(Status::Unavailable, "draining", "the daemon is shutting down")
    }

    /// 505.
    pub fn http_version() -> Self {
        Refusal::new(Status::HttpVersion, "http_version", "only HTTP/1.1 is spoken here")
    }
}

/// Text that a client has sent, fit for logs and answers: ASCII that prints, everything else escaped, and not long.
pub fn printable(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The body of a refusal; its members stand in this order.
#[derive(serde::Serialize)]
struct RefusalBody<'a> {
    error: &'a str,
    message: &'a str,
}

/// Appends the whole answer: status line, fields and the JSON body, one line with its newline.
pub fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    if refusal.is_of_head {
        return write_bodiless(out, refusal.status);
    }
    let mut body = Vec::new();
    let members = RefusalBody { error: refusal.code, message: &refusal.message };
    serde_json::to_writer(&mut body, &members).expect("two strings are JSON, and a Vec takes every byte");
    body.push(b'\n');
    let status = refusal.status;
    write_answer(out, status.code(), status.fields(), "application/json", &body);
}

/// Appends a whole answer that closes the connection.
pub fn write_response(out: &mut Vec<u8>, status: u16, content_type: &str, body: &[u8]) {
    write_answer(out, status, "", content_type, body);
}

/// Without a length: it would be the one of the answer to a GET (RFC 9110, 8.6), which may differ.
fn write_bodiless(out: &mut Vec<u8>, status: Status) {
    let (code, fields) = (status.code(), status.fields());
    let head =
        format!("HTTP/1.1 {code} {phrase}\r\n{fields}Connection: close\r\n\r\n", phrase = phrase(code));
    out.extend_from_slice(head.as_bytes());
}

fn write_answer(out: &mut Vec<u8>, status: u16, fields: &str, content_type: &str, body: &[u8]) {
    write_head(out, status, fields, Some(content_type), body.len());
    out.extend_from_slice(body);
}

/// Appends the head of an answer that closes the connection; `fields` are lines with their CR LF.
pub fn write_head(
    out: &mut Vec<u8>,
    status: u16,
    fields: &str,
    content_type: Option<&str>,
    body_length: usize,
) {
    let content_type = content_type.map(|name| format!("Content-Type: {name}\r\n")).unwrap_or_default();
    // A 304 has no body, and its length would be the one of a 200 (RFC 9110, 8.6).
    let length = match status {
        304 => String::new(),
        _ => format!("Content-Length: {body_length}\r\n"),
    };
    let phrase = phrase(status);
    let head =
        format!("HTTP/1.1 {status} {phrase}\r\n{fields}Connection: close\r\n{content_type}{length}\r\n");
    out.extend_from_slice(head.as_bytes());
}

/// The reason phrase (RFC 9110, 15); empty, which RFC 9112, 4, allows, for a status that is not in
/// use.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        304 => "Not Modified",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, printable, write_refusal, write_response};

    #[test]
    fn refusals_are_whole_answers() {
        let written = |refusal: Refusal| {
            let mut out = Vec::new();
            write_refusal(&mut out, &refusal);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(Refusal::bad_request("a \"b\"\r\nc\u{1B}")),
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: 55\r\n\r\n\
             {\"error\":\"bad_request\",\"message\":\"a \\\"b\\\"\\r\\nc\\u001b\"}\n"
        );
        let upgrade = written(Refusal::upgrade_required("x"));
        assert!(upgrade.starts_with(
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nConnection: close\r\n"
        ));
        assert!(written(Refusal::method_not_allowed()).contains("\r\nAllow: GET\r\n"));
        assert!(written(Refusal::unauthorized("x")).contains("\r\nWWW-Authenticate: Bearer\r\n"));
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
            Refusal::not_found(),
            Refusal::method_not_allowed(),
            Refusal::timeout(),
            Refusal::target_too_large(),
            Refusal::upgrade_required(""),
            Refusal::too_many_requests(""),
            Refusal::full(""),
            Refusal::draining(),
            Refusal::http_version(),
        ];
        let places = refusals.map(|refusal| Refusal::place(refusal.code));
        assert_eq!(places, std::array::from_fn(|place| place));
        assert_eq!(Refusal::place(Refusal::head_too_large().code), Refusal::place("too_large"));
        assert_eq!(Refusal::place("tls"), Refusal::CODES.len() - 1);
    }

    #[test]
    fn the_answer_to_a_head_request_has_no_body() {
        let mut out = Vec::new();
        write_refusal(&mut out, &Refusal::method_not_allowed().of_method("HEAD"));
        let expected = "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(Refusal::not_found().of_method("GET"), Refusal::not_found());
    }

    #[test]
    fn each_refusal_has_its_status_and_word() {
        let rows = [
            (Refusal::bad_request(""), 400, "bad_request"),
            (Refusal::bad_id("job_id"), 400, "bad_id"),
            (Refusal::bad_parameter(""), 400, "bad_parameter"),
            (Refusal::forbidden_origin(""), 403, "forbidden_origin"),
            (Refusal::unauthorized(""), 401, "unauthorized"),
            (Refusal::forbidden_scope(""), 403, "forbidden_scope"),
            (Refusal::not_found(), 404, "not_found"),
            (Refusal::method_not_allowed(), 405, "method_not_allowed"),
            (Refusal::neither_get_nor_head(), 405, "method_not_allowed"),
            (Refusal::timeout(), 408, "timeout"),
            (Refusal::target_too_large(), 414, "too_large"),
            (Refusal::upgrade_required(""), 426, "upgrade_required"),
            (Refusal::too_many_requests(""), 429, "too_many_requests"),
            (Refusal::head_too_large(), 431, "too_large"),
            (Refusal::full(""), 503, "full"),
            (Refusal::draining(), 503, "draining"),
            (Refusal::http_version(), 505, "http_version"),
        ];
        for (refusal, status, code) in rows {
            assert_eq!((refusal.status.code(), refusal.code), (status, code));
            assert!(!super::phrase(status).is_empty());
        }
    }

    #[test]
    fn what_was_asked_is_for_the_log_alone() {
        let refusal = Refusal::not_found().about("GET", "/a\u{9B}b", Some("x\t\"y\""));
        assert_eq!(refusal.asked, r#" (asked: GET /a\u{9b}b by "x\t\"y\"")"#);
        let (mut plain, mut with) = (Vec::new(), Vec::new());
        write_refusal(&mut plain, &Refusal::not_found());
        write_refusal(&mut with, &refusal);
        assert_eq!(plain, with);
    }

    #[test]
    fn what_a_client_sent_is_shown_in_printable_ascii_and_bounded() {
        let table = [
            ("https://a.example:1", "https://a.example:1"),
            ("a\r\nb\u{1B}[31m\t\"\\", r#"a\r\nb\u{1b}[31m\t\"\\"#),
            // A control character of its own, and one that turns the direction of writing.
            ("\u{9B}2J\u{202E}\u{FC}", r"\u{9b}2J\u{202e}\u{fc}"),
        ];
        for (text, expected) in table {
            assert_eq!(printable(text), expected);
        }
        assert_eq!(printable(&"x".repeat(200)), "x".repeat(200));
        assert_eq!(printable(&"x".repeat(201)), "x".repeat(200) + "...");
    }

    #[test]
    fn a_response_is_a_whole_answer() {
        let mut out = Vec::new();
        write_response(&mut out, 200, "text/plain", b"ok\n");
        let expected = "HTTP/1.1 200 OK\r\nConnection: close\r\n\
             Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
