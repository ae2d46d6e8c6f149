//! Describes a request for the log: enough to recognise it, and no token, wherever in its path one may be.

use crate::access::keyring::Auth;
use crate::wire::http::printable;
use crate::wire::request_for_log::Asked;
use crate::wire::text::decode;

/// A longer part of a path is not shown: tokens are longer, and parts that people type are not.
const PART_CHARACTERS_MAX: usize = 24;
/// Shown in place of a hidden part.
const HIDDEN: &str = "***";
/// The parts of existing paths, without ids.
const KNOWN_PARTS: [&str; 14] = [
    "api",
    "v1",
    "ws",
    "jobs",
    "flows",
    "monitor",
    "debug",
    "events",
    "websocket",
    "console",
    "arrivals",
    "daemon",
    "healthz",
    "index.html",
];

/// Method, path, program and publisher's name for a log line. A path that `exists` is shown whole, except for parts that may be a
/// token. Of any other path only the first part and the known parts are shown.
pub fn describe(asked: &Asked<'_>, exists: bool, auth: &Auth, unix_micros: i64) -> String {
    let Asked { method, path, user_agent, publisher, .. } = asked;
    let mut shown = String::new();
    for (place, part) in path.split('/').enumerate() {
        let is_wanted = exists || place <= 1 || KNOWN_PARTS.contains(&part);
        if place > 0 {
            shown.push('/');
        }
        shown.push_str(if is_wanted && is_harmless(part, auth, unix_micros) { part } else { HIDDEN });
    }
    let program = user_agent.map(|program| format!(" by \"{}\"", printable(program))).unwrap_or_default();
    let is_shown = |name: &&str| !is_token(name, auth, unix_micros);
    let name = publisher.filter(is_shown).map(|name| format!(" as {name}")).unwrap_or_default();
    format!(" (asked: {} {}{program}{name})", printable(method), printable(&shown))
}

/// Whether a part of a path neither is a token nor names one. It may hold a query, whose `?` was percent-encoded or
/// written as `&`.
fn is_harmless(part: &str, auth: &Auth, unix_micros: i64) -> bool {
    let decoded = decode(part).unwrap_or_default();
    let is_token = |text: &str| is_token(text, auth, unix_micros);
    let is_name = |text: &str| text.eq_ignore_ascii_case("token") || text.eq_ignore_ascii_case("api_key");
    part.chars().nth(PART_CHARACTERS_MAX).is_none()
        && ![part, &decoded].into_iter().any(is_token)
        && !decoded.split(['?', '&', '=', ';', ',', ' ']).any(|text| is_token(text) || is_name(text))
}

fn is_token(text: &str, auth: &Auth, unix_micros: i64) -> bool {
    !text.is_empty() && matches!(auth, Auth::On(_)) && auth.admit(Some(text), unix_micros).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{KNOWN_PARTS, describe};
    use crate::access::keyring::{Auth, Keyring};
    use crate::access::token_file;
    use crate::wire::http::Refusal;
    use crate::wire::request_for_log::Asked;

    fn asked<'a>(method: &'a str, path: &'a str, user_agent: Option<&'a str>) -> Asked<'a> {
        Asked { method, path, user_agent, ..Asked::default() }
    }

    fn path_shown(path: &str, exists: bool, auth: &Auth) -> String {
        let shown = describe(&asked("GET", path, None), exists, auth, 0);
        shown.strip_prefix(" (asked: GET ").and_then(|rest| rest.strip_suffix(')')).unwrap().to_owned()
    }

    #[test]
    fn every_part_of_a_path_that_exists_is_known() {
        let page = include_str!("../session/README.md");
        let rows = page
            .lines()
            .skip_while(|line| *line != "| path | delivers |")
            .take_while(|line| !line.is_empty());
        let cells: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).collect();
        assert!(cells.len() > 8, "the table is found: {cells:?}");
        let refusal = Refusal::not_found();
        let texts = cells.into_iter().chain([&*refusal.message]);
        let words = texts.flat_map(|text| text.split([' ', ',', '`'])).filter(|word| word.contains('/'));
        for part in words.flat_map(|word| word.split('/')).filter(|part| !part.is_empty()) {
            assert!(part.starts_with('{') || KNOWN_PARTS.contains(&part), "{part} is not in KNOWN_PARTS");
        }
    }

    #[test]
    fn no_token_is_shown_wherever_it_stands() {
        let auth = Auth::On(Keyring::new(token_file::parse("secret all\na=b&c jobs=a\n").unwrap(), None));
        for path in [
            "/secret",
            "/api/ws/jobs/secret",
            "/api/ws/jobs/secret/monitor",
            "/api/ws/jobs/%73ecret/monitor",
            "/api/ws/events&token=secret",
            "/api/ws/events%3Ftoken=secret",
            "/api/ws/events%3ftoken%3dsecret",
            "/api/ws/events;secret",
            "/api/ws/events,key=secret",
            "/a=b&c",
            "secret",
        ] {
            for exists in [false, true] {
                let shown = path_shown(path, exists, &auth);
                assert!(!shown.contains("ecret") && !shown.contains("b&c"), "{path}: {shown}");
            }
        }
        // What is no token of this daemon may be one elsewhere.
        for auth in [Auth::Off, auth] {
            for path in ["/api/ws/jobs/other", "/api/ws/events&token=other", "/api/other", "/x/other"] {
                let shown = path_shown(path, false, &auth);
                assert!(!shown.contains("other") && shown.contains("***"), "{path}: {shown}");
            }
            let long = "0123456789abcdefghijklmnop";
            for path in [format!("/{long}"), format!("/api/ws/jobs/{long}/monitor")] {
                assert!(!path_shown(&path, true, &auth).contains("abc"), "{path}");
            }
        }
    }

    #[test]
    fn helpful_parts_are_shown() {
        for (path, exists, expected) in [
            ("/nowhere", false, "/nowhere"),
            ("/", false, "/"),
            ("*", false, "*"),
            ("", false, ""),
            ("/api/v1/wss/events", false, "/api/v1/***/events"),
            ("/api/ws/jobs/nightly", false, "/api/ws/jobs/***"),
            ("/api/ws/jobs/nightly-2026-11-29/monitor", true, "/api/ws/jobs/nightly-2026-11-29/monitor"),
            ("/api/ws/jobs/a%20b/debug", true, "/api/ws/jobs/a%20b/debug"),
            ("/\u{9b}31m", false, r"/\u{9b}31m"),
        ] {
            assert_eq!(path_shown(path, exists, &Auth::Off), expected);
        }
        let asked = asked("G\u{9b}T", "/a", Some("x\t\"y\""));
        assert_eq!(describe(&asked, true, &Auth::Off, 0), r#" (asked: G\u{9b}T /a by "x\t\"y\"")"#);
        let auth = Auth::On(Keyring::new(token_file::parse("secret all\n").unwrap(), None));
        for (publisher, shown) in [("nightly", " as nightly"), ("secret", "")] {
            let asked = Asked { method: "POST", path: "/a", publisher: Some(publisher), ..Asked::default() };
            assert_eq!(describe(&asked, true, &auth, 0), format!(" (asked: POST /a{shown})"));
        }
    }
}
