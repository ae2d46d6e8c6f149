//! The gate before the upgrade: which web pages may connect, whose connection it is, and how many come at once.

use std::net::SocketAddr;

use crate::harness::client::Refused;
use crate::harness::{Daemon, Raw};

const EVENTS: &str = "/api/ws/events";

/// A correct request to upgrade, with these fields besides; a `Host` among them stands for the usual one.
fn request_with(path: &str, fields: &[&str]) -> String {
    let request = Raw::upgrade_request(path);
    let request = match fields.iter().any(|field| field.starts_with("Host:")) {
        true => request.replace("Host: localhost\r\n", ""),
        false => request,
    };
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    request.replace("\r\n\r\n", &format!("\r\n{fields}\r\n"))
}

/// A connection that was let in, or the refusal.
fn knock(address: SocketAddr, path: &str, fields: &[&str]) -> Result<Raw, Refused> {
    let mut raw = Raw::connect(address);
    raw.send(request_with(path, fields).as_bytes());
    while !raw.buffer.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        assert!(raw.fill() > 0, "an answer");
    }
    match raw.buffer.starts_with(b"HTTP/1.1 101 ") {
        true => {
            raw.read_head();
            Ok(raw)
        }
        false => Err(raw.read_answer()),
    }
}

/// Status and word of the refusal; 101 for a connection that was let in.
fn verdict(address: SocketAddr, path: &str, fields: &[&str]) -> (u16, String) {
    match knock(address, path, fields) {
        Ok(_) => (101, String::new()),
        Err(refused) => (refused.status, refused.code()),
    }
}

#[test]
fn pages_of_other_origins_are_refused_and_told_which_setting_lets_them_in() {
    let daemon = Daemon::start(&["--allowed-origins", "https://app.example", "--allowed-origins", "null"]);
    let port = daemon.address.port();
    let own = format!("Origin: http://localhost:{port}");
    let host = format!("Host: localhost:{port}");
    let table: [(&[&str], u16); 8] = [
        (&[], 101),
        (&[&host, &own], 101),
        (&["Origin: https://app.example"], 101),
        (&["Origin: null"], 101),
        (&[&host, "Origin: http://localhost:1"], 403),
        (&["Origin: http://app.example"], 403),
        (&["Origin: https://evil.example"], 403),
        (&["Origin: https://evil.example", "X-Forwarded-Host: evil.example"], 403),
    ];
    for path in
        [EVENTS, "/api/v1/ws/jobs/j/monitor", "/api/ws/jobs/j/debug", "/api/ws/flows/f/monitor", "/api/v1/ws"]
    {
        for (fields, status) in table {
            assert_eq!(verdict(daemon.address, path, fields).0, status, "{path} {fields:?}");
        }
    }
    // Of several refusals in a second only one is logged: a daemon of its own.
    let daemon = Daemon::start(&[]);
    let refused = knock(daemon.address, EVENTS, &["Origin: https://evil.example"]).err().expect("a refusal");
    assert_eq!(refused.code(), "forbidden_origin");
    for word in ["https://evil.example", "allowed_origins"] {
        assert!(refused.body.contains(word), "{}", refused.body);
        daemon.wait_for_log(word);
    }
    let anyone = Daemon::start(&["--allowed-origins", "*"]);
    assert_eq!(verdict(anyone.address, EVENTS, &["Origin: https://evil.example"]).0, 101);
}

#[test]
fn the_origin_comes_after_path_and_method_and_before_id_and_parameters() {
    let daemon = Daemon::start(&[]);
    let evil = "Origin: https://evil.example";
    assert_eq!(verdict(daemon.address, "/nowhere", &[evil]).0, 404);
    assert_eq!(verdict(daemon.address, "/api/ws/jobs/%/monitor", &[evil]).1, "forbidden_origin");
    assert_eq!(verdict(daemon.address, "/api/ws/events?since=x", &[evil]).1, "forbidden_origin");
    let post = request_with(EVENTS, &[evil]).replace("GET", "POST");
    assert_eq!(daemon.raw().request(&post).status, 405);
    let health = request_with("/healthz", &[evil]);
    assert_eq!(daemon.raw().request(&health).status, 200);
}
