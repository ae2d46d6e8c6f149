//! Turns the text of a value into the value and back, for every source. An error says what is wrong with the text,
//! not where it came from.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use crate::config::bus_url::BusUrl;
use crate::config::fields::{Compression, Config, HttpPublish, JwtAlgorithm, LogFormat, Overrun};
use crate::config::host::is_host;

pub(super) const COMPRESSIONS: [(&str, Compression); 2] =
    [("on", Compression::On), ("off", Compression::Off)];
pub(super) const HTTP_PUBLISH: [(&str, HttpPublish); 3] =
    [("scope", HttpPublish::Scope), ("anyone", HttpPublish::Anyone), ("off", HttpPublish::Off)];
pub(super) const OVERRUNS: [(&str, Overrun); 2] = [("gap", Overrun::Gap), ("wait", Overrun::Wait)];

pub(super) const LOG_FORMATS: [(&str, LogFormat); 2] =
    [("human", LogFormat::Human), ("json", LogFormat::Json)];

pub(super) const LOG_LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The names of RFC 7518, 3.1, and RFC 8037, 3.1.
pub const JWT_ALGORITHMS: [(&str, JwtAlgorithm); 4] = [
    ("HS256", JwtAlgorithm::Hs256),
    ("RS256", JwtAlgorithm::Rs256),
    ("ES256", JwtAlgorithm::Es256),
    ("EdDSA", JwtAlgorithm::EdDsa),
];

/// `sun_path` of `sockaddr_un` holds 108 bytes, the last one NUL (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// More than anybody needs; the server's own bound on names of streams is 255.
const STREAM_NAME_BYTES_MAX: usize = 64;
const SUBJECT_BYTES_MAX: usize = 255;

pub(super) fn read_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

pub(super) fn read_count(text: &str, min: u64, max: u64) -> Result<usize, String> {
    let count = text.parse::<u64>().ok().filter(|count| (min..=max).contains(count));
    count
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| format!("`{text}` is not a whole number from {min} to {max}"))
}

pub(super) fn read_seconds(text: &str, min: f64, max: f64, or_zero: bool) -> Result<Duration, String> {
    let is_allowed = |seconds: &f64| (min..=max).contains(seconds) || (or_zero && *seconds == 0.0);
    // Neither NaN nor an infinity is within any bounds.
    let seconds = text.parse::<f64>().ok().filter(is_allowed);
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(|| {
        let zero = if or_zero && min > 0.0 { "0 or " } else { "" };
        format!("`{text}` is not {zero}a number of seconds from {min} to {max}")
    })
}

pub(super) fn store_word<T: Copy>(field: &mut T, words: &[(&str, T)], text: &str) -> Result<(), String> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        *field = *value;
        return Ok(());
    }
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(format!("`{text}` is not one of {}", words.join(", ")))
}

pub(super) fn show_word<T: PartialEq>(value: T, words: &[(&str, T)]) -> String {
    let row = words.iter().find(|(_, of_the_word)| *of_the_word == value);
    row.expect("each value has its word").0.to_string()
}

pub(super) fn store_listen(config: &mut Config, texts: &[String]) -> Result<(), String> {
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(texts.len());
    for text in texts {
        let address = read_address(text)?;
        if address.port() != 0 && addresses.contains(&address) {
            return Err(format!("`{text}` is given twice"));
        }
        addresses.push(address);
    }
    if addresses.is_empty() {
        return Err("needs at least one address".to_string());
    }
    config.listen = addresses;
    Ok(())
}

/// Written as in a variable; `none` for an empty list.
pub(super) fn show_list<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(T::to_string).collect();
    if texts.is_empty() { "none".to_string() } else { texts.join(",") }
}

/// The items of a list that may be empty, written `[]` or `none`, so that a stronger source can clear a weaker one's.
fn items(texts: &[String]) -> &[String] {
    match texts {
        [only] if only == "none" => &[],
        _ => texts,
    }
}

pub(super) fn store_allowed_origins(config: &mut Config, texts: &[String]) -> Result<(), String> {
    let texts = items(texts);
    if let Some(bad) = texts.iter().find(|text| !is_origin(text)) {
        return Err(format!(
            "`{bad}` is not an origin, such as https://app.example or http://localhost:3000, without a path; \
             nor null or *"
        ));
    }
    config.allowed_origins = texts.to_vec();
    Ok(())
}

pub(super) fn store_allowed_hosts(config: &mut Config, texts: &[String]) -> Result<(), String> {
    let texts = items(texts);
    if let Some(bad) = texts.iter().find(|text| *text != "*" && !is_host(text)) {
        return Err(format!(
            "`{bad}` is not a host, such as workflows.example, 192.0.2.1 or [2001:db8::1], without scheme, port and path; \
             nor *"
        ));
    }
    config.allowed_hosts = texts.to_vec();
    Ok(())
}

pub(super) fn store_trusted_proxies(config: &mut Config, texts: &[String]) -> Result<(), String> {
    let networks = items(texts).iter().map(|text| read_network(text));
    config.trusted_proxies = networks.collect::<Result<_, _>>()?;
    Ok(())
}

/// A network, or an address, which is a network of one.
fn read_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        format!("`{text}` is neither an address nor a network, such as 10.0.0.0/8 or 2001:db8::/32")
    })?;
    if network.trunc() != network {
        return Err(format!("`{text}` has bits set behind its prefix; did you mean {}?", network.trunc()));
    }
    match network {
        // Such a client's address counts as the IPv4 address that it is.
        IpNet::V6(mapped) if mapped.addr().to_ipv4_mapped().is_some() => {
            Err(format!("`{text}` is IPv4: write it as an IPv4 address or network"))
        }
        _ => Ok(network),
    }
}

/// `scheme "://" host [ ":" port ]` (RFC 6454, 7.1), `null` or `*`.
fn is_origin(text: &str) -> bool {
    if matches!(text, "null" | "*") {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    // RFC 3986, 3.1.
    let is_scheme = scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an IPv6 address are in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok() && !port.starts_with('+'));
    is_scheme && is_host(host) && is_port
}

/// An error does not quote the address, which may have a password.
pub(super) fn store_bus(config: &mut Config, texts: &[String]) -> Result<(), String> {
    let urls: Vec<BusUrl> = items(texts).iter().map(|text| BusUrl::parse(text)).collect::<Result<_, _>>()?;
    let is_twice =
        |(place, url): (usize, &BusUrl)| urls[..place].iter().any(|other| other.address() == url.address());
    if let Some((_, url)) = urls.iter().enumerate().find(|row| is_twice(*row)) {
        return Err(format!("{url} is given twice"));
    }
    config.bus = urls;
    Ok(())
}

/// Names of streams are parts of subjects, and of names of files.
pub(super) fn store_stream_name(field: &mut String, text: &str) -> Result<(), String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=STREAM_NAME_BYTES_MAX).contains(&text.len()) || !text.bytes().all(is_name) {
        return Err(format!(
            "`{text}` is not a name of letters, digits, - and _, of {STREAM_NAME_BYTES_MAX} at most"
        ));
    }
    text.clone_into(field);
    Ok(())
}

/// Subjects that begin with `$` or `_INBOX` belong to the server and to its clients.
pub(super) fn store_subject(field: &mut String, text: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"*>".contains(&byte);
    let is_good = text.split('.').all(|token| !token.is_empty() && token.bytes().all(is_plain));
    if !is_good || text.len() > SUBJECT_BYTES_MAX || text.starts_with('$') || text.starts_with("_INBOX") {
        return Err(format!("`{text}` is not one subject, such as luxcast.events, without wildcards"));
    }
    text.clone_into(field);
    Ok(())
}

pub(super) fn store_admin(config: &mut Config, text: &str) -> Result<(), String> {
    config.admin = match text {
        "off" => None,
        _ => Some(read_address(text).map_err(|problem| format!("{problem}, or off"))?),
    };
    Ok(())
}

pub(super) fn show_admin(config: &Config) -> String {
    config.admin.map_or("off".to_string(), |address| address.to_string())
}

fn read_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not an address and port, such as 127.0.0.1:20555 or [::1]:20555"))
}

pub(super) fn store_ingest(config: &mut Config, text: &str) -> Result<(), String> {
    check_socket_path(Path::new(text))?;
    config.ingest = Some(PathBuf::from(text));
    Ok(())
}

/// Refuses a path that no Unix socket can have (unix(7)).
fn check_socket_path(path: &Path) -> Result<(), String> {
    let length = path.as_os_str().len();
    if length == 0 {
        return Err("the path is empty".to_string());
    }
    if length > SOCKET_PATH_BYTES_MAX {
        let path = path.display();
        return Err(format!(
            "`{path}` has {length} bytes, but a socket's path has at most {SOCKET_PATH_BYTES_MAX}"
        ));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err("a path cannot hold a NUL".to_string());
    }
    Ok(())
}

/// Means no path or no word, so that a stronger source can clear one.
const NONE: &str = "none";

pub(super) fn store_path(field: &mut Option<PathBuf>, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the path is empty".to_string());
    }
    *field = (text != NONE).then(|| PathBuf::from(text));
    Ok(())
}

pub(super) fn show_path(path: Option<&Path>) -> String {
    path.map_or(NONE.to_string(), |path| path.display().to_string())
}

/// `none` means no algorithm at all, not the algorithm of that name, which signs nothing.
pub(super) fn store_algorithm(config: &mut Config, text: &str) -> Result<(), String> {
    if text == NONE {
        config.jwt_algorithm = None;
        return Ok(());
    }
    let mut algorithm = JwtAlgorithm::Hs256;
    store_word(&mut algorithm, &JWT_ALGORITHMS, text)?;
    config.jwt_algorithm = Some(algorithm);
    Ok(())
}

pub(super) fn show_algorithm(config: &Config) -> String {
    config.jwt_algorithm.map_or(NONE.to_string(), |algorithm| show_word(algorithm, &JWT_ALGORITHMS))
}

#[cfg(test)]
mod tests {
    use super::{
        LOG_LEVELS, OVERRUNS, SOCKET_PATH_BYTES_MAX, read_count, read_seconds, read_switch, show_list,
        store_admin, store_allowed_hosts, store_allowed_origins, store_ingest, store_listen,
        store_trusted_proxies, store_word,
    };
    use crate::config::{Config, Overrun};
    use std::time::Duration;
    use tracing::level_filters::LevelFilter;

    #[test]
    fn counts() {
        assert_eq!(read_count("1", 1, 64), Ok(1));
        assert_eq!(read_count("64", 1, 64), Ok(64));
        for text in ["0", "65", "-1", "1.0", "", " 1", "1e1", "0x10", "99999999999999999999999"] {
            let problem = read_count(text, 1, 64).unwrap_err();
            assert_eq!(problem, format!("`{text}` is not a whole number from 1 to 64"));
        }
    }

    #[test]
    fn seconds() {
        assert_eq!(read_seconds("0.25", 0.1, 10.0, false), Ok(Duration::from_millis(250)));
        assert_eq!(read_seconds("10", 0.1, 10.0, false), Ok(Duration::from_secs(10)));
        assert_eq!(read_seconds("0", 0.1, 10.0, true), Ok(Duration::ZERO));
        assert_eq!(read_seconds("-0.0", 0.1, 10.0, true), Ok(Duration::ZERO));
        for text in ["0", "0.09", "10.1", "-1", "NaN", "inf", "-inf", "1e400", "", "1s"] {
            let problem = read_seconds(text, 0.1, 10.0, false).unwrap_err();
            assert_eq!(problem, format!("`{text}` is not a number of seconds from 0.1 to 10"));
        }
        let problem = read_seconds("0.05", 0.1, 10.0, true).unwrap_err();
        assert_eq!(problem, "`0.05` is not 0 or a number of seconds from 0.1 to 10");
    }

    #[test]
    fn hosts() {
        let mut config = Config::default();
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let good = texts(&["workflows.example", "192.0.2.1", "[2001:db8::1]", "*"]);
        assert_eq!(store_allowed_hosts(&mut config, &good), Ok(()));
        assert_eq!(config.allowed_hosts, good);
        for bad in ["", "a:1", "http://a", "a/b", "2001:db8::1", "[x]", "a b", "*.example"] {
            let problem = store_allowed_hosts(&mut config, &texts(&[bad])).unwrap_err();
            assert!(problem.starts_with(&format!("`{bad}` is not a host")), "{problem}");
        }
        assert_eq!(store_allowed_hosts(&mut config, &texts(&["none"])), Ok(()));
        assert!(config.allowed_hosts.is_empty());
    }

    #[test]
    fn switches() {
        assert_eq!((read_switch("true"), read_switch("false")), (Ok(true), Ok(false)));
        assert_eq!(read_switch("1").unwrap_err(), "`1` is neither true nor false");
    }

    #[test]
    fn words() {
        let mut overrun = Overrun::Gap;
        assert_eq!(store_word(&mut overrun, &OVERRUNS, "wait"), Ok(()));
        assert_eq!(overrun, Overrun::Wait);
        let problem = store_word(&mut overrun, &OVERRUNS, "block").unwrap_err();
        assert_eq!(problem, "`block` is not one of gap, wait");
        let mut level = LevelFilter::INFO;
        assert_eq!(store_word(&mut level, &LOG_LEVELS, "trace"), Ok(()));
        assert_eq!(level, LevelFilter::TRACE);
    }

    #[test]
    fn addresses() {
        let mut config = Config::default();
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let both = texts(&["127.0.0.1:0", "[::1]:80", "127.0.0.1:0"]);
        assert_eq!(store_listen(&mut config, &both), Ok(()));
        assert_eq!(show_list(&config.listen), "127.0.0.1:0,[::1]:80,127.0.0.1:0");
        for bad in ["", "127.0.0.1", ":80", "localhost:80", "127.0.0.1:65536", "::1:80:"] {
            assert!(store_listen(&mut config, &texts(&[bad])).is_err(), "{bad}");
        }
        assert!(store_listen(&mut config, &[]).is_err());
        assert!(store_listen(&mut config, &texts(&["127.0.0.1:9", "127.0.0.1:9"])).is_err());
        assert_eq!(show_list(&config.listen), "127.0.0.1:0,[::1]:80,127.0.0.1:0");

        assert_eq!(store_admin(&mut config, "off"), Ok(()));
        assert_eq!(config.admin, None);
        assert!(store_admin(&mut config, "on").unwrap_err().ends_with(", or off"));
    }

    #[test]
    fn origins() {
        let mut config = Config::default();
        let mut store = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            store_allowed_origins(&mut config, &texts).map(|()| show_list(&config.allowed_origins))
        };
        for good in [
            "https://app.example",
            "http://localhost:3000",
            "HTTP://A.b-c:65535",
            "http://[::1]",
            "http://[2001:db8::1]:8080",
            "chrome-extension://abcdef",
            "null",
            "*",
        ] {
            assert_eq!(store(&[good]).as_deref(), Ok(good));
        }
        assert_eq!(store(&["null", "http://a"]).as_deref(), Ok("null,http://a"));
        for bad in [
            "",
            "app.example",
            "//app.example",
            "https://",
            "https://app.example/",
            "https://app.example/page",
            "https://user@app.example",
            "https://*.example",
            "https://app.example:",
            "https://app.example:65536",
            "https://app.example:+1",
            "https://a:1:2",
            "https://[::1",
            "https://[x]",
            "https://a b",
            "https://\u{FC}.example",
            "1http://a",
            "Null",
            "none",
        ] {
            let problem = store(&["http://a", bad]).unwrap_err();
            assert!(problem.starts_with(&format!("`{bad}` is not an origin, such as ")), "{problem}");
        }
        assert_eq!(store(&[]).as_deref(), Ok("none"));
        assert_eq!(store(&["none"]).as_deref(), Ok("none"));
    }

    #[test]
    fn networks() {
        let mut config = Config::default();
        let mut store = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            store_trusted_proxies(&mut config, &texts).map(|()| show_list(&config.trusted_proxies))
        };
        let all = store(&["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "0.0.0.0/0"]);
        assert_eq!(all.as_deref(), Ok("10.0.0.0/8,192.0.2.1/32,2001:db8::/32,::1/128,0.0.0.0/0"));
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "proxy.example",
            "10.0.0.1:80",
            "[::1]",
            "10.0.0.0/",
            "fe80::1%eth0",
        ] {
            let problem = store(&["::1", bad]).unwrap_err();
            assert!(
                problem.starts_with(&format!("`{bad}` is neither an address nor a network, ")),
                "{problem}"
            );
        }
        let problem = store(&["10.0.0.1/8"]).unwrap_err();
        assert_eq!(problem, "`10.0.0.1/8` has bits set behind its prefix; did you mean 10.0.0.0/8?");
        assert!(store(&["::ffff:10.0.0.0/104"]).unwrap_err().contains("IPv4"));
        assert_eq!(store(&["none"]).as_deref(), Ok("none"));
    }

    #[test]
    fn a_socket_path_fits_into_its_address() {
        let mut config = Config::default();
        let longest = format!("/{}", "a".repeat(SOCKET_PATH_BYTES_MAX - 1));
        assert_eq!(store_ingest(&mut config, &longest), Ok(()));
        assert_eq!(config.ingest_path().to_str(), Some(longest.as_str()));
        for bad in ["", "a\0b", &format!("{longest}a")] {
            assert!(store_ingest(&mut config, bad).is_err(), "{bad:?}");
        }
    }
}
