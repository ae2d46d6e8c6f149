//! The past beyond memory: who asks for events that a daemon does not keep gets them from the stream.

use serde_json::{Value, json};

use crate::BASE;
use crate::desk::Truth;
use crate::engines::Engine;
use crate::fleet::{metric, serve};
use crate::harness::{Client, Daemon, seq_of};
use crate::stock::{
    RARE, Reader, SMALL, STOCK_1, Stock, WINDOW, Wants, all, check_whole, first_event, greeted_with, judged,
    last_of, of_rare, of_stock_1, select,
};
use crate::watchers::{EVERYTHING, Watcher};

const NOTES: &str = "/api/v1/ws/events?events=note";

fn is_note(text: &str) -> bool {
    text.contains("\"type\":\"note\"")
}

fn is_told(text: &str) -> bool {
    text.contains("\"job_id\":\"told\"")
}

/// A job whose flow only its first line names. Returns the number of a line in its middle.
fn tell(daemon: &Daemon) -> u64 {
    let mut feed = daemon.acked_feed();
    feed.publish([r#"{"type":"job_started","job_id":"told","flow_id":"told-flow"}"#]);
    let mut middle = 0;
    for part in 0..4 {
        let lines =
            (0..100).map(|n| format!("{{\"type\":\"x\",\"job_id\":\"told\",\"n\":{}}}", part * 100 + n));
        let lines: Vec<String> = lines.collect();
        let number = feed.publish(lines.iter().map(String::as_str));
        middle = if part == 1 { number } else { middle };
    }
    middle
}

#[test]
fn who_asks_for_what_memory_has_lost_gets_it_from_the_stream() {
    let mut stock = Stock::empty(&[]);
    let middle = tell(stock.fleet.daemon(0)).to_string();
    stock.fill(50);
    stock.fleet.daemon(0).acked_feed().publish([r#"{"type":"job_completed","job_id":"told"}"#]);
    let engines = ["extract", "load"].map(|name| stock.fleet.engine(name));
    let [first, late] = [0, 23].map(|place| stock.number(place).to_string());
    let cases: [(&str, &str, Wants); 13] = [
        (EVERYTHING, &first, all),
        (EVERYTHING, &late, all),
        (NOTES, &first, is_note),
        (STOCK_1, &first, of_stock_1),
        (STOCK_1, "start", of_stock_1),
        (RARE, &late, of_rare),
        ("/api/ws/jobs/stock-2/debug", &first, |text| {
            text.contains("\"job_id\":\"stock-2\"") && text.contains("\"type\":\"routine_")
        }),
        ("/api/v1/ws/flows/flow-1/monitor", &late, |text| text.contains("\"flow_id\":\"flow-1\"")),
        ("/api/v1/ws/flows/flow-1/monitor", "start", |text| text.contains("\"flow_id\":\"flow-1\"")),
        ("/api/ws/jobs/told/monitor", "start", is_told),
        ("/api/ws/jobs/told/monitor", &middle, is_told),
        ("/api/ws/flows/told-flow/monitor", "start", is_told),
        ("/api/ws/flows/told-flow/monitor", &middle, is_told),
    ];
    let mut watchers = Vec::new();
    for daemon in 0..2 {
        for (path, since, wants) in cases {
            watchers.push((path, Watcher::stay_at(stock.address(daemon), path, since), wants));
        }
    }
    let jobs = [
        ("stock-1", json!(stock.number(0))),
        ("stock-2", json!("start")),
        ("rare", json!(late)),
        ("told", json!(middle)),
    ];
    let many = [0, 1].map(|daemon| subscribe(stock.fleet.daemon(daemon), &jobs));
    let mut changing = stock.reader(1, NOTES, 1);
    change_in_the_middle(&mut changing);
    engines.iter().for_each(Engine::wait_for_progress);
    for engine in engines {
        engine.end();
    }
    let truth = stock.desk.truth();
    for (path, watcher, wants) in watchers {
        eprintln!("{path}");
        let (gaps, visits) = judged(watcher, &truth, wants);
        assert_eq!(gaps, []);
        assert!(greeted_with(&visits[0]) >= stock.last(), "it names what is live");
    }
    many.into_iter().for_each(|many| check_jobs(many, &truth, &jobs));
    changing.read_until(last_of(&select(&truth, is_note)));
    check_change(&changing, &truth);
    drop(changing);
    stock.wait_until_all_are_live();
    for daemon in 0..2 {
        let bytes = metric(stock.fleet.daemon(daemon), "luxcast_bus_past_bytes_total");
        assert!(stock.passes(daemon) >= 1.0 && bytes > 10e6, "{bytes}");
    }
}

/// Watches many jobs over one connection, each behind a number or from its start.
fn subscribe(daemon: &Daemon, jobs: &[(&str, Value)]) -> Client {
    let mut many = daemon.watch("/api/v1/websocket");
    for (job, since) in jobs {
        many.send(&json!({"type": "subscribe", "job_id": job, "since": since}).to_string());
    }
    many
}

/// Each job comes once and in order, without a gap.
fn check_jobs(mut many: Client, truth: &Truth, jobs: &[(&str, Value)]) {
    let of_job = |job: &str, text: &str| text.contains(&format!("\"job_id\":\"{job}\""));
    let wanted: Vec<Vec<u64>> = jobs
        .iter()
        .map(|(job, since)| {
            let since = since.as_str().map_or(since.as_u64(), |since| since.parse().ok());
            let behind = truth.range(since.unwrap_or(0) + 1..);
            behind.filter(|(_, text)| of_job(job, text)).map(|(number, _)| *number).collect()
        })
        .collect();
    let mut got = vec![Vec::new(); jobs.len()];
    while got.iter().zip(&wanted).any(|(got, wanted)| got.len() < wanted.len()) {
        let text = many.text();
        assert!(!text.contains("stream:gap"), "{text}");
        let Some(number) = seq_of(&text) else { continue };
        let job = jobs.iter().position(|(job, _)| of_job(job, &text)).expect("it was asked for");
        got[job].push(number);
    }
    assert!(got == wanted, "each once and in order");
}

/// Asks for more types once some events of the past have come.
fn change_in_the_middle(reader: &mut Reader) {
    reader.read_until_told("\"n\":200,");
    reader.send(r#"{"action":"subscribe","events":["routine_started"]}"#);
    reader.read_until_told("subscription:confirmed");
}

/// Before the confirmation it has the notes, and behind it the other type as well, all of both.
fn check_change(reader: &Reader, truth: &Truth) {
    let texts = &reader.visit.texts;
    let confirmed = texts.iter().position(|text| text.contains("subscription:confirmed"));
    let (before, behind) = texts.split_at(confirmed.expect("it was confirmed"));
    let events = |texts: &[String]| -> Vec<String> {
        texts.iter().filter(|text| seq_of(text).is_some()).cloned().collect()
    };
    let (before, behind) = (events(before), events(behind));
    let seam = seq_of(&behind[0]).expect("an event");
    assert!(seam < greeted_with(&reader.visit), "that was in the past");
    let since = reader.visit.since.expect("a number");
    let wanted = |range: &mut dyn Iterator<Item = (&u64, &String)>, wants: Wants| -> Vec<String> {
        range.filter(|(_, text)| wants(text)).map(|(_, text)| text.clone()).collect()
    };
    let last = reader.position();
    let both: Wants = |text| is_note(text) || text.contains("\"type\":\"routine_started\"");
    assert!(before == wanted(&mut truth.range(since + 1..seam), is_note), "before it was confirmed");
    assert!(behind == wanted(&mut truth.range(seam..=last), both), "since it was confirmed");
    assert!(!texts.iter().any(|text| text.contains("stream:gap")));
}

/// The one gap of a watcher, and the first event that it was given.
fn one_gap(watcher: Watcher, truth: &Truth, wants: Wants) -> (Value, u64) {
    let (gaps, visits) = judged(watcher, truth, wants);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap = visits[0].texts.iter().find(|text| text.contains("stream:gap")).expect("it was judged");
    (serde_json::from_str(gap).expect("JSON"), first_event(&visits))
}

/// Nobody knows what was lost behind `since`, and it is told up to where the rest begins.
fn check_lost(watcher: Watcher, truth: &Truth, wants: Wants, since: u64) -> u64 {
    let (gap, first) = one_gap(watcher, truth, wants);
    assert!(gap["reason"] == "expired" && gap["from"] == since + 1 && gap["missed"].is_null(), "{gap}");
    assert!(gap["to"].as_u64() < Some(first), "{gap} before {first}");
    first
}

/// Memory alone answers: nothing is read again.
fn check_memory_alone(stock: &Stock, daemon: &Daemon, truth: &Truth) {
    let (gap, first) = one_gap(Watcher::stay(daemon.address, "start"), truth, all);
    assert!(gap["reason"] == "expired" && gap["from"] == 1 && first > stock.number(40), "{gap}");
    // As many as there are, and no gap, since no more was asked for.
    let mut last_ones = daemon.watch("/api/v1/ws/events?since=-100000");
    last_ones.connected();
    let mut wanted = truth.range(first..).map(|(_, text)| text);
    assert!(wanted.all(|text| *text == last_ones.text()));
    assert_eq!(metric(daemon, "luxcast_bus_past_passes_total"), 0.0);
}

/// The stream has nothing before this message of the stock any more.
fn check_dropped(stock: &Stock, truth: &Truth, place: u64) {
    let since = stock.number(20) + 7;
    let watch = |daemon: usize, path: &str, since: &str| Watcher::stay_at(stock.address(daemon), path, since);
    let watchers = [0, 1].map(|daemon| {
        let of_all = watch(daemon, EVERYTHING, &since.to_string());
        let of_job = watch(daemon, STOCK_1, &since.to_string());
        let from_start = watch(daemon, STOCK_1, "start");
        let whole = stock.watch(daemon, EVERYTHING, place);
        (of_all, of_job, from_start, whole)
    });
    for (of_all, of_job, from_start, whole) in watchers {
        let first = check_lost(of_all, truth, all, since);
        assert_eq!(first, stock.number(place), "all that the stream has is there");
        let first = check_lost(of_job, truth, of_stock_1, since);
        assert!(first < stock.number(place + 1), "{first}");
        let first = check_lost(from_start, truth, of_stock_1, 0);
        assert!(first < stock.number(place + 1), "{first}");
        check_whole(whole, truth, all);
    }
}

#[test]
fn the_past_has_bounds_and_what_is_beyond_them_is_a_gap() {
    let stock = Stock::start(50, &[]);
    let truth = stock.desk.truth();
    let serve_with = |more: &[&str]| {
        let flags: Vec<String> = [&SMALL, more].concat().iter().map(|flag| (*flag).to_owned()).collect();
        serve(&[stock.server.url()], &flags)
    };
    let watch =
        |daemon: &Daemon, path: &str, since: u64| Watcher::stay_at(daemon.address, path, &since.to_string());
    for daemon in 0..2 {
        check_memory_alone(&stock, stock.fleet.daemon(daemon), &truth);
    }
    let none = serve_with(&["--bus-replay-bytes", "0"]);
    for (path, wants) in [(EVERYTHING, all as Wants), (STOCK_1, of_stock_1)] {
        let (gap, first) = one_gap(watch(&none, path, stock.number(3)), &truth, wants);
        let is_told = gap["reason"] == "expired" && gap["from"] == stock.number(3) + 1;
        assert!(is_told && first > stock.number(40), "{gap}");
    }
    check_memory_alone(&stock, &none, &truth);
    let mut many = subscribe(&none, &[("stock-1", json!(stock.number(0)))]);
    assert_eq!(many.json_of("subscribed")["job_id"], "stock-1");
    let gap = many.json();
    assert!(gap["type"] == "stream:gap" && gap["job_id"] == "stock-1" && gap["reason"] == "expired", "{gap}");

    // No number of the stream is so small.
    for daemon in stock.fleet.running() {
        let (gaps, _) = judged(watch(daemon, EVERYTHING, BASE - 1_000), &truth, all);
        assert!(gaps[0].reason == "restart" && gaps[0].from == BASE - 999, "{gaps:?}");
    }

    // About 17 messages go into this.
    let some = serve_with(&["--bus-replay-bytes", "4194304"]);
    for (path, wants) in [(EVERYTHING, all as Wants), (STOCK_1, of_stock_1)] {
        let first = check_lost(watch(&some, path, stock.number(3)), &truth, wants, stock.number(3));
        assert!((stock.number(25)..stock.number(43)).contains(&first), "{first}");
        check_whole(watch(&some, path, stock.number(38)), &truth, wants);
    }

    // What the stream has dropped by itself, and what an operator has.
    for (place, drop_them) in [(25, "max_msgs"), (35, "purge")] {
        match drop_them {
            "max_msgs" => stock.desk.update(|config| config["max_msgs"] = (50 - place).into()),
            _ => {
                let purge = json!({"seq": stock.message(place)});
                drop(stock.desk.ask_stream("STREAM.PURGE", &purge.to_string()));
            }
        }
        check_dropped(&stock, &truth, place);
    }
    stock.wait_until_all_are_live();
}

#[test]
fn a_message_that_is_gone_from_the_past_is_a_gap_for_each_who_passes_it() {
    let stock = Stock::start(50, &WINDOW);
    let truth = stock.desk.truth();
    let gone = [10, 11, 30];
    gone.iter().for_each(|place| stock.desk.delete_message(stock.message(*place)));
    let is_gone = |number: u64| {
        gone.iter().any(|place| (stock.number(*place)..stock.number(place + 1)).contains(&number))
    };
    let cases: [(&str, u64, Wants, usize); 6] = [
        (EVERYTHING, 0, all, 2),
        (EVERYTHING, 11, all, 2),
        (EVERYTHING, 12, all, 1),
        (STOCK_1, 5, of_stock_1, 2),
        (NOTES, 20, is_note, 1),
        (EVERYTHING, 31, all, 0),
    ];
    for daemon in 0..2 {
        let watchers = cases.map(|(path, place, _, _)| stock.watch(daemon, path, place));
        for (watcher, (path, place, wants, holes)) in watchers.into_iter().zip(cases) {
            let (gaps, visits) = judged(watcher, &truth, wants);
            // Two messages in a row may be told of one by one.
            let told = gaps.len();
            assert!(
                told >= holes && told <= holes + usize::from(place < 11),
                "{path} from {place}: {gaps:?}"
            );
            assert!(gaps.iter().all(|gap| gap.reason == "expired"), "{gaps:?}");
            let since = stock.number(place);
            for (number, _) in truth.range(since + 1..).filter(|(_, text)| wants(text)) {
                let is_told = gaps.iter().any(|gap| (gap.from..=gap.to).contains(number));
                // The judge has seen that nothing is missing beside it.
                assert_eq!(is_told, is_gone(*number), "{number} in {gaps:?}");
            }
            let events = visits[0].texts.iter().filter_map(|text| seq_of(text));
            assert!(events.into_iter().all(|number| !is_gone(number)), "nobody has it any more");
        }
    }
    stock.wait_until_all_are_live();
}
