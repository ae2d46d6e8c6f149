//! TLS on the listeners: the same daemon behind it, what its handshakes accept, and which certificates are valid.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, HandshakeKind, StreamOwned, version};

use crate::corpus::{node, python};
use crate::harness::tls::{Certificates, PATH, Stream, dial, over, shake_hands, try_watch, watch};
use crate::harness::{Client, Daemon, PATIENCE, Raw, luxcast, seq_of, wait_until};

const MIB: usize = 1 << 20;

fn line(number: usize, bytes: usize) -> String {
    format!(r#"{{"type":"x","job_id":"j","number":{number},"text":"{}"}}"#, "t".repeat(bytes))
}

/// Publishes this many events of this size from this number on, in parts so that readers can follow.
fn publish(daemon: &Daemon, from: usize, count: usize, bytes: usize) -> u64 {
    let mut feed = daemon.acked_feed();
    let lines: Vec<String> = (from..from + count).map(|number| line(number, bytes)).collect();
    let mut newest = 0;
    for part in lines.chunks(200) {
        newest = feed.publish(part.iter().map(String::as_str));
    }
    newest
}

#[test]
fn both_versions_are_spoken_and_the_ready_line_says_so() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().start();
    assert!(daemon.ready_lines[0].starts_with("listening wss://127.0.0.1:"), "{:?}", daemon.ready_lines);
    assert!(daemon.ready_lines[1].starts_with("admin http://"), "{:?}", daemon.ready_lines);
    assert_eq!(daemon.admin_get("/healthz"), (200, "ok\n".to_owned()));
    for (version, name) in [
        (&version::TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&version::TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let mut config = certificates.client(&[version]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut watcher = watch(daemon.address, &Arc::new(config), PATH);
        let session = &watcher.socket.get_ref().conn;
        assert_eq!(session.protocol_version(), Some(name));
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        watcher.connected();
        let newest = publish(&daemon, 0, 1, 10);
        assert_eq!(seq_of(&watcher.event()), Some(newest));
        assert_eq!(watcher.ask(r#"{"action":"ping"}"#)["type"], "pong");
    }
}

#[test]
fn a_client_with_only_other_protocols_is_refused_with_a_reason() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().start();
    let mut config = certificates.client(rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut stream = dial(daemon.address, &Arc::new(config));
    let error = shake_hands(&mut stream).unwrap_err();
    let alert = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(alert, Some(&expected), "{error}");
    daemon.wait_for_log("tls");
}

/// Runs a client of another language until the daemon closes; returns its lines.
fn foreign(
    daemon: &mut Daemon,
    program: &[String],
    certificates: &Certificates,
    options: &str,
) -> Vec<String> {
    let authority = certificates.path("ca.pem");
    let mut command = Command::new(&program[0]);
    command
        .args(&program[1..])
        .arg(format!("wss://{}{PATH}", daemon.address))
        .env("SSL_CERT_FILE", &authority)
        .env("NODE_EXTRA_CA_CERTS", &authority)
        .env("NODE_OPTIONS", options)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let client = thread::spawn(move || command.output().expect("the client can be started"));
    daemon.wait_for_connections(1);
    wait_until("it is let in", || daemon.connections()[0]["phase"] == "open");
    publish(daemon, 0, 2_000, 1_000);
    daemon.stop();
    let output = client.join().expect("it was started");
    assert!(output.status.success(), "{program:?}");
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

#[test]
fn clients_of_other_languages_get_everything_and_the_goodbye() {
    for (program, options) in [(python(), ""), (node(), ""), (node(), "--tls-max-v1.2")] {
        let certificates = Certificates::new();
        let mut daemon = certificates.setup().start();
        let lines = foreign(&mut daemon, &program, &certificates, options);
        let numbers: Vec<u64> = lines.iter().filter_map(|line| seq_of(line)).collect();
        assert_eq!(numbers.len(), 2_000, "{program:?} {options}");
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{program:?} {options}");
        let goodbye = &lines[lines.len() - 2];
        assert!(goodbye.contains(r#""status":"disconnected""#), "{goodbye}");
        assert_eq!(lines.last().map(String::as_str), Some("closed 1012"), "{program:?} {options}");
    }
}

#[test]
fn a_drain_says_goodbye_in_the_frames_and_in_tls() {
    let certificates = Certificates::new();
    let mut daemon = certificates.setup().start();
    let mut watcher = watch(daemon.address, &certificates.both_versions(), PATH);
    watcher.connected();
    publish(&daemon, 0, 10, 10);
    daemon.terminate();
    let (texts, close) = watcher.until_close();
    assert_eq!(texts.iter().filter(|text| seq_of(text).is_some()).count(), 10);
    assert!(texts.last().unwrap().contains(r#""status":"disconnected""#), "{texts:?}");
    assert_eq!(u16::from(close.expect("a close frame").code), 1012);
    // Without TLS's own goodbye this would be an error (RFC 8446, 6.1).
    assert_eq!(watcher.socket.get_mut().read(&mut [0; 16]).unwrap(), 0);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_client_that_does_not_begin_its_handshake_does_not_delay_the_end() {
    let certificates = Certificates::new();
    let mut daemon =
        certificates.setup().flags(&["--drain-seconds", "3600", "--handshake-seconds", "3600"]).start();
    let silent = TcpStream::connect(daemon.address).unwrap();
    daemon.terminate();
    assert_eq!(daemon.wait().code(), Some(0), "long before its hour is over");
    drop(silent);
}

#[test]
fn a_close_is_answered_and_the_connection_goes() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().start();
    let mut watcher = watch(daemon.address, &certificates.both_versions(), PATH);
    watcher.connected();
    let code = tungstenite::protocol::frame::coding::CloseCode::Library(3007);
    let frame = tungstenite::protocol::CloseFrame { code, reason: "enough".into() };
    watcher.socket.close(Some(frame)).unwrap();
    // Both goodbyes at once: what was sent before still arrives.
    watcher.socket.get_mut().conn.send_close_notify();
    watcher.socket.get_mut().flush().unwrap();
    assert_eq!(watcher.close_code(), 3007);
    daemon.wait_for_connections(0);

    // A half-close is a close, by TLS or by the socket.
    let mut watcher = watch(daemon.address, &certificates.both_versions(), PATH);
    watcher.connected();
    watcher.socket.get_mut().conn.send_close_notify();
    watcher.socket.get_mut().flush().unwrap();
    daemon.wait_for_connections(0);
    let mut watcher = watch(daemon.address, &certificates.both_versions(), PATH);
    watcher.connected();
    watcher.socket.get_mut().sock.shutdown(std::net::Shutdown::Write).unwrap();
    daemon.wait_for_connections(0);
}

/// In TLS too, the end of one direction does not end the other (RFC 8446, 6.1).
#[test]
fn a_client_that_shuts_only_its_own_side_still_gets_the_answer() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().start();
    let config = certificates.both_versions();
    for path in ["/healthz", "/console/", "/console/jobs", "/nowhere"] {
        let mut stream = dial(daemon.address, &config);
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        stream.conn.send_close_notify();
        stream.flush().expect("it reads");
        stream.sock.shutdown(Shutdown::Write).expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer with its end");
        let status = if path == "/nowhere" { "404" } else { "200" };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && !answer.ends_with("\r\n\r\n"),
            "{path}: {answer}"
        );
    }
    daemon.wait_for_connections(0);
}

#[test]
fn the_handshake_and_the_request_have_a_deadline_each() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().flags(&["--handshake-seconds", "0.5"]).start();
    // Silent, or byte by byte: the deadline does not move.
    let mut silent = daemon.raw();
    assert_eq!(silent.fill(), 0, "nothing can be said to who has not spoken");
    let mut slow = daemon.raw();
    slow.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut hello = [22, 3, 1, 1, 0].into_iter().chain(std::iter::repeat_n(0, 256));
    wait_until("the end of a handshake that comes byte by byte", || match slow.stream.read(&mut [0; 64]) {
        Ok(0) => true,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            let byte = hello.next().expect("it is not sent to its end before the deadline");
            slow.stream.write_all(&[byte]).is_err()
        }
        other => panic!("{other:?}"),
    });
    daemon.wait_for_log("handshake_seconds");
    // A missing request is answered as without TLS.
    let mut stream = dial(daemon.address, &certificates.both_versions());
    shake_hands(&mut stream).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn a_client_without_tls_learns_what_to_do() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().start();
    let refused = daemon.raw().request(&Raw::upgrade_request(PATH));
    assert_eq!((refused.status, refused.code().as_str()), (400, "bad_request"));
    assert!(refused.body.contains("use wss://"), "{}", refused.body);
    daemon.wait_for_log("this port speaks TLS");
    for garbage in [
        &b"\x00\x01\x02\x03"[..],
        b"\x80\x2e\x01\x03\x01",
        b"{\"type\":\"x\"}\n",
        b"\x16\xff\xff\xff\xff\xff",
    ] {
        let mut raw = daemon.raw();
        raw.send(garbage);
        while raw.fill() > 0 {}
        // At most an alert.
        assert!(raw.buffer.len() <= 7, "{garbage:?}: {:?}", raw.buffer);
    }
    // Others are served as before.
    watch(daemon.address, &certificates.both_versions(), PATH).connected();
}

#[test]
fn what_is_refused_is_refused_inside_of_tls() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().flags(&["--connections-max", "1"]).start();
    let config = certificates.both_versions();
    let first = watch(daemon.address, &config, PATH);
    let refused = try_watch(daemon.address, &config, PATH).map(drop).unwrap_err();
    assert_eq!((refused.status, refused.code().as_str()), (503, "full"));
    assert!(refused.header("retry-after").is_some());
    drop(first);
    daemon.wait_for_connections(0);
    let refused = try_watch(daemon.address, &config, "/api/ws/jobs/a%20b/monitor").map(drop).unwrap_err();
    assert_eq!((refused.status, refused.code().as_str()), (400, "bad_id"));
}

/// A socket that reads and writes a few bytes at once.
struct Dribble(TcpStream);

impl Read for Dribble {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(3);
        self.0.read(&mut buffer[..length])
    }
}

impl Write for Dribble {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_may_come_in_any_pieces_and_keys_may_change() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().start();
    for version in [&version::TLS12, &version::TLS13] {
        let config = Arc::new(certificates.client(&[version]));
        let socket = TcpStream::connect(daemon.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(config, name).unwrap();
        let stream = StreamOwned::new(session, Dribble(socket));
        let mut watcher = Client::upgrade(stream, format!("wss://localhost{PATH}")).unwrap();
        watcher.connected();
        for round in 0..20 {
            if version.version == rustls::ProtocolVersion::TLSv1_3 {
                watcher.socket.get_mut().conn.refresh_traffic_keys().unwrap();
            }
            let names = "name-".repeat(4) + &round.to_string();
            let answer = watcher.ask(&format!(r#"{{"action":"unsubscribe","events":["{names}"]}}"#));
            assert_eq!(answer["events"][0], names);
            let newest = publish(&daemon, round, 1, 2_000);
            assert_eq!(seq_of(&watcher.event()), Some(newest));
        }
    }
}

#[test]
fn a_returning_client_resumes_its_session() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().start();
    for version in [&version::TLS12, &version::TLS13] {
        let config = Arc::new(certificates.client(&[version]));
        let kind = || {
            let mut watcher = watch(daemon.address, &config, PATH);
            watcher.connected();
            watcher.socket.get_ref().conn.handshake_kind()
        };
        assert_eq!(kind(), Some(HandshakeKind::Full));
        assert_eq!(kind(), Some(HandshakeKind::Resumed), "{version:?}");
    }
}

/// The certificate that the daemon presents to new clients.
fn shown(daemon: &Daemon, config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut stream = dial(daemon.address, config);
    shake_hands(&mut stream).unwrap();
    stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
}

fn hang_up(daemon: &Daemon) -> String {
    let before = daemon.stderr().len();
    daemon.signal(Signal::HUP);
    let since = || daemon.stderr()[before..].to_owned();
    wait_until("the outcome of a reload in the log", || {
        since().ends_with('\n') && since().contains("reloaded")
    });
    since()
}

#[test]
fn a_reload_shows_the_new_certificate_and_disconnects_nobody() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().flags(&["--shards", "2"]).start();
    let config = certificates.both_versions();
    let mut watchers: Vec<Client<Stream>> = (0..4).map(|_| watch(daemon.address, &config, PATH)).collect();
    for watcher in &mut watchers {
        watcher.connected();
    }
    // Its handshake is in progress: it ends with the certificate it began with.
    let half = TcpStream::connect(daemon.address).unwrap();
    daemon.wait_for_connections(5);
    let first = shown(&daemon, &config);

    certificates.sign("certificate.pem", "key.pem", |_| {});
    let log = hang_up(&daemon);
    assert!(log.contains("reloaded; no setting has changed"), "{log}");
    let end = rcgen::date_time_ymd(4096, 1, 1).unix_timestamp();
    assert!(
        log.contains(
            "read again: tls_certificate_file (another certificate, good until 4096-01-01T00:00:00Z)"
        ),
        "{log}"
    );
    let expiry = || {
        let (_, text) = daemon.admin_get("/metrics");
        let value =
            text.lines().find_map(|line| line.strip_prefix("luxcast_certificate_expiry_timestamp_seconds "));
        value.and_then(|value| value.parse::<i64>().ok()).expect("a number")
    };
    assert_eq!(expiry(), end);
    let log = hang_up(&daemon);
    assert!(log.contains("(the same certificate, good until "), "{log}");
    let fresh = certificates.both_versions();
    let mut second = first.clone();
    // Each shard has taken it over by its next request.
    for _ in 0..4 {
        wait_until("the new certificate", || {
            second = shown(&daemon, &fresh);
            second != first
        });
    }
    let mut half = over(half, &fresh);
    shake_hands(&mut half).unwrap();
    assert_eq!(half.conn.peer_certificates().unwrap()[0].to_vec(), first);
    let newest = publish(&daemon, 0, 1, 10);
    for watcher in &mut watchers {
        assert_eq!(seq_of(&watcher.event()), Some(newest));
    }
    // An earlier session is not resumed: its owner must see the new certificate.
    let mut again = watch(daemon.address, &config, PATH);
    again.connected();
    assert_eq!(again.socket.get_ref().conn.handshake_kind(), Some(HandshakeKind::Full));

    // The figure follows the presented certificate.
    certificates
        .sign("certificate.pem", "key.pem", |params| params.not_after = rcgen::date_time_ymd(2100, 2, 3));
    assert!(hang_up(&daemon).contains("good until 2100-02-03T00:00:00Z"), "{}", daemon.stderr());
    assert_eq!(expiry(), rcgen::date_time_ymd(2100, 2, 3).unix_timestamp());
    let fresh = certificates.both_versions();
    wait_until("the third certificate", || {
        let third = shown(&daemon, &fresh);
        let is_new = third != second;
        second = third;
        is_new
    });

    // A mismatched pair changes nothing.
    certificates.sign("other.pem", "key.pem", |_| {});
    let log = hang_up(&daemon);
    assert!(log.contains("nothing was reloaded") && log.contains("key.pem is not that of"), "{log}");
    assert_eq!(shown(&daemon, &certificates.both_versions()), second);
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of() {
    let certificates = Certificates::new();
    let key = certificates.path("key.pem");
    for (mode, is_told) in [(0o644, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("the file is ours");
        let daemon = certificates.setup().start();
        daemon.wait_for_log("has started");
        let words = format!("{}: everybody on this machine may use it", key.display());
        assert_eq!(daemon.stderr().contains(&words), is_told, "{}", daemon.stderr());
    }
}

#[test]
fn tls_is_switched_on_and_off_by_a_restart_only() {
    let certificates = Certificates::new();
    let text = format!(
        "tls_certificate_file = \"{}\"\ntls_key_file = \"{}\"\n",
        certificates.text_path("certificate.pem"),
        certificates.text_path("key.pem")
    );
    certificates.write("luxcast.toml", "");
    let daemon = Daemon::start(&["--config", &certificates.text_path("luxcast.toml")]);
    certificates.write("luxcast.toml", &text);
    let log = hang_up(&daemon);
    assert!(log.contains("nothing was reloaded") && log.contains("restart"), "{log}");
    daemon.watch(PATH).connected();
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.text_path("certificate.pem"), certificates.text_path("key.pem"));
    certificates.sign("expired.pem", "expired-key.pem", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    certificates.sign("other.pem", "other-key.pem", |_| {});
    certificates.write("empty.pem", "");
    certificates.write("broken.pem", "-----BEGIN CERTIFICATE-----\nMIIB!!!\n-----END CERTIFICATE-----\n");
    certificates.write("short.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    certificates.write(
        "encrypted.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    certificates.write(
        "older.pem",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n-----END RSA PRIVATE KEY-----\n",
    );
    certificates.write("bad-key.pem", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
    let path = |name: &str| certificates.text_path(name);
    let table: [(String, String, &[&str]); 12] = [
        (path("none.pem"), key.clone(), &["cannot read", "none.pem", "No such file"]),
        (certificate.clone(), path("none.pem"), &["cannot read", "none.pem"]),
        (path("empty.pem"), key.clone(), &["empty.pem has no certificate"]),
        (key.clone(), key.clone(), &["key.pem has no certificate"]),
        (path("broken.pem"), key.clone(), &["broken.pem is not a good PEM file"]),
        (path("short.pem"), key.clone(), &["certificate in", "short.pem cannot be understood"]),
        (path("expired.pem"), path("expired-key.pem"), &["expired.pem has expired", "2021-01-01T00:00:00Z"]),
        (certificate.clone(), certificate.clone(), &["certificate.pem has no private key"]),
        (certificate.clone(), path("encrypted.pem"), &["encrypted.pem is encrypted"]),
        (certificate.clone(), path("older.pem"), &["older.pem is encrypted"]),
        (certificate.clone(), path("bad-key.pem"), &["bad-key.pem cannot be used"]),
        (certificate.clone(), path("other-key.pem"), &["other-key.pem is not that of", "certificate.pem"]),
    ];
    for (certificate, key, words) in table {
        let flags = ["--tls-certificate-file", &certificate, "--tls-key-file", &key];
        for command in ["serve", "check-config"] {
            let (status, text) = fail(command, &certificates, &flags);
            assert_eq!(status, 2, "{command}: {text}");
            assert!(words.iter().all(|word| text.contains(word)), "{command}: {words:?} in {text}");
            assert_eq!(text.lines().count(), 1, "{command}: {text}");
        }
    }
    for (flag, file, other) in [
        ("--tls-certificate-file", &certificate, "tls_key_file"),
        ("--tls-key-file", &key, "tls_certificate_file"),
    ] {
        let (status, text) = fail("serve", &certificates, &[flag, file]);
        assert_eq!(status, 2, "{text}");
        assert!(text.contains(flag) && text.contains(other), "{text}");
    }
}

/// Exit code and message of a daemon that must not start, or of the command that checks its settings.
fn fail(command: &str, certificates: &Certificates, flags: &[&str]) -> (i32, String) {
    let socket = certificates.path("feed.sock");
    let output = luxcast()
        .args([command, "--listen", "127.0.0.1:0", "--admin", "off", "--ingest"])
        .arg(&socket)
        .args(flags)
        .output()
        .expect("the program can be started");
    assert!(output.stdout.is_empty() && fs::symlink_metadata(&socket).is_err(), "{output:?}");
    (output.status.code().expect("it ends by itself"), String::from_utf8(output.stderr).expect("UTF-8"))
}

#[test]
fn a_long_past_is_the_same_over_tls() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().start();
    let events = 20_000;
    publish(&daemon, 0, events, 300);
    let since = format!("{PATH}?since=start");
    let past = |version| {
        let mut watcher = watch(daemon.address, &Arc::new(certificates.client(&[version])), &since);
        watcher.connected();
        watcher.events(events)
    };
    let expected: Vec<String> = (0..events).map(|number| line(number, 300)).collect();
    for version in [&version::TLS12, &version::TLS13] {
        let past = past(version);
        let first = seq_of(&past[0]).unwrap();
        for (number, (event, expected)) in past.iter().zip(&expected).enumerate() {
            assert_eq!(*event, crate::harness::numbered(expected, first + number as u64));
        }
    }
}

#[test]
fn slow_readers_need_no_queue_and_lose_nothing_silently() {
    let certificates = Certificates::new();
    let history = 4 * MIB;
    let daemon = certificates
        .setup()
        .flags(&[
            "--history-bytes",
            &history.to_string(),
            "--heartbeat-seconds",
            "3600",
            "--stalled-seconds",
            "3600",
        ])
        .start();
    let config = certificates.both_versions();
    let mut slow: Vec<Client<Stream>> = (0..40).map(|_| watch(daemon.address, &config, PATH)).collect();
    let first = slow.iter_mut().map(Client::connected).max().unwrap();
    let mut reader = watch(daemon.address, &config, PATH);
    reader.connected();
    let events = 40_000;
    let reading = thread::spawn(move || {
        let mut count = 0;
        let mut missed = 0;
        while count + missed < events {
            let message = reader.json();
            count += u64::from(message.get("stream_seq").is_some());
            missed += message["missed"].as_u64().unwrap_or(0);
        }
        (count, missed)
    });
    let newest = publish(&daemon, 0, events as usize, 1_000);
    assert_eq!(newest, first + events);
    let (count, missed) = reading.join().unwrap();
    assert_eq!(count + missed, events);
    let peak = daemon.memory_bytes("VmHWM");
    assert!(peak <= (history + 64 * MIB) as u64, "{peak} bytes");
    // They read again: what the sockets held, one gap with the exact count, and the rest.
    for watcher in &mut slow {
        let (mut last, mut received, mut gaps, mut missed) = (first, 0, 0, 0);
        while last < newest {
            let message = watcher.json();
            if message["type"] == "stream:gap" {
                assert_eq!(message["reason"], "overrun", "{message}");
                assert_eq!(message["from"], last + 1, "{message}");
                gaps += 1;
                missed += message["missed"].as_u64().expect("an exact count");
                last = message["to"].as_u64().unwrap();
            } else {
                let seq = message["stream_seq"].as_u64().unwrap();
                assert_eq!(seq, last + 1);
                (last, received) = (seq, received + 1);
            }
        }
        // One each time that the history overran it: growing kernel buffers make it two.
        assert!(gaps >= 1);
        assert_eq!(received + missed, events);
    }
}

#[test]
fn one_that_takes_nothing_is_ended_and_one_that_takes_a_little_is_not() {
    let certificates = Certificates::new();
    let daemon =
        certificates.setup().flags(&["--stalled-seconds", "2", "--heartbeat-seconds", "3600"]).start();
    let config = certificates.both_versions();
    let mut stalled = watch(daemon.address, &config, PATH);
    let mut slow = watch(daemon.address, &config, PATH);
    stalled.connected();
    slow.connected();
    publish(&daemon, 0, 20_000, 1_000);
    // Far more than the sockets hold: it takes some now and then, for longer than the other may stand still.
    wait_until("the one that stands still is reset", || {
        for _ in 0..50 {
            slow.event();
        }
        thread::sleep(Duration::from_millis(100));
        daemon.stderr().contains("reading too slowly")
    });
    assert_eq!(daemon.connections().len(), 1);
    let mut left = slow.event();
    while !left.contains("\"number\":19999,") {
        left = slow.event();
    }
}

#[test]
fn many_come_at_once_and_watchers_are_served_meanwhile() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().flags(&["--shards", "1"]).start();
    let config = certificates.both_versions();
    let mut watcher = watch(daemon.address, &config, PATH);
    watcher.connected();
    // All of them full handshakes.
    let mut strangers = certificates.client(rustls::ALL_VERSIONS);
    strangers.resumption = rustls::client::Resumption::disabled();
    let strangers = Arc::new(strangers);
    let mut streams: Vec<Stream> = (0..300).map(|_| dial(daemon.address, &strangers)).collect();
    for stream in &mut streams {
        stream.conn.write_tls(&mut stream.sock).unwrap();
    }
    for round in 0..20 {
        let newest = publish(&daemon, round, 1, 10);
        assert_eq!(seq_of(&watcher.event()), Some(newest));
    }
    for stream in streams {
        Client::upgrade(stream, format!("wss://localhost{PATH}")).unwrap().connected();
    }
}

/// Runs `tail` on the events so far to its end; returns its exit code and both outputs.
fn tail_once(url: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let output = luxcast()
        .args(["tail", "--url", url, "--json", "--once", "--since", "start"])
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the program can be started");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("it ends by itself"), text(output.stdout), text(output.stderr))
}

#[test]
fn tail_watches_over_tls_and_trusts_the_given_certificates() {
    let certificates = Certificates::new();
    let authority = certificates.text_path("ca.pem");
    for (listen, arguments, variables) in [
        ("127.0.0.1:0", &["--ca", &authority][..], &[][..]),
        ("[::1]:0", &[], &[("SSL_CERT_FILE", authority.as_str())]),
    ] {
        let mut daemon = certificates.setup().flags(&["--listen", listen]).start();
        publish(&daemon, 0, 3, 10);
        let url = format!("wss://{}", daemon.address);
        let (arguments, variables) = (arguments.to_vec(), variables.to_vec());
        thread::scope(|scope| {
            let tail = scope.spawn(|| tail_once(&url, &arguments, &variables));
            daemon.wait_for_connections(1);
            wait_until("it is let in", || daemon.connections()[0]["phase"] == "open");
            daemon.stop();
            let (code, out, said) = tail.join().expect("it was started");
            assert_eq!((code, out.lines().count()), (0, 3), "{out} {said}");
            assert!(said.contains("says goodbye"), "{said}");
        });
    }
    let daemon = certificates.setup().start();
    let url = format!("wss://{}", daemon.address);
    let stranger = Certificates::new().text_path("ca.pem");
    // The stranger's file is gone with its directory; the second one is an authority, though another one.
    let other = Certificates::new();
    for (arguments, code, words) in [
        (&["--ca", &stranger][..], 1, "ca.pem"),
        (&["--ca", &other.text_path("ca.pem")], 1, "certificate"),
        (&["--ca", &other.text_path("key.pem")], 1, "no certificate in it"),
    ] {
        let (status, out, said) = tail_once(&url, arguments, &[]);
        assert_eq!((status, out.as_str()), (code, ""), "{said}");
        assert!(said.contains(words), "{words} in {said}");
    }
    let (status, _, said) = tail_once(&url.replace("wss", "ws"), &[], &[]);
    assert!(status == 1 && said.contains("use wss://"), "{said}");
    let (status, _, said) = tail_once("ws://127.0.0.1:1", &["--ca", &authority], &[]);
    assert!(status == 2 && said.contains("wss://"), "{said}");
}

#[test]
fn a_self_signed_certificate_can_be_trusted_by_name_and_faults_are_explained() {
    let certificates = Certificates::new();
    // As `openssl req -x509` makes it: an authority of its own.
    certificates.sign_itself("certificate.pem", "key.pem");
    let own = certificates.text_path("certificate.pem");
    let daemon = certificates.setup().start();
    publish(&daemon, 0, 3, 10);
    let tail =
        |url: &str, arguments: &[&str]| tail_once(url, &[arguments, &["--timeout", "2"]].concat(), &[]);
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{}", daemon.address.port());
        let (code, out, said) = tail(&url, &["--ca", &own]);
        assert_eq!((code, out.lines().count()), (0, 3), "{said}");
    }
    let url = format!("wss://{}", daemon.address);
    let stranger = Certificates::new();
    let plain = Daemon::start(&[]);
    let elsewhere = certificates.setup().flags(&["--listen", "127.0.0.2:0"]).start();
    for (url, arguments, words) in [
        (&url, &["--ca", &stranger.text_path("ca.pem")][..], "signs itself"),
        (&format!("wss://{}", elsewhere.address), &["--ca", &own], "not for 127.0.0.2, but for"),
        (&format!("wss://{}", plain.address), &["--ca", &own], "does not speak TLS"),
    ] {
        let (code, _, said) = tail(url, arguments);
        assert!(code == 1 && said.contains(words), "{words} in {said}");
        assert!(!said.contains("::") && !said.contains('{') && !said.contains("Other("), "{said}");
    }
}
