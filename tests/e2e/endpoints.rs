//! Section 1: what each path delivers, and how what is wrong is refused.

use crate::harness::{Daemon, numbered};

#[test]
fn a_job_monitor_delivers_the_events_of_its_job_and_no_other() {
    let mut daemon = Daemon::start(&[]);
    let mut feed = daemon.acked_feed();
    let mut watcher = daemon.watch("/api/ws/jobs/j1/monitor");
    watcher.connected();
    let lines = [
        r#"{"type":"job_started","job_id":"j1"}"#,
        r#"{"type":"x","job_id":"j2"}"#,
        r#"{"type":"y","job_id":"j1"}"#,
    ];
    let newest = feed.publish(lines);
    assert_eq!(watcher.events(2), [numbered(lines[0], newest - 2), numbered(lines[2], newest)]);
    daemon.stop();
}
