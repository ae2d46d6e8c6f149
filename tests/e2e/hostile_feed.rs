//! Publishers that err, dawdle, flood, die, or do not listen.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;

use crate::crowd::cpu;
use crate::harness::{Client, Daemon, Feed, Setup, numbered, seq_of, wait_until};

const PREFIX: &str = r#"{"type":"tick","job_id":"j","#;
const MIB: u64 = 1 << 20;

fn start(flags: &[&str]) -> Daemon {
    Setup::default().flags(&["--metrics-seconds", "0", "--overrun", "wait"]).flags(flags).start()
}

fn watch_all(daemon: &Daemon) -> Client {
    let mut watcher = daemon.watch("/api/ws/events");
    watcher.connected();
    watcher
}

/// Checks that the next events are these, byte for byte.
fn expect(watcher: &mut Client, lines: &[impl AsRef<str>]) {
    for line in lines {
        let event = watcher.event();
        let seq = seq_of(&event).expect("an event has a number");
        assert_eq!(event, numbered(line.as_ref(), seq));
    }
}

fn good(n: usize) -> String {
    format!(r#"{PREFIX}"n":{n}}}"#)
}

/// An event whose own object is level 1.
fn nested(depth: usize) -> String {
    format!("{PREFIX}\"x\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

fn code_and_line(error: &Value) -> (&str, u64) {
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    (error["code"].as_str().expect("a code"), error["line"].as_u64().expect("a line number"))
}

/// Every kind of bad line, and its code. With `line_bytes_max` 2000.
fn bad_lines() -> Vec<(Vec<u8>, &'static str)> {
    let mut bad: Vec<(Vec<u8>, &'static str)> = Vec::new();
    let mut add = |line: &[u8], code| bad.push((line.to_vec(), code));
    for text in ["nonsense", "{", "}", r#"{"type":"tick","job_id":"j""#, r#"{"type":"tick" "job_id":"j"}"#] {
        add(text.as_bytes(), "bad_json");
    }
    // A byte order mark is not whitespace in JSON (RFC 8259, 8.1).
    add(&[b"\xef\xbb\xbf", good(0).as_bytes()].concat(), "bad_json");
    for behind in ["x", "{}", ",", "\0", "]"] {
        add(format!("{}{behind}", good(0)).as_bytes(), "bad_json");
    }
    for value in [
        "\"\0\"",
        "\"\t\"",
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\x""#,
        "01",
        "+1",
        ".5",
        "NaN",
        "'a'",
        "tru",
    ] {
        add(format!("{PREFIX}\"x\":{value}}}").as_bytes(), "bad_json");
    }
    add(format!("\u{feff}{}", good(0)).as_bytes(), "bad_json");
    for bytes in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80"] {
        let line = [PREFIX.as_bytes(), b"\"x\":\"", bytes, b"\"}"].concat();
        add(&line, "bad_utf8");
    }
    for value in ["[]", "[1,2]", "1", "-0", "1e999", "\"text\"", "null", "true"] {
        add(value.as_bytes(), "not_an_object");
    }
    add(nested(65).as_bytes(), "too_deep");
    add(nested(500).as_bytes(), "too_deep");
    add(br#"{"job_id":"j"}"#, "no_type");
    add(b"{}", "no_type");
    for value in [
        "null",
        "5",
        "[]",
        r#""""#,
        r#""a b""#,
        r#""\u00e4""#,
        r#""a/b""#,
        &format!("\"{}\"", "t".repeat(65)),
    ] {
        add(format!(r#"{{"type":{value},"job_id":"j"}}"#).as_bytes(), "bad_type");
    }
    add(br#"{"type":"tick"}"#, "no_id");
    add(br#"{"type":"tick","job_id":null,"flow_id":null}"#, "no_id");
    for value in
        ["5", "{}", r#""""#, r#""a b""#, r#""\u00e4""#, r#""a/b""#, &format!("\"{}\"", "i".repeat(129))]
    {
        add(format!(r#"{{"type":"tick","job_id":{value}}}"#).as_bytes(), "bad_id");
        add(format!(r#"{{"type":"tick","job_id":"j","flow_id":{value}}}"#).as_bytes(), "bad_id");
    }
    for again in [
        r#""type":"tick""#,
        r#""job_id":"j""#,
        r#""\u006aob_id":"other""#,
        r#""t\u0079pe":"x""#,
        r#""job_id":null"#,
    ] {
        add(format!("{PREFIX}{again}}}").as_bytes(), "duplicate_key");
    }
    add(br#"{"type":"tick","flow_id":"f","flow_id":"f"}"#, "duplicate_key");
    for member in [r#""stream_seq":1"#, r#""stream_seq":null"#, r#""stream\u005fseq":1"#] {
        add(format!("{PREFIX}{member}}}").as_bytes(), "reserved");
    }
    for own in [
        "connection:status",
        "ping",
        "pong",
        "subscription:confirmed",
        "stream:gap",
        "error",
        "connected",
        "subscribed",
        "already_subscribed",
        "unsubscribed",
        "not_subscribed",
        "p\\u0069ng",
    ] {
        add(format!(r#"{{"type":"{own}","job_id":"j"}}"#).as_bytes(), "reserved");
    }
    for op in [
        r#"{"op":"nope"}"#,
        r#"{"op":1}"#,
        r#"{"op":"from","line":3}"#,
        r#"{"op":"hello","publisher":"late"}"#,
    ] {
        add(op.as_bytes(), "bad_op");
    }
    add(format!("{PREFIX}\"x\":\"{}\"}}", "x".repeat(2_000)).as_bytes(), "too_long");
    add(&vec![b'x'; 100_000], "too_long");
    bad
}

#[test]
fn each_bad_line_is_refused_alone_with_its_code_and_number() {
    let daemon = start(&["--line-bytes-max", "2000"]);
    let mut watcher = watch_all(&daemon);
    let mut feed = daemon.acked_feed();
    let mut expected = Vec::new();
    for (number, (line, code)) in bad_lines().into_iter().enumerate() {
        feed.line(&good(number));
        feed.bytes(&line);
        feed.bytes(b"\n");
        feed.lines += 1;
        let bad_at = feed.lines;
        feed.line(&good(number));
        let errors = feed.sync();
        let shown = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        assert_eq!(errors.len(), 1, "{shown}: {errors:?}");
        assert_eq!(code_and_line(&errors[0]), (code, bad_at), "{shown}");
        expected.extend([good(number), good(number)]);
    }
    assert_eq!(expected.len(), 2 * bad_lines().len());
    expect(&mut watcher, &expected);
    feed.line(&good(1_000_000));
    expect(&mut watcher, &[good(1_000_000)]);
}

#[test]
fn odd_but_legal_lines_are_forwarded_unchanged() {
    let daemon = start(&["--line-bytes-max", "2000"]);
    let mut watcher = watch_all(&daemon);
    let mut feed = daemon.acked_feed();
    let mut lines: Vec<String> = [
        "1e400",
        "-1e400",
        "1E-999",
        "-0",
        "-0.0",
        "0.10",
        "1e+05",
        "12345678901234567890123456789012345678901234567890",
        "18446744073709551616",
        "-9223372036854775809",
        "\"\\ud83d\\ude00\"",
        "\"\\u0000\"",
        "\"\u{1F600} \u{fffd} \u{2028}\"",
        "\"\\/\"",
        "{\"stream_seq\":1,\"type\":\"ping\",\"job_id\":\"other\",\"job_id\":2}",
        "[ 1 , 2 ]",
        "\"\"",
        "[[],{},[{}]]",
    ]
    .iter()
    .map(|value| format!("{PREFIX}\"x\":{value}}}"))
    .collect();
    lines.push(nested(64));
    lines.push(format!(r#"{{"type":"{}","job_id":"j"}}"#, "t".repeat(64)));
    lines.push(format!(r#"{{"type":"tick","job_id":"{}"}}"#, "i".repeat(128)));
    lines.push(r#"{"type":"a.b:c-d_E9","flow_id":"A.b:c-d_9","job_id":null}"#.to_owned());
    lines.push(r#"{"op":"hello","type":"tick","job_id":"j"}"#.to_owned());
    lines.push(r#"{ "type" : "tick" , "job_id" : "j" , "a" : 1 , "a" : 2 }"#.to_owned());
    // Exactly as long as a line may be.
    lines.push(format!("{PREFIX}\"x\":\"{}\"}}", "x".repeat(2_000 - PREFIX.len() - "\"x\":\"\"}".len())));
    feed.publish(lines.iter().map(String::as_str));
    expect(&mut watcher, &lines);
}

#[test]
fn an_escaped_key_or_id_is_routed_by_what_it_means() {
    let daemon = start(&[]);
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor");
    watcher.connected();
    let lines = [
        r#"{"type":"tick","\u006aob_id":"j"}"#,
        r#"{"\u0074ype":"tick","job_id":"\u006a"}"#,
        r#"{"type":"t\u0069ck","job_id":"other"}"#,
        r#"{"type":"tick","job_id":"j","end":1}"#,
    ];
    daemon.acked_feed().publish(lines);
    expect(&mut watcher, &[lines[0], lines[1], lines[3]]);
}

#[test]
fn blanks_line_ends_and_empty_lines() {
    let daemon = start(&["--line-bytes-max", "2000"]);
    let mut watcher = watch_all(&daemon);
    let mut feed = daemon.acked_feed();
    let longest = format!("{PREFIX}\"x\":\"{}\"}}", "x".repeat(2_000 - PREFIX.len() - "\"x\":\"\"}".len()));
    feed.bytes(b"\n\r\n \t\r\n");
    feed.bytes(format!("{}\r\n", good(5)).as_bytes());
    feed.bytes(format!(" \t {}\t \r\n", good(6)).as_bytes());
    feed.bytes(format!("{longest}\r\n").as_bytes());
    feed.bytes(b"\n\nbad\r\n");
    feed.bytes(format!("{longest}x\r\n").as_bytes());
    feed.bytes(format!("{}\n", good(11)).as_bytes());
    // hello was line 1.
    feed.lines = 11;
    let errors = feed.sync();
    let errors: Vec<_> = errors.iter().map(code_and_line).collect();
    assert_eq!(errors, [("bad_json", 10), ("too_long", 11)]);
    expect(&mut watcher, &[good(5), good(6), longest, good(11)]);
}

#[test]
fn lines_split_at_any_byte_are_the_same_lines() {
    let daemon = start(&[]);
    let mut watcher = watch_all(&daemon);
    let lines = [
        good(1),
        format!("{PREFIX}\"x\":\"\u{1F600}\\u00e4\\n\"}}"),
        "bad".to_owned(),
        format!("{PREFIX}\"x\":1e999}}"),
    ];
    let text = format!("{}\n{}\r\n\n{}\n{}\n", lines[0], lines[1], lines[2], lines[3]);
    let delivered = [&lines[0], &lines[1], &lines[3]];
    for split in 0..=text.len() {
        let mut feed = daemon.acked_feed();
        feed.bytes(&text.as_bytes()[..split]);
        // Most often enough for a read of its own.
        thread::sleep(Duration::from_micros(300));
        feed.bytes(&text.as_bytes()[split..]);
        feed.lines += 5;
        let errors = feed.sync();
        assert_eq!(
            errors.iter().map(code_and_line).collect::<Vec<_>>(),
            [("bad_json", 5)],
            "split at {split}"
        );
        expect(&mut watcher, &delivered);
    }
    let mut feed = daemon.acked_feed();
    for byte in text.as_bytes().chunks(1) {
        feed.bytes(byte);
        thread::sleep(Duration::from_micros(300));
    }
    feed.lines += 5;
    assert_eq!(feed.sync().iter().map(code_and_line).collect::<Vec<_>>(), [("bad_json", 5)]);
    expect(&mut watcher, &delivered);
}

#[test]
fn a_hundred_megabytes_without_a_newline_cost_one_error_and_no_memory() {
    let daemon = start(&[]);
    let mut watcher = watch_all(&daemon);
    let mut feed = daemon.acked_feed();
    feed.publish([good(1).as_str()]);
    let before = daemon.memory_bytes("VmHWM");
    let block = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        feed.bytes(&block);
    }
    feed.bytes(b"\n");
    feed.lines += 1;
    let bad_at = feed.lines;
    feed.line(&good(2));
    let errors = feed.sync();
    assert_eq!(errors.iter().map(code_and_line).collect::<Vec<_>>(), [("too_long", bad_at)]);
    expect(&mut watcher, &[good(1), good(2)]);
    let grown = daemon.memory_bytes("VmHWM") - before;
    println!("100 MB without a newline: {:.1} MiB more at most", grown as f64 / MIB as f64);
    assert!(grown < 16 * MIB, "{grown} bytes");
}

#[test]
fn new_jobs_beyond_the_limit_are_refused_while_all_are_watched() {
    let daemon = start(&["--jobs-max", "2", "--topics-max", "3"]);
    let _watchers = ["a", "b"].map(|job| daemon.watch(&format!("/api/ws/jobs/{job}/monitor")));
    let mut feed = daemon.acked_feed();
    let of = |job: &str| format!(r#"{{"type":"tick","job_id":"{job}"}}"#);
    feed.lines([of("a"), of("b"), of("c"), of("a")].iter().map(String::as_str));
    let errors = feed.sync();
    assert_eq!(errors.iter().map(code_and_line).collect::<Vec<_>>(), [("too_many_jobs", 4)]);
    let _flow = daemon.watch("/api/ws/flows/f/monitor");
    feed.line(r#"{"type":"tick","flow_id":"f"}"#);
    feed.line(r#"{"type":"tick","flow_id":"g"}"#);
    feed.line(r#"{"type":"tick","job_id":"a","flow_id":"g"}"#);
    feed.line(&of("b"));
    let errors = feed.sync();
    let errors: Vec<_> = errors.iter().map(code_and_line).collect();
    assert_eq!(errors, [("too_many_topics", 7), ("too_many_topics", 8)]);
}

#[test]
fn a_publisher_that_dies_within_a_line_leaves_nothing_of_it() {
    let daemon = start(&[]);
    let mut watcher = watch_all(&daemon);
    let line = good(1);
    for end in 1..line.len() {
        let mut feed = daemon.feed();
        feed.bytes(format!("{}\n{}", good(0), &line[..end]).as_bytes());
        drop(feed);
        expect(&mut watcher, &[good(0)]);
    }
    // Whole except for its newline: it is cut off, and reported as such if the publisher still listens.
    let mut feed = daemon.feed();
    feed.bytes(format!("{}\n{line}", good(0)).as_bytes());
    feed.stream.shutdown(Shutdown::Write).expect("it is open");
    let error = feed.answer();
    assert_eq!(code_and_line(&error), ("truncated", 2));
    assert!(feed.try_answer().is_none());
    expect(&mut watcher, &[good(0)]);
    daemon.acked_feed().publish([good(2).as_str()]);
    expect(&mut watcher, &[good(2)]);
}

/// Sends this many lines of `bytes` each, in pieces that are read as they come. Returns the daemon's CPU time.
fn trickle(daemon: &Daemon, watcher: &mut Client, lines: usize, bytes: usize) -> Duration {
    const PIECE: usize = 1 << 10;
    let line = format!("{PREFIX}\"x\":\"{}\"}}", "x".repeat(bytes));
    let mut feed = daemon.acked_feed();
    // Only a few pieces are in transit, however late the daemon reads.
    SockRef::from(&feed.stream).set_send_buffer_size(1).expect("a socket");
    let before = cpu(daemon);
    for _ in 0..lines {
        for piece in line.as_bytes().chunks(PIECE) {
            feed.stream.write_all(piece).expect("the daemon reads");
        }
        feed.line("");
    }
    assert!(feed.sync().is_empty());
    expect(watcher, &vec![line; lines]);
    cpu(daemon) - before
}

/// The same bytes and pieces cost the same in one long line as in sixteen. If each piece cost as much as its line so
/// far, it would be sixteen times as much.
#[test]
fn a_long_line_in_small_pieces_costs_no_quadratic_work() {
    const BYTES: usize = 8_000_000;
    let daemon = start(&["--line-bytes-max", "9000000"]);
    let mut watcher = watch_all(&daemon);
    let mut least = |lines: usize| {
        let costs = (0..3).map(|_| trickle(&daemon, &mut watcher, lines, BYTES / lines));
        costs.min().expect("some")
    };
    let (many, one) = (least(16), least(1));
    println!("{BYTES} bytes in small pieces: {many:.2?} in sixteen lines, {one:.2?} in one");
    assert!(one < many * 4, "{one:?} against {many:?}");
}

#[test]
fn a_publisher_that_never_reads_is_never_waited_for() {
    const LINES: u64 = 300_000;
    let daemon = start(&[]);
    let mut watcher = watch_all(&daemon);
    let mut feed = daemon.acked_feed();
    let before = daemon.memory_bytes("VmHWM");
    let block = "bad\n".repeat(1_000);
    for _ in 0..LINES / 1_000 {
        feed.bytes(block.as_bytes());
    }
    feed.lines += LINES;
    feed.line(&good(1));
    expect(&mut watcher, &[good(1)]);
    assert!(daemon.memory_bytes("VmHWM") - before < 16 * MIB);
    // Now it reads: what the socket held, what was held for it, and an ack of everything.
    let errors = feed.sync();
    assert!(errors.len() >= 64 && (errors.len() as u64) < LINES, "{} answers", errors.len());
    let numbers: Vec<u64> = errors.iter().map(|error| code_and_line(error).1).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "each error once and in order");
    let last = feed.acked_seq;
    assert_eq!(feed.publish([good(2).as_str()]), last + 1);
}

/// What one of many publishers sends: its own job, numbered.
fn of_publisher(publisher: usize, n: usize) -> String {
    format!(r#"{{"type":"tick","job_id":"p{publisher}","flow_id":"many","n":{n}}}"#)
}

#[test]
fn a_thousand_publishers_have_a_fair_share_beside_a_flood() {
    const PUBLISHERS: usize = 1_000;
    const LINES: usize = 10;
    let daemon = start(&[]);
    let mut watcher = daemon.watch("/api/ws/flows/many/monitor");
    watcher.connected();
    let is_over = AtomicBool::new(false);
    let flooded = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut feed = daemon.feed();
            let block = (good(0) + "\n").repeat(1_000);
            while !is_over.load(Ordering::Relaxed) {
                feed.bytes(block.as_bytes());
                flooded.fetch_add(1_000, Ordering::Relaxed);
            }
        });
        wait_until("the flood is on", || flooded.load(Ordering::Relaxed) > 100_000);
        let begin = Instant::now();
        let mut feeds: Vec<Feed> = (0..PUBLISHERS).map(|_| daemon.acked_feed()).collect();
        // The first is slow: its lines come in pieces.
        let dawdled = (0..LINES).map(|n| of_publisher(0, n) + "\n").collect::<String>();
        let mut bytes = dawdled.as_bytes().chunks(dawdled.len().div_ceil(LINES * 4));
        for n in 0..LINES {
            for (publisher, feed) in feeds.iter_mut().enumerate().skip(1) {
                feed.line(&of_publisher(publisher, n));
            }
            for chunk in bytes.by_ref().take(4) {
                feeds[0].bytes(chunk);
            }
        }
        feeds[0].lines += LINES as u64;
        for feed in &mut feeds {
            assert!(feed.sync().is_empty());
        }
        println!(
            "{PUBLISHERS} publishers, {LINES} lines each, beside {} lines of a flood: {:.2?}",
            flooded.load(Ordering::Relaxed),
            begin.elapsed()
        );
        // All of that while the flood continued.
        let before = flooded.load(Ordering::Relaxed);
        wait_until("the flood goes on", || flooded.load(Ordering::Relaxed) > before + 10_000);
        let mut next = vec![0; PUBLISHERS];
        for _ in 0..PUBLISHERS * LINES {
            let event: Value = serde_json::from_str(&watcher.event()).expect("JSON");
            let job = event["job_id"].as_str().expect("an id");
            let publisher: usize = job[1..].parse().expect("a number");
            assert_eq!(event["n"], next[publisher], "the order of {job}");
            next[publisher] += 1;
        }
        assert!(next.iter().all(|&next| next == LINES));
        is_over.store(true, Ordering::Relaxed);
    });
}
