//! The files for Prometheus and Grafana in `tools/monitoring`, with the real Prometheus and a real daemon.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::harness::daemon::Gathered;
use crate::harness::{Daemon, PATIENCE, Scratch, wait_until};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/monitoring").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(shipped(path)).expect("it is part of the project")
}

/// The real Prometheus with the configuration of `tools/monitoring`, except for the daemon's address and shorter
/// intervals.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _log: Gathered,
    _scratch: Scratch,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let scratch = Scratch::new();
        let config = read("prometheus/prometheus.yml");
        for expected in ["_interval: 15s", "127.0.0.1:20556"] {
            assert!(config.contains(expected), "{expected}");
        }
        let config =
            config.replace("_interval: 15s", "_interval: 1s").replace("127.0.0.1:20556", &target.to_string());
        fs::write(scratch.path().join("prometheus.yml"), config)
            .expect("the scratch directory can be written");
        let alerts = scratch.path().join("alerts.yml");
        fs::copy(shipped("prometheus/alerts.yml"), alerts).expect("the scratch directory can be written");
        let file = |name: &str| scratch.path().join(name).display().to_string();
        let mut child = Command::new("prometheus")
            .args([&format!("--config.file={}", file("prometheus.yml")), "--web.listen-address=127.0.0.1:0"])
            .arg(format!("--storage.tsdb.path={}", file("data")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus is installed: apt-get install prometheus");
        let log = Gathered::start(child.stderr.take().expect("piped"));
        let mut address = None;
        wait_until("Prometheus listens", || {
            let text = log.so_far();
            let line = text.lines().find_map(|line| line.split_once("msg=\"Listening on\" address="));
            address = line.and_then(|(_, address)| address.trim().parse().ok());
            address.is_some()
        });
        let address = address.expect("it was just found");
        let prometheus = Self { child, address, _log: log, _scratch: scratch };
        wait_until("Prometheus is ready", || prometheus.try_get("query?query=1").is_some());
        prometheus
    }

    /// Its API's answer to a query; none while it is not ready.
    fn try_get(&self, path: &str) -> Option<Value> {
        let mut socket = TcpStream::connect(self.address).expect("Prometheus listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        // For a client of HTTP/1.0 the answer is not chunked.
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let body: Value = serde_json::from_str(body).ok()?;
        assert_ne!(body["status"], "error", "{path}: {body}");
        Some(body["data"].clone())
    }

    fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap_or_else(|| panic!("no answer to {path}"))
    }

    /// The current values of an expression.
    fn query(&self, expression: &str) -> Vec<Value> {
        let encoded = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let data = self.get(&format!("query?query={encoded}"));
        data["result"].as_array().unwrap_or_else(|| panic!("{expression}: {data}")).clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The expressions of every panel and of the variables.
fn dashboard_expressions() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&read("grafana/luxcast.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions =
        targets.map(|target| target["expr"].as_str().expect("a target has an expression").to_owned());
    expressions.collect()
}

/// The metrics in an expression.
fn metrics_in(text: &str) -> HashSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.starts_with("luxcast_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn prometheus_scrapes_the_daemon_and_knows_all_that_rules_and_dashboard_ask_for() {
    let daemon = Daemon::start(&["--shards", "2"]);
    let mut watcher = daemon.watch("/api/ws/jobs/j/monitor");
    let mut feed = daemon.acked_feed();
    feed.publish([r#"{"type":"x","job_id":"j"}"#]);
    watcher.event();
    let admin = daemon.admin.expect("it is on");
    let prometheus = Prometheus::start(admin);
    wait_until("the target is up", || {
        let Some(targets) = prometheus.try_get("targets?state=active") else { return false };
        let targets = targets["activeTargets"].as_array().cloned().unwrap_or_default();
        assert!(targets.len() <= 1, "{targets:?}");
        assert!(targets.iter().all(|target| target["health"] != "down"), "{targets:?}");
        targets.iter().any(|target| target["health"] == "up")
    });
    let mut rules = Vec::new();
    wait_until("every rule was evaluated", || {
        let groups = prometheus.get("rules")["groups"].as_array().cloned().unwrap_or_default();
        rules =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")
    });
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");
    assert_eq!(rules.len(), read("prometheus/alerts.yml").matches("- alert: ").count());
    assert!(rules.iter().all(|rule| rule["state"] == "inactive"), "nothing is wrong here: {rules:?}");

    let names = prometheus.get("label/__name__/values");
    let known: HashSet<&str> = names.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let dashboard = dashboard_expressions();
    assert!(dashboard.len() > 20, "{dashboard:?}");
    let asked = metrics_in(&(dashboard.join("\n") + &read("prometheus/alerts.yml")));
    let (_, text) = daemon.admin_get("/metrics");
    // A daemon without a bus has no figures of one, but names them.
    let is_named = |name: &str| is_of_bus(name) && text.contains(&format!("# TYPE {name} "));
    let unknown: Vec<_> =
        asked.iter().filter(|name| !known.contains(name.as_str()) && !is_named(name)).collect();
    assert!(unknown.is_empty(), "asked for and not there: {unknown:?}");
    // Every metric is on the dashboard.
    let metrics = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let shown = metrics_in(&dashboard.join("\n"));
    let is_shown = |name: &&str| shown.contains(*name) || shown.contains(&format!("{name}_bucket"));
    assert_eq!(metrics.filter(|name| !is_shown(name)).collect::<Vec<_>>(), [""; 0], "not on the dashboard");

    // Rates need two scrapes.
    let expression = |text: &str| text.replace("$__rate_interval", "1m").replace("$instance", ".*");
    wait_until("deliveries have a rate", || {
        !prometheus.query(&expression("rate(luxcast_messages_sent_total[$__rate_interval])")).is_empty()
    });
    for text in &dashboard {
        let values = prometheus.query(&expression(text));
        assert!(!values.is_empty() || text.ends_with("> 0") || is_of_bus(text), "{text} has no value");
    }
    let connections = prometheus.query("sum(luxcast_connections{endpoint=\"job_monitor\"})");
    assert_eq!(connections[0]["value"][1], "1");
}

fn is_of_bus(text: &str) -> bool {
    text.contains("luxcast_bus_")
}

#[test]
fn an_alert_fires_when_the_daemon_is_gone() {
    let mut daemon = Daemon::start(&[]);
    let prometheus = Prometheus::start(daemon.admin.expect("it is on"));
    let up = || prometheus.query("up{job=\"luxcast\"}").first().map(|sample| sample["value"][1].clone());
    wait_until("the target is up", || up() == Some("1".into()));
    daemon.stop();
    wait_until("the target is down", || up() == Some("0".into()));
    wait_until("the alert waits for its minute", || {
        let alerts = prometheus.get("alerts")["alerts"].as_array().cloned().unwrap_or_default();
        alerts
            .iter()
            .any(|alert| alert["labels"]["alertname"] == "LuxcastDown" && alert["state"] == "pending")
    });
}

/// Runs `promtool` with these arguments and this input.
fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(shipped("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: apt-get install prometheus");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}:\n{text}");
}

#[test]
fn promtool_finds_no_fault_with_rules_configuration_and_metrics() {
    promtool(&["check", "config", "prometheus.yml"], "");
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts_test.yml"], "");
    let daemon = Daemon::start(&["--shards", "2"]);
    let mut watcher = daemon.watch("/api/ws/events");
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
    watcher.event();
    let (status, metrics) = daemon.admin_get("/metrics");
    assert_eq!(status, 200);
    promtool(&["check", "metrics"], &metrics);
}
