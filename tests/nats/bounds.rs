//! What one daemon takes in, all others show: the stream's bounds hold, whatever the settings of a daemon allow.

use crate::commands::luxcast;
use crate::desk::Desk;
use crate::engines::line;
use crate::fleet::{create, metric, serve};
use crate::harness::http_feed::{HttpFeed, LINES};
use crate::harness::wait_until;
use crate::recipes::promised;
use crate::server::{NEWEST, NatsServer};

const BOUND: usize = 1_000;

fn long(n: u64) -> String {
    line("e", n).replace('}', &format!(",\"filler\":\"{}\"}}", "x".repeat(BOUND)))
}

fn deep(n: u64) -> String {
    line("e", n).replace('}', &format!(",\"filler\":{}{}}}", "[".repeat(80), "]".repeat(80)))
}

#[test]
fn a_daemon_takes_in_what_the_stream_allows_and_no_more() {
    let server = NatsServer::start(NEWEST, "");
    let bound = ["--line-bytes-max", &BOUND.to_string()];
    create(&server.url(), &[&["--replicas", "1"][..], &bound].concat());
    let larger = ["--line-bytes-max", "5000", "--depth-max", "100"];
    let open = ["--http-publish", "anyone"];
    let [larger, same] = [&[&larger[..], &open].concat(), &[&bound[..], &open].concat()]
        .map(|flags| serve(&[server.url()], &flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>()));
    for words in [
        "LUXCAST: its luxcast.line_bytes_max is 1000, and line_bytes_max is 5000 here: the stream's holds",
        "LUXCAST: its luxcast.depth_max is 64, and depth_max is 100 here: the stream's holds",
    ] {
        larger.wait_for_log(words);
        assert!(!same.stderr().contains(words));
        let flags = ["--bus", &server.url(), "--line-bytes-max", "5000", "--depth-max", "100"];
        let (code, shown, _) = luxcast(&[&["bus", "check"][..], &flags].concat());
        assert!(code == 0 && shown.contains(&format!("warning: {words}")), "{shown}");
    }
    let mut watchers = [&larger, &same].map(|daemon| daemon.watch("/api/ws/events?since=start"));
    for watcher in &mut watchers {
        watcher.connected();
    }
    for daemon in [&larger, &same] {
        let body = format!("{}\n{}\n{}\n", long(1), deep(2), line("e", 3));
        let (status, answer) = HttpFeed::connect(daemon.address).post(LINES, &body);
        assert_eq!((status, &answer["accepted"], &answer["refused_total"]), (200, &1.into(), &2.into()));
        for (place, code, word) in [(0, "too_long", "line_bytes_max"), (1, "too_deep", "depth_max")] {
            let refused = &answer["refused"][place];
            assert_eq!(refused["code"], code, "{answer}");
            assert!(refused["message"].as_str().is_some_and(|words| words.contains(word)), "{answer}");
        }
        for watcher in &mut watchers {
            assert!(watcher.text().ends_with(&line("e", 3)[1..]));
        }
    }
}

#[test]
fn what_a_stranger_puts_in_beyond_the_bounds_is_a_gap_for_all() {
    let server = NatsServer::start(NEWEST, "");
    let bound = ["--line-bytes-max", &BOUND.to_string()];
    create(&server.url(), &[&["--replicas", "1"][..], &bound].concat());
    let desk = Desk::new(vec![server.url()]);
    let larger = ["--line-bytes-max", "5000", "--depth-max", "100"];
    let daemons = [&larger[..], &bound]
        .map(|flags| serve(&[server.url()], &flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>()));
    let mut watchers = daemons.each_ref().map(|daemon| daemon.watch("/api/ws/events?since=start"));
    for watcher in &mut watchers {
        watcher.connected();
    }
    let lines = [line("e", 1), long(2), line("e", 3), deep(4), "no event".to_owned(), line("e", 6)];
    let first = desk.number(desk.publish(&lines.join("\n")));
    for watcher in &mut watchers {
        assert!(watcher.text().ends_with(&lines[0][1..]));
        for (lost, next) in [(1, 2), (3, 5)] {
            let gap = watcher.json();
            assert_eq!((&gap["type"], &gap["reason"]), (&"stream:gap".into(), &"expired".into()), "{gap}");
            assert!(gap["to"].as_u64() == Some(first + lost) && gap["missed"].is_null(), "{gap}");
            assert!(watcher.text().ends_with(&lines[next][1..]));
        }
    }
    for daemon in &daemons {
        daemon.wait_for_log(promised("that are longer or deeper than the stream allows"));
        daemon.wait_for_log(promised("that are no events: they are left out"));
        wait_until("they are counted", || metric(daemon, "luxcast_bus_refused_lines_total") == 3.0);
        assert_eq!(metric(daemon, "luxcast_bus_holes_total"), 2.0);
    }
}
