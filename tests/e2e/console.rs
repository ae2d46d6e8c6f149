//! The live page over HTTP: its files, what goes with each answer, and what it must not do to those who watch.

use flate2::read::GzDecoder;
use std::io::Read;

use crate::harness::{Daemon, Raw};

/// An answer, whatever it is: status, fields in lower case, body as it came.
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }
}

fn read(mut raw: Raw) -> Answer {
    let head = raw.read_head();
    while raw.fill() > 0 {}
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("an HTTP answer");
    let fields = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status[..3].parse().expect("a status"),
        fields: fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: raw.buffer,
    }
}

fn ask(daemon: &Daemon, method: &str, target: &str, fields: &str) -> Answer {
    let mut raw = daemon.raw();
    raw.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
    read(raw)
}

fn get(daemon: &Daemon, target: &str) -> Answer {
    ask(daemon, "GET", target, "")
}

/// Path and type of everything that the page is made of.
const FILES: [(&str, &str); 5] = [
    ("/console/", "text/html; charset=utf-8"),
    ("/console/index.html", "text/html; charset=utf-8"),
    ("/console/console.css", "text/css; charset=utf-8"),
    ("/console/console.js", "text/javascript; charset=utf-8"),
    ("/console/icon.svg", "image/svg+xml"),
];

#[test]
fn each_file_of_the_page_comes_with_its_type_and_keeps_browsers_strict() {
    let daemon = Daemon::start(&[]);
    for (path, content_type) in FILES {
        let answer = get(&daemon, path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.field("content-type"), Some(content_type), "{path}");
        assert_eq!(answer.field("content-length"), Some(answer.body.len().to_string().as_str()), "{path}");
        assert!(!answer.body.is_empty(), "{path}");
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(answer.field("cache-control"), Some("no-cache"));
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        assert_strict(&answer, path);
    }
}

fn assert_strict(answer: &Answer, path: &str) {
    let policy = answer.field("content-security-policy").unwrap_or_else(|| panic!("{path} has no policy"));
    let directives: Vec<&str> = policy.split("; ").collect();
    let expected = [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ];
    assert_eq!(directives, expected, "{path}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{path}");
    }
}

#[test]
fn who_takes_gzip_gets_the_same_in_fewer_bytes() {
    let daemon = Daemon::start(&[]);
    for (path, _) in FILES {
        let plain = get(&daemon, path);
        assert_eq!(plain.field("content-encoding"), None);
        let packed = ask(&daemon, "GET", path, "Accept-Encoding: gzip, deflate, br\r\n");
        assert_eq!(packed.field("content-encoding"), Some("gzip"));
        assert_eq!(packed.field("content-length"), Some(packed.body.len().to_string().as_str()));
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).expect("gzip");
        assert!(unpacked == plain.body, "{path}");
        assert!(packed.body.len() < plain.body.len(), "{path}");
        let refused = ask(&daemon, "GET", path, "Accept-Encoding: gzip;q=0\r\n");
        assert!(refused.field("content-encoding").is_none() && refused.body == plain.body, "{path}");
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    let daemon = Daemon::start(&[]);
    for (path, _) in FILES {
        let first = get(&daemon, path);
        let tag = first.field("etag").expect("a tag");
        for fields in [format!("If-None-Match: {tag}\r\n"), format!("If-None-Match: \"x\", {tag}\r\n")] {
            let again = ask(&daemon, "GET", path, &format!("{fields}Accept-Encoding: gzip\r\n"));
            assert_eq!((again.status, again.field("etag")), (304, Some(tag)), "{path}");
            assert!(again.body.is_empty() && again.field("content-length").is_none(), "{path}");
            assert_strict(&again, path);
        }
        let other = ask(&daemon, "GET", path, "If-None-Match: W/\"of-another-version\"\r\n");
        assert!(other.status == 200 && other.body == first.body, "{path}");
    }
}

#[test]
fn a_head_request_is_told_what_a_get_would_be() {
    let daemon = Daemon::start(&[]);
    for (path, _) in FILES {
        for fields in ["", "Accept-Encoding: gzip\r\n"] {
            let of_get = ask(&daemon, "GET", path, fields);
            let of_head = ask(&daemon, "HEAD", path, fields);
            assert_eq!((of_head.status, &of_head.fields), (200, &of_get.fields), "{path}");
            assert!(of_head.body.is_empty(), "{path}");
        }
    }
    let missing = ask(&daemon, "HEAD", "/console/missing.js", "");
    assert!(missing.status == 404 && missing.body.is_empty());
}

#[test]
fn unknown_files_and_other_methods_are_refused_as_everywhere() {
    let daemon = Daemon::start(&[]);
    for path in ["/console/missing.js", "/console/page/", "/console//", "/console/%63onsole.js", "/consoles"]
    {
        let answer = get(&daemon, path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text().starts_with(r#"{"error":"not_found","message":""#), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(&daemon, method, "/console/console.js", "Content-Length: 0\r\n");
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{method}");
        assert!(answer.text().starts_with(r#"{"error":"method_not_allowed","#), "{method}");
    }
}

#[test]
fn heads_are_judged_by_the_same_rules_on_the_page() {
    let daemon = Daemon::start(&["--handshake-seconds", "3600"]);
    let table: [(&str, u16); 9] = [
        ("GET /console/ HTTP/1.1\n", 400),
        ("GET /console/ HTTP/1.1\r\nHost: a\r\n folded", 400),
        ("GET /console/ HTTP/1.1\r\nAccept: x\r\n\r\n", 400),
        ("GET /console/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /console/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 400),
        ("HEAD /console/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET /console/ HTTP/1.0", 505),
        ("GET /console/\u{1}", 400),
        ("GET /console/#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ];
    for (text, status) in table {
        let mut raw = daemon.raw();
        raw.send(text.as_bytes());
        assert_eq!(read(raw).status, status, "{text:?}");
    }
    let long = format!("GET /console/?{}", "x".repeat(4096));
    let mut raw = daemon.raw();
    raw.send(long.as_bytes());
    assert_eq!(read(raw).status, 414);
    assert_eq!(get(&daemon, "/console/?x=%zz&token=y").status, 200, "a query means nothing here");
    assert_eq!(get(&daemon, "http://localhost/console/").status, 200);
}

/// As a browser finds what a relative address means (RFC 3986, 5.2.3).
fn resolve(base: &str, reference: &str) -> String {
    let directory = &base[..=base.rfind('/').expect("a path has a slash")];
    format!("{directory}{}", reference.trim_start_matches("./"))
}

#[test]
fn the_page_works_below_any_path_of_a_proxy() {
    let daemon = Daemon::start(&[]);
    for prefix in ["", "/tools/live"] {
        // What the proxy cuts off before it asks the daemon.
        let through =
            |path: &str| get(&daemon, path.strip_prefix(prefix).expect("it stays below the prefix"));
        let entrance = through(&format!("{prefix}/console?job=a"));
        assert_eq!((entrance.status, entrance.text()), (308, ""));
        assert_strict(&entrance, "/console");
        let location = entrance.field("location").expect("it leads somewhere");
        let page_path = resolve(&format!("{prefix}/console"), location);
        assert_eq!(page_path, format!("{prefix}/console/?job=a"));
        let page_path = page_path.trim_end_matches("?job=a");
        let page = through(page_path);
        assert_eq!(page.status, 200);
        let links = ["src=\"", "href=\""].into_iter().flat_map(|link| page.text().split(link).skip(1));
        let links: Vec<&str> = links.map(|rest| rest.split('"').next().expect("it ends")).collect();
        assert!(links.len() >= 3, "{links:?}");
        for link in links {
            assert!(!link.starts_with('/') && !link.contains(':'), "{link} leaves the page's place");
            assert_eq!(through(&resolve(page_path, link)).status, 200, "{link}");
        }
    }
}

#[test]
fn the_page_is_open_where_tokens_are_asked_for_and_counts_as_a_visit() {
    let scratch = crate::harness::Scratch::new();
    let tokens = scratch.path().join("tokens");
    std::fs::write(&tokens, "secret all\n").expect("the directory can be written");
    let tokens = tokens.to_str().expect("the path is UTF-8");
    let flags = ["--token-file", tokens, "--trusted-proxies", "127.0.0.1", "--handshakes-per-second", "2"];
    let daemon = Daemon::start(&flags);
    let visit = |client: &str| {
        ask(&daemon, "GET", "/console/", &format!("X-Forwarded-For: {client}\r\nOrigin: http://other\r\n"))
    };
    let statuses: Vec<u16> = (0..30).map(|_| visit("203.0.113.7").status).collect();
    assert_eq!(statuses[0], 200, "neither token nor origin is looked at");
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(visit("203.0.113.8").status, 200, "others are not affected");
}
