//! The query of a stream: `events=`, the filter, and `since=`, where to start.

use crate::wire::client_action::{NAME_BYTES_MAX, NAMES_MAX, Since};
use crate::wire::http::Refusal;
use crate::wire::query;
use crate::wire::text::split;

/// The filter (None: all events), and where to start.
///
/// # Errors
/// 400: what is wrong with which parameter.
pub fn read(query: Option<&str>) -> Result<(Option<Vec<String>>, Since), Refusal> {
    // Whoever asks for a token has judged it before; it must be well-formed for everybody.
    let [events, since, _token, _api_key] = query::read_all(query, ["events", "since", "token", "api_key"])?;
    let events = events.map_or(Ok(None), |names| read_events(&names))?;
    let since = since.map_or(Some(Since::Now), |since| Since::parse(&since));
    let message = "since must be now, start, an event number, or minus a count";
    Ok((events, since.ok_or_else(|| Refusal::bad_parameter(message))?))
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
    use super::read;
    use crate::wire::client_action::Since;

    /// Filter and start, or status and word of the refusal.
    type Query = Result<(Option<Vec<String>>, Since), (u16, &'static str)>;

    fn query(query: &str) -> Query {
        read(Some(query)).map_err(|refusal| (refusal.status.code(), refusal.code))
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
        for name in ["events", "since", "token", "api_key"] {
            let value = if name == "since" { "1" } else { "" };
            assert!(query(&format!("{name}={value}")).is_ok());
            assert_eq!(query(&format!("{name}={value}&x=1&{name}={value}")), Err(BAD_PARAMETER), "{name}");
        }
        assert!(query("token=a+b%2B&api_key=x&foo=1&foo=2").is_ok());
        assert_eq!(query("token=%zz"), Err(BAD_PARAMETER));
        let refusal = read(Some("token=secret%")).unwrap_err();
        assert!(!refusal.message.contains("secret"));
    }
}
