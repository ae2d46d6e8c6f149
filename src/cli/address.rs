//! Parses the daemon's address: one to connect to, or one copied from a browser's address bar or from a program.

use std::fmt;
use std::net::Ipv6Addr;

use crate::wire::line::is_id;
use crate::wire::query::pairs;
use crate::wire::text::{decode, digits};

/// The port that the daemon listens on by default.
const PORT: u16 = 20555;

/// A base URL: the daemon's paths are appended to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub is_tls: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or a path that begins with a slash and does not end with one.
    pub prefix: String,
}

impl Default for Address {
    fn default() -> Self {
        Self { is_tls: false, host: "127.0.0.1".to_owned(), port: PORT, prefix: String::new() }
    }
}

/// As in a `Host` field: the scheme's own port is left out (RFC 9110, 7.2).
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(formatter, "[{}]", self.host)?,
            false => formatter.write_str(&self.host)?,
        }
        match self.port == if self.is_tls { 443 } else { 80 } {
            true => Ok(()),
            false => write!(formatter, ":{}", self.port),
        }
    }
}

/// An address with what its path, query and fragment ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pasted {
    pub address: Address,
    pub job: Option<String>,
    pub flow: Option<String>,
    pub is_debug: bool,
    /// The endpoint where clients name jobs after connecting, so the address does not say what to watch.
    pub is_multi_job: bool,
    /// From the query, decoded.
    pub since: Option<String>,
    pub events: Option<String>,
    pub token: Option<String>,
}

/// Reads `ws://HOST:PORT` and its variants: `wss`, `http`, `https`, no scheme, a path before the daemon's own, the
/// page's address with `#job=`, and the address of every endpoint.
///
/// # Errors
/// What is wrong with the address. The text is not repeated, since it may hold a token.
pub fn read(text: &str) -> Result<Pasted, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has a space or another character that no URL may have".to_owned());
    }
    let (is_tls, default_port, rest) = match text.split_once("://") {
        None => (false, PORT, text),
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => (false, 80, rest),
            "wss" | "https" => (true, 443, rest),
            _ => return Err("must begin with ws://, wss://, http:// or https://, or be HOST:PORT".to_owned()),
        },
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority)?;
    let port = port.unwrap_or(default_port);
    let address = Address { is_tls, host, port, prefix: String::new() };
    let mut pasted = Pasted { address, ..Pasted::default() };
    read_rest(rest, &mut pasted)?;
    Ok(pasted)
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), String> {
    if authority.contains('@') {
        return Err(
            "must not contain a user or password: give the token with --token or LUXCAST_TOKEN".to_owned()
        );
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').unwrap_or_default();
            if host.parse::<Ipv6Addr>().is_err() {
                return Err("must have an IPv6 address in its brackets".to_owned());
            }
            match port.strip_prefix(':') {
                None if !port.is_empty() => {
                    return Err("must be like http://HOST:PORT or ws://HOST:PORT".to_owned());
                }
                port => (host, port),
            }
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("must have its IPv6 address in brackets".to_owned());
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err("must be like http://HOST:PORT or ws://HOST:PORT".to_owned());
    }
    // An empty port, as from an unset variable, is refused too: the scheme's own port belongs to another server.
    let port = port.map(|port| {
        let number = digits(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        number.ok_or_else(|| "has a port that is not a number from 1 to 65535".to_owned())
    });
    Ok((host.to_owned(), port.transpose()?))
}

/// Reads path, query and fragment.
fn read_rest(rest: &str, pasted: &mut Pasted) -> Result<(), String> {
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let own = own_path(path);
    let prefix = own.map_or(path, |start| &path[..start]);
    pasted.address.prefix = prefix.trim_end_matches('/').to_owned();
    if let Some(start) = own {
        read_own_path(&path[start..], pasted)?;
    }
    if let Some(id) = fragment.strip_prefix("job=") {
        pasted.job = Some(decoded_id(id)?);
    } else if own.is_none() && pairs(query).any(|(name, _)| is_of_token(name.as_deref())) {
        return Err("must not hold the token: give that with --token or LUXCAST_TOKEN".to_owned());
    } else if !fragment.is_empty() || (own.is_none() && !query.is_empty()) {
        return Err(
            "must be like http://HOST:PORT or ws://HOST:PORT, or the address of the live page or of an endpoint".to_owned()
        );
    }
    for (name, value) in pairs(query) {
        let member = match name.as_deref() {
            Some("since") => &mut pasted.since,
            Some("events") => &mut pasted.events,
            name if is_of_token(name) => &mut pasted.token,
            _ => continue,
        };
        *member = Some(decoded(value)?).filter(|value| !value.is_empty());
    }
    Ok(())
}

fn is_of_token(parameter: Option<&str>) -> bool {
    matches!(parameter, Some("token" | "api_key"))
}

/// Where the daemon's own path begins.
fn own_path(path: &str) -> Option<usize> {
    let places = ["/console", "/api"].into_iter().filter_map(|own| {
        let mut found = path.match_indices(own).map(|(place, _)| place);
        found.find(|place| matches!(path.as_bytes().get(place + own.len()), None | Some(b'/')))
    });
    places.min()
}

fn read_own_path(path: &str, pasted: &mut Pasted) -> Result<(), String> {
    let path = path.trim_end_matches('/');
    if path.starts_with("/console") {
        return Ok(());
    }
    let endpoint =
        ["/api/v1/websocket", "/api/v1/ws", "/api/ws"].into_iter().find_map(|own| path.strip_prefix(own));
    let parts: Vec<&str> = endpoint.unwrap_or("/none").split('/').collect();
    match parts[..] {
        [""] => pasted.is_multi_job = true,
        ["", "events"] => {}
        ["", "jobs", id, view @ ("monitor" | "debug")] => {
            pasted.job = Some(decoded_id(id)?);
            pasted.is_debug = view == "debug";
        }
        ["", "flows", id, "monitor"] => pasted.flow = Some(decoded_id(id)?),
        _ => return Err("has a path that luxcast does not serve".to_owned()),
    }
    Ok(())
}

fn decoded_id(text: &str) -> Result<String, String> {
    let id = decoded(text)?;
    if is_id(&id) { Ok(id) } else { Err("names a job or a flow with an invalid id".to_owned()) }
}

fn decoded(text: &str) -> Result<String, String> {
    decode(text).map(Into::into).ok_or_else(|| "has a % escape that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Pasted, read};

    /// The parsed parts as text, separated by spaces.
    fn shown(text: &str) -> String {
        let Pasted { address, job, flow, is_debug, is_multi_job, since, events, token } =
            read(text).expect(text);
        let mut shown = format!("{} {} {}", address.is_tls, address.host, address.port);
        let prefix = Some(address.prefix).filter(|prefix| !prefix.is_empty());
        for part in [prefix, job, flow].into_iter().flatten() {
            shown.push_str(&format!(" {part}"));
        }
        if is_debug {
            shown.push_str(" debug");
        }
        if is_multi_job {
            shown.push_str(" multi-job");
        }
        for (name, value) in [("since", since), ("events", events), ("token", token)] {
            if let Some(value) = value {
                shown.push_str(&format!(" {name}={value}"));
            }
        }
        shown
    }

    #[test]
    fn an_address_may_be_written_as_people_have_it() {
        for (text, expected) in [
            ("ws://127.0.0.1:20555", "false 127.0.0.1 20555"),
            ("WSS://daemon.example", "true daemon.example 443"),
            ("http://127.0.0.1:1", "false 127.0.0.1 1"),
            ("https://h/", "true h 443"),
            ("ws://h", "false h 80"),
            ("h:65535", "false h 65535"),
            ("localhost", "false localhost 20555"),
            ("[::1]:9", "false ::1 9"),
            ("ws://[::1]//", "false ::1 80"),
            ("wss://h:1/live/luxcast/", "true h 1 /live/luxcast"),
            ("http://h:1/console/", "false h 1"),
            ("http://h:1/console/#job=a%3A1", "false h 1 a:1"),
            ("https://h/live/console#job=..", "true h 443 /live .."),
            ("http://h:1/#job=j", "false h 1 j"),
            ("ws://h:1/api/ws/events?since=-10", "false h 1 since=-10"),
            ("ws://h:1/api/v1/ws/jobs/a/debug", "false h 1 a debug"),
            (
                "h:1/p/api/ws/jobs/a/monitor?events=x%2Cy&token=s%2Bt&z=1",
                "false h 1 /p a events=x,y token=s+t",
            ),
            ("ws://h:1/api/v1/ws/flows/f-1/monitor?api_key=k&since=", "false h 1 f-1 token=k"),
            ("ws://h:1/api/v1/websocket", "false h 1 multi-job"),
            ("ws://h:1/p/api/v1/ws/", "false h 1 /p multi-job"),
            ("ws://h:1/apis", "false h 1 /apis"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn an_invalid_address_is_never_taken_for_another() {
        for text in [
            "",
            "ws://",
            "ws://:1",
            "ws://h:",
            "ws://127.0.0.1:99999",
            "ws://h:0",
            "ws://h:-1",
            "ws://h:+1",
            "ws://h:1x",
            "h:port",
            "ws://h:1:2",
            "ws://::1:2",
            "ws://[::1",
            "ws://[::1]1",
            "ws://[h]:1",
            "ws://user:secret@h:1",
            "ftp://h",
            "ws://h?token=x",
            "ws://h:1/#flow=f",
            "ws://h:1/api/ws/jobs/a",
            "ws://h:1/api/ws/jobs/a%2Fb/monitor",
            "ws://h:1/metrics/api/none",
            "ws://h:1/console/#job=",
            "ws:// h:1",
            "ws://hö:1",
            "ws://h%41:1",
        ] {
            let problem = read(text).expect_err(text);
            assert!(!problem.contains("secret") && !problem.contains("token=x"), "{problem}");
        }
    }

    #[test]
    fn the_host_is_written_as_http_requires() {
        for (text, host) in [
            ("ws://h", "h"),
            ("wss://h:443", "h"),
            ("wss://h:80", "h:80"),
            ("[::1]:9", "[::1]:9"),
            ("h", "h:20555"),
        ] {
            assert_eq!(read(text).unwrap().address.to_string(), host);
        }
    }
}
