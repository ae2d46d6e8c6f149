//! Those who read the past at the same time, slow and fast, and what breaks meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::desk::Truth;
use crate::fleet::metric;
use crate::harness::{seq_of, wait_until};
use crate::judge::check;
use crate::stock::{
    LIVELY, RARE, Reader, STOCK_1, Stock, WINDOW, Wants, all, check_whole, last_of, of_rare, of_stock_1,
};
use crate::watchers::{EVERYTHING, Watcher};

const MANY_JOBS: &str = "/api/v1/websocket";

/// Whether slow readers may read as fast as they can. They may at the end of the test, however it ends.
#[derive(Default)]
struct Haste(AtomicBool);

struct HasteAtEnd<'a>(&'a Haste);

impl Drop for HasteAtEnd<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Reads a little at a time until it may hurry.
fn dawdle(mut reader: Reader, haste: &Haste) -> Reader {
    while !haste.0.load(Ordering::Relaxed) {
        (0..10).for_each(|_| assert!(reader.read()));
        thread::sleep(Duration::from_millis(10));
    }
    reader
}

#[test]
fn slow_readers_and_newcomers_lose_nothing_and_share_few_passes() {
    let stock = Stock::start(100, &[&WINDOW[..], &LIVELY].concat());
    let engine = stock.fleet.engine("extract");
    let mut halted = stock.reader(1, EVERYTHING, 2);
    let slow = stock.reader(1, EVERYTHING, 1);
    halted.read_until(stock.number(5));
    let haste = Haste::default();
    let (watchers, slow) = thread::scope(|scope| {
        let at_end = HasteAtEnd(&haste);
        let slow = scope.spawn(|| dawdle(slow, &haste));
        let paths: [(&str, Wants); 3] = [(EVERYTHING, all), (STOCK_1, of_stock_1), (RARE, of_rare)];
        let begin = |place: u64| paths.map(|(path, wants)| (stock.watch(1, path, place), wants));
        let mut watchers: Vec<(Watcher, Wants)> = [begin(0), begin(4)].into_iter().flatten().collect();
        watchers[0].0.wait_for_number(stock.number(30));
        // The pass is far beyond their place.
        watchers.extend([begin(0), begin(20)].into_iter().flatten());
        // Neither waits for those who do not read.
        watchers.iter().for_each(|(watcher, _)| watcher.wait_for_number(stock.number(98)));
        drop(at_end);
        (watchers, slow.join().expect("it only reads"))
    });
    engine.wait_for_progress();
    engine.end();
    let truth = stock.desk.truth();
    for (watcher, wants) in watchers {
        check_whole(watcher, &truth, wants);
    }
    assert_eq!(slow.finish(&truth, all), []);
    assert_eq!(halted.finish(&truth, all), []);
    stock.wait_until_all_are_live();
    // Who is slow gets at least a window of each pass: these are six of them.
    let passes = stock.passes(1);
    assert!((1.0..=10.0).contains(&passes), "{passes} passes for 14 watchers");
}

#[test]
fn one_that_does_not_read_keeps_nobody_waiting() {
    let stock = Stock::start(60, &WINDOW);
    // All of it goes into what a pass may have, so that only this one keeps the pass from its end.
    let mut halted = stock.reader(1, EVERYTHING, 45);
    halted.read_until(stock.number(52));
    let watcher = stock.watch(1, EVERYTHING, 40);
    watcher.wait_for_number(stock.last());
    let truth = stock.desk.truth();
    // It is still there: nobody had to wait until it was ended for reading nothing.
    assert_eq!(halted.finish(&truth, all), []);
    check_whole(watcher, &truth, all);
    stock.wait_until_all_are_live();
}

#[test]
fn who_is_slow_where_memory_begins_loses_nothing() {
    let mut stock = Stock::start(60, &WINDOW);
    // Some stand before it, and some behind it, and none of them was ever live.
    let readers = [54, 55, 56, 57, 58].map(|place| (stock.reader(1, EVERYTHING, 45), stock.number(place)));
    let readers = each(readers.into(), |(mut reader, number)| {
        reader.read_until(number);
        reader
    });
    // Far more than memory has.
    stock.publish(20);
    let truth = stock.desk.truth();
    for gaps in each(readers, |reader| reader.finish(&truth, all)) {
        assert_eq!(gaps, []);
    }
    stock.wait_until_all_are_live();
}

/// Subscribes a reader of many jobs to one more. Returns the number that it is told.
fn subscribe(reader: &mut Reader, job: &str, since: Value) -> u64 {
    reader.send(&json!({"type": "subscribe", "job_id": job, "since": since}).to_string());
    reader.read_until_told(&format!("\"subscribed\",\"job_id\":\"{job}\""));
    let answer: Value = serde_json::from_str(reader.visit.texts.last().expect("an answer")).expect("JSON");
    answer["stream_seq"].as_u64().expect("a number")
}

/// Reads until this event has come. Returns the numbers of all that have come so far.
fn numbers_until(mut reader: Reader, last: u64) -> Vec<u64> {
    while reader.visit.texts.last().and_then(|text| seq_of(text)) != Some(last) {
        assert!(reader.read(), "it was ended");
        let text = reader.visit.texts.last().expect("it was just read");
        assert!(!text.contains("stream:gap"), "{text}");
    }
    reader.visit.texts.iter().filter_map(|text| seq_of(text)).collect()
}

/// The numbers of what some of the jobs have, behind `after`.
fn numbers_of(truth: &Truth, jobs: &[&str], after: u64) -> Vec<u64> {
    let is_of = |text: &str, job: &str| text.contains(&format!("\"job_id\":\"{job}\""));
    let behind = truth.range(after + 1..);
    behind.filter(|(_, text)| jobs.iter().any(|job| is_of(text, job))).map(|(number, _)| *number).collect()
}

#[test]
fn the_other_jobs_wait_for_the_past_of_one_and_all_go_on_in_one_order() {
    let mut stock = Stock::start(60, &WINDOW);
    let mut reader = stock.reader(1, MANY_JOBS, 0);
    subscribe(&mut reader, "stock-0", json!("now"));
    let newest = subscribe(&mut reader, "stock-1", json!(stock.number(0)));
    assert!(newest >= stock.last());
    // Far more than memory has, while most of that past is still to be read.
    stock.publish(20);
    let truth = stock.desk.truth();
    let mut wanted = numbers_of(&truth, &["stock-1"], stock.number(0));
    wanted.retain(|number| *number <= newest);
    wanted.extend(numbers_of(&truth, &["stock-0", "stock-1"], newest));
    let last = *wanted.last().expect("there is something");
    assert!(numbers_until(reader, last) == wanted, "the past, and then both in one order");
    stock.wait_until_all_are_live();
}

#[test]
fn a_slow_watcher_of_many_jobs_reads_on_in_one_order_without_a_gap() {
    const JOBS: [&str; 4] = ["stock-0", "stock-1", "stock-2", "rare"];
    let mut stock = Stock::start(5, &WINDOW);
    let mut reader = stock.reader(1, MANY_JOBS, 0);
    let newest = JOBS.map(|job| subscribe(&mut reader, job, json!("now")))[0];
    // It is overtaken, and then again and again while it reads.
    stock.publish(40);
    let truth = stock.desk.truth();
    let wanted = numbers_of(&truth, &JOBS, newest);
    let last = *wanted.last().expect("there is something");
    assert!(numbers_until(reader, last) == wanted, "each once and in order");
    assert!(stock.passes(1) >= 1.0, "memory had lost some");
    stock.wait_until_all_are_live();
}

/// Does it for all at the same time.
fn each<T: Send, R: Send>(all: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(|| work(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it tells why")).collect()
    })
}

#[test]
fn many_who_come_back_share_few_passes() {
    const MANY: u64 = 200;
    let stock = Stock::start(100, &LIVELY);
    // So that nothing is read before all are there.
    stock.server.signal(Signal::STOP);
    let place = |n: u64| (n + 30) * 7 % 95;
    let mut readers: Vec<Reader> = (0..MANY).map(|n| stock.reader(1, RARE, place(n))).collect();
    // Meanwhile each is told that it is where it was.
    readers.iter_mut().for_each(|reader| reader.read_until_told("\"ping\""));
    wait_until("all wait for it", || stock.past_watchers(1) == MANY as f64);
    stock.server.signal(Signal::CONT);
    let truth = stock.desk.truth();
    for reader in readers {
        assert_eq!(reader.finish(&truth, of_rare), []);
    }
    stock.wait_until_all_are_live();
    // The first one has begun one; some may have ended with the server.
    let passes = stock.passes(1);
    assert!((1.0..=6.0).contains(&passes), "{passes} passes for {MANY} watchers");
}

#[test]
fn a_server_that_dies_in_the_middle_of_the_past_costs_nothing() {
    let mut stock = Stock::start(100, &WINDOW);
    let watcher = stock.watch(1, EVERYTHING, 0);
    let of_job = stock.watch(1, STOCK_1, 0);
    let mut reader = stock.reader(1, EVERYTHING, 0);
    let connected = |stock: &Stock| metric(stock.fleet.daemon(1), "luxcast_bus_connected");
    for (place, what) in [(10, "dies"), (35, "halts"), (60, "loses its consumers")] {
        reader.read_until(stock.number(place));
        match what {
            "dies" => {
                stock.server.kill();
                wait_until("the daemon knows", || connected(&stock) == 0.0);
                assert!(stock.past_watchers(1) >= 1.0, "that is in the middle");
                stock.server.restart();
            }
            "halts" => {
                stock.server.signal(Signal::STOP);
                wait_until("the daemon knows", || connected(&stock) == 0.0);
                assert!(stock.past_watchers(1) >= 1.0, "that is in the middle");
                stock.server.signal(Signal::CONT);
            }
            _ => {
                for (name, _) in stock.desk.consumers() {
                    stock.desk.try_ask(&format!("CONSUMER.DELETE.LUXCAST.{name}"), "");
                }
                assert!(stock.past_watchers(1) >= 1.0, "that is in the middle");
            }
        }
    }
    let truth = stock.desk.truth();
    assert_eq!(reader.finish(&truth, all), []);
    check_whole(watcher, &truth, all);
    check_whole(of_job, &truth, of_stock_1);
    stock.wait_until_all_are_live();
}

#[test]
fn who_goes_to_another_daemon_in_the_middle_of_the_past_loses_nothing() {
    let mut stock = Stock::start(100, &WINDOW);
    let engine = stock.fleet.engine("extract");
    let mut visits = Vec::new();
    let mut since = stock.number(0);
    for (daemon, place, dies) in
        [(0, 20, true), (1, 40, false), (0, 55, false), (1, 75, true), (0, 90, false)]
    {
        let mut reader = Reader::start(stock.address(daemon), EVERYTHING, since);
        reader.read_until(stock.number(place));
        assert!(stock.past_watchers(daemon) >= 1.0, "that is in the middle");
        if dies {
            stock.fleet.kill(daemon);
        }
        since = reader.position();
        visits.push(reader.visit);
        if dies {
            stock.fleet.restart(daemon);
        }
    }
    let last = Watcher::stay_at(stock.address(1), EVERYTHING, &since.to_string());
    engine.wait_for_progress();
    engine.end();
    let truth = stock.desk.truth();
    last.wait_for_number(last_of(&truth));
    visits.extend(last.end());
    assert_eq!(check(&visits, &truth), []);
}

/// Reads slowly until it is told that the daemon ends, then all that is left.
fn read_until_disconnected(mut reader: Reader) -> Reader {
    while reader.read() {
        let is_last = reader.visit.texts.last().is_some_and(|text| text.contains("\"disconnected\""));
        if !is_last {
            thread::sleep(Duration::from_millis(5));
        }
    }
    reader
}

/// Ends the daemon as an operator does. Returns the watcher, which was told of it.
fn end_under(stock: &mut Stock, daemon: usize, reader: Reader) -> Reader {
    let begin = Instant::now();
    let reader = thread::scope(|scope| {
        let reading = scope.spawn(|| read_until_disconnected(reader));
        stock.fleet.stop(daemon);
        // Far more than it takes on a busy machine.
        assert!(begin.elapsed() < 2 * DRAIN, "{:?}", begin.elapsed());
        reading.join().expect("it only reads")
    });
    let last = reader.visit.texts.last().expect("it was greeted");
    assert!(last.contains("\"disconnected\""), "{last}");
    reader
}

const DRAIN: Duration = Duration::from_secs(3);

#[test]
fn a_daemon_that_ends_in_the_middle_of_the_past_names_each_watchers_place() {
    let mut stock = Stock::start(100, &[&WINDOW[..], &LIVELY, &["--drain-seconds", "3"]].concat());
    let truth = stock.desk.truth();
    let mut reader = stock.reader(0, EVERYTHING, 0);
    reader.read_until(stock.number(10));
    let reader = end_under(&mut stock, 0, reader);
    assert!(reader.position() < stock.number(95), "that is in the middle");
    // This one still waits for the past.
    stock.server.signal(Signal::STOP);
    let mut waiting = stock.reader(1, EVERYTHING, 3);
    waiting.read_until_told("\"ping\"");
    let waiting = end_under(&mut stock, 1, waiting);
    assert_eq!(waiting.position(), stock.number(3));
    stock.server.signal(Signal::CONT);
    for (daemon, reader) in [(0, reader), (1, waiting)] {
        stock.fleet.restart(daemon);
        let mut next = Reader::start(stock.address(daemon), EVERYTHING, reader.position());
        next.read_until(last_of(&truth));
        assert_eq!(check(&[reader.visit, next.visit], &truth), []);
    }
}
