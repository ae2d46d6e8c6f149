//! What a refusal has to know of its request, as far as the head can be read.

use crate::wire::field::Field;
use crate::wire::framing::Framing;
use crate::wire::http::Request;
use crate::wire::line::is_id;
use crate::wire::refusal::SHOWN_CHARACTERS_MAX;

/// Most bytes of a word that is taken for a method.
const METHOD_BYTES_MAX: usize = 32;

/// What is asked, by whom. Never the query, which may hold a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    pub method: &'a str,
    /// As it was sent, not percent-decoded.
    pub path: &'a str,
    /// Only for the log.
    pub user_agent: Option<&'a str>,
    /// Only for the log: `Luxcast-Publisher`, if it is a name.
    pub publisher: Option<&'a str>,
    pub host: Option<&'a str>,
    pub origin: Option<&'a str>,
    /// It reads Server-Sent Events and has lost a stream: an `EventSource` of a browser, or who does as it does.
    pub is_event_source_back: bool,
}

impl<'a> Asked<'a> {
    pub fn of(request: &Request<'a>) -> Self {
        let Request { method, path, user_agent, host, origin, .. } = *request;
        let publisher = match request.body.as_deref().map(|fields| fields.publisher) {
            Some(Field::One(name)) => str::from_utf8(name).ok().filter(|name| is_id(name)),
            _ => None,
        };
        let is_of_stream = path.contains("/ws/") && !request.is_http_1_0 && !request.upgrade.is_requested;
        let is_event_source_back = is_of_stream
            && method == "GET"
            && request.accepts_stream() == Framing::Sse
            && matches!(request.last_event_id, Field::One(_));
        Self { method, path, user_agent, publisher, host, origin, is_event_source_back }
    }

    /// The same for a head that is incomplete or bad. None: it does not begin like an HTTP request.
    pub fn in_part_of(head: &'a [u8]) -> Option<Self> {
        let mut lines = head.split(|byte| matches!(byte, b'\r' | b'\n')).filter(|line| !line.is_empty());
        let mut words = lines.next()?.split(|byte| *byte == b' ');
        let method = words.next().filter(|word| is_method(word)).map(valid_text)?;
        let path = path_of(valid_text(words.next()?));
        let mut asked = Self { method, path, ..Self::default() };
        for line in lines {
            let Some(colon) = memchr::memchr(b':', line) else {
                continue;
            };
            let name = line[..colon].trim_ascii();
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let place = match () {
                () if is("user-agent") => &mut asked.user_agent,
                () if is("host") => &mut asked.host,
                () if is("origin") => &mut asked.origin,
                () => continue,
            };
            place.get_or_insert(valid_text(line[colon + 1..].trim_ascii()));
        }
        Some(asked)
    }
}

/// What the log says of a request that goes on for a while.
#[derive(Debug, Default)]
pub struct AskedBefore {
    method: Box<str>,
    path: Box<str>,
    user_agent: Option<Box<str>>,
    publisher: Option<Box<str>>,
}

impl AskedBefore {
    pub fn of(asked: &Asked<'_>) -> Self {
        let Asked { method, path, user_agent, publisher, .. } = *asked;
        // The log shows no more.
        let start = |text: &str| text.chars().take(SHOWN_CHARACTERS_MAX + 1).collect::<String>().into();
        Self {
            method: method.into(),
            path: path.into(),
            user_agent: user_agent.map(start),
            publisher: publisher.map(Into::into),
        }
    }

    pub fn asked(&self) -> Asked<'_> {
        let Self { method, path, user_agent, publisher } = self;
        Asked {
            method,
            path,
            user_agent: user_agent.as_deref(),
            publisher: publisher.as_deref(),
            ..Asked::default()
        }
    }
}

fn is_method(word: &[u8]) -> bool {
    (1..=METHOD_BYTES_MAX).contains(&word.len()) && word.iter().all(u8::is_ascii_alphabetic)
}

/// The text before the first byte that is not UTF-8.
fn valid_text(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

/// The path without an authority, which may hold a password, and without query and fragment.
fn path_of(target: &str) -> &str {
    let local = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#']) => {
            rest.find(['/', '?', '#']).map_or("", |place| &rest[place..])
        }
        _ => target,
    };
    local.find(['?', '#']).map_or(local, |place| &local[..place])
}

#[cfg(test)]
mod tests {
    use super::{Asked, AskedBefore};
    use crate::wire::http::{HeadLimits, HeadResult, parse_head};

    #[test]
    fn both_readings_of_a_good_head_agree() {
        let head =
            b"GET /a/b?token=secret HTTP/1.1\r\nHost: a\r\nORIGIN:http://b \r\nUser-Agent: x y\r\n\r\n";
        match parse_head(head, HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => {
                let expected = Asked {
                    method: "GET",
                    path: "/a/b",
                    user_agent: Some("x y"),
                    publisher: None,
                    host: Some("a"),
                    origin: Some("http://b"),
                    is_event_source_back: false,
                };
                assert_eq!(Asked::of(&request), expected);
                assert_eq!(Asked::in_part_of(head), Some(expected));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_source_comes_back_with_its_last_number() {
        let is_back_at = |method: &str, target: &str, fields: &str| {
            let head = format!("{method} {target}\r\nHost: a\r\n{fields}\r\n");
            match parse_head(head.as_bytes(), HeadLimits { head_bytes_max: 8192 }) {
                Ok(HeadResult::Complete { request, .. }) => Asked::of(&request).is_event_source_back,
                other => panic!("{other:?}"),
            }
        };
        let is_back = |method: &str, fields: &str| is_back_at(method, "/api/v1/ws/events HTTP/1.1", fields);
        let (accept, number) = ("Accept: text/event-stream\r\n", "Last-Event-ID: 7\r\n");
        for target in ["/healthz HTTP/1.1", "/api/ws/jobs/j/monitor HTTP/1.0"] {
            assert!(!is_back_at("GET", target, &[accept, number].concat()), "{target}");
        }
        assert!(is_back("GET", &[accept, number].concat()));
        assert!(!is_back("HEAD", &[accept, number].concat()));
        for fields in [accept, number, "Accept: application/jsonl\r\nLast-Event-ID: 7\r\n", ""] {
            assert!(!is_back("GET", fields), "{fields}");
        }
    }

    #[test]
    fn of_a_request_that_goes_on_the_log_says_the_same() {
        let head = b"POST /api/v1/events?token=secret HTTP/1.1\r\nHost: a\r\nUser-Agent: curl\r\nLuxcast-Publisher: ci\r\n\r\n";
        let Ok(HeadResult::Complete { request, .. }) = parse_head(head, HeadLimits { head_bytes_max: 8192 })
        else {
            panic!()
        };
        let asked = Asked::of(&request);
        assert_eq!((asked.publisher, asked.user_agent), (Some("ci"), Some("curl")));
        let later = AskedBefore::of(&asked);
        assert_eq!(later.asked(), Asked { host: None, ..asked });
    }

    #[test]
    fn a_bad_head_is_read_as_far_as_possible() {
        type Expected = Option<(&'static str, &'static str, Option<&'static str>)>;
        let table: [(&[u8], Expected); 14] = [
            (b"GET /a HTTP/1.1\r\nUser-Agent: x\r\nHost : a\r\n\r\n", Some(("GET", "/a", Some("x")))),
            (b"\r\n\r\nPOST /a?token=secret", Some(("POST", "/a", None))),
            (b"GET /a\nuser-AGENT:x", Some(("GET", "/a", Some("x")))),
            (b"GET /a HTTP/1.1\r\nUser-Age", Some(("GET", "/a", None))),
            (b"GET http://u:secret@h/a?token=secret HTTP/1.1", Some(("GET", "/a", None))),
            (b"GET http://u:secret@h?token=secret HTTP/1.1", Some(("GET", "", None))),
            (b"GET http://u:secret@h", Some(("GET", "", None))),
            (b"GET /a#secret HTTP/1.1", Some(("GET", "/a", None))),
            (b"GET /a\xff\xfeb HTTP/1.1", Some(("GET", "/a", None))),
            (b"GET /a token=secret HTTP/1.1", Some(("GET", "/a", None))),
            (b"GET", None),
            (b"\x16\x03\x01\x02 a", None),
            (b"Authorization: Bearer secret", None),
            (b"", None),
        ];
        for (head, expected) in table {
            let found = Asked::in_part_of(head).map(|asked| (asked.method, asked.path, asked.user_agent));
            assert_eq!(found, expected, "{}", head.escape_ascii());
        }
    }
}
