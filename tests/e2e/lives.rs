//! The lives of topics: ids that return, a job and a flow of one name, lost jobs, topics that only watchers ask for.

use serde_json::Value;

use crate::harness::{Client, Daemon, seq_of, wait_until};

fn jobs(daemon: &Daemon) -> Vec<Value> {
    let (status, body) = daemon.admin_get("/jobs");
    assert_eq!(status, 200);
    let page: Value = serde_json::from_str(&body).unwrap();
    page["jobs"].as_array().unwrap().clone()
}

fn state_of(daemon: &Daemon, job: &str) -> Option<String> {
    jobs(daemon).iter().find(|row| row["job_id"] == job).map(|row| row["status"].as_str().unwrap().to_owned())
}

/// The numbers of the next events.
fn numbers(watcher: &mut Client, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        numbers.extend(seq_of(&watcher.text()));
    }
    numbers
}

#[test]
fn a_job_and_a_flow_of_one_name_are_two_topics_whatever_had_their_places_before() {
    let daemon = Daemon::start(&["--history-seconds", "0.2", "--metrics-seconds", "0"]);
    let mut feed = daemon.acked_feed();
    // The place of a dropped job is used for the next topic.
    for round in 0..20 {
        feed.publish([r#"{"type":"job_started","job_id":"a"}"#, r#"{"type":"job_completed","job_id":"a"}"#]);
        wait_until("the job is forgotten", || jobs(&daemon).is_empty());
        let name = format!("b{round}");
        let last = feed.publish([
            format!(r#"{{"type":"note","flow_id":"{name}"}}"#).as_str(),
            &format!(r#"{{"type":"job_started","job_id":"{name}","flow_id":"{name}"}}"#),
            &format!(r#"{{"type":"x","job_id":"{name}"}}"#),
            &format!(r#"{{"type":"y","flow_id":"{name}"}}"#),
        ]);
        assert!(state_of(&daemon, &name).is_some());
        let mut of_job = daemon.watch(&format!("/api/ws/jobs/{name}/monitor?since=start"));
        of_job.connected();
        assert_eq!(numbers(&mut of_job, 2), [last - 2, last - 1]);
        let mut of_flow = daemon.watch(&format!("/api/ws/flows/{name}/monitor?since=start"));
        of_flow.connected();
        assert_eq!(numbers(&mut of_flow, 4), [last - 3, last - 2, last - 1, last]);
        let next = feed.publish([format!(r#"{{"type":"job_completed","job_id":"{name}"}}"#).as_str()]);
        assert_eq!(numbers(&mut of_job, 1), [next]);
        assert_eq!(numbers(&mut of_flow, 1), [next]);
        drop((of_job, of_flow));
        wait_until("the job is forgotten", || jobs(&daemon).is_empty());
    }
}

#[test]
fn a_silent_job_is_lost_even_while_watched_until_its_next_event() {
    let flags = ["--job-idle-seconds", "0.5", "--history-seconds", "1", "--metrics-seconds", "0"];
    let daemon = Daemon::start(&flags);
    let mut feed = daemon.acked_feed();
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor");
    watcher.connected();
    let mut of_flow = daemon.watch("/api/ws/flows/f/monitor");
    of_flow.connected();
    feed.publish([
        r#"{"type":"job_started","job_id":"j","flow_id":"f"}"#,
        r#"{"type":"metrics","job_id":"j","metrics":{}}"#,
    ]);
    for watcher in [&mut watcher, &mut of_flow] {
        numbers(watcher, 2);
        let lost = watcher.json();
        assert_eq!(
            (&lost["type"], &lost["metrics"]["status"]),
            (&"metrics".into(), &"lost".into()),
            "{lost}"
        );
        assert!(lost["stream_seq"].is_u64() && lost["metrics"]["end_time"].is_string(), "{lost}");
        assert_eq!(lost["metrics"]["total_events"], 1);
    }
    assert_eq!(state_of(&daemon, "j").as_deref(), Some("lost"));
    let request = "GET /console/jobs?status=lost HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let console = daemon.raw().request(request).body;
    assert_eq!(serde_json::from_str::<Value>(&console).unwrap()["jobs"][0]["status"], "lost");
    let mut late = daemon.watch("/api/ws/jobs/j/monitor");
    late.connected();
    assert_eq!(late.json()["metrics"]["status"], "lost", "the snapshot says it too");
    feed.publish([r#"{"type":"x","job_id":"j"}"#]);
    numbers(&mut watcher, 1);
    assert_eq!(state_of(&daemon, "j").as_deref(), Some("running"));
    // It is lost again, and dropped once nobody watches it and its time is over.
    assert_eq!(watcher.json()["metrics"]["status"], "lost");
    drop((watcher, of_flow, late));
    wait_until("the job is forgotten", || jobs(&daemon).is_empty());
}

/// The daemon's own `metrics` are no sign of life.
#[test]
fn whether_a_job_is_watched_does_not_change_when_it_is_lost() {
    let daemon = Daemon::start(&["--job-idle-seconds", "1.5", "--metrics-seconds", "1"]);
    let mut watcher = daemon.watch("/api/ws/jobs/watched/monitor?events=metrics");
    watcher.connected();
    let mut feed = daemon.acked_feed();
    feed.publish([
        r#"{"type":"job_started","job_id":"watched"}"#,
        r#"{"type":"job_started","job_id":"alone"}"#,
    ]);
    let lost = std::iter::repeat_with(|| watcher.json()).find(|it| it["metrics"]["status"] == "lost");
    let end_time = lost.expect("it is lost")["metrics"]["end_time"].clone();
    let request = "GET /console/jobs?status=lost HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let lost: Value = serde_json::from_str(&daemon.raw().request(request).body).unwrap();
    let end_times = lost["jobs"].as_array().unwrap().iter().map(|job| &job["end_time"]);
    assert!(end_times.eq([&end_time, &end_time]), "{lost}, {end_time}");
}

#[test]
fn jobs_that_only_watchers_ask_for_displace_nobody() {
    let daemon = Daemon::start(&["--topics-max", "60", "--jobs-per-connection-max", "40"]);
    let mut feed = daemon.acked_feed();
    let first: Vec<String> = (0..10).map(|job| format!(r#"{{"type":"x","job_id":"old{job}"}}"#)).collect();
    feed.publish(first.iter().map(String::as_str));
    let mut clients = Vec::new();
    for client in 0..2 {
        let mut watcher = daemon.watch("/api/v1/websocket");
        watcher.json();
        for job in 0..25 {
            watcher.send(&format!(r#"{{"type":"subscribe","job_id":"never-{client}-{job}"}}"#));
            let answer = watcher.json();
            let is_good = answer["type"] == "subscribed";
            assert!(is_good, "{answer}");
        }
        clients.push(watcher);
    }
    let more: Vec<String> = (0..40).map(|job| format!(r#"{{"type":"x","job_id":"new{job}"}}"#)).collect();
    feed.publish(more.iter().map(String::as_str));
    assert_eq!(jobs(&daemon).len(), 50, "every job of the feed is known");
    for job in 0..10 {
        let mut watcher = daemon.watch(&format!("/api/ws/jobs/old{job}/monitor?since=start"));
        watcher.connected();
        assert_eq!(numbers(&mut watcher, 1).len(), 1, "its history is there");
    }
}
