//! Three daemons on one stream with one copy, in its usual life, with every version of the server.

use std::thread;

use serde_json::Value;

use crate::desk::Desk;
use crate::engines::line;
use crate::fleet::{Fleet, create, metric, serve};
use crate::harness::http_feed::{HttpFeed, LINES};
use crate::harness::{Daemon, Feed, numbered, wait_until};
use crate::judge::{check, check_publishers};
use crate::server::{NatsServer, VERSIONS};
use crate::watchers::EVERYTHING;

#[test]
fn daemons_show_one_stream_whoever_feeds_it() {
    for version in VERSIONS {
        let server = NatsServer::start(version, "");
        let short = ["--line-bytes-max", "8192"];
        create(&server.url(), &[&["--replicas", "1"][..], &short].concat());
        let flags = [&short[..], &["--http-publish", "anyone"]].concat();
        let mut fleet = Fleet::start(vec![vec![server.url()]; 3], &flags);
        let desk = Desk::new(vec![server.url()]);
        let watchers: Vec<_> = (0..3).map(|place| fleet.watch(place, "start")).collect();
        let hoppers: Vec<_> = (0..2).map(|_| fleet.hopper(EVERYTHING)).collect();
        let engines: Vec<_> = ["load", "transform"].map(|name| fleet.engine(name)).into();

        an_ack_means_stored_and_visible(&desk, fleet.daemon(0), fleet.daemon(1));
        any_program_publishes_and_bad_lines_are_left_out(&desk, &fleet);
        flows_are_known_to_all(&fleet, &server);
        plain_writers_need_no_answer(&fleet);
        lines_that_come_through_two_daemons_count_once(&desk, &fleet);
        a_request_may_be_repeated_at_another_daemon(&desk, &fleet);

        // One dies, and comes back with all that it had.
        fleet.kill(1);
        engines.iter().for_each(|engine| engine.wait_for_progress());
        let number = desk.number(desk.publish(r#"{"type":"mark","job_id":"m","n":"while one is away"}"#));
        fleet.restart(1);
        let back = fleet.watch(1, "start");
        let (status, jobs) = get(fleet.daemon(1), "/console/jobs?limit=10000");
        let jobs: Value = serde_json::from_str(&jobs).expect("JSON");
        assert!(status == 200 && jobs["stream_seq"].as_u64() >= Some(number), "{version}: {jobs}");
        for job in ["acked", "m", "flow-job"] {
            let mut rows = jobs["jobs"].as_array().expect("a list").iter();
            assert!(rows.any(|row| row["job_id"] == job), "{version}: {job} in {jobs}");
        }
        back.wait_for_number(number);
        // One ends, and says so to its watchers.
        let leaving = fleet.watch(2, "start");
        leaving.wait_for("while one is away");
        fleet.stop(2);
        leaving.wait_for("disconnected");
        fleet.restart(2);
        engines.iter().for_each(|engine| engine.wait_for_progress());

        let counts: Vec<_> = engines.into_iter().map(|engine| (engine.name.clone(), engine.end())).collect();
        let truth = desk.truth();
        let last = *truth.last_key_value().expect("much was published").0;
        // The other two have ended with their daemons.
        watchers[0].wait_for_number(last);
        back.wait_for_number(last);
        hoppers.iter().for_each(|hopper| hopper.wait_for_number(last));
        check_publishers(&truth, counts.iter().map(|(name, count)| (name.as_str(), *count)));
        for watcher in watchers.into_iter().chain(hoppers).chain([back, leaving]) {
            assert_eq!(check(&watcher.end(), &truth), [], "{version}");
        }
        fleet.check_health();
    }
}

fn get(daemon: &Daemon, path: &str) -> (u16, String) {
    let mut raw = daemon.raw();
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let answer = raw.read_answer();
    (answer.status, answer.body)
}

fn an_ack_means_stored_and_visible(desk: &Desk, daemon: &Daemon, other: &Daemon) {
    let mut feed = daemon.acked_feed();
    for count in [1, 3, 2_000] {
        let lines: Vec<String> = (1..=count)
            .map(|n| format!("{{\"type\":\"x\",\"job_id\":\"acked\",\"of\":{count},\"n\":{n}}}"))
            .collect();
        let seq = feed.publish(lines.iter().map(String::as_str));
        // It is read from the past, which is all that this watcher asks for.
        let mut watcher = daemon.watch("/api/ws/jobs/acked/monitor?since=-1");
        let event = watcher.event();
        let last = lines.last().expect("there are some");
        assert!(event.ends_with(&last[1..]), "{event} after the ack of {last}");
        let truth = desk.truth();
        let (number, text) = truth.iter().find(|(_, text)| text.ends_with(&last[1..])).expect("it is stored");
        assert_eq!((*number <= seq, text), (true, &event));
        // On another daemon the same, as soon as that has it.
        let mut watcher = other.watch(&format!("/api/ws/jobs/acked/monitor?since={}", number - 1));
        assert_eq!(watcher.event(), event);
    }
}

fn any_program_publishes_and_bad_lines_are_left_out(desk: &Desk, fleet: &Fleet) {
    let mut watchers: Vec<_> =
        fleet.running().map(|daemon| daemon.watch("/api/ws/jobs/foreign/monitor?since=start")).collect();
    let line = |n: u64| format!("{{\"type\":\"x\",\"job_id\":\"foreign\",\"n\":{n}}}");
    let one = desk.number(desk.publish(&line(1)));
    let many = desk.number(desk.publish(&format!("{}\nnot JSON\n\n{}\n", line(2), line(3))));
    let none = desk.number(desk.publish(""));
    assert!(one < many && many < none);
    // An empty line has its place, or has none: either way it is the same for all.
    let expected = watchers.iter_mut().map(|watcher| watcher.events(3)).collect::<Vec<_>>();
    assert_eq!(expected[0][..2], [numbered(&line(1), one), numbered(&line(2), many)]);
    assert!(expected.iter().all(|events| *events == expected[0]), "{expected:?}");
    for daemon in fleet.running() {
        wait_until("the bad line is counted", || metric(daemon, "luxcast_bus_refused_lines_total") >= 1.0);
    }
}

fn flows_are_known_to_all(fleet: &Fleet, server: &NatsServer) {
    let mut watchers: Vec<_> =
        fleet.running().map(|daemon| daemon.watch("/api/ws/flows/the-flow/monitor?since=start")).collect();
    // Only the first line names the flow, and each comes through its own message.
    let mut feed = fleet.daemon(0).acked_feed();
    feed.publish([r#"{"type":"job_started","job_id":"flow-job","flow_id":"the-flow"}"#]);
    for n in 1..=3 {
        feed.publish([format!("{{\"type\":\"x\",\"job_id\":\"flow-job\",\"n\":{n}}}").as_str()]);
    }
    let expected = watchers[0].events(4);
    for watcher in &mut watchers[1..] {
        assert_eq!(watcher.events(4), expected);
    }
    // One that has not read back the line with the flow.
    let filler: Vec<String> = (1..=2_000).map(|n| line("filler", n)).collect();
    feed.publish(filler.iter().map(String::as_str));
    let late = serve(&[server.url()], &["--history-bytes", "65536"].map(str::to_owned));
    let mut watcher = late.watch("/api/ws/flows/the-flow/monitor");
    watcher.connected();
    feed.publish([r#"{"type":"x","job_id":"flow-job","n":4}"#]);
    assert!(watcher.event().ends_with(r#""n":4}"#));
}

fn lines_that_come_through_two_daemons_count_once(desk: &Desk, fleet: &Fleet) {
    let lines: Vec<String> = (1..=3_000).map(|n| line("twin", n)).collect();
    let publish = |place: usize| {
        let mut feed = Feed::connect(&fleet.daemon(place).ingest);
        feed.line(r#"{"op":"hello","publisher":"twin","ack":true,"dedupe":true}"#);
        feed.line(r#"{"op":"from","line":1}"#);
        assert_eq!(feed.answer()["op"], "welcome");
        for (lines, last) in lines.chunks(100).zip((100..).step_by(100)) {
            feed.lines(lines.iter().map(String::as_str));
            while feed.answer()["line"].as_u64() < Some(last) {}
        }
    };
    thread::scope(|scope| {
        for place in 0..2 {
            let publish = &publish;
            scope.spawn(move || publish(place));
        }
    });
    check_publishers(&desk.truth(), [("twin", 3_000)]);
}

fn a_request_may_be_repeated_at_another_daemon(desk: &Desk, fleet: &Fleet) {
    let post = |place: usize, from: u64, to: u64| {
        let fields = format!("Luxcast-Publisher: poster\r\nLuxcast-Line: {from}\r\n");
        let body: String = (from..=to).map(|n| line("poster", n) + "\n").collect();
        HttpFeed::with(fleet.daemon(place).address, &fields).post(LINES, &body)
    };
    for (place, from, to) in [(0, 1, 500), (1, 1, 500), (2, 300, 700), (0, 701, 701), (1, 650, 702)] {
        let (status, answer) = post(place, from, to);
        assert_eq!((status, answer["accepted"].as_u64()), (200, Some(to + 1 - from)), "{answer}");
        assert_eq!(answer["accepted_line"].as_u64(), Some(to), "{answer}");
        let newest = desk.truth().into_iter().rfind(|(_, text)| text.contains("\"by\":\"poster\""));
        let newest = newest.expect("it is stored").0;
        assert!(answer["stream_seq"].as_u64() >= Some(newest), "{answer}");
        // It is visible there.
        let mut watcher = fleet.daemon(place).watch("/api/v1/ws/events?since=-1");
        assert!(watcher.connected() >= newest);
    }
    check_publishers(&desk.truth(), [("poster", 702)]);
    // Without a name, and with a bad line.
    let body =
        format!("{}\nnope\n{}", r#"{"type":"x","job_id":"m","n":1}"#, r#"{"type":"x","job_id":"m","n":2}"#);
    let (status, answer) = HttpFeed::connect(fleet.daemon(1).address).post(LINES, &body);
    assert_eq!(
        (status, answer["accepted"].as_u64(), answer["refused"][0]["line"].as_u64()),
        (200, Some(2), Some(2))
    );
    let (status, answer) = HttpFeed::connect(fleet.daemon(2).address).post(LINES, "nope");
    assert_eq!((status, answer["refused_total"].as_u64()), (422, Some(1)));
}

fn plain_writers_need_no_answer(fleet: &Fleet) {
    for place in 0..3 {
        let mut feed = Feed::connect(&fleet.daemon(place).ingest);
        let lines: Vec<String> = (1..=20).map(|n| line(&format!("plain-{place}"), n)).collect();
        feed.lines(lines.iter().map(String::as_str));
    }
    for place in 0..3 {
        let mut watcher = fleet.daemon((place + 1) % 3).watch("/api/v1/ws/events?since=start");
        let last = format!("\"by\":\"plain-{place}\",\"n\":20}}");
        while !watcher.event().contains(&last) {}
    }
}
