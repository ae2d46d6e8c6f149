//! What the daemon tells its operators.

use std::collections::HashMap;

use crate::harness::{Daemon, wait_until};

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
fn metrics_tell_who_watches_and_how_it_ends() {
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

    // One ends by its own word, one by ours, one without any.
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
fn metrics_tell_what_comes_in_and_what_goes_out() {
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
fn metrics_tell_of_those_that_answer_no_heartbeat() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "0.1", "--silent-heartbeats", "2"]);
    // It never reads, and so answers no ping.
    let _silent = daemon.watch(JOB);
    wait_for(&daemon, "luxcast_connections_closed_total{reason=\"silent\"}", 1.0);
    assert!(metrics(&daemon)["luxcast_heartbeats_total"] >= 1.0);
    assert_eq!(metrics(&daemon)["luxcast_connections{endpoint=\"job_monitor\"}"], 0.0);
}
