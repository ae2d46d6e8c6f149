//! The address of a NATS server: `nats://HOST:PORT` or `tls://USER:PASSWORD@HOST:PORT`. It never shows the secret in it.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::config::host::is_host;

/// Where NATS servers listen, unless the address says otherwise.
const PORT: u16 = 4222;

/// One of the addresses of the setting `bus`. Written out, it has `***` in place of what signs in.
#[derive(Clone, PartialEq, Eq)]
pub struct BusUrl {
    pub is_tls: bool,
    /// A name or an address; an IPv6 address is in brackets.
    pub host: String,
    pub port: u16,
    /// Only with `is_tls`.
    pub login: Option<BusLogin>,
}

/// Whom the address signs in as.
#[derive(Clone, PartialEq, Eq)]
pub enum BusLogin {
    Token(Zeroizing<String>),
    Password { user: String, password: Zeroizing<String> },
}

impl BusUrl {
    /// # Errors
    /// What is wrong with it, without the text: that may have a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        const SHAPE: &str = "is not an address such as nats://127.0.0.1:4222 or tls://nats.example:4222";
        let (scheme, rest) = text.split_once("://").ok_or(SHAPE)?;
        let is_tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(SHAPE.to_owned()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(BusLogin::parse(login)?), place),
            None => (None, rest),
        };
        if login.is_some() && !is_tls {
            return Err("has a password or token, which goes over tls:// only".to_owned());
        }
        let (host, port) = match place.rsplit_once(':') {
            // The colons of an IPv6 address are in brackets.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)),
            _ => (place, Some(PORT)),
        };
        let port = port.ok_or("has no port from 1 to 65535 behind its host")?;
        if !is_host(host) {
            return Err(SHAPE.to_owned());
        }
        Ok(Self { is_tls, host: host.to_owned(), port, login })
    }

    /// Without what signs in.
    pub fn address(&self) -> String {
        let scheme = if self.is_tls { "tls" } else { "nats" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    /// Whether the server is on this machine. Of names, only `localhost` says so.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

impl BusLogin {
    fn parse(text: &str) -> Result<Self, String> {
        let decode = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8().ok().filter(|part| !part.is_empty());
            decoded.map(String::from).ok_or("has an empty or unreadable part before its @")
        };
        Ok(match text.split_once(':') {
            Some((user, password)) => {
                Self::Password { user: decode(user)?, password: Zeroizing::new(decode(password)?) }
            }
            None => Self::Token(Zeroizing::new(decode(text)?)),
        })
    }
}

impl fmt::Display for BusUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address();
        match &self.login {
            None => formatter.write_str(&address),
            Some(_) => formatter.write_str(&address.replacen("://", "://***@", 1)),
        }
    }
}

/// The settings are logged in some places.
impl fmt::Debug for BusUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::{BusLogin, BusUrl};

    #[test]
    fn addresses() {
        for (text, shown, is_loopback) in [
            ("nats://127.0.0.1:4223", "nats://127.0.0.1:4223", true),
            ("nats://localhost", "nats://localhost:4222", true),
            ("nats://[::1]/", "nats://[::1]:4222", true),
            ("nats://[::ffff:127.0.0.1]:1", "nats://[::ffff:127.0.0.1]:1", true),
            ("tls://nats.example:1", "tls://nats.example:1", false),
            ("tls://[2001:db8::1]:7", "tls://[2001:db8::1]:7", false),
        ] {
            let url = BusUrl::parse(text).unwrap();
            assert_eq!((url.to_string(), url.is_loopback()), (shown.to_owned(), is_loopback));
            assert_eq!(BusUrl::parse(&url.to_string()), Ok(url));
        }
    }

    #[test]
    fn what_signs_in_is_read_and_never_shown() {
        let url = BusUrl::parse("tls://me:se%40cret@nats.example").unwrap();
        let password = |text: &str| zeroize::Zeroizing::new(text.to_owned());
        let expected = BusLogin::Password { user: "me".to_owned(), password: password("se@cret") };
        assert!(url.login == Some(expected));
        let token = BusUrl::parse("tls://se%63ret@nats.example").unwrap();
        assert!(token.login == Some(BusLogin::Token(password("secret"))));
        for url in [url, token] {
            for text in [format!("{url}"), format!("{url:?}"), format!("{:?}", vec![url.clone()])] {
                assert!(text.contains("tls://***@nats.example:4222"), "{text}");
            }
            assert_eq!(url.address(), "tls://nats.example:4222");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        for text in [
            "",
            "secret",
            "secret:4222",
            "ws://secret:1",
            "nats://",
            "nats://secret secret",
            "nats://secret:0",
            "nats://secret:65536",
            "nats://secret:",
            "nats://secret/path",
            "nats://::1",
            "nats://me:secret@127.0.0.1:4222",
            "nats://secret@127.0.0.1:4222",
            "tls://@secret:1",
            "tls://secret:@host:1",
            "tls://:secret@host:1",
            "tls://me:secret%ff@host:1",
            "tls://me:secret/@host:x",
        ] {
            let problem = BusUrl::parse(text).unwrap_err();
            assert!(!problem.contains("secret ") && !problem.contains("me:"), "{text}: {problem}");
        }
    }
}
