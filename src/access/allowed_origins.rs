//! Which web pages may connect. A browser sends a page's origin (RFC 6454, 7), which the page cannot change. Other
//! programs send none, or any, so this protects people who browse and nobody else.

use crate::wire::cross_origin::Readers;
use crate::wire::http::{Refusal, Request};
use crate::wire::text::split_once;

/// Lets in a request without `Origin`, one whose origin has the request's own host and port, and one whose origin is
/// listed: `scheme://host[:port]`, `null` or `*`. Programs that are no browsers send what their library or a tutorial
/// suggests. So the daemon's own host also counts without a scheme, and with a slash behind it.
///
/// # Errors
/// 403.
pub fn check(request: &Request<'_>, allowed_origins: &[String]) -> Result<(), Refusal> {
    match request.origin {
        Some(origin) if !may_connect(origin, request.host, allowed_origins) => {
            Err(Refusal::forbidden_origin(origin))
        }
        Some(_) | None => Ok(()),
    }
}

/// The pages that may read the answer to a request with these fields: those that may connect.
pub fn readers(origin: Option<&str>, host: Option<&str>, allowed_origins: &[String]) -> Readers {
    match origin {
        Some(origin) if may_connect(origin, host, allowed_origins) => Readers::of(origin),
        Some(_) | None => Readers::NotThisPage,
    }
}

fn may_connect(origin: &str, host: Option<&str>, allowed_origins: &[String]) -> bool {
    let is_listed = |allowed: &String| {
        allowed == "*" || without_usual_port(allowed).eq_ignore_ascii_case(without_usual_port(origin))
    };
    host.is_some_and(|host| is_of_host(origin, host)) || allowed_origins.iter().any(is_listed)
}

/// If `Host` has no port, the usual port of the page's scheme counts. Behind a proxy that speaks TLS the daemon sees
/// plain HTTP, but the page is `https`.
fn is_of_host(origin: &str, host: &str) -> bool {
    // `null` is a page without an origin, not a host of that name.
    if origin == "null" {
        return false;
    }
    let origin = origin.strip_suffix('/').unwrap_or(origin);
    let (scheme, authority) = origin.split_once("://").unwrap_or(("", origin));
    let port = usual_port(scheme);
    // A page of this host has one of these schemes; another scheme belongs to another program.
    if !scheme.is_empty() && port.is_empty() {
        return false;
    }
    !authority.is_empty() && without(authority, port).eq_ignore_ascii_case(without(host, port))
}

fn without_usual_port(origin: &str) -> &str {
    let scheme = split_once(origin, b':').map_or("", |(scheme, _)| scheme);
    without(origin, usual_port(scheme))
}

/// The usual port as it ends an authority (RFC 9110, 4.2.1 and 4.2.2; RFC 6455, 3).
fn usual_port(scheme: &str) -> &'static str {
    let is = |known: &&str| scheme.eq_ignore_ascii_case(known);
    if ["http", "ws"].iter().any(is) {
        ":80"
    } else if ["https", "wss"].iter().any(is) {
        ":443"
    } else {
        ""
    }
}

/// Cuts off the port. An empty port means the usual one, too (RFC 3986, 3.2.3).
fn without<'a>(authority: &'a str, port: &str) -> &'a str {
    authority.strip_suffix(':').or(authority.strip_suffix(port)).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::{check, readers};
    use crate::wire::cross_origin::Readers;
    use crate::wire::http::{HeadLimits, HeadResult, parse_head};

    fn is_let_in(origin: &str, host: &str, allowed: &[&str]) -> bool {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n");
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        match parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => match check(&request, &allowed) {
                Ok(()) => {
                    assert_eq!(readers(request.origin, request.host, &allowed), Readers::of(origin));
                    true
                }
                Err(refusal) => {
                    let readers = readers(request.origin, request.host, &allowed);
                    assert_eq!(readers, Readers::NotThisPage, "{origin} may not read why");
                    assert_eq!((refusal.status.code(), refusal.code), (403, "forbidden_origin"));
                    assert!(refusal.message.contains("allowed_origins"), "{}", refusal.message);
                    false
                }
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_without_origin_is_let_in() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        match parse_head(head, HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => {
                assert_eq!(check(&request, &[]), Ok(()));
                let readers = readers(request.origin, request.host, &["*".to_owned()]);
                assert_eq!(readers, Readers::NotThisPage, "it names no page");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_without_host_needs_a_listed_origin() {
        let head = b"GET / HTTP/1.0\r\nOrigin: http://a\r\n\r\n";
        match parse_head(head, HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => {
                assert!(check(&request, &[]).is_err() && check(&request, &["http://a".to_owned()]).is_ok());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_of_the_same_host_and_port_is_let_in() {
        let table = [
            ("http://a:20555", "a:20555", true),
            ("HTTP://A:20555", "a:20555", true),
            ("chrome-extension://a", "a", false),
            ("file://a", "a", false),
            ("http://a", "A", true),
            ("http://a:80", "a", true),
            ("http://a", "a:80", true),
            ("https://a", "a", true),
            ("https://a", "a:443", true),
            ("https://a:443", "a", true),
            ("https://a:8443", "a:8443", true),
            ("http://a", "a:", true),
            ("http://[::1]:20555", "[::1]:20555", true),
            ("http://[::1]", "[::1]:80", true),
            ("https://a", "a:80", false),
            ("http://a", "a:443", false),
            ("http://a:20555", "a", false),
            ("http://a", "a:20555", false),
            ("http://a:20555", "a:20556", false),
            ("http://b:20555", "a:20555", false),
            ("http://a.evil", "a", false),
            ("http://evil-a", "a", false),
            ("http://a:20555/", "a:20555", true),
            ("http://localhost/", "localhost", true),
            ("localhost:20555", "localhost:20555", true),
            ("LocalHost:20555/", "localhost:20555", true),
            ("[::1]:20555", "[::1]:20555", true),
            ("a", "a", true),
            ("a", "a:", true),
            ("a", "a:80", false),
            ("a:80", "a", false),
            ("localhost:20556", "localhost:20555", false),
            ("localhost", "localhost:20555", false),
            ("http://localhost/", "localhost:20555", false),
            ("http://a:20555//", "a:20555", false),
            ("http://a:20555/x", "a:20555", false),
            ("a:20555/x", "a:20555", false),
            ("//a", "a", false),
            ("/", "a", false),
            ("http://a:20555@evil", "a:20555", false),
            ("http://evil#a", "a", false),
            ("http://localhost:1", "127.0.0.1:1", false),
            ("http://", "a", false),
            ("null", "null", false),
            ("", "a", false),
            ("http://a http://b", "b", false),
        ];
        for (origin, host, expected) in table {
            assert_eq!(is_let_in(origin, host, &[]), expected, "{origin} at {host}");
        }
    }

    #[test]
    fn the_list_lets_in_exactly_what_it_names() {
        let table = [
            ("https://app.example", &["https://app.example"][..], true),
            ("https://APP.example:443", &["https://app.example"], true),
            ("https://app.example", &["https://app.example:443"], true),
            ("https://app.example", &["http://b", "https://app.example"], true),
            ("http://app.example", &["https://app.example"], false),
            ("https://app.example:8443", &["https://app.example"], false),
            ("https://app.example.evil", &["https://app.example"], false),
            ("https://x.app.example", &["https://app.example"], false),
            ("chrome-extension://abc", &["chrome-extension://abc"], true),
            ("null", &["null"], true),
            ("null", &["https://app.example"], false),
            ("https://app.example", &["null"], false),
            ("null", &["*"], true),
            ("", &["*"], true),
            ("*", &["https://app.example"], false),
            ("https://anything:1", &["*"], true),
        ];
        for (origin, allowed, expected) in table {
            assert_eq!(is_let_in(origin, "a:1", allowed), expected, "{origin} with {allowed:?}");
        }
    }
}
