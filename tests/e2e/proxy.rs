//! Behind the real nginx with the recipe of `tools/packaging/nginx`: TLS, exact streams, client addresses, idle
//! connections, what goes to the workflow engine, and the logs. Then behind proxies without any recipe: nginx with
//! its defaults, and the health check of HAProxy.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tungstenite::Message;
use tungstenite::client::ClientRequestBuilder;

use crate::harness::client::{Raw, Refused};
use crate::harness::tls::{self, Certificates, Stream};
use crate::harness::{Client, Daemon, PATIENCE, Scratch, Setup, seq_of, wait_until};

const PATH: &str = "/api/ws/events";

/// nginx with the recipe, before a daemon and an engine that answers `engine` to everything.
struct Proxy {
    child: Child,
    address: SocketAddr,
    /// nginx reads them again when it reloads.
    _certificates: Certificates,
    config: Arc<ClientConfig>,
    scratch: Scratch,
}

impl Proxy {
    fn start(daemon: SocketAddr, read_timeout: &str) -> Self {
        let certificates = Certificates::new();
        let scratch = Scratch::new();
        let engine = start_engine();
        let config = certificates.both_versions();
        // A free port may be taken the next moment; then another one is tried.
        let until = Instant::now() + PATIENCE;
        loop {
            let address = free_address();
            write_config(scratch.path(), &certificates, [address, daemon, engine], read_timeout);
            let mut command = Command::new("nginx");
            command.args(["-e", "stderr", "-p"]).arg(scratch.path());
            command.arg("-c").arg(scratch.path().join("nginx.conf"));
            let mut child = command.stdin(Stdio::null()).spawn().expect("nginx is installed");
            let mut has_ended = false;
            wait_until("nginx listens, or has ended", || {
                has_ended = child.try_wait().expect("it is ours").is_some();
                has_ended || scratch.path().join("nginx.pid").exists()
            });
            if !has_ended {
                return Self { child, address, _certificates: certificates, config, scratch };
            }
            assert!(Instant::now() < until, "nginx does not start");
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("the child has a pid");
        kill_process(pid, signal).expect("the child can be signalled");
    }

    fn try_watch(&self, path: &str) -> Result<Client<Stream>, Refused> {
        tls::try_watch(self.address, &self.config, path)
    }

    fn watch(&self, path: &str) -> Client<Stream> {
        self.try_watch(path).unwrap_or_else(|refused| panic!("{path}: {refused:?}"))
    }

    /// From another address of this machine, with this `X-Forwarded-For`.
    fn try_watch_from(&self, source: [u8; 4], told: &str) -> Result<Client<Stream>, Refused> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("all of 127/8 is ours");
        socket.connect(&self.address.into()).expect("nginx listens");
        let uri = format!("wss://localhost{PATH}").parse().expect("a URI");
        let request = ClientRequestBuilder::new(uri).with_header("X-Forwarded-For", told);
        Client::upgrade(tls::over(socket.into(), &self.config), request)
    }

    /// The answer to a plain GET.
    fn get(&self, path: &str) -> String {
        let mut stream = tls::dial(self.address, &self.config);
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("nginx reads");
        let mut answer = String::new();
        // How the other side ends TLS does not matter here.
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The master ends its workers.
        self.signal(Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Writes a configuration around the recipe, with this test's addresses and files.
fn write_config(
    scratch: &Path,
    certificates: &Certificates,
    [own, daemon, engine]: [SocketAddr; 3],
    read_timeout: &str,
) {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/packaging/nginx/luxcast.conf");
    let mut recipe = fs::read_to_string(recipe).expect("the recipe is there");
    let directory = scratch.display();
    let replaced = [
        ("listen 443 ssl http2;", format!("listen {own} ssl http2;")),
        ("server 127.0.0.1:20555;", format!("server {daemon};")),
        ("server 127.0.0.1:8000;", format!("server {engine};")),
        ("/etc/nginx/luxcast/fullchain.pem", certificates.text_path("certificate.pem")),
        ("/etc/nginx/luxcast/privkey.pem", certificates.text_path("key.pem")),
        ("/var/log/nginx/luxcast.log", format!("{directory}/access.log")),
        ("proxy_read_timeout 75s;", format!("proxy_read_timeout {read_timeout};")),
    ];
    for (written, here) in replaced {
        assert_eq!(recipe.matches(written).count(), 1, "{written}");
        recipe = recipe.replace(written, &here);
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
        .concat();
    let whole = format!(
        "daemon off;\npid {directory}/nginx.pid;\nerror_log {directory}/error.log info;\nworker_processes 1;\nworker_shutdown_timeout 1s;\n\
         events {{ worker_connections 256; }}\nhttp {{\n{temporary}{recipe}}}\n"
    );
    fs::write(scratch.join("nginx.conf"), whole).expect("the disk has room");
}

/// Takes the place of Routilux' REST.
fn start_engine() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                head.push(byte[0]);
            }
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nengine");
        }
    });
    address
}

fn publish(daemon: &Daemon, numbers: std::ops::Range<u64>) {
    let lines: Vec<String> = numbers.map(|n| format!(r#"{{"type":"x","job_id":"j","n":{n}}}"#)).collect();
    daemon.acked_feed().publish(lines.iter().map(String::as_str));
}

/// A watcher that reconnects after each end of its connection.
struct Follower {
    watcher: Client<Stream>,
    since: u64,
    next: u64,
    connections: usize,
}

impl Follower {
    fn start(proxy: &Proxy) -> Self {
        let mut watcher = proxy.watch(PATH);
        let since = watcher.connected();
        Self { watcher, since, next: 0, connections: 1 }
    }

    /// Reads up to this event: each once, in order, none missing.
    fn read_to(&mut self, proxy: &Proxy, last: u64) {
        while self.next <= last {
            match self.watcher.read() {
                Ok(Message::Text(text)) => self.take(&text),
                Ok(_) => {}
                Err(_) => self.come_back(proxy),
            }
        }
    }

    fn take(&mut self, text: &str) {
        assert!(!text.contains("stream:gap"), "{text}");
        if let Some(seq) = seq_of(text) {
            let event: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(event["n"].as_u64(), Some(self.next), "{text}");
            (self.since, self.next) = (seq, self.next + 1);
        }
    }

    /// Waits for the end of its connection.
    fn wait_for_the_end(&mut self, proxy: &Proxy) {
        while let Ok(message) = self.watcher.read() {
            if let Message::Text(text) = message {
                self.take(&text);
            }
        }
        self.come_back(proxy);
    }

    fn come_back(&mut self, proxy: &Proxy) {
        let path = format!("{PATH}?since={}", self.since);
        let mut back = None;
        wait_until("the daemon is there again", || {
            // Without a daemon, nginx answers 502.
            back = proxy.try_watch(&path).ok();
            back.is_some()
        });
        self.watcher = back.expect("it was waited for");
        self.connections += 1;
    }
}

#[test]
fn streams_through_nginx_are_exact_over_its_reloads_and_restarts_of_the_daemon() {
    let state = Scratch::new();
    let state_dir = state.path().join("state").display().to_string();
    let start =
        |listen: &str| Setup::default().flags(&["--state-dir", &state_dir, "--listen", listen]).start();
    let mut daemon = start("127.0.0.1:0");
    let address = daemon.address;
    let proxy = Proxy::start(address, "75s");
    let mut followers: Vec<Follower> = (0..4).map(|_| Follower::start(&proxy)).collect();
    publish(&daemon, 0..500);
    followers.iter_mut().for_each(|follower| follower.read_to(&proxy, 499));
    // The old worker gets a second for its connections.
    proxy.signal(Signal::HUP);
    followers.iter_mut().for_each(|follower| follower.wait_for_the_end(&proxy));
    publish(&daemon, 500..1_000);
    followers.iter_mut().for_each(|follower| follower.read_to(&proxy, 999));
    publish(&daemon, 1_000..1_100);
    daemon.stop();
    assert!(proxy.get("/api/ws/events").starts_with("HTTP/1.1 502 "), "nobody is behind nginx");
    let daemon = start(&address.to_string());
    publish(&daemon, 1_100..1_500);
    followers.iter_mut().for_each(|follower| follower.read_to(&proxy, 1_499));
    assert!(followers.iter().all(|follower| follower.connections == 3));
}

#[test]
fn nginx_takes_the_streams_to_the_daemon_and_the_rest_to_the_engine() {
    let daemon = Daemon::start(&[]);
    let proxy = Proxy::start(daemon.address, "75s");
    for path in ["/api/jobs", "/api/v1/jobs", "/api/v1/wsx", "/api/v1/websockets", "/", "/api/wsx/events"] {
        assert!(proxy.get(path).ends_with("engine"), "{path}");
    }
    for path in
        ["/api/ws/events", "/api/v1/ws/jobs/j/monitor", "/api/v1/ws", "/api/v1/websocket?token=secret"]
    {
        assert!(proxy.get(path).contains("upgrade_required"), "{path}");
    }
    // The live page works below another path, with its streams.
    assert!(proxy.get("/luxcast/console").contains(" 308 "));
    let page = proxy.get("/luxcast/console/");
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("console.js"), "{page}");
    assert!(proxy.get("/luxcast/console/console.js").starts_with("HTTP/1.1 200 "));
    proxy.watch("/luxcast/api/ws/events").connected();
    // The daemon sees the Host that the page's browser knows.
    let visit = |origin: &str| {
        let uri = format!("wss://localhost{PATH}").parse().expect("a URI");
        let request = ClientRequestBuilder::new(uri).with_header("Origin", origin);
        Client::upgrade(tls::dial(proxy.address, &proxy.config), request)
    };
    assert!(visit("https://localhost").is_ok());
    let refused = visit("https://evil.example").err().expect("another site's page");
    assert_eq!(refused.code(), "forbidden_origin");
    // No token is in the log of nginx.
    let log = || fs::read_to_string(proxy.scratch.path().join("access.log")).unwrap_or_default();
    wait_until("the log of nginx", || log().contains("/api/v1/websocket"));
    assert!(!log().contains("secret"), "{}", log());
}

#[test]
fn the_logs_of_nginx_have_no_token_while_the_daemon_is_away() {
    let mut daemon = Daemon::start(&[]);
    let proxy = Proxy::start(daemon.address, "75s");
    let mut watcher = proxy.watch("/api/ws/events?token=secret");
    watcher.connected();
    // One daemon that ends while it is watched, and then one that is not there.
    daemon.kill();
    assert!(watcher.read().is_err());
    let paths = [
        "/api/ws/events?token=secret",
        "/api/v1/ws/jobs/j/monitor?api_key=secret",
        "/api/v1/websocket?token=secret",
        "/luxcast/api/ws/events?token=secret",
        "/luxcast/console/jobs?token=secret",
    ];
    for path in paths {
        assert!(proxy.get(path).starts_with("HTTP/1.1 502 "), "{path}");
    }
    let read = |name: &str| fs::read_to_string(proxy.scratch.path().join(name)).unwrap_or_default();
    // The access log says that nobody was there, and which upstream was asked.
    wait_until("all of it in the log of nginx", || {
        read("access.log").matches("\" 502 ").count() >= paths.len()
    });
    assert!(
        read("access.log").contains(&format!("upstream {} 502", daemon.address)),
        "{}",
        read("access.log")
    );
    // Lines are written in order.
    proxy.signal(Signal::HUP);
    wait_until("the error log of nginx", || read("error.log").contains("gracefully shutting down"));
    for name in ["access.log", "error.log"] {
        assert!(!read(name).contains("secret"), "{name}: {}", read(name));
    }
}

/// Another program before the daemon, ended with its test.
struct Front(Child);

impl Front {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let child = command.args(arguments).stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{program} is installed: {error}")))
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it is ours").is_some()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).expect("the child has a pid");
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port")
}

/// Starts it at a free port, and again at another if that was taken meanwhile.
fn start_at_a_free_port(start: impl Fn(SocketAddr) -> Front) -> (Front, SocketAddr) {
    let until = Instant::now() + PATIENCE;
    loop {
        let address = free_address();
        let mut front = start(address);
        let mut has_ended = false;
        wait_until("the proxy listens, or has ended", || {
            has_ended = front.has_ended();
            has_ended || TcpStream::connect(address).is_ok()
        });
        if !has_ended {
            return (front, address);
        }
        assert!(Instant::now() < until, "the proxy does not start");
    }
}

/// HTTP/1.0, `Connection: close`, and the upstream's address as `Host`.
#[test]
fn nginx_with_its_defaults_gets_what_is_plain_and_is_told_what_a_stream_needs() {
    let daemon = Daemon::start(&[]);
    let scratch = Scratch::new();
    let directory = scratch.path().display();
    let (_nginx, address) = start_at_a_free_port(|address| {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\npid {directory}/nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
             server {{ listen {address}; location / {{ proxy_pass http://{}; }} }}\n}}\n",
            daemon.address
        );
        fs::write(scratch.path().join("nginx.conf"), config).expect("the disk has room");
        Front::start(
            "nginx",
            &["-e", "stderr", "-p", &directory.to_string(), "-c", &format!("{directory}/nginx.conf")],
        )
    });
    let ask = |request: &str| Raw::connect(address).request(request);
    let request = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: workflows.example\r\nConnection: close\r\n\r\n")
    };
    for path in ["/healthz", "/console/", "/console/jobs", "/console/daemon"] {
        assert_eq!(ask(&request("GET", path)).status, 200, "{path}");
        let mut raw = Raw::connect(address);
        raw.send(request("HEAD", path).as_bytes());
        assert!(raw.read_head().starts_with("HTTP/1.1 200 "), "{path}");
        assert_eq!((raw.fill(), raw.buffer.len()), (0, 0), "{path}");
    }
    let refused =
        ask(&Raw::upgrade_request(PATH).replace("Connection: Upgrade", "Connection: Upgrade, close"));
    assert_eq!((refused.status, refused.code().as_str()), (505, "http_version"));
    assert!(refused.body.contains("proxy_http_version 1.1"), "{}", refused.body);
}

#[test]
fn haproxy_finds_a_healthy_daemon_healthy() {
    let daemon = Daemon::start(&[]);
    let admin = daemon.admin.expect("it is on");
    let scratch = Scratch::new();
    let (stats, config) = (scratch.path().join("stats"), scratch.path().join("haproxy.cfg"));
    let checks = [
        ("plain", "option httpchk GET /healthz", daemon.address),
        ("head", "option httpchk HEAD /healthz", daemon.address),
        (
            "later",
            "option httpchk\n http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host any.example",
            daemon.address,
        ),
        ("ready", "option httpchk GET /readyz", admin),
        ("metrics", "option httpchk GET /metrics", admin),
    ];
    let backends: String = checks
        .iter()
        .map(|(name, check, server)| {
            format!("backend {name}\n {check}\n server it {server} check inter 100ms fall 1 rise 1\n")
        })
        .collect();
    let (_haproxy, _) = start_at_a_free_port(|address| {
        let text = format!(
            "global\n stats socket {}\ndefaults\n mode http\n timeout connect 10s\n timeout client 10s\n \
             timeout server 10s\n timeout check 10s\nfrontend all\n bind {address}\n default_backend plain\n{backends}",
            stats.display()
        );
        fs::write(&config, text).expect("the disk has room");
        Front::start("haproxy", &["-db", "-f", config.to_str().expect("the path is UTF-8")])
    });
    wait_until("its socket", || UnixStream::connect(&stats).is_ok());
    let rows = || {
        let mut socket = UnixStream::connect(&stats).expect("it answers");
        socket.write_all(b"show stat\n").expect("it reads");
        let mut rows = String::new();
        socket.read_to_string(&mut rows).expect("it answers");
        rows
    };
    for (name, ..) in checks {
        let mut row = String::new();
        wait_until(&format!("a check of {name}"), || {
            let all = rows();
            let of_server = all.lines().find(|row| row.starts_with(&format!("{name},it,")));
            row = of_server.expect("a row of its server").to_owned();
            row.contains(",L7")
        });
        assert!(row.contains(",UP,") && row.contains(",L7OK,200,"), "{row}");
    }
}

#[test]
fn limits_are_the_clients_and_not_the_proxys_if_the_proxy_is_trusted() {
    let flags = ["--trusted-proxies", "127.0.0.1", "--allow-anonymous", "--connections-per-address-max", "1"];
    let daemon = Daemon::start(&flags);
    let proxy = Proxy::start(daemon.address, "75s");
    let mut first = proxy.try_watch_from([127, 0, 0, 5], "192.0.2.1").expect("its first");
    let _second = proxy.try_watch_from([127, 0, 0, 6], "192.0.2.1").expect("another's first");
    // What a client says of itself changes nothing.
    let refused = proxy.try_watch_from([127, 0, 0, 5], "192.0.2.7").err().expect("its second");
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_requests"));
    first.connected();
    let mut addresses: Vec<String> =
        daemon.connections().iter().filter_map(|row| row["address"].as_str().map(str::to_owned)).collect();
    addresses.sort();
    assert_eq!(addresses, ["127.0.0.5", "127.0.0.6"]);
}

#[test]
fn an_untrusted_proxy_is_the_client_whatever_it_claims() {
    let daemon = Daemon::start(&["--connections-per-address-max", "1"]);
    let proxy = Proxy::start(daemon.address, "75s");
    let _first = proxy.try_watch_from([127, 0, 0, 5], "192.0.2.1").expect("the proxy's first");
    let rows = daemon.connections();
    assert!(rows[0]["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{rows:?}");
    let refused = proxy.try_watch_from([127, 0, 0, 6], "192.0.2.2").err().expect("the proxy's second");
    assert_eq!(refused.status, 429);
}

#[test]
fn heartbeats_keep_an_idle_connection_through_nginx_and_without_them_it_is_cut() {
    let lively = Daemon::start(&["--heartbeat-seconds", "0.5", "--silent-heartbeats", "100"]);
    let quiet = Daemon::start(&["--heartbeat-seconds", "86400"]);
    let [live, cut] = [&lively, &quiet].map(|daemon| Proxy::start(daemon.address, "2s"));
    let (mut beating, mut silent) = (live.watch(PATH), cut.watch(PATH));
    silent.connected();
    assert!(silent.read().is_err(), "nginx ends what is idle for longer than proxy_read_timeout");
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let message = beating.json();
        assert!(message["type"] == "ping" || message["type"] == "connection:status", "{message}");
    }
    publish(&lively, 0..1);
    assert!(beating.event().contains("\"n\":0"));
}
