//! The systemd units: sound, tight, and not too tight for the daemon.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::harness::tls::{self, Certificates};
use crate::harness::{Scratch, wait_until};

/// `systemd-analyze security` rates from 0 (nothing is left to reach) to 10.
const EXPOSURE_MAX: f64 = 2.0;

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/packaging/systemd")
}

fn unit(name: &str) -> String {
    fs::read_to_string(units().join(name)).expect("the unit is there")
}

/// The values of a key, in their order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The output of a command, then its standard error; it must succeed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// The units unchanged except for the path of the program.
fn installed() -> Scratch {
    let scratch = Scratch::new();
    let service = unit("luxcast.service");
    assert_eq!(service.matches("/usr/bin/luxcast").count(), 2, "it is started, and checks its settings");
    let service = service.replace("/usr/bin/luxcast", env!("CARGO_BIN_EXE_luxcast"));
    fs::write(scratch.path().join("luxcast.service"), service).expect("the disk has room");
    fs::copy(units().join("luxcast.socket"), scratch.path().join("luxcast.socket")).expect("it is there");
    scratch
}

#[test]
fn the_units_are_sound_and_leave_little_to_reach() {
    let installed = installed();
    let path = |name: &str| installed.path().join(name);
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(path("luxcast.service")).arg(path("luxcast.socket"));
    assert_eq!(output(&mut verify), "", "no warning");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager"]).arg(path("luxcast.service"));
    let report = output(&mut security);
    let line = report.lines().find(|line| line.contains("Overall exposure level")).expect("a rating");
    let rating = line.split_whitespace().find_map(|word| word.parse::<f64>().ok()).expect("a number");
    assert!(rating <= EXPOSURE_MAX, "{report}");
}

/// What the page for many hosts has an operator write beside the unit, so that a daemon that is down refuses watchers.
#[test]
fn behind_a_balancer_the_socket_unit_has_the_publishers_socket_alone() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/packaging/many-hosts/README.md");
    let page = fs::read_to_string(page).expect("it is there");
    let line = page.lines().find(|line| line.starts_with("printf '[Socket]")).expect("the page has it");
    let installed = installed();
    let directory = installed.path().join("luxcast.socket.d");
    fs::create_dir(&directory).expect("the directory is ours");
    let line = line.replace("/etc/systemd/system/luxcast.socket.d", directory.to_str().expect("UTF-8"));
    output(Command::new("sh").args(["-c", &line]));
    let added = fs::read_to_string(directory.join("many-hosts.conf")).expect("it was written");
    let all = unit("luxcast.socket") + &added;
    // An empty one takes back those before it.
    let listens = values(&all, "ListenStream");
    let last = listens.iter().rposition(|listen| listen.is_empty()).expect("there is one");
    assert_eq!(listens[last + 1..], ["/run/luxcast/ingest.sock"]);
    assert!(listens[..last].contains(&"/run/luxcast/ingest.sock"), "it stays where it is");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(installed.path().join("luxcast.socket"));
    assert_eq!(output(&mut verify), "", "no warning");
}

/// With any program in the place of the server.
#[test]
fn the_unit_for_the_servers_of_nats_is_sound_and_runs_the_file_beside_it() {
    let many_hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/packaging/many-hosts");
    let read = |name: &str| fs::read_to_string(many_hosts.join(name)).expect("it is there");
    let (service, config) = (read("nats.service"), read("nats.conf"));
    assert_eq!(values(&service, "ExecStart"), ["/usr/local/bin/nats-server --config /etc/nats/nats.conf"]);
    assert!(config.contains(values(&service, "EnvironmentFile")[0]), "its head names the file");
    let [state] = values(&service, "StateDirectory")[..] else { panic!("one directory") };
    assert!(config.contains(&format!("store_dir: \"/var/lib/{state}\"")));
    let scratch = Scratch::new();
    let service = service.replace("/usr/local/bin/nats-server", "/bin/true");
    fs::write(scratch.path().join("nats.service"), service).expect("the disk has room");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(scratch.path().join("nats.service"));
    assert_eq!(output(&mut verify), "", "no warning");
}

#[test]
fn a_reload_looks_at_the_settings_first_with_the_flags_of_the_start() {
    let service = unit("luxcast.service");
    let [start] = values(&service, "ExecStart")[..] else { panic!("one program is started") };
    let [check, hang_up] = values(&service, "ExecReload")[..] else { panic!("a check, then the signal") };
    let flags = |line: &str, words: &str| line.strip_prefix(words).map(str::to_owned).expect(words);
    assert_eq!(
        flags(start, "/usr/bin/luxcast serve "),
        flags(check, "/usr/bin/luxcast check-config --quiet ")
    );
    assert_eq!(hang_up, "/bin/kill -HUP $MAINPID");
    // An exit with 2 would repeat itself; and no limit closes the socket for good.
    assert_eq!(values(&service, "RestartPreventExitStatus"), ["2"]);
    assert_eq!(values(&service, "StartLimitIntervalSec"), ["0"]);
    assert!(values(&service, "ExecStopPost")[0].contains("sleep"));
}

/// The system calls of a set such as `@file-system`, those of the sets in it too.
fn calls_of(word: &str) -> BTreeSet<String> {
    if !word.starts_with('@') {
        return BTreeSet::from([word.to_owned()]);
    }
    let listing = output(Command::new("systemd-analyze").args(["syscall-filter", word]));
    let words = listing.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    words.filter(|inner| *inner != word).flat_map(calls_of).collect()
}

/// The calls that the service may make: a line adds its own, one that begins with `~` takes them away.
fn allowed_calls(service: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in values(service, "SystemCallFilter") {
        let taken_away = line.strip_prefix('~');
        for call in taken_away.unwrap_or(line).split(' ').flat_map(calls_of) {
            match taken_away {
                Some(_) => allowed.remove(&call),
                None => allowed.insert(call),
            };
        }
    }
    allowed
}

/// The name of the call in a line of strace: `17 read(3, ...) = 1`, `17 <... read resumed>...`.
fn call_in(line: &str) -> Option<&str> {
    let rest = line.split_once(' ')?.1.trim_start();
    if let Some(resumed) = rest.strip_prefix("<... ") {
        return resumed.split(' ').next();
    }
    let (name, _) = rest.split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

/// All system calls of a daemon's life: watchers with and without a past, a reload, and an end that saves state.
fn traced_life() -> String {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name).to_str().expect("the path is UTF-8").to_owned();
    let (trace, state, notify) = (path("trace"), path("state"), path("notify.sock"));
    let _manager = UnixDatagram::bind(&notify).expect("the directory is ours");
    let certificates = Certificates::new();
    for run in 0..2 {
        let mut daemon = certificates
            .setup()
            .flags(&["--state-dir", &state, "--heartbeat-seconds", "0.5", "--silent-heartbeats", "100"])
            .variable("NOTIFY_SOCKET", &notify)
            .variable("WATCHDOG_USEC", "10000000")
            .under(&["strace", "-D", "-f", "-q", "-A", "-o", &trace])
            .start();
        let config = certificates.both_versions();
        let mut watcher = tls::watch(daemon.address, &config, "/api/ws/jobs/j/monitor?since=start");
        let mut feed = daemon.acked_feed();
        let pad = "x".repeat(10_000);
        let lines: Vec<String> =
            (0..200).map(|n| format!(r#"{{"type":"x{run}","job_id":"j","n":{n},"pad":"{pad}"}}"#)).collect();
        feed.publish(lines.iter().map(String::as_str));
        feed.publish([format!(r#"{{"type":"last{run}","job_id":"j"}}"#).as_str()]);
        watcher.events_until(&format!("last{run}"));
        watcher.json_of("ping");
        assert_eq!(daemon.admin_get("/metrics").0, 200);
        daemon.reload();
        daemon.signal(Signal::TERM);
        while watcher.read().is_ok() {}
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.stderr());
    }
    let is_whole =
        || fs::read_to_string(&trace).is_ok_and(|text| text.matches("+++ exited with 0 +++").count() > 1);
    wait_until("the end of the trace", is_whole);
    fs::read_to_string(&trace).expect("strace wrote it")
}

#[test]
fn the_daemon_asks_for_nothing_that_its_unit_forbids() {
    let service = unit("luxcast.service");
    let allowed = allowed_calls(&service);
    assert!(allowed.contains("epoll_wait") && !allowed.contains("setuid"), "{allowed:?}");
    let trace = traced_life();
    let made: BTreeSet<&str> = trace.lines().filter_map(call_in).collect();
    for expected in ["epoll_wait", "accept4", "prlimit64", "rename", "sendto", "flock"] {
        assert!(made.contains(expected), "{expected} is not among {made:?}");
    }
    let forbidden: Vec<&&str> = made.iter().filter(|call| !allowed.contains(**call)).collect();
    assert!(forbidden.is_empty(), "{forbidden:?} of {made:?}");
    // Written memory is never executed (MemoryDenyWriteExecute).
    let writes_code = |line: &&str| line.contains("PROT_WRITE|PROT_EXEC");
    assert_eq!(trace.lines().find(writes_code), None);
    let families = values(&service, "RestrictAddressFamilies").concat();
    for line in trace.lines().filter(|line| call_in(line) == Some("socket")) {
        let family = line.split_once("socket(").map(|(_, rest)| rest.split(',').next().unwrap_or(rest));
        let is_allowed = |family| families.split(' ').any(|allowed| allowed == family);
        assert!(family.is_none_or(is_allowed), "{line}");
    }
}

#[test]
fn the_socket_unit_opens_what_the_daemon_looks_for() {
    let defaults = luxcast::config::Config::default();
    let socket = unit("luxcast.socket");
    let addresses = values(&socket, "ListenStream");
    assert_eq!(addresses, [defaults.listen[0].to_string().as_str(), "/run/luxcast/ingest.sock"]);
    let owner = ["SocketUser", "SocketGroup", "SocketMode"].map(|key| values(&socket, key));
    assert_eq!(owner, [["luxcast"], ["luxcast"], ["0660"]]);
}
