//! Writes HTTP answers: their heads, and those that are whole. A [`refusal`](crate::wire::refusal) is one of its own kind.

use http::StatusCode;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::wire::cross_origin::Readers;
use crate::wire::framing::Framing;
use crate::wire::methods::Methods;

/// For an answer that holds only at this moment: no cache may keep it (RFC 9111, 5.2.2.5).
pub const NO_STORE: &str = "Cache-Control: no-store\r\n";

/// What happens to the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Close,
    /// The next request may come, as usual in HTTP/1.1 (RFC 9112, 9.3).
    Next,
}

impl Then {
    /// The field of the answer that says so, with its CR LF.
    fn field(self) -> &'static str {
        match self {
            Then::Close => "Connection: close\r\n",
            Then::Next => "",
        }
    }
}

/// The type of a body that is made anew for each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    Text,
    Json,
    /// Prometheus' text format.
    Metrics,
}

impl ContentType {
    pub fn as_str(self) -> &'static str {
        match self {
            ContentType::Text => "text/plain",
            ContentType::Json => "application/json",
            ContentType::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Appends a whole 200, for a HEAD without the body (RFC 9110, 9.3.2). `unix_micros` is now.
pub fn write_ok(
    out: &mut Vec<u8>,
    method: &str,
    body: &[u8],
    readers: &Readers,
    then: Then,
    unix_micros: i64,
) {
    let content_type = ContentType::Text.as_str();
    let fields = [NO_STORE, &readers.fields("")].concat();
    write_head(out, StatusCode::OK, &fields, Some(content_type), Some(body.len()), then, unix_micros);
    if method != "HEAD" {
        out.extend_from_slice(body);
    }
}

/// What a page of another origin may send beside what any page may (Fetch, "CORS protocol"). Most browsers keep the answer no longer
/// than two hours. Some ask first whether a page of the internet may reach a private network: the list of origins says
/// which pages may.
const PREFLIGHT_FIELDS: &str = "Access-Control-Allow-Headers: Authorization, X-API-Key, Content-Type, Last-Event-ID, \
     Luxcast-Publisher, Luxcast-Line\r\n\
     Access-Control-Max-Age: 7200\r\n\
     Access-Control-Allow-Private-Network: true\r\n";

/// Appends the whole answer to an OPTIONS: what the path takes, and for a page that may read answers what it may send.
/// `unix_micros` is now.
pub fn write_options(out: &mut Vec<u8>, methods: Methods, readers: &Readers, then: Then, unix_micros: i64) {
    let mut fields = [NO_STORE, methods.field(), &readers.fields(methods.field())].concat();
    if let Readers::Page(_) = readers {
        fields += &format!("Access-Control-Allow-Methods: {}\r\n{PREFLIGHT_FIELDS}", methods.names());
    }
    // A 204 has no length (RFC 9110, 8.6).
    write_head(out, StatusCode::NO_CONTENT, &fields, None, None, then, unix_micros);
}

/// For an answer that no page may embed, as a picture or a script, without asking whether it may read it: for that a
/// browser sends no `Origin`. It is not to take the answer for another type either.
const UNEMBEDDED: &str = "X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n";

/// Appends the head of an answer that comes in chunks and ends with the connection. `unix_micros` is now.
pub fn write_stream_head(out: &mut Vec<u8>, content_type: &str, readers: &Readers, unix_micros: i64) {
    // nginx would gather it otherwise.
    let stream = "X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n";
    let fields = [NO_STORE, UNEMBEDDED, &readers.fields(""), stream].concat();
    write_head(out, StatusCode::OK, &fields, Some(content_type), None, Then::Close, unix_micros);
}

/// Appends a whole stream of Server-Sent Events that only says when to come again. `unix_micros` is now.
pub fn write_come_again(out: &mut Vec<u8>, retry_millis: u64, readers: &Readers, unix_micros: i64) {
    let body = format!("retry: {retry_millis}\n\n");
    let fields = [NO_STORE, UNEMBEDDED, &readers.fields("")].concat();
    let content_type = Some(Framing::Sse.content_type());
    write_head(out, StatusCode::OK, &fields, content_type, Some(body.len()), Then::Close, unix_micros);
    out.extend_from_slice(body.as_bytes());
}

/// Appends the head of an answer. `fields` are lines with their CR LF; they also say how the answer may be cached.
/// `body_length` is that of a GET's answer; without it no length is sent. `unix_micros` is now.
pub fn write_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &str,
    content_type: Option<&str>,
    body_length: Option<usize>,
    then: Then,
    unix_micros: i64,
) {
    let content_type = content_type.map(|name| format!("Content-Type: {name}\r\n")).unwrap_or_default();
    let length = body_length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    let date = date(unix_micros);
    // `status` is printed with its reason phrase.
    let then = then.field();
    let head = format!("HTTP/1.1 {status}\r\nDate: {date}\r\n{fields}{then}{content_type}{length}\r\n");
    out.extend_from_slice(head.as_bytes());
}

/// An IMF-fixdate (RFC 9110, 5.6.7 and 6.6.1).
fn date(unix_micros: i64) -> String {
    let now = Timestamp::from_microsecond(unix_micros).unwrap_or(Timestamp::UNIX_EPOCH);
    let printed = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    printed.expect("the clock shows a year of four digits")
}

#[cfg(test)]
mod tests {
    use super::{Then, date, write_come_again, write_ok, write_options};
    use crate::wire::cross_origin::Readers;
    use crate::wire::methods::Methods;

    /// 2026-11-29 19:16:59 UTC.
    const NOW: i64 = 1_795_979_819_000_000;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date(NOW), "Sun, 29 Nov 2026 19:16:59 GMT");
        assert_eq!(
            date(784_111_777_999_999),
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "the example of RFC 9110, 5.6.7"
        );
        assert_eq!(date(i64::MAX), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn an_answer_is_whole() {
        let mut out = Vec::new();
        write_ok(&mut out, "GET", b"ok\n", &Readers::NoPage, Then::Close, NOW);
        let head = "HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 19:16:59 GMT\r\nCache-Control: no-store\r\n\
             Connection: close\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), format!("{head}ok\n"));
        let mut out = Vec::new();
        write_ok(&mut out, "HEAD", b"ok\n", &Readers::NoPage, Then::Close, NOW);
        assert_eq!(String::from_utf8(out).unwrap(), head);
        let mut out = Vec::new();
        write_ok(&mut out, "HEAD", b"ok\n", &Readers::NoPage, Then::Next, NOW);
        assert_eq!(String::from_utf8(out).unwrap(), head.replace("Connection: close\r\n", ""));
    }

    #[test]
    fn a_stream_that_says_when_to_come_again_is_whole() {
        let mut out = Vec::new();
        write_come_again(&mut out, 1_500, &Readers::of("https://a"), NOW);
        let written = String::from_utf8(out).unwrap();
        let (head, body) = written.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 13"), "{head}");
        assert!(head.contains("Access-Control-Allow-Origin: https://a\r\n"), "{head}");
        assert_eq!(body, "retry: 1500\n\n");
    }

    #[test]
    fn what_a_path_takes_is_said_to_all_and_what_a_page_may_send_to_the_pages_that_may() {
        let written = |methods: Methods, readers: &Readers| {
            let mut out = Vec::new();
            write_options(&mut out, methods, readers, Then::Next, NOW);
            String::from_utf8(out).unwrap()
        };
        let start =
            "HTTP/1.1 204 No Content\r\nDate: Sun, 29 Nov 2026 19:16:59 GMT\r\nCache-Control: no-store\r\n";
        assert_eq!(
            written(Methods::OfAnswer, &Readers::NotThisPage),
            format!("{start}Allow: GET, HEAD, OPTIONS\r\nVary: Origin\r\n\r\n")
        );
        assert_eq!(
            written(Methods::OfStream, &Readers::of("null")),
            format!(
                "{start}Allow: GET, OPTIONS\r\nAccess-Control-Allow-Origin: null\r\nVary: Origin\r\n\
                 Access-Control-Expose-Headers: Allow\r\n\
                 Access-Control-Allow-Methods: GET, OPTIONS\r\n\
                 Access-Control-Allow-Headers: Authorization, X-API-Key, Content-Type, Last-Event-ID, \
                 Luxcast-Publisher, Luxcast-Line\r\n\
                 Access-Control-Max-Age: 7200\r\nAccess-Control-Allow-Private-Network: true\r\n\r\n"
            )
        );
    }
}
