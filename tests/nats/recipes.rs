//! The files of `tools/packaging/many-hosts`, with real servers and the programs that read them.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use luxcast::config::SETTINGS;
use luxcast::metrics::table::metrics_markdown;
use nkeys::KeyPair;
use rustix::process::{Pid, Signal, kill_process};

use crate::BASE;
use crate::commands::luxcast;
use crate::fleet::{create, serve};
use crate::harness::client::Refused;
use crate::harness::{Client, Daemon, seq_of, wait_until};
use crate::keys::Certificates;
use crate::server::{NEWEST, NatsServer, free_address};

fn shipped(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/packaging/many-hosts");
    fs::read_to_string(directory.join(name)).expect("it is there")
}

/// A word of the log that the page for operators names.
pub fn promised(word: &str) -> &str {
    assert!(shipped("README.md").contains(word), "the page does not name {word}");
    word
}

/// A file that stands in the manifest.
fn of_manifest(name: &str) -> String {
    let manifest = shipped("kubernetes.yaml");
    let (_, rest) = manifest.split_once(&format!("  {name}: |\n")).expect("a file of settings");
    let lines = rest.lines().map_while(|line| line.strip_prefix("    ").or(line.is_empty().then_some("")));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Every occurrence, and there must be one.
fn replace(text: &mut String, there: &str, here: &str) {
    assert!(text.contains(there), "{there} in {text}");
    *text = text.replace(there, here);
}

/// Three servers that a file of ours configures, here on loopback.
struct Servers {
    servers: Vec<NatsServer>,
    certificates: Certificates,
    operator: KeyPair,
    daemon: KeyPair,
    directory: tempfile::TempDir,
}

impl Servers {
    /// `files` are the store, the certificate, its key, and the authority; `routes` the names of the others.
    fn start(text: &str, files: [&str; 4], routes: [&str; 3]) -> Self {
        let certificates = Certificates::new();
        let (operator, daemon) = (KeyPair::new_user(), KeyPair::new_user());
        let listens: Vec<_> = (0..3).map(|_| free_address()).collect();
        let start = |place: usize| {
            let mut server = NatsServer::prepare(NEWEST, &format!("nats-{place}"), "");
            let mut text = text.to_owned();
            replace(&mut text, "\"0.0.0.0:4222\"", &format!("\"{}\"", server.address));
            replace(&mut text, "\"0.0.0.0:6222\"", &format!("\"{}\"", listens[place]));
            replace(&mut text, ":8222\"", &format!(":{}\"", free_address().port()));
            for (route, address) in routes.iter().zip(&listens) {
                replace(&mut text, route, &address.to_string());
            }
            let store = server.store().display().to_string();
            let here = [
                store,
                certificates.path("both.pem"),
                certificates.path("both.key"),
                certificates.path("ca.pem"),
            ];
            for (there, here) in files.iter().zip(&here) {
                replace(&mut text, &format!("\"{there}\""), &format!("\"{here}\""));
            }
            let keys = [operator.public_key(), daemon.public_key()];
            let name = server.name.clone();
            server.configure_with(
                &text,
                &[("NATS_NAME", &name), ("OPERATOR_NKEY", &keys[0]), ("DAEMON_NKEY", &keys[1])],
            );
            server.restart();
            server
        };
        let servers = (0..3).map(start).collect();
        let directory = tempfile::tempdir().expect("the directory for temporary files can be written");
        Self { servers, certificates, operator, daemon, directory }
    }

    fn flags(&self, key: &KeyPair) -> Vec<String> {
        let file: PathBuf = self.directory.path().join(key.public_key());
        fs::write(&file, key.seed().expect("it is new")).expect("the directory is ours");
        let file = file.display().to_string();
        vec!["--bus-ca-file".to_owned(), self.certificates.path("ca.pem"), "--bus-nkey-file".to_owned(), file]
    }

    fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("tls://{}", server.address)).collect()
    }

    /// `luxcast bus` with one of the keys.
    fn bus(&self, what: &str, key: &KeyPair, more: &[&str]) -> (i32, String) {
        let (flags, urls) = (self.flags(key), self.urls());
        let mut arguments = vec!["bus", what];
        arguments.extend(urls.iter().flat_map(|url| ["--bus", url]));
        arguments.extend(flags.iter().map(String::as_str).chain(more.iter().copied()));
        let (code, shown, said) = luxcast(&arguments);
        (code, shown + &said)
    }

    fn serve(&self) -> Daemon {
        serve(&self.urls(), &self.flags(&self.daemon))
    }
}

/// What SECURITY.md lists as the least rights.
fn least_rights() -> BTreeSet<String> {
    let page = include_str!("../../.github/SECURITY.md");
    let rows =
        page.lines().filter(|line| line.starts_with("| publish |") || line.starts_with("| subscribe |"));
    let rows = rows.map(|row| row.split('`').nth(1).expect("a subject").to_owned());
    rows.collect()
}

#[test]
fn the_servers_of_the_handbook_let_daemons_in_and_no_further() {
    let hosts = ["nats-1:6222", "nats-2:6222", "nats-3:6222"];
    let pods = ["nats-0.nats:6222", "nats-1.nats:6222", "nats-2.nats:6222"];
    let of_host = ["/var/lib/nats", "/etc/nats/fullchain.pem", "/etc/nats/privkey.pem", "/etc/nats/ca.pem"];
    let of_pod = ["/data", "/etc/nats-tls/tls.crt", "/etc/nats-tls/tls.key", "/etc/nats-tls/ca.crt"];
    let manifest = of_manifest("nats.conf");
    for (text, files, routes) in [(shipped("nats.conf"), of_host, hosts), (manifest, of_pod, pods)] {
        let (_, rights) = text.split_once("nkey: $DAEMON_NKEY").expect("the daemons' user");
        let rights: BTreeSet<String> = rights.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(rights, least_rights());
        let servers = Servers::start(&text, files, routes);
        wait_until("the servers have found each other, and made the stream", || {
            servers.bus("create", &servers.operator, &["--max-age", "604800", "--max-bytes", "10737418240"]).0
                == 0
        });
        let (code, said) = servers.bus("check", &servers.daemon, &[]);
        assert!(code == 0 && said.contains("3 copies") && said.matches("ok: may ").count() == 5, "{said}");
        let (code, said) = servers.bus("create", &servers.daemon, &["--bus-stream", "OTHER"]);
        assert!(code == 1 && said.contains("Permissions Violation"), "{said}");
        let daemons = [servers.serve(), servers.serve()];
        let mut watcher = daemons[1].watch("/api/ws/jobs/j/monitor?since=start");
        daemons[0].acked_feed().publish([r#"{"type":"job_started","job_id":"j"}"#]);
        assert!(watcher.event().contains(r#""type":"job_started","job_id":"j"}"#));
        for daemon in daemons {
            let log = daemon.stderr();
            assert!(!log.contains("Violation"), "{log}");
        }
    }
}

#[test]
fn the_settings_of_the_daemons_in_the_files_are_good() {
    let known: BTreeSet<String> = SETTINGS.iter().map(|setting| setting.variable()).collect();
    let compose = shipped("compose.yaml");
    let pairs = compose.lines().filter_map(|line| line.trim().split_once(": "));
    let pairs: BTreeSet<(&str, &str)> = pairs.filter(|(name, _)| name.starts_with("LUXCAST_")).collect();
    assert!(pairs.len() >= 4 && pairs.iter().all(|(name, _)| known.contains(*name)), "{pairs:?}");
    let directory = tempfile::tempdir().expect("the directory for temporary files can be written");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name).display().to_string();
        fs::write(&path, text).expect("the directory is ours");
        path
    };
    let tokens = file("tokens", "secret all\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_luxcast"));
    for (name, value) in pairs {
        command.env(name, value.trim_matches('"').replace("/run/secrets/tokens", &tokens));
    }
    let output =
        command.args(["check-config", "--ingest", &file("compose.sock", "")]).output().expect("it starts");
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && shown.contains("nats://nats-3:4222"), "{shown}{said}");

    let mut settings = of_manifest("luxcast.toml");
    let seed = KeyPair::new_user().seed().expect("it is new");
    let certificates = Certificates::new();
    for (there, here) in [
        ("/run/secrets/luxcast/tokens", tokens),
        ("/run/luxcast/ingest.sock", file("ingest.sock", "")),
        ("/run/secrets/luxcast-bus/daemon.nk", file("daemon.nk", &seed)),
        ("/etc/nats-tls/ca.crt", certificates.path("ca.pem")),
    ] {
        let mount = Path::new(there).parent().and_then(Path::to_str).expect("it has one");
        assert!(shipped("kubernetes.yaml").contains(&format!("mountPath: {mount}}}")), "{mount} is mounted");
        replace(&mut settings, there, &here);
    }
    let (code, shown, said) = luxcast(&["check-config", "--config", &file("luxcast.toml", &settings)]);
    assert!(code == 0 && shown.contains("tls://nats-2.nats:4222"), "{shown}{said}");
}

/// The samples of the page in one language, line by line.
fn of_page(kind: &str) -> Vec<String> {
    let page = shipped("README.md");
    let samples = page.split("```").skip(1).step_by(2);
    let samples = samples.filter_map(|sample| sample.strip_prefix(kind)?.strip_prefix('\n'));
    samples.flat_map(|sample| sample.lines().map(|line| line.trim().to_owned())).collect()
}

#[test]
fn the_settings_and_the_commands_of_the_page_work_together() {
    let of_host = ["/var/lib/nats", "/etc/nats/fullchain.pem", "/etc/nats/privkey.pem", "/etc/nats/ca.pem"];
    let hosts = ["nats-1:6222", "nats-2:6222", "nats-3:6222"];
    let servers = Servers::start(&shipped("nats.conf"), of_host, hosts);
    let file = |name: &str, text: &str| {
        let path = servers.directory.path().join(name).display().to_string();
        fs::write(&path, text).expect("the directory is ours");
        path
    };
    let mut settings = of_page("toml").join("\n");
    let seed = |key: &KeyPair| key.seed().expect("it is new");
    for (there, here) in [
        ("/etc/luxcast/tokens", file("tokens", "secret all\n")),
        ("/etc/luxcast/daemon.nk", file("daemon.nk", &seed(&servers.daemon))),
        ("/etc/luxcast/nats-ca.pem", servers.certificates.path("ca.pem")),
    ] {
        replace(&mut settings, there, &here);
    }
    for (place, url) in (1..).zip(servers.urls()) {
        replace(&mut settings, &format!("tls://nats-{place}:4222"), &url);
    }
    let settings = file("luxcast.toml", &settings);
    let operator = file("operator.nk", &seed(&servers.operator));
    let commands = of_page("sh");
    let run = |what: &str| {
        let line = commands.iter().find(|line| line.contains(&format!("luxcast bus {what} ")));
        let (_, words) = line.expect("the page has it").split_once("luxcast bus ").expect("just found");
        let words = words.replace("/etc/luxcast/luxcast.toml", &settings).replace("operator.nk", &operator);
        let (code, shown, said) = luxcast(&[&["bus"], &words.split(' ').collect::<Vec<_>>()[..]].concat());
        (code, shown + &said)
    };
    wait_until("the servers have found each other, and made the stream", || {
        let (code, said) = run("create");
        code == 0 && said.contains("made the stream LUXCAST on luxcast.events: 3 copies, numbers from ")
    });
    let (code, said) = run("check");
    assert!(code == 0 && said.matches("is nats-server").count() == 3 && !said.contains("error"), "{said}");
    let daemon = serve(&[], &["--config".to_owned(), settings.clone()]);
    let sent = daemon.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
    assert!(sent > BASE);
    // The number of the page is from the day on which it was written.
    let (code, said) = run("new-epoch");
    assert!(code == 2 && said.contains("as in a stream that has lost nothing"), "{said}");
}

/// As the page says: with the newest number of the one daemon.
#[test]
fn watchers_move_from_one_daemon_to_the_stream() {
    let alone = Daemon::start(&[]);
    let mut feed = alone.acked_feed();
    let position = feed.publish([r#"{"type":"x","job_id":"j"}"#]);
    // A clock that was ahead once.
    let newest = position + 1_000_000_000;
    let server = NatsServer::start(NEWEST, "");
    create(&server.url(), &["--replicas", "1", "--after", &newest.to_string()]);
    let daemons = [0, 1].map(|_| serve(&[server.url()], &[]));
    let published = daemons[0].acked_feed().publish([r#"{"type":"x","job_id":"j","n":2}"#]);
    assert!(published > newest);
    for daemon in &daemons {
        let mut watcher = daemon.watch(&format!("/api/ws/jobs/j/monitor?since={position}"));
        assert_eq!(watcher.json_of("stream:gap")["reason"], "restart");
        assert_eq!(seq_of(&watcher.event()), Some(published));
    }
}

#[test]
fn the_metrics_that_the_page_names_are_there() {
    let page = shipped("README.md");
    let table = metrics_markdown();
    let quoted: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let metrics: Vec<&str> = quoted.into_iter().filter(|word| word.starts_with("luxcast_bus_")).collect();
    assert!(metrics.len() >= 5, "{metrics:?}");
    assert!(metrics.iter().all(|name| table.contains(&format!("| `{name}` |"))), "{metrics:?}");
}

/// nginx with the balancer of the handbook in front of these daemons.
struct Balancer {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Balancer {
    fn start(daemons: [SocketAddr; 3]) -> Self {
        // Where nothing else listens, whatever its port.
        let address = SocketAddr::from(([127, 0, 0, 77], free_address().port()));
        let mut balancer = shipped("nginx.conf");
        for (place, daemon) in (1..).zip(daemons) {
            replace(&mut balancer, &format!("luxcast-{place}:20555"), &daemon.to_string());
        }
        replace(&mut balancer, "listen 80;", &format!("listen {address};"));
        let directory = tempfile::tempdir().expect("the directory for temporary files can be written");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};\n", path(kind)))
            .concat();
        let text = format!(
            "daemon off;\npid {};\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{balancer}}}\n",
            path("pid")
        );
        fs::write(path("nginx.conf"), text).expect("the directory is ours");
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p", &path(""), "-c", &path("nginx.conf")]);
        let child = command.stdin(Stdio::null()).spawn().expect("nginx is installed");
        let balancer = Self { child, address, _directory: directory };
        wait_until("nginx listens", || TcpStream::connect(address).is_ok());
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // The master ends its workers.
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is a child of this test");
        let _ = self.child.wait();
    }
}

#[test]
fn the_balancer_of_the_handbook_goes_past_a_daemon_that_is_gone_and_passes_on_what_one_refuses() {
    let (full, free) = (Daemon::start(&["--connections-max", "1"]), Daemon::start(&[]));
    let _the_one = full.watch("/api/ws/events");
    let nobody = "127.0.0.1:1".parse().expect("an address");
    let balancer = Balancer::start([full.address, nobody, free.address]);
    let asked: Vec<Result<Client, Refused>> =
        (0..12).map(|_| Client::try_connect(balancer.address, "/api/ws/events")).collect();
    let number = free.acked_feed().publish([r#"{"type":"x","job_id":"j"}"#]);
    let mut served = 0;
    for watcher in asked {
        match watcher {
            Ok(mut watcher) => {
                assert_eq!(seq_of(&watcher.event()), Some(number));
                served += 1;
            }
            Err(refused) => assert_eq!((refused.status, refused.code().as_str()), (503, "full")),
        }
    }
    // Whoever is refused has no connection that lasts, so the full one is chosen again and again.
    assert!(served > 0);
}
