//! Which host names a request over loopback may use.
//!
//! A page on the internet can point its own name at this machine (DNS rebinding). The browser then sees the daemon as
//! the page's own origin, and `Origin` agrees with `Host`: only the name itself gives it away. That name is never
//! localhost or an address, which nobody can rebind.

use std::net::IpAddr;

use crate::wire::http::{Refusal, Request};

/// The allowed names besides localhost and loopback addresses.
pub struct Hosts {
    /// Without ports.
    names: Vec<String>,
    /// Every name is allowed.
    is_any: bool,
}

impl Hosts {
    /// `allowed_hosts` has names without a port, or `*` for all. `allowed_origins` has `scheme://host[:port]`, whose
    /// host is allowed as well, `null` or `*`, which name no host.
    pub fn new(allowed_hosts: &[String], allowed_origins: &[String]) -> Self {
        let of_origins = allowed_origins.iter().filter_map(|origin| origin.split_once("://"));
        let of_origins = of_origins.map(|(_, authority)| without_port(authority).to_owned());
        Self {
            names: allowed_hosts.iter().cloned().chain(of_origins).collect(),
            is_any: allowed_hosts.iter().any(|host| host == "*"),
        }
    }

    /// Lets in every request that does not come over loopback. Over loopback it needs an allowed name; in HTTP/1.0,
    /// which no browser speaks, it may have none. `peer` is the other end of the connection itself, even if that is a
    /// proxy.
    ///
    /// # Errors
    /// 421.
    pub fn check(&self, request: &Request<'_>, peer: IpAddr) -> Result<(), Refusal> {
        match request.host {
            Some(host) if peer.to_canonical().is_loopback() && !self.are(host) => {
                Err(Refusal::forbidden_host(host))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn are(&self, host: &str) -> bool {
        let name = without_port(host);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        self.is_any || is("localhost") || is_loopback(name) || self.names.iter().any(|known| is(known))
    }
}

/// An IPv6 address is in brackets (RFC 3986, 3.2.2); no port follows the colons inside.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

/// The unspecified address (`0.0.0.0`, `[::]`) counts too: a machine reaches itself by it. It is in the ready line of
/// a daemon that listens everywhere, and nobody can rebind it either.
fn is_loopback(name: &str) -> bool {
    let address = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').and_then(|inner| inner.parse().ok()).map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    };
    address.is_some_and(|address| address.to_canonical().is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::Hosts;
    use crate::wire::http::{HeadLimits, HeadResult, parse_head};

    /// Whether a request with this text is let in from `peer`.
    fn is_let_in(text: &str, peer: &str, hosts: &Hosts) -> bool {
        match parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => match hosts.check(&request, peer.parse().unwrap()) {
                Ok(()) => true,
                Err(refusal) => {
                    assert_eq!((refusal.status.code(), refusal.code), (421, "forbidden_host"));
                    assert!(refusal.message.contains("allowed_hosts"), "{}", refusal.message);
                    false
                }
            },
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn hosts(allowed_hosts: &[&str], allowed_origins: &[&str]) -> Hosts {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        Hosts::new(&owned(allowed_hosts), &owned(allowed_origins))
    }

    fn asked_by(host: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
    }

    #[test]
    fn over_loopback_only_names_that_nobody_can_rebind_are_allowed() {
        let table = [
            ("localhost", true),
            ("LOCALHOST:20555", true),
            ("localhost:", true),
            ("127.0.0.1:20555", true),
            ("127.9.8.7", true),
            ("[::1]", true),
            ("[::1]:20555", true),
            ("[0:0:0:0:0:0:0:1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("evil.example:20555", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.localhost", false),
            ("localhost:1:2", false),
            ("xlocalhost", false),
            ("0.0.0.0:20555", true),
            ("[::]:20555", true),
            ("10.0.0.1", false),
            ("127.1", false),
            ("2130706433", false),
            ("[127.0.0.1]", false),
            ("[::1", false),
            ("null", false),
            ("*", false),
        ];
        for (host, expected) in table {
            for peer in ["127.0.0.1", "127.0.0.7", "::1", "::ffff:127.0.0.1"] {
                assert_eq!(is_let_in(&asked_by(host), peer, &hosts(&[], &["null", "*"])), expected, "{host}");
            }
            assert!(is_let_in(&asked_by(host), "192.0.2.1", &hosts(&[], &[])), "{host} from elsewhere");
        }
    }

    #[test]
    fn settings_allow_further_hosts() {
        let named =
            hosts(&["workflows.example", "192.0.2.1", "[2001:db8::1]"], &["https://ui.example:3000", "null"]);
        for (host, expected) in [
            ("workflows.example", true),
            ("Workflows.Example:8443", true),
            ("192.0.2.1:1", true),
            ("[2001:DB8::1]:1", true),
            ("ui.example", true),
            ("ui.example:1", true),
            ("localhost", true),
            ("x.workflows.example", false),
            ("workflows.example.evil", false),
            ("null", false),
        ] {
            assert_eq!(is_let_in(&asked_by(host), "127.0.0.1", &named), expected, "{host}");
        }
        assert!(is_let_in(&asked_by("anything.example"), "::1", &hosts(&["*"], &[])));
    }

    #[test]
    fn the_target_goes_before_host_and_http_1_0_needs_neither() {
        let none = hosts(&[], &[]);
        let is_let_in = |text: &str| is_let_in(text, "127.0.0.1", &none);
        assert!(!is_let_in("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert!(is_let_in("GET ws://localhost:1/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"));
        assert!(is_let_in("GET / HTTP/1.0\r\n\r\n"));
        assert!(!is_let_in("GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n"));
    }
}
