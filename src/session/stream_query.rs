//! What a request for a stream asks for: the filter, where to start, and in which form. Most of it is in the query; a field
//! of the request may be stronger.

use crate::wire::client_action::{NAME_BYTES_MAX, NAMES_MAX, Since};
use crate::wire::framing::Framing;
use crate::wire::http::{Refusal, Request};
use crate::wire::query;
use crate::wire::text::split;

/// What a request for a stream asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct StreamQuery {
    /// None: all events.
    pub events: Option<Vec<String>>,
    pub since: Since,
    /// For a request without an upgrade: `format=`, else the field `Accept`; a WebSocket if neither says anything else.
    pub framing: Framing,
}

/// Reads the query and the fields.
///
/// # Errors
/// 400: what is wrong with which parameter.
pub fn read(request: &Request<'_>) -> Result<StreamQuery, Refusal> {
    // Whoever asks for a token has judged it before; it must be well-formed for everybody.
    let [events, since, format, _token, _api_key] =
        query::read_all(request.query, ["events", "since", "format", "token", "api_key"])?;
    let events = events.map_or(Ok(None), |names| read_events(&names))?;
    let since = since.map_or(Some(Since::Now), |since| Since::parse(&since));
    let message = "since must be now, start, an event number, or minus a count";
    let mut since = since.ok_or_else(|| Refusal::bad_parameter(message))?;
    let framing = match format.as_deref() {
        None | Some("") => request.accepts_stream(),
        Some("sse") => Framing::Sse,
        Some("ndjson") => Framing::Ndjson,
        Some(_) => return Err(Refusal::bad_parameter("format must be sse or ndjson")),
    };
    if framing.is_http()
        && let Some(seq) = last_event_id(request)?
    {
        since = Since::After(seq);
    }
    Ok(StreamQuery { events, since, framing })
}

/// The position of a reader that comes back, as browsers' `EventSource` tells it.
///
/// # Errors
/// 400: it was sent twice, or is no number of an event.
fn last_event_id(request: &Request<'_>) -> Result<Option<u64>, Refusal> {
    match request.last_event_id.text("Last-Event-ID")?.map(|text| (text, Since::parse(text))) {
        None | Some(("", _)) => Ok(None),
        Some((_, Some(Since::After(seq)))) => Ok(Some(seq)),
        Some(_) => Err(Refusal::bad_parameter("Last-Event-ID must be an event number")),
    }
}

/// The names between the commas, which browsers percent-encode: so the value is decoded before it
/// is split.
fn read_events(value: &str) -> Result<Option<Vec<String>>, Refusal> {
    if value.is_empty() {
        return Ok(None);
    }
    let mut names: Vec<String> = Vec::new();
    for name in split(value, b',') {
        if name.is_empty() {
            return Err(Refusal::bad_parameter("events has an empty name in its list"));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Refusal::bad_parameter(format!(
                "a name in events has at most {NAME_BYTES_MAX} bytes"
            )));
        }
        if names.iter().all(|known| known != name) {
            names.push(name.to_owned());
        }
        if names.len() > NAMES_MAX {
            return Err(Refusal::bad_parameter(format!("events has at most {NAMES_MAX} names")));
        }
    }
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use super::{StreamQuery, read};
    use crate::wire::client_action::Since;
    use crate::wire::framing::Framing;
    use crate::wire::http::{HeadLimits, HeadResult, Refusal, parse_head};

    /// Filter and start, or status and word of the refusal.
    type Query = Result<(Option<Vec<String>>, Since), (u16, &'static str)>;

    fn query(query: &str) -> Query {
        let read = with_fields(query, "").map(|read| (read.events, read.since));
        read.map_err(|refusal| (refusal.status.code(), refusal.code))
    }

    fn with_fields(query: &str, fields: &str) -> Result<StreamQuery, Refusal> {
        let text = format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        match parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => read(&request),
            other => panic!("{other:?}"),
        }
    }

    fn names(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| name.to_string()).collect())
    }

    const BAD_PARAMETER: (u16, &str) = (400, "bad_parameter");

    #[test]
    fn events_are_a_list_of_names() {
        assert_eq!(query(""), Ok((None, Since::Now)));
        for absent in ["events=", "events", "&&", "other=%&events=", "zother"] {
            assert_eq!(query(absent), Ok((None, Since::Now)), "{absent}");
        }
        assert_eq!(query("events=job_started,x,x").unwrap().0, names(&["job_started", "x"]));
        assert_eq!(query("%65vents=a%2Cb%2cc").unwrap().0, names(&["a", "b", "c"]));
        assert_eq!(query("events=a+b,c%20d,e=f").unwrap().0, names(&["a+b", "c d", "e=f"]));
        let bad =
            ["events=a,,b", "events=,", "events=a,", "events=%", "events=%4", "events=%FF", "%=1", "%FF"];
        for text in bad {
            assert_eq!(query(text), Err(BAD_PARAMETER), "{text}");
        }
        assert_eq!(query(&format!("events={}", "a".repeat(64))).unwrap().0, names(&[&"a".repeat(64)]));
        assert_eq!(query(&format!("events={}", "a".repeat(65))), Err(BAD_PARAMETER));
        let many = |count: usize| Vec::from_iter((0..count).map(|n| n.to_string())).join(",");
        assert_eq!(query(&format!("events={}", many(128))).unwrap().0.unwrap().len(), 128);
        assert_eq!(query(&format!("events={}", many(129))), Err(BAD_PARAMETER));
    }

    #[test]
    fn since_says_where_to_start() {
        let cases = [
            ("now", Since::Now),
            ("start", Since::Start),
            ("17", Since::After(17)),
            ("-100", Since::Last(100)),
            ("%31", Since::After(1)),
        ];
        for (text, expected) in cases {
            assert_eq!(query(&format!("since={text}")), Ok((None, expected)), "{text}");
        }
        for text in [
            "since=",
            "since",
            "since=x",
            "since=-",
            "since=+1",
            "since=1.5",
            "since=9007199254740992",
            "since=%ff",
        ] {
            assert_eq!(query(text), Err(BAD_PARAMETER), "{text}");
        }
        assert_eq!(query("since=5&events=a"), Ok((names(&["a"]), Since::After(5))));
    }

    #[test]
    fn known_parameters_come_once() {
        for name in ["events", "since", "format", "token", "api_key"] {
            let value = if name == "since" { "1" } else { "" };
            assert!(query(&format!("{name}={value}")).is_ok());
            assert_eq!(query(&format!("{name}={value}&x=1&{name}={value}")), Err(BAD_PARAMETER), "{name}");
        }
        assert!(query("token=a+b%2B&api_key=x&foo=1&foo=2").is_ok());
        assert_eq!(query("token=%zz"), Err(BAD_PARAMETER));
        let refusal = with_fields("token=secret%", "").unwrap_err();
        assert!(!refusal.message.contains("secret"));
    }

    #[test]
    fn the_form_is_in_the_query_or_among_the_types_that_are_accepted() {
        let framing = |query: &str, fields: &str| with_fields(query, fields).map(|read| read.framing);
        let accepts = |types: &str| framing("", &format!("Accept: {types}\r\n")).unwrap();
        for types in [
            "text/event-stream",
            "TEXT/Event-Stream",
            "text/html, text/event-stream;q=0.5",
            " text/event-stream ; q=1.0",
        ] {
            assert_eq!(accepts(types), Framing::Sse, "{types}");
        }
        for types in
            ["application/x-ndjson", "application/jsonl", "text/event-stream;q=0.2, application/jsonl;q=0.3"]
        {
            assert_eq!(accepts(types), Framing::Ndjson, "{types}");
        }
        for types in ["*/*", "text/*", "text/event-stream;q=0", "text/event-streams", "", "application/json"]
        {
            assert_eq!(accepts(types), Framing::WebSocket, "{types}");
        }
        assert_eq!(accepts("application/jsonl, text/event-stream"), Framing::Ndjson, "the first of equals");
        let two_lines = "Accept: text/html\r\nAccept: text/event-stream\r\n";
        assert_eq!(framing("", two_lines), Ok(Framing::Sse));
        assert_eq!(framing("", ""), Ok(Framing::WebSocket));
        assert_eq!(framing("format=ndjson", "Accept: text/event-stream\r\n"), Ok(Framing::Ndjson));
        assert_eq!(framing("format=", "Accept: text/event-stream\r\n"), Ok(Framing::Sse));
        for bad in ["format=SSE", "format=xml", "format=%"] {
            assert_eq!(query(bad), Err(BAD_PARAMETER), "{bad}");
        }
    }

    #[test]
    fn the_last_event_of_a_reader_that_comes_back_is_stronger_than_since() {
        let since = |query: &str, field: &str| {
            let read = with_fields(query, &format!("Last-Event-ID: {field}\r\n"));
            read.map(|read| read.since).map_err(|refusal| (refusal.status.code(), refusal.code))
        };
        assert_eq!(since("format=sse&since=start", "17"), Ok(Since::After(17)));
        assert_eq!(since("format=sse&since=3", ""), Ok(Since::After(3)), "it has none yet");
        assert_eq!(since("since=3", "17"), Ok(Since::After(3)), "a WebSocket has no such field");
        for bad in ["x", "-1", "1.5", "9007199254740992", "17\r\nLast-Event-ID: 18"] {
            assert_eq!(
                since("format=ndjson", bad),
                Err((400, if bad.contains('L') { "bad_request" } else { "bad_parameter" })),
                "{bad}"
            );
        }
    }
}
