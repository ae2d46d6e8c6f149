//! What the stream loses, watchers are told of; and a stream that would give numbers again stops the feed.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::BASE;
use crate::commands::luxcast;
use crate::desk::{Desk, Truth, USUAL_WINDOW};
use crate::engines::line;
use crate::fleet::{Fleet, create, metric, serve};
use crate::harness::{Client, Feed, numbered, seq_of, wait_until};
use crate::judge::{Gap, check, check_publishers};
use crate::link::Link;
use crate::recipes::promised;
use crate::server::{NEWEST, NatsServer};
use crate::watchers::Watcher;

fn mark(word: &str) -> String {
    format!("{{\"type\":\"mark\",\"job_id\":\"m\",\"n\":\"{word}\"}}")
}

/// A daemon that is there all the time, and one whose way to the server is cut at times.
struct Pair {
    server: NatsServer,
    link: Link,
    fleet: Fleet,
    desk: Desk,
    near: Watcher,
    far: Watcher,
    /// It looks at a job of which nothing is lost.
    other: Client,
    truth: Truth,
}

impl Pair {
    fn start() -> Self {
        let server = NatsServer::start(NEWEST, "");
        let desk = Desk::new(vec![server.url()]);
        desk.create(BASE, USUAL_WINDOW);
        let link = Link::to(server.address);
        let fleet = Fleet::start(vec![vec![server.url()], vec![link.url()]], &[]);
        let [near, far] = [0, 1].map(|place| fleet.watch(place, "start"));
        let mut other = fleet.daemon(1).watch("/api/ws/jobs/other/monitor");
        other.connected();
        let mut pair = Self { server, link, fleet, desk, near, far, other, truth: Truth::new() };
        pair.publish("first");
        pair.far.wait_for("first");
        pair
    }

    /// Publishes, and waits until the daemon that is there has it.
    fn publish(&mut self, word: &str) -> u64 {
        let message = self.desk.publish(&mark(word));
        self.near.wait_for(&format!("\"{word}\""));
        self.truth.extend(self.desk.truth());
        message
    }

    /// Does it while the far daemon is cut off; returns the gap that its watchers are told of.
    fn while_cut(&mut self, lose: impl FnOnce(&mut Self), then: &str) -> Gap {
        let before = self.far.texts().len();
        self.link.cut();
        self.fleet.daemon(1).wait_for_log(promised("bus: the connection has ended; trying again"));
        lose(self);
        self.link.heal();
        self.publish(then);
        self.far.wait_for(&format!("\"{then}\""));
        let gaps: Vec<String> =
            self.far.texts()[before..].iter().filter(|text| text.contains("stream:gap")).cloned().collect();
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        let told = self.other.json_of("stream:gap");
        let gap: serde_json::Value = serde_json::from_str(&gaps[0]).expect("JSON");
        assert!(gap["missed"].is_null() && told["reason"] == gap["reason"], "{gap} {told}");
        let number = |name: &str| gap[name].as_u64().expect("a number");
        Gap {
            from: number("from"),
            to: number("to"),
            reason: gap["reason"].as_str().expect("a word").to_owned(),
        }
    }
}

#[test]
fn what_the_stream_loses_is_a_gap_for_those_who_do_not_have_it() {
    let mut pair = Pair::start();
    // A message deleted.
    let mut lost = 0;
    let gap = pair.while_cut(
        |pair| {
            pair.publish("kept");
            lost = pair.publish("deleted");
            pair.publish("kept too");
            pair.desk.delete_message(lost);
        },
        "behind the deleted one",
    );
    let first = pair.desk.number(lost);
    assert!(
        gap.reason == "expired" && gap.from <= first && first <= gap.to && gap.to < first + 1_024,
        "{gap:?}"
    );
    // All of it purged.
    let gap = pair.while_cut(
        |pair| {
            pair.publish("purged");
            pair.desk.ask_stream("STREAM.PURGE", "");
        },
        "behind the purge",
    );
    assert_eq!(gap.reason, "expired");
    // Retention goes past a daemon that is away.
    let gap = pair.while_cut(
        |pair| {
            pair.desk.update(|config| config["max_msgs"] = 5.into());
            for n in 0..12 {
                pair.publish(&format!("old {n}"));
            }
        },
        "behind the old ones",
    );
    assert_eq!(gap.reason, "expired");
    assert!(pair.far.has("\"old 11\"") && !pair.far.has("\"old 2\""));
    let holes = [0, 1].map(|place| metric(pair.fleet.daemon(place), "luxcast_bus_holes_total"));
    assert_eq!(holes, [0.0, 3.0]);
    pair.fleet.daemon(1).wait_for_log(promised("the stream does not have the events"));

    // Who comes with a number from before the stream's oldest is told, on each daemon alike.
    let reached = *pair.truth.first_key_value().expect("much was published").0;
    for place in 0..2 {
        pair.fleet.kill(place);
        pair.fleet.restart(place);
        let late = pair.fleet.watch(place, &reached.to_string());
        late.wait_for("\"behind the old ones\"");
        let gaps = check(&late.end(), &pair.truth);
        assert!(gaps.len() == 1 && gaps[0].reason == "expired", "{gaps:?}");
    }
    assert_eq!(check(&pair.near.visits(), &pair.truth), [], "this one had all of it");
    assert_eq!(check(&pair.far.visits(), &pair.truth).len(), 3);
    drop(pair.server);
}

#[test]
fn a_message_with_too_many_lines_ends_with_a_gap_for_all() {
    let server = NatsServer::start(NEWEST, "");
    create(&server.url(), &["--replicas", "1"]);
    let fleet = Fleet::three(&[server.url()]);
    let desk = Desk::new(vec![server.url()]);
    let mut watchers: Vec<Client> =
        fleet.running().map(|daemon| daemon.watch("/api/v1/ws/events?since=start")).collect();
    let lines: Vec<String> = (1..=1_100).map(|n| mark(&n.to_string())).collect();
    let first = desk.number(desk.publish(&lines.join("\n")));
    desk.publish(&mark("behind it"));
    for watcher in &mut watchers {
        let events = watcher.events(1_023);
        let expected = lines.iter().zip(first..).map(|(line, number)| numbered(line, number));
        assert!(expected.take(1_023).eq(events));
        let gap = watcher.json();
        assert_eq!((&gap["type"], &gap["reason"]), (&"stream:gap".into(), &"expired".into()), "{gap}");
        assert_eq!((&gap["from"], &gap["to"]), (&(first + 1_023).into(), &(first + 1_023).into()), "{gap}");
        assert_eq!(watcher.event(), numbered(&mark("behind it"), first + 1_024));
    }
}

#[test]
fn another_stream_with_greater_numbers_is_a_gap_and_goes_on() {
    let server = NatsServer::start(NEWEST, "");
    let desk = Desk::new(vec![server.url()]);
    desk.create(BASE, USUAL_WINDOW);
    let fleet = Fleet::three(&[server.url()]);
    let watchers: Vec<Watcher> = (0..3).map(|place| fleet.watch(place, "start")).collect();
    desk.publish(&mark("of the first stream"));
    watchers.iter().for_each(|watcher| watcher.wait_for("of the first stream"));
    let mut truth = desk.truth();
    desk.ask_stream("STREAM.DELETE", "");
    create(&server.url(), &["--replicas", "1"]);
    desk.publish(&mark("of the second stream"));
    watchers.iter().for_each(|watcher| watcher.wait_for("of the second stream"));
    for daemon in fleet.running() {
        let log = daemon.stderr();
        let word =
            log.lines().find_map(|line| line.split_once(promised("the stream does not have the events")));
        assert!(word.is_some_and(|(_, rest)| rest.ends_with(": restart")), "{log}");
    }
    fleet.daemon(2).acked_feed().publish([mark("of a publisher").as_str()]);
    watchers.iter().for_each(|watcher| watcher.wait_for("of a publisher"));
    truth.extend(desk.truth());
    for watcher in watchers {
        let gaps = check(&watcher.end(), &truth);
        assert!(gaps.len() == 1 && gaps[0].reason == "restart", "{gaps:?}");
    }
}

#[test]
fn what_came_into_a_stream_made_anew_before_anybody_saw_it_is_shown_with_new_numbers() {
    let server = NatsServer::start(NEWEST, "");
    let desk = Desk::new(vec![server.url()]);
    desk.create(BASE, USUAL_WINDOW);
    let fleet = Fleet::start(vec![vec![server.url()]; 2], &[]);
    let watchers: Vec<Watcher> = (0..2).map(|place| fleet.watch(place, "start")).collect();
    for n in 0..5 {
        desk.publish(&mark(&format!("old {n}")));
    }
    watchers.iter().for_each(|watcher| watcher.wait_for("old 4"));
    let mut truth = desk.truth();
    let seen = *truth.last_key_value().expect("much was published").0;
    desk.ask_stream("STREAM.DELETE", "");
    desk.create(BASE, USUAL_WINDOW);
    for n in 0..3 {
        desk.publish(&mark(&format!("between {n}")));
    }
    for daemon in fleet.running() {
        daemon.wait_for_log("another stream stands in its place");
        assert!(daemon.stderr().contains("see luxcast bus new-epoch --from 1"), "{}", daemon.stderr());
    }
    let (url, after) = (server.url(), seen.to_string());
    let flags = ["bus", "new-epoch", "--bus", &url, "--after", &after];
    let (code, _, said) = luxcast(&flags);
    assert!(code == 2 && said.contains("messages 1 to 3 keep their numbers: "), "{said}");
    let (code, _, said) = luxcast(&[&flags[..], &["--from", "1", "--yes"]].concat());
    assert!(code == 0 && said.contains("messages 1 to 3 get new numbers: "), "{said}");
    watchers.iter().for_each(|watcher| watcher.wait_for("between 2"));
    truth.extend(desk.truth());
    for watcher in watchers {
        let gaps = check(&watcher.end(), &truth);
        assert!(gaps.len() == 1 && gaps[0].reason == "restart", "{gaps:?}");
    }
}

#[test]
fn a_restored_backup_stops_the_feed_until_a_new_epoch_begins() {
    let mut server = NatsServer::start(NEWEST, "");
    create(&server.url(), &["--replicas", "1"]);
    let desk = Desk::new(vec![server.url()]);
    let fleet = Fleet::three(&[server.url()]);
    let watchers: Vec<Watcher> = (0..3).map(|place| fleet.watch(place, "start")).collect();
    for n in 0..5 {
        desk.publish(&mark(&format!("saved {n}")));
    }
    watchers.iter().for_each(|watcher| watcher.wait_for("saved 4"));
    assert_eq!(publish_once(&fleet, 0, 5), 0);
    let kept = desk.info()["state"]["last_seq"].as_u64().expect("the server counts");
    server.stop();
    let backup = tempfile::tempdir().expect("the directory for temporary files can be written");
    copy(&server.store(), &backup.path().join("store"));
    server.restart();
    for n in 0..5 {
        desk.publish(&mark(&format!("not saved {n}")));
    }
    watchers.iter().for_each(|watcher| watcher.wait_for("\"not saved 4"));
    assert_eq!(publish_once(&fleet, 1, 10), 5);
    let last = line("once", 10);
    watchers.iter().for_each(|watcher| watcher.wait_for(&last[1..]));
    let mut truth = desk.truth();
    let seen = *truth.last_key_value().expect("much was published").0;

    server.kill();
    fs::remove_dir_all(server.store()).expect("the server has ended");
    copy(&backup.path().join("store"), &server.store());
    server.restart();
    for daemon in fleet.running() {
        daemon.wait_for_log(promised("the feed has stopped"));
        let log = daemon.stderr();
        assert!(log.contains(&format!("{} {seen}", promised("the newest number given here is"))), "{log}");
        assert!(log.contains("luxcast bus new-epoch"), "{log}");
    }
    watchers.iter().for_each(Watcher::wait_for_reconnecting);
    fleet.check_health();
    // Its number was another event's; nobody may see it under that.
    desk.publish(&mark("between"));
    let (code, _, said) = luxcast(&[
        "bus",
        "new-epoch",
        "--bus",
        &server.url(),
        "--after",
        &seen.to_string(),
        "--from",
        &(kept + 1).to_string(),
        "--yes",
    ]);
    assert_eq!(code, 0, "{said}");
    // Once more, to be sure: nothing is shown again.
    for more in [&[][..], &["--from", &(kept + 1).to_string()]] {
        let flags = ["bus", "new-epoch", "--bus", &server.url(), "--after", &seen.to_string(), "--yes"];
        let (code, _, said) = luxcast(&[&flags[..], more].concat());
        assert!(code == 2 && said.contains("nothing was changed: "), "{said}");
    }
    desk.publish(&mark("of the new epoch"));
    watchers.iter().for_each(|watcher| watcher.wait_for("of the new epoch"));
    watchers.iter().for_each(Watcher::wait_for_connected);
    fleet.wait_until_connected();
    // Half of what this publisher sent is not in the stream any more. It comes again, with other numbers.
    assert_eq!(publish_once(&fleet, 0, 10), 5);
    fleet.daemon(1).acked_feed().publish([mark("of a publisher").as_str()]);
    watchers.iter().for_each(|watcher| watcher.wait_for("of a publisher"));
    check_publishers(&desk.truth(), [("once", 10)]);
    let after = desk.truth();
    assert!(after.values().any(|text| text.contains("\"between\"")));
    truth.extend(after);
    let number = truth.iter().find(|(_, text)| text.contains("\"between\"")).map(|(number, _)| *number);
    assert!(number > Some(seen));
    // One that begins now knows both epochs, and that there was something between them.
    let daemon = serve(&[server.url()], &[]);
    let newcomer = Watcher::stay(daemon.address, "start");
    newcomer.wait_for("of a publisher");
    let gaps = check(&newcomer.end(), &truth);
    assert!(gaps.len() == 1 && gaps[0].reason == "restart" && gaps[0].to >= seen, "{gaps:?}");
    for watcher in watchers {
        let gaps = check(&watcher.end(), &truth);
        assert!(gaps.len() == 1 && gaps[0].reason == "restart", "{gaps:?}");
    }
}

/// Also where the last message has no line that is an event.
#[test]
fn a_daemon_that_ends_logs_the_number_from_which_all_is_there() {
    let server = NatsServer::start(NEWEST, "");
    create(&server.url(), &["--replicas", "1"]);
    let mut fleet = Fleet::start(vec![vec![server.url()]; 2], &[]);
    let desk = Desk::new(vec![server.url()]);
    let event = desk.number(desk.publish(&mark("an event")));
    let watchers: Vec<Watcher> = (0..2).map(|place| fleet.watch(place, "start")).collect();
    watchers.iter().for_each(|watcher| watcher.wait_for("an event"));
    let logged = |fleet: &mut Fleet, place: usize| {
        let log = fleet.stop(place);
        let number = log.lines().find_map(|line| {
            Some(line.split_once(promised("the newest number given here is"))?.1.trim().to_owned())
        });
        number.unwrap_or_else(|| panic!("{log}"))
    };
    assert_eq!(logged(&mut fleet, 0), event.to_string());
    let message = desk.publish("no event\nnor this");
    let last = || metric(fleet.daemon(1), "luxcast_bus_last_message");
    wait_until("it has come", || last() == message as f64);
    let after = logged(&mut fleet, 1);
    assert_eq!(after, (desk.number(message) + 1).to_string());
    // The stream goes on above all of that: nobody needs an epoch.
    let flags = ["bus", "new-epoch", "--bus", &server.url(), "--after", &after, "--yes"];
    let (code, _, said) = luxcast(&flags);
    assert!(code == 2 && said.contains("as in a stream that has lost nothing"), "{said}");
}

/// Publishes those of the lines up to this one that are not accepted yet; returns how many were.
fn publish_once(fleet: &Fleet, place: usize, until: u64) -> u64 {
    let mut feed = Feed::connect(&fleet.daemon(place).ingest);
    feed.line(r#"{"op":"hello","publisher":"once","ack":true,"dedupe":true}"#);
    let accepted = feed.answer()["accepted"].as_u64().expect("a number");
    (accepted + 1..=until).for_each(|number| feed.line(&line("once", number)));
    while feed.answer()["line"] != until {}
    accepted
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("the test's own directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("readable").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("there is room");
        }
    }
}

/// Another daemon may be ahead, but none has given a number that the stream has not come to.
#[test]
fn who_names_a_number_that_no_daemon_has_given_is_told_so() {
    let server = NatsServer::start(NEWEST, "");
    create(&server.url(), &["--replicas", "1"]);
    let fleet = Fleet::start(vec![vec![server.url()]], &["--heartbeat-seconds", "1"]);
    let lines: Vec<String> = (1..=3).map(|n| line("few", n)).collect();
    let mut feed = fleet.daemon(0).acked_feed();
    feed.publish(lines.iter().map(String::as_str));
    let desk = Desk::new(vec![server.url()]);
    let truth = desk.truth();
    let newest = *truth.last_key_value().expect("there are three").0;
    let never = newest + 500 * 1_024;
    let watcher = fleet.watch(0, &never.to_string());
    let mut many = fleet.daemon(0).watch("/api/v1/websocket");
    many.send(&json!({"type": "subscribe", "job_id": "few-1", "since": never}).to_string());
    // It reads meanwhile, or it would be taken for dead.
    let mut of_many = Vec::new();
    while !of_many.last().is_some_and(|text: &String| text.contains("stream:gap")) {
        of_many.push(many.text());
    }
    watcher.wait_for("\"reason\":\"restart\"");
    // Its greeting has named a greater number.
    watcher.wait_for(&format!("{{\"stream_seq\":{newest},"));
    let texts = watcher.texts();
    let gap = texts.iter().position(|text| text.contains("stream:gap")).expect("it was just seen");
    assert!(texts[gap].contains(&format!("\"from\":{0},\"to\":{0},\"missed\":null", never + 1)), "{texts:?}");
    let events: Vec<&String> = texts.iter().filter(|text| text.starts_with("{\"stream_seq\"")).collect();
    assert_eq!(events, truth.values().collect::<Vec<_>>());
    // The same on a connection for many jobs, which has been told nothing of it meanwhile, then goes on.
    feed.publish([line("few", 8).as_str()]);
    let mut texts = of_many;
    while !texts.last().is_some_and(|text: &String| text.contains("\"n\":8")) {
        texts.push(many.text());
    }
    let gap = texts.iter().position(|text| text.contains("stream:gap")).expect("there is one");
    assert!(texts[gap].contains(&format!("\"from\":{0},\"to\":{0},\"missed\":null", never + 1)), "{texts:?}");
    let numbers: Vec<u64> = texts[gap..].iter().filter_map(|text| seq_of(text)).collect();
    let truth = desk.truth();
    let of_job = truth.iter().filter(|(_, text)| text.contains("\"few-1\"")).map(|(number, _)| *number);
    assert_eq!(numbers, of_job.collect::<Vec<_>>(), "{texts:?}");
}
