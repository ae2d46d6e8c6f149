//! What the daemon reports to its operators.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tungstenite::Message;

use crate::crowd::{Crowd, line_of};
use crate::harness::{Daemon, PATIENCE, Raw, wait_until};

const JOB: &str = "/api/ws/jobs/j/monitor";

/// Every sample of `/metrics`, by its name with the labels.
fn metrics(daemon: &Daemon) -> HashMap<String, f64> {
    let (status, text) = daemon.admin_get("/metrics");
    assert_eq!(status, 200, "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a value stands last");
        (series.to_owned(), value.parse().expect("it is a number"))
    });
    samples.collect()
}

fn wait_for(daemon: &Daemon, series: &str, value: f64) {
    wait_until(&format!("{series} to be {value}"), || metrics(daemon)[series] == value);
}

#[test]
fn metrics_show_watchers_and_how_they_end() {
    let daemon = Daemon::start(&["--shards", "2"]);
    let paths = [
        ("job_monitor", JOB),
        ("job_debug", "/api/ws/jobs/j/debug"),
        ("flow_monitor", "/api/v1/ws/flows/f/monitor"),
        ("events", "/api/ws/events"),
        ("multi_job", "/api/v1/websocket"),
    ];
    let mut clients: Vec<_> = paths.iter().map(|(_, path)| daemon.watch(path)).collect();
    let mut second = daemon.watch(JOB);
    let _coming = daemon.raw();
    wait_for(&daemon, "luxcast_sockets", 7.0);
    let figures = metrics(&daemon);
    for (endpoint, _) in paths {
        let expected = if endpoint == "job_monitor" { 2.0 } else { 1.0 };
        assert_eq!(
            figures[&format!("luxcast_connections{{endpoint=\"{endpoint}\"}}")],
            expected,
            "{endpoint}"
        );
        let opened = format!("luxcast_connections_opened_total{{endpoint=\"{endpoint}\"}}");
        assert_eq!(figures[&opened], expected, "{endpoint}");
    }
    assert_eq!(daemon.refuse("/api/ws/nothing").status, 404);
    assert_eq!(daemon.refuse("/api/ws/jobs/%20/monitor").status, 400);

    // One connection closes itself, one is closed by the daemon, one ends without a close frame.
    second.socket.close(None).expect("it is open");
    wait_for(&daemon, "luxcast_connections_closed_total{reason=\"client\"}", 1.0);
    clients[0].socket.get_mut().shutdown(std::net::Shutdown::Both).expect("it is open");
    wait_for(&daemon, "luxcast_connections_closed_total{reason=\"lost\"}", 1.0);
    for _ in 0..16 {
        clients[3].send("garbage");
    }
    assert_eq!(clients[3].close_code(), 1008);
    wait_for(&daemon, "luxcast_connections_closed_total{reason=\"garbage\"}", 1.0);
    let figures = metrics(&daemon);
    assert_eq!(figures["luxcast_connections{endpoint=\"job_monitor\"}"], 0.0);
    assert_eq!(figures["luxcast_connections{endpoint=\"events\"}"], 0.0);
    assert_eq!(figures["luxcast_connections{endpoint=\"job_debug\"}"], 1.0);
    assert_eq!(figures["luxcast_refusals_total{reason=\"not_found\"}"], 1.0);
    assert_eq!(figures["luxcast_refusals_total{reason=\"bad_id\"}"], 1.0);
    assert_eq!(figures["luxcast_sockets_accepted_total"], 9.0);
    assert!(figures["luxcast_sockets_max"] >= 7.0);
}

#[test]
fn metrics_show_what_comes_in_and_what_is_sent() {
    let daemon = Daemon::start(&["--shards", "2"]);
    let mut clients = [daemon.watch(JOB), daemon.watch(JOB), daemon.watch("/api/ws/events")];
    for client in &mut clients {
        client.connected();
    }
    let mut feed = daemon.acked_feed();
    feed.publish([
        r#"{"type":"job_started","job_id":"j","flow_id":"f"}"#,
        r#"{"type":"x","job_id":"j"}"#,
        r#"{"type":"x","job_id":"k"}"#,
    ]);
    feed.lines(["no json", r#"{"type":"x"}"#]);
    assert_eq!(feed.sync().len(), 2);
    assert_eq!(clients[0].events(2).len() + clients[1].events(2).len() + clients[2].events(3).len(), 7);
    let sent = |figures: &HashMap<String, f64>| {
        figures["luxcast_messages_sent_total{shard=\"0\"}"]
            + figures["luxcast_messages_sent_total{shard=\"1\"}"]
    };
    wait_until("seven deliveries are counted", || sent(&metrics(&daemon)) == 7.0);
    let figures = metrics(&daemon);
    let expected = [
        ("luxcast_feed_lines_total{result=\"accepted\"}", 3.0),
        ("luxcast_feed_lines_total{result=\"control\"}", 1.0),
        ("luxcast_feed_lines_total{result=\"bad_json\"}", 1.0),
        ("luxcast_feed_lines_total{result=\"no_id\"}", 1.0),
        ("luxcast_feed_lines_total{result=\"repeated\"}", 0.0),
        ("luxcast_events_total", 3.0),
        ("luxcast_history_events", 3.0),
        ("luxcast_jobs", 2.0),
        ("luxcast_flows", 1.0),
        ("luxcast_topics", 3.0),
        ("luxcast_publishers", 1.0),
        ("luxcast_publishers_accepted_total", 1.0),
        ("luxcast_lagging_connections", 0.0),
        ("luxcast_history_max_bytes", 268_435_456.0),
        ("luxcast_draining", 0.0),
    ];
    for (series, value) in expected {
        assert_eq!(figures[series], value, "{series}");
    }
    let delays = figures["luxcast_delivery_delay_seconds_count"];
    assert!((1.0..=7.0).contains(&delays), "{delays}");
    assert!(figures["luxcast_delivery_delay_seconds_sum"] > 0.0);
    assert!(figures["luxcast_turn_duration_seconds_count{thread=\"ingest\"}"] >= 1.0);
    assert!(figures["luxcast_history_bytes"] > 300.0);
    let bytes =
        figures["luxcast_sent_bytes_total{shard=\"0\"}"] + figures["luxcast_sent_bytes_total{shard=\"1\"}"];
    assert!(bytes > 7.0 * 60.0, "{bytes}");
    assert!(figures["process_open_fds"] >= 8.0 && figures["process_max_fds"] >= figures["process_open_fds"]);
    assert!(figures["process_resident_memory_bytes"] > 1e6 && figures["process_cpu_seconds_total"] > 0.0);
    assert!(figures["process_start_time_seconds"] > 1.7e9);

    let mut late = daemon.watch("/api/ws/events?since=5");
    assert_eq!(late.json_of("stream:gap")["reason"], "restart");
    wait_for(&daemon, "luxcast_gaps_total{reason=\"restart\"}", 1.0);
    drop(feed);
    wait_for(&daemon, "luxcast_publishers", 0.0);
}

#[test]
fn metrics_show_how_far_back_the_history_reaches() {
    let daemon = Daemon::start(&["--history-bytes", "65536"]);
    let age = || metrics(&daemon)["luxcast_history_age_seconds"];
    assert_eq!(age(), 0.0, "nothing is kept");
    let mut feed = daemon.acked_feed();
    let began = Instant::now();
    feed.publish([r#"{"type":"x","job_id":"j"}"#]);
    // While nothing happens, it grows with time.
    wait_until("a second to be over", || age() > 1.0);
    assert!(age() <= began.elapsed().as_secs_f64());
    let later = Instant::now();
    let line = format!(r#"{{"type":"x","job_id":"j","pad":"{}"}}"#, "x".repeat(5_000));
    for _ in 0..40 {
        feed.publish([line.as_str()]);
    }
    wait_until("the first to have gone, and the age to be that of what is left", || {
        metrics(&daemon)["luxcast_history_events"] < 41.0 && age() <= later.elapsed().as_secs_f64()
    });
    assert!(age() > 0.0);
}

#[test]
fn metrics_show_what_clients_send() {
    let daemon = Daemon::start(&["--jobs-per-connection-max", "1"]);
    let mut single = daemon.watch(JOB);
    let mut multi = daemon.watch("/api/v1/websocket");
    let many: Vec<String> = (0..129).map(|n| n.to_string()).collect();
    for text in ["{", "[]", r#"{"action":"dance"}"#, r#"{"action":"subscribe"}"#] {
        single.send(text);
    }
    single.send(&json!({"action": "subscribe", "events": many}).to_string());
    single.send(r#"{"action":"subscribe","events":["x"]}"#);
    single.send(r#"{"type":"ping"}"#);
    single.send(r#"{"type":"pong"}"#);
    single.socket.send(Message::Binary(vec![1].into())).expect("it is open");
    for text in [
        r#"{"type":"subscribe","job_id":"a b"}"#,
        r#"{"type":"subscribe","job_id":"a","since":"noon"}"#,
        r#"{"type":"subscribe","job_id":"a"}"#,
        r#"{"type":"subscribe","job_id":"b"}"#,
    ] {
        multi.send(text);
    }
    multi.socket.send(Message::Ping(b"here".as_slice().into())).expect("it is open");
    multi.socket.close(None).expect("it is open");
    let expected = [
        ("obeyed", 4.0),
        ("protocol", 2.0),
        ("bad_json", 1.0),
        ("not_an_object", 1.0),
        ("unknown_action", 1.0),
        ("bad_events", 1.0),
        ("too_many_names", 1.0),
        ("binary", 1.0),
        ("bad_job_id", 1.0),
        ("bad_since", 1.0),
        ("too_many_jobs", 1.0),
        ("forbidden", 0.0),
    ];
    for (result, count) in expected {
        wait_for(&daemon, &format!("luxcast_messages_received_total{{result=\"{result}\"}}"), count);
    }
    let figures = metrics(&daemon);
    let series = figures.keys().filter(|name| name.starts_with("luxcast_messages_received_total"));
    assert_eq!(series.count(), expected.len());
}

#[test]
fn metrics_show_clients_that_answer_no_heartbeat() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "0.1", "--silent-heartbeats", "2"]);
    // It never reads, and so answers no ping.
    let _silent = daemon.watch(JOB);
    wait_for(&daemon, "luxcast_connections_closed_total{reason=\"silent\"}", 1.0);
    assert!(metrics(&daemon)["luxcast_heartbeats_total"] >= 1.0);
    assert_eq!(metrics(&daemon)["luxcast_connections{endpoint=\"job_monitor\"}"], 0.0);
}

/// A list of the admin listener.
fn rows(daemon: &Daemon, path: &str) -> Vec<Value> {
    let (status, body) = daemon.admin_get(path);
    assert_eq!(status, 200, "{path}: {body}");
    match serde_json::from_str(&body) {
        Ok(Value::Array(rows)) => rows,
        other => panic!("{path}: {other:?}"),
    }
}

fn members<'a>(rows: &'a [Value], name: &str) -> Vec<&'a Value> {
    rows.iter().map(|row| &row[name]).collect()
}

/// A refusal names the bad parameter in one line of JSON.
fn assert_bad_parameter(daemon: &Daemon, path: &str, message: &str) {
    let (status, body) = daemon.admin_get(path);
    assert_eq!(status, 400, "{path}: {body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body, json!({"error": "bad_parameter", "message": message}), "{path}");
}

#[test]
fn connections_show_the_position_of_each_watcher() {
    let daemon = Daemon::start(&["--shards", "2"]);
    let mut first = daemon.watch("/api/ws/jobs/j/monitor?events=x,y");
    wait_until("it is older than all others will be", || {
        rows(&daemon, "/connections")[0]["age_seconds"].as_f64() > Some(0.05)
    });
    let _second = daemon.watch("/api/v1/ws/flows/f/monitor");
    let mut many = daemon.watch("/api/v1/websocket");
    many.json();
    many.ask(r#"{"type":"subscribe","job_id":"j"}"#);
    many.ask(r#"{"type":"subscribe","job_id":"k"}"#);
    let _coming = daemon.raw();
    let mut feed = daemon.acked_feed();
    // Events that a filter skips are not lag.
    let line = r#"{"type":"z","job_id":"j"}"#;
    let newest = feed.publish([line, line, r#"{"type":"x","job_id":"j"}"#, line]);
    first.event();
    wait_until("everybody is served", || {
        let rows = rows(&daemon, "/connections");
        rows.len() == 4 && rows.iter().all(|row| row["lag_events"] == 0 && row["lag_bytes"] == 0)
    });
    let by_age = rows(&daemon, "/connections?sort=age");
    assert_eq!(by_age[0]["endpoint"], "job_monitor");
    let topics: HashMap<&str, &Value> =
        by_age.iter().map(|row| (row["endpoint"].as_str().unwrap_or_default(), &row["topics"])).collect();
    let expected = [
        ("job_monitor", json!(["job:j"])),
        ("flow_monitor", json!(["flow:f"])),
        ("multi_job", json!(["job:j", "job:k"])),
        ("", json!([])),
    ];
    assert_eq!(topics, expected.iter().map(|(endpoint, topics)| (*endpoint, topics)).collect());
    assert_eq!(by_age[0]["filter"], "all +x,y");
    wait_until("the position is that of the newest event", || {
        rows(&daemon, "/connections?sort=age")[0]["position"].as_u64() == Some(newest)
    });
    let ages: Vec<f64> = by_age.iter().map(|row| row["age_seconds"].as_f64().expect("a number")).collect();
    assert!(ages.is_sorted_by(|older, younger| older >= younger) && ages[0] < 3_600.0, "{ages:?}");
    wait_until("a connection grows older", || {
        rows(&daemon, "/connections?sort=age&limit=1")[0]["age_seconds"].as_f64() > Some(ages[0])
    });
    let by_bytes = rows(&daemon, "/connections?sort=bytes&limit=3");
    let bytes: Vec<u64> = by_bytes.iter().map(|row| row["bytes_out"].as_u64().expect("a number")).collect();
    assert!(bytes.len() == 3 && bytes.is_sorted_by(|more, fewer| more >= fewer) && bytes[2] > 0, "{bytes:?}");
}

#[test]
fn connections_show_how_far_a_watcher_is_behind() {
    const LINES: usize = 4_000;
    const LINE_BYTES: usize = 2_000;
    // The reader's kernel can hold a whole step before anything is read.
    const STEP: usize = 20;
    let daemon = Daemon::start(&["--heartbeat-seconds", "3600"]);
    let mut crowd = Crowd::new();
    crowd.join(daemon.address, JOB, 1);
    crowd.join_silent(daemon.address, JOB, 1);
    let mut feed = daemon.acked_feed();
    let line = line_of(LINE_BYTES, "j");
    for _ in 0..LINES / STEP {
        feed.publish([line.as_str(); STEP]);
        crowd.read_to(feed.acked_seq);
    }
    wait_until("one watcher lags", || metrics(&daemon)["luxcast_lagging_connections"] == 1.0);
    let rows = rows(&daemon, "/connections?sort=lag");
    assert_eq!(members(&rows, "is_blocked"), [&json!(true), &json!(false)]);
    assert_eq!((&rows[1]["lag_events"], &rows[1]["lag_bytes"]), (&json!(0), &json!(0)));
    let lag_events = rows[0]["lag_events"].as_u64().expect("a number");
    // The kernel's buffers hold the rest.
    assert!((LINES as u64 / 2..LINES as u64).contains(&lag_events), "{lag_events}");
    let lag_bytes = rows[0]["lag_bytes"].as_u64().expect("a number");
    let frame = LINE_BYTES as u64 + 34;
    assert!(
        (lag_events * frame..(lag_events + 1) * frame).contains(&lag_bytes),
        "{lag_bytes} of {lag_events} events"
    );
    let behind = feed.acked_seq - rows[0]["position"].as_u64().expect("a number");
    assert_eq!(behind, lag_events, "all events are of its job");
    wait_until("the review has seen it", || metrics(&daemon)["luxcast_lag_events_max"] == lag_events as f64);
    crowd.resume(1);
    crowd.read_to(feed.acked_seq);
    wait_until("nobody lags any more", || {
        let figures = metrics(&daemon);
        figures["luxcast_lagging_connections"] == 0.0 && figures["luxcast_lag_events_max"] == 0.0
    });
}

#[test]
fn connections_are_listed_a_slice_at_a_time() {
    const COUNT: usize = 1_100;
    let daemon = Daemon::start(&["--shards", "2"]);
    let mut crowd = Crowd::new();
    crowd.join_silent(daemon.address, JOB, COUNT);
    let all = rows(&daemon, "/connections?limit=100000");
    let mut addresses = members(&all, "address");
    addresses.sort_by_key(|address| address.to_string());
    addresses.dedup();
    assert_eq!((all.len(), addresses.len()), (COUNT, COUNT));
    assert_eq!(rows(&daemon, "/connections").len(), 1_000, "as many as nobody has asked for more of");
    assert_eq!(rows(&daemon, "/connections?limit=7&sort=position").len(), 7);
    for (query, message) in [
        ("sort=name", "sort must be one of: lag, age, bytes, position"),
        ("limit=0", "limit must be a whole number from 1 to 1000000"),
        ("limit=1e3", "limit must be a whole number from 1 to 1000000"),
        ("limit=1&limit=2", "limit was sent twice"),
        ("sort=%zz", "the value of sort is not percent-encoded UTF-8"),
    ] {
        assert_bad_parameter(&daemon, &format!("/connections?{query}"), message);
    }
    assert_eq!(rows(&daemon, "/connections?token=%zz&other=1&limit=1").len(), 1, "others mean nothing");
}

#[test]
fn an_operator_that_hangs_up_stops_its_request() {
    let daemon = Daemon::start(&[]);
    let mut crowd = Crowd::new();
    crowd.join_silent(daemon.address, JOB, 300);
    for path in ["/connections", "/jobs"] {
        let mut raw = Raw::connect(daemon.admin.expect("it is on"));
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        drop(raw);
    }
    assert_eq!(rows(&daemon, "/connections").len(), 300);
    let turns = || metrics(&daemon)["luxcast_turn_duration_seconds_count{thread=\"shard-0\"}"];
    // An idle shard wakes only for heartbeats, and these are far from due.
    wait_until("the shard rests again", || {
        let before = turns();
        std::thread::sleep(std::time::Duration::from_millis(50));
        turns() - before < 50.0
    });
}

/// The page of jobs at this path.
fn page_of_jobs(address: SocketAddr, path: &str) -> Value {
    let answer = Raw::connect(address).request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

fn jobs_of(page: &Value) -> &Vec<Value> {
    page["jobs"].as_array().expect("a list of jobs")
}

#[test]
fn operators_and_watchers_have_one_listing_of_jobs() {
    let daemon = Daemon::start(&[]);
    let admin = daemon.admin.expect("it is on");
    let _watchers = [daemon.watch("/api/ws/jobs/b/monitor"), daemon.watch("/api/ws/jobs/b/debug")];
    let _unheard_of = daemon.watch("/api/ws/jobs/z/monitor");
    assert_eq!(page_of_jobs(admin, "/jobs")["jobs"], json!([]));
    let newest = daemon.acked_feed().publish([
        r#"{"type":"job_started","job_id":"a","flow_id":"f:1","timestamp":"2026-01-01T00:00:00Z"}"#,
        r#"{"type":"job_started","job_id":"b"}"#,
        r#"{"type":"job_started","job_id":"c","flow_id":"f:1"}"#,
        r#"{"type":"job_paused","job_id":"b"}"#,
        r#"{"type":"metrics","job_id":"a"}"#,
        r#"{"type":"job_failed","job_id":"a","timestamp":"2026-01-01T00:00:02Z"}"#,
    ]);
    let page = page_of_jobs(admin, "/jobs");
    assert_eq!((&page["stream_seq"], &page["next"]), (&json!(newest), &Value::Null));
    let expected = json!({
        "job_id": "a", "flow_id": "f:1", "status": "failed", "duration": 2.0,
        "start_time": "2026-01-01T00:00:00.000Z", "end_time": "2026-01-01T00:00:02.000Z",
        "total_events": 2, "total_slot_calls": 0, "total_event_emits": 0,
        "first_seq": newest - 5, "stream_seq": newest, "watchers": 0, "events_kept": 3,
        "job": "a", "flow": "f:1", "state": "failed", "last_seq": newest,
    });
    assert_eq!(jobs_of(&page)[2], expected, "the one that began first comes last");
    // Except for what only operators see, both are the same, in the same order, for the same queries.
    for query in ["", "?flow=f%3A1", "?status=running", "?flow=f:1&status=failed", "?flow=g", "?limit=2"] {
        let without_more = |path: &str, address| {
            let mut page = page_of_jobs(address, &format!("{path}{query}"));
            let jobs = page["jobs"].as_array_mut().expect("a list of jobs");
            for job in jobs.iter_mut().map(|job| job.as_object_mut().expect("a job")) {
                // A running one grows older.
                for name in ["duration", "events_kept", "job", "flow", "state", "last_seq"] {
                    job.remove(name);
                }
            }
            (page["jobs"].clone(), page["next"].clone())
        };
        assert_eq!(without_more("/jobs", admin), without_more("/console/jobs", daemon.address), "{query}");
    }
    let ids = |query: &str| {
        let page = page_of_jobs(admin, &format!("/jobs?{query}"));
        jobs_of(&page).iter().map(|row| row["job_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (ids("flow=f%3A1"), ids("status=paused"), ids("flow=g").len()),
        (ids_of("c a"), ids_of("b"), 0)
    );
    assert_eq!(ids("state=running"), ["c"], "the name that operators had for it");
    let first = page_of_jobs(admin, "/jobs?limit=2");
    assert_eq!(jobs_of(&first).len(), 2);
    assert_eq!(ids(&format!("after={}", first["next"])), ["a"]);
    let states = "must be one of: running, paused, completed, failed, cancelled, lost";
    for name in ["status", "state"] {
        assert_bad_parameter(&daemon, &format!("/jobs?{name}=done"), &format!("{name} {states}"));
    }
    assert_bad_parameter(&daemon, "/jobs?limit=many", "limit must be a whole number from 1 to 1000000");
    assert_bad_parameter(&daemon, "/jobs?flow=a&flow=b", "flow was sent twice");
}

fn ids_of(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn jobs_are_listed_a_slice_at_a_time() {
    const COUNT: usize = 3_000;
    let daemon = Daemon::start(&[]);
    let admin = daemon.admin.expect("it is on");
    let lines: Vec<String> =
        (0..COUNT).map(|job| format!(r#"{{"type":"x","job_id":"j{job}","flow_id":"f"}}"#)).collect();
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
    let all = page_of_jobs(admin, "/jobs?limit=1000000");
    let all = jobs_of(&all);
    assert_eq!(all.len(), COUNT);
    let ends = (&all[0]["job_id"], &all[COUNT - 1]["job_id"]);
    assert_eq!(ends, (&json!(format!("j{}", COUNT - 1)), &json!("j0")));
    assert_eq!(jobs_of(&page_of_jobs(admin, "/jobs")).len(), 1_000);
}

/// strace that holds a thread of the daemon for a minute whenever it wakes, until it is dropped.
struct Hold(Child);

impl Hold {
    fn new(daemon: &Daemon, thread: &str) -> Self {
        let of_name = |path: &std::path::PathBuf| {
            fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == thread)
        };
        // A thread gives itself its name once it runs.
        let mut found = None;
        wait_until(thread, || {
            let tasks = fs::read_dir(format!("/proc/{}/task", daemon.id())).expect("the daemon lives");
            found = tasks.map(|task| task.expect("it can be listed").path()).find(of_name);
            found.is_some()
        });
        let task = found.expect("it was waited for");
        let id = task.file_name().expect("it is named by its id").to_string_lossy().into_owned();
        let rule = "inject=epoll_wait:delay_exit=60000000";
        let mut command = Command::new("strace");
        command.args(["-q", "-o", "/dev/null", "-p", &id, "-e", "trace=epoll_wait", "-e", rule]);
        Self(command.stdin(Stdio::null()).spawn().expect("strace is installed"))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let id = Pid::from_raw(self.0.id().cast_signed()).expect("it has an id");
        let _ = kill_process(id, Signal::TERM);
        let _ = self.0.wait();
    }
}

#[test]
fn a_thread_that_hangs_makes_the_daemon_unready() {
    let daemon = Daemon::start(&["--shards", "2", "--heartbeat-seconds", "3600"]);
    for thread in ["shard-1", "ingest"] {
        wait_until("it is ready", || daemon.admin_get("/readyz") == (200, "ready\n".to_owned()));
        let hold = Hold::new(&daemon, thread);
        let mut answer = (0, String::new());
        wait_until("it is not ready", || {
            answer = daemon.admin_get("/readyz");
            answer.0 == 503
        });
        let body: Value = serde_json::from_str(&answer.1).expect("JSON");
        let message = format!("the thread {thread} does not turn");
        assert_eq!(body, json!({"error": "stalled", "message": message}));
        assert_eq!(daemon.admin_get("/healthz").0, 200, "the process is there");
        assert_eq!(daemon.admin_get("/metrics").0, 200, "figures are read without asking anybody");
        drop(hold);
    }
    wait_until("it is ready again", || daemon.admin_get("/readyz").0 == 200);
}

#[test]
fn no_probe_is_answered_while_the_answering_thread_hangs() {
    let daemon = Daemon::start(&["--shards", "2", "--heartbeat-seconds", "3600"]);
    let hold = Hold::new(&daemon, "shard-0");
    let silent = || {
        let mut raw = Raw::connect(daemon.admin.expect("it is on"));
        raw.stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a TCP socket");
        raw.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        raw.stream.read(&mut [0; 1]).is_err()
    };
    // A thread that woke before the hold still turns once.
    wait_until("no answer", silent);
    drop(hold);
    wait_until("it is ready again", || daemon.admin_get("/readyz").0 == 200);
}

#[test]
fn operators_are_served_when_every_place_is_taken() {
    let daemon = Daemon::start(&["--connections-max", "2", "--connections-per-address-max", "2"]);
    let _watchers = [daemon.watch(JOB), daemon.watch(JOB)];
    assert_eq!(daemon.refuse(JOB).status, 503);
    for path in ["/healthz", "/readyz", "/metrics", "/connections", "/jobs", "/"] {
        for _ in 0..3 {
            assert_eq!(daemon.admin_get(path).0, 200, "{path}");
        }
    }
    assert_eq!(daemon.connections().len(), 2, "operators are none of those that are told of");
    let figures = metrics(&daemon);
    assert_eq!(figures["luxcast_sockets_max"], 2.0);
    assert!(figures["luxcast_sockets"] >= 2.0);
}

#[test]
fn the_root_redirects_watchers_to_the_page_and_lists_paths_for_operators() {
    let daemon = Daemon::start(&[]);
    for (method, target) in [("GET", "/"), ("HEAD", "/"), ("GET", "/?job=a%20b")] {
        let answer = daemon.raw().request(&format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(answer.status, 308, "{target}");
        let query = target.strip_prefix('/').expect("it is the root");
        // Relative, so that it is right below any path of a proxy.
        assert_eq!(answer.header("location"), Some(format!("console/{query}").as_str()));
    }
    let old = daemon.raw().request("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((old.status, old.header("location")), (308, Some("console/")));
    let refused = daemon.refuse("/");
    assert!(refused.status == 404 && refused.body.contains("/monitor"), "{}", refused.body);
    let (status, text) = daemon.admin_get("/");
    assert_eq!(status, 200);
    for path in ["/healthz", "/readyz", "/metrics", "/connections", "/jobs"] {
        assert!(text.contains(path), "{text}");
    }
}

#[test]
fn a_client_that_asks_nothing_delays_the_next_only_briefly() {
    let daemon = Daemon::start(&[]);
    let _silent = Raw::connect(daemon.admin.expect("it is on"));
    let begin = std::time::Instant::now();
    assert_eq!(daemon.admin_get("/readyz").0, 200);
    assert!(begin.elapsed() < PATIENCE);
}

#[test]
fn nobody_waits_for_clients_that_ask_nothing_or_take_nothing() {
    let mut daemon = Daemon::start(&["--handshake-seconds", "3600", "--drain-seconds", "2"]);
    let mut crowd = Crowd::new();
    crowd.join_silent(daemon.address, JOB, 200);
    let admin = daemon.admin.expect("it is on");
    let begin = Instant::now();
    let idle: Vec<Raw> = (0..200).map(|_| Raw::connect(admin)).collect();
    let slow: Vec<Raw> = (0..20)
        .map(|n| {
            let mut raw = Raw::connect(admin);
            // Part of a request, or an answer that nobody reads.
            let end = if n % 2 == 0 { "\r\n\r\n" } else { "" };
            raw.send(format!("GET /connections?limit=1000000 HTTP/1.1\r\nHost: localhost{end}").as_bytes());
            raw
        })
        .collect();
    for _ in 0..50 {
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(daemon.admin_get(path).0, 200, "{path}");
        }
    }
    // One after the other, each could wait for an hour.
    assert!(begin.elapsed() < PATIENCE);
    daemon.stop();
    drop((idle, slow));
}

/// Both lists come from the one ingest thread.
#[test]
fn requests_for_the_jobs_are_answered_however_many_come_at_once() {
    const ROUNDS: usize = 150;
    let daemon = Daemon::start(&["--shards", "1", "--heartbeat-seconds", "3600"]);
    let ask = |address, path: &str| {
        let mut raw = Raw::connect(address);
        raw.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).status
    };
    let (ask, admin, watchers) = (&ask, daemon.admin.expect("it is on"), daemon.address);
    std::thread::scope(|scope| {
        let asking = |address, path: &'static str| {
            scope.spawn(move || {
                (0..ROUNDS).map(|_| ask(address, path)).filter(|&status| status != 200).count()
            })
        };
        let all = [
            asking(admin, "/jobs"),
            asking(admin, "/jobs"),
            asking(watchers, "/console/jobs"),
            asking(watchers, "/console/jobs"),
        ];
        let refused: usize = all.into_iter().map(|one| one.join().expect("it asks")).sum();
        assert_eq!(refused, 0, "an idle daemon is never too busy to answer");
    });
}
