//! Events compressed once for all who watch the same (RFC 7692): each compressed watcher is told what a plain one is.

use socket2::SockRef;

use crate::corpus::corpus;
use crate::harness::client::{Raw, masked_frame};
use crate::harness::deflated::Deflated;
use crate::harness::{Client, Daemon, seq_of};

const EVENTS: &str = "/api/ws/events";
/// The last event of each test.
const END: &str = "\"type\":\"end_of_test\"";

fn end_of(job: &str) -> String {
    format!("{{\"type\":\"end_of_test\",\"job_id\":\"{job}\"}}")
}

/// All lines of one job of the corpus, and its name.
fn lines_of_a_job() -> (Vec<String>, String) {
    let job = corpus()[0].job_id.clone();
    (corpus().into_iter().filter(|line| line.job_id == job).map(|line| line.text).collect(), job)
}

/// The bytes of compressed frames, before and after.
fn saving(daemon: &Daemon) -> [f64; 2] {
    let (_, metrics) = daemon.admin_get("/metrics");
    ["before", "after"].map(|stage| {
        let name = format!("luxcast_compressed_bytes_total{{stage=\"{stage}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name)).expect("it is there");
        value.parse().expect("a number")
    })
}

fn alone(daemon: &Daemon, path: &str, offer: &str) -> Deflated {
    Deflated::offer(Raw::connect(daemon.address), path, offer)
}

#[test]
fn compressed_watchers_are_told_what_plain_ones_are_in_a_sixth_of_the_bytes() {
    let daemon = Daemon::start(&[]);
    let lines: Vec<String> = corpus().into_iter().take(3_000).map(|line| line.text).collect();
    let job = corpus()[0].job_id.clone();
    let paths = [
        EVENTS.to_owned(),
        format!("{EVENTS}?events=routine_started,end_of_test"),
        format!("/api/ws/jobs/{job}/monitor"),
        format!("{EVENTS}?since=start"),
    ];
    let mut watchers: Vec<(Client, Vec<Deflated>)> = paths
        .iter()
        .map(|path| {
            let offers = [
                "permessage-deflate",
                "permessage-deflate; server_no_context_takeover",
                "permessage-deflate; server_max_window_bits=8",
            ];
            (daemon.watch(path), offers.iter().map(|offer| alone(&daemon, path, offer)).collect())
        })
        .collect();
    let mut feed = daemon.acked_feed();
    for some in lines.chunks(37) {
        feed.publish(some.iter().map(String::as_str));
    }
    feed.publish([&*end_of(&job)]);
    let mut first = 0;
    for (path, (plain, compressed)) in paths.iter().zip(&mut watchers) {
        let expected = plain.events_until(END);
        if first == 0 {
            first = seq_of(&expected[0]).expect("an event");
        }
        for watcher in compressed {
            assert!(watcher.events_until(END) == expected, "{path}, {}", watcher.agreed);
            assert_eq!(watcher.plain_events, 0, "{path}");
        }
    }
    let (sent, plain) = watchers[0].1[0].event_bytes;
    assert!(sent * 6 < plain, "{sent} of {plain} bytes");
    // Who comes later begins within what others have in their windows.
    for behind in [1, 2, 3, 500, 1_023, 2_047] {
        let path = format!("{EVENTS}?since={}", first + behind);
        let (mut plain, mut late) = (daemon.watch(&path), Deflated::watch(daemon.address, &path));
        let expected = plain.events_until(END);
        assert!(!expected.is_empty() && late.events_until(END) == expected, "{path}");
    }
    let rows = daemon.connections();
    let compressed = rows.iter().filter(|row| row["is_compressed"] == true).count();
    assert!(compressed >= 12, "{compressed} of {}", rows.len());
    assert!(rows.iter().any(|row| row["is_compressed"] == false && row["transport"] == "websocket"));
    let [before, after] = saving(&daemon);
    assert!(before > 1.5 * after && after > 0.0, "{after} of {before}");
}

#[test]
fn filters_change_within_a_compressed_stream() {
    let daemon = Daemon::start(&[]);
    let (lines, job) = lines_of_a_job();
    let path = format!("/api/ws/jobs/{job}/monitor");
    let mut watcher = Deflated::watch(daemon.address, &path);
    let mut neighbour = Deflated::watch(daemon.address, &path);
    let mut feed = daemon.acked_feed();
    let (mut events, mut of_neighbour) = (Vec::new(), Vec::new());
    for (place, line) in lines.iter().take(300).enumerate() {
        if place % 25 == 12 {
            let action = match place % 3 {
                0 => r#"{"action":"unsubscribe","events":["routine_started"]}"#,
                1 => {
                    r#"{"action":"subscribe","events":["routine_started","routine_completed","slot_called"]}"#
                }
                _ => r#"{"action":"subscribe_all"}"#,
            };
            watcher.raw.send(&masked_frame(0x1, true, action.as_bytes()));
            // It takes effect before anything that is published once the answer is there.
            read_until(&mut watcher, "subscription:confirmed", &mut events);
        }
        feed.publish([line.as_str()]);
        of_neighbour.push(neighbour.event());
        if place % 25 == 20 {
            watcher.raw.send(&masked_frame(0x1, true, br#"{"action":"ping"}"#));
            read_until(&mut watcher, "\"pong\"", &mut events);
        }
    }
    let all: Vec<&str> = of_neighbour.iter().map(String::as_str).collect();
    assert!(events.len() > 20 && events.len() < all.len());
    assert!(events.iter().all(|event| all.contains(&event.as_str())), "each is told as to the neighbour");
    assert!(events.is_sorted_by_key(|event| seq_of(event)));
    assert_eq!((watcher.plain_events, neighbour.plain_events), (0, 0));
}

/// Reads up to the message that contains `marker`, and keeps the events before it.
fn read_until(watcher: &mut Deflated, marker: &str, events: &mut Vec<String>) {
    loop {
        let text = watcher.text();
        if seq_of(&text).is_some() {
            events.push(text);
        } else if text.contains(marker) {
            return;
        }
    }
}

#[test]
fn long_events_among_short_ones_come_as_they_are() {
    let daemon = Daemon::start(&["--line-bytes-max", "2000000"]);
    let mut watchers: Vec<Deflated> = (0..3).map(|_| Deflated::watch(daemon.address, EVENTS)).collect();
    let mut feed = daemon.acked_feed();
    let mut lines = Vec::new();
    for place in 0..60 {
        let length = [200, 300, 65_000, 70_000, 200, 400_000][place % 6];
        let text: String =
            (0..length).map(|at| char::from(b'a' + ((at * 7 + at / 13 + place) % 26) as u8)).collect();
        lines.push(format!("{{\"type\":\"t\",\"job_id\":\"j\",\"place\":{place},\"text\":\"{text}\"}}"));
    }
    for some in lines.chunks(4) {
        feed.publish(some.iter().map(String::as_str));
    }
    for watcher in &mut watchers {
        for line in &lines {
            let event = watcher.event();
            assert!(event.ends_with(&line[1..]), "{}", &event[..80]);
        }
        assert_eq!((watcher.compressed_messages, watcher.plain_events), (40, 20));
    }
    // What came as it is does not count: 30 events of up to 300 bytes, and 10 of 65,000, for each of three.
    let [before, after] = saving(&daemon);
    assert!(before > 3.0 * 650_000.0 && before < 3.0 * 700_000.0 && after < before, "{after} of {before}");
}

#[test]
fn a_slow_watcher_goes_on_within_its_window() {
    let daemon = Daemon::start(&["--history-bytes", "64000000", "--stalled-seconds", "60"]);
    let raw = Raw::connect(daemon.address);
    SockRef::from(&raw.stream).set_recv_buffer_size(4 << 10).expect("a socket takes it");
    let mut slow = Deflated::offer(raw, EVENTS, "permessage-deflate");
    let mut fast = Deflated::watch(daemon.address, EVENTS);
    let mut feed = daemon.acked_feed();
    let lines: Vec<String> = corpus().into_iter().map(|line| line.text).collect();
    // Noise fills the buffers of the kernel, which compressed events of the corpus would not.
    let noise = |place: usize| {
        let text: String = (0..20_000).map(|_| char::from(fastrand::u8(b'0'..=b'z')).to_string()).collect();
        format!(
            "{{\"type\":\"noise\",\"job_id\":\"n\",\"place\":{place},\"text\":{}}}",
            serde_json::json!(text)
        )
    };
    let mut expected = Vec::new();
    for (place, some) in lines.chunks(50).take(40).enumerate() {
        let noise = noise(place);
        feed.publish(some.iter().map(String::as_str).chain([noise.as_str()]));
        expected.extend(fast.events(some.len() + 1));
    }
    let rows = daemon.connections();
    assert!(rows.iter().any(|row| row["is_blocked"] == true), "it does not take all: {rows:?}");
    let told = slow.events(expected.len());
    assert!(told == expected);
    assert_eq!(slow.plain_events, 0);
}

#[test]
fn whoever_was_overtaken_is_told_and_goes_on_compressed() {
    let daemon = Daemon::start(&["--history-bytes", "1000000"]);
    let raw = Raw::connect(daemon.address);
    SockRef::from(&raw.stream).set_recv_buffer_size(4 << 10).expect("a socket takes it");
    let mut slow = Deflated::offer(raw, EVENTS, "permessage-deflate");
    let mut feed = daemon.acked_feed();
    let noise = |place: usize| {
        let text: String = (0..8_000).map(|_| char::from(fastrand::u8(b'a'..=b'z'))).collect();
        format!("{{\"type\":\"noise\",\"job_id\":\"n\",\"place\":{place},\"text\":\"{text}\"}}")
    };
    let lines: Vec<String> = (0..1_500).map(noise).collect();
    feed.publish(lines.iter().map(String::as_str));
    feed.publish([&*end_of("n")]);
    let (mut gaps, mut last) = (0, 0);
    loop {
        let text = slow.text();
        if text.starts_with("{\"type\":\"stream:gap\"") {
            gaps += 1;
        }
        if let Some(seq) = seq_of(&text) {
            assert!(seq > last);
            last = seq;
            if text.contains(END) {
                break;
            }
            let place = text.split("\"place\":").nth(1).and_then(|rest| rest.split(',').next());
            let place: usize = place.expect("a place").parse().expect("a number");
            assert!(text.ends_with(&lines[place][1..]), "event {place}");
        }
    }
    assert!(gaps > 0, "the history is far smaller than what was published");
    assert_eq!(slow.plain_events, 0);
}

#[test]
fn the_endpoint_of_many_jobs_compresses_what_it_sends_at_once() {
    let daemon = Daemon::start(&[]);
    let (lines, job) = lines_of_a_job();
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
    let subscribe = format!("{{\"type\":\"subscribe\",\"job_id\":\"{job}\",\"since\":\"start\"}}");
    let mut plain = daemon.watch("/api/v1/ws");
    plain.send(&subscribe);
    let mut watchers =
        ["permessage-deflate", "permessage-deflate; server_no_context_takeover"].map(|offer| {
            let mut watcher = alone(&daemon, "/api/v1/ws", offer);
            watcher.raw.send(&masked_frame(0x1, true, subscribe.as_bytes()));
            watcher
        });
    let expected = plain.events(lines.len());
    for watcher in &mut watchers {
        assert!(watcher.events(lines.len()) == expected, "{}", watcher.agreed);
        assert_eq!(watcher.plain_events, 0);
    }
    let (sent, whole) = watchers[0].event_bytes;
    assert!(sent * 4 < whole, "{sent} of {whole} bytes");
}

#[test]
fn nothing_is_compressed_where_the_setting_says_so() {
    let daemon = Daemon::start(&["--compression", "off"]);
    let mut raw = daemon.raw();
    let field = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    raw.send(Raw::upgrade_request(EVENTS).replacen("\r\n", field, 1).as_bytes());
    let head = raw.read_head();
    assert!(!head.to_lowercase().contains("extensions"), "{head}");
    daemon.acked_feed().publish([&*end_of("j")]);
    raw.read_frame_of(0x1);
    assert!(String::from_utf8_lossy(&raw.read_frame_of(0x1).payload).contains(END));
    assert!(daemon.connections().iter().all(|row| row["is_compressed"] == false));
}
