//! What the log says of a request: enough to know it again, and no token, wherever in its path one may stand.

use crate::access::keyring::Auth;
use crate::wire::asked::Asked;
use crate::wire::http::printable;
use crate::wire::text::decode;

/// A longer part of a path is not shown: tokens are longer, and parts of paths that somebody has typed are not.
const PART_CHARACTERS_MAX: usize = 24;
/// In place of what is not shown.
const HIDDEN: &str = "***";
/// The parts of paths that exist, without ids.
const KNOWN_PARTS: [&str; 13] = [
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
    "daemon",
    "healthz",
    "index.html",
];

/// Method, path and program for a line of the log. Of a path that does `exist` all parts are shown but those that may be
/// a token; of another one, which may be anything, the first part and those that are part of paths that exist.
pub fn describe(asked: &Asked<'_>, exists: bool, auth: &Auth, unix_micros: i64) -> String {
    let Asked { method, path, user_agent } = asked;
    let mut shown = String::new();
    for (place, part) in path.split('/').enumerate() {
        let is_wanted = exists || place <= 1 || KNOWN_PARTS.contains(&part);
        if place > 0 {
            shown.push('/');
        }
        shown.push_str(if is_wanted && is_harmless(part, auth, unix_micros) { part } else { HIDDEN });
    }
    let program = user_agent.map(|program| format!(" by \"{}\"", printable(program))).unwrap_or_default();
    format!(" (asked: {} {}{program})", printable(method), printable(&shown))
}

/// Whether a part of a path is no token and names none. A `?` that was percent-encoded, or written as `&`, makes a query
/// part of the path.
fn is_harmless(part: &str, auth: &Auth, unix_micros: i64) -> bool {
    let decoded = decode(part).unwrap_or_default();
    let is_token = |text: &str| {
        !text.is_empty() && matches!(auth, Auth::On(_)) && auth.admit(Some(text), unix_micros).is_ok()
    };
    let is_name = |text: &str| text.eq_ignore_ascii_case("token") || text.eq_ignore_ascii_case("api_key");
    part.chars().nth(PART_CHARACTERS_MAX).is_none()
        && ![part, &decoded].into_iter().any(is_token)
        && !decoded.split(['?', '&', '=', ';', ',', ' ']).any(|text| is_token(text) || is_name(text))
}

#[cfg(test)]
mod tests {
    use super::describe;
    use crate::access::keyring::{Auth, Keyring};
    use crate::access::token_file;
    use crate::wire::asked::Asked;

    fn path_shown(path: &str, exists: bool, auth: &Auth) -> String {
        let shown = describe(&Asked { method: "GET", path, user_agent: None }, exists, auth, 0);
        shown.strip_prefix(" (asked: GET ").and_then(|rest| rest.strip_suffix(')')).unwrap().to_owned()
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
        // Of what is no token of this daemon nobody knows whether it is one elsewhere.
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
    fn what_helps_is_shown() {
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
        let asked = Asked { method: "G\u{9b}T", path: "/a", user_agent: Some("x\t\"y\"") };
        assert_eq!(describe(&asked, true, &Auth::Off, 0), r#" (asked: G\u{9b}T /a by "x\t\"y\"")"#);
    }
}
