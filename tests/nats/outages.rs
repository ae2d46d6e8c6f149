//! Servers, daemons and the ways between them fail and come back. Nothing is lost, and nothing comes twice.

use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::BASE;
use crate::cluster::Cluster;
use crate::desk::{Desk, Truth};
use crate::engines::{Engine, line};
use crate::fleet::{Fleet, create, metric, serve};
use crate::harness::{Feed, wait_until};
use crate::judge::{check, check_publishers};
use crate::link::Link;
use crate::server::{NEWEST, NatsServer, VERSIONS};
use crate::watchers::{EVERYTHING, Watcher};

/// One of those that the first publisher writes of.
const JOB: &str = "extract-3";

/// Publishers and watchers that go on while things break.
struct Life {
    desk: Desk,
    fleet: Fleet,
    engines: Vec<Engine>,
    /// One at each daemon that is never killed, by its place.
    watchers: Vec<(usize, Watcher)>,
    hoppers: Vec<Watcher>,
    /// A hopper that watches one job of the first publisher.
    of_job: Watcher,
    marks: u64,
}

impl Life {
    fn start(desk: Desk, fleet: Fleet, stay_at: &[usize]) -> Self {
        let watchers = stay_at.iter().map(|place| (*place, fleet.watch(*place, "start"))).collect();
        let hoppers = (0..2).map(|_| fleet.hopper(EVERYTHING)).collect();
        let of_job = fleet.hopper(&format!("/api/ws/jobs/{JOB}/monitor"));
        let engines: Vec<Engine> = ["extract", "load"].map(|name| fleet.engine(name)).into();
        let life = Self { desk, fleet, engines, watchers, hoppers, of_job, marks: 0 };
        life.engines.iter().for_each(Engine::wait_for_progress);
        life
    }

    /// Waits until all publishers get on, and all watchers have what another program publishes.
    fn go_on(&mut self, what: &str) {
        eprintln!("{what}");
        self.engines.iter().for_each(Engine::wait_for_progress);
        self.marks += 1;
        let word = format!("mark {} after {what}", self.marks);
        self.desk.publish(&format!("{{\"type\":\"mark\",\"job_id\":\"m\",\"n\":\"{word}\"}}"));
        self.watchers.iter().for_each(|(_, watcher)| watcher.wait_for(&word));
        self.fleet.check_health();
    }

    /// Ends all of it, and judges.
    fn end(self) {
        let counts: Vec<_> =
            self.engines.into_iter().map(|engine| (engine.name.clone(), engine.end())).collect();
        let truth = self.desk.truth();
        let last = *truth.last_key_value().expect("much was published").0;
        let all: Vec<Watcher> =
            self.watchers.into_iter().map(|(_, watcher)| watcher).chain(self.hoppers).collect();
        all.iter().for_each(|watcher| watcher.wait_for_number(last));
        check_publishers(&truth, counts.iter().map(|(name, count)| (name.as_str(), *count)));
        for watcher in all {
            assert_eq!(check(&watcher.end(), &truth), []);
        }
        let is_of_job = |text: &str| text.contains(&format!("\"job_id\":\"{JOB}\""));
        let of_job: Truth = truth.into_iter().filter(|(_, text)| is_of_job(text)).collect();
        self.of_job.wait_for_number(*of_job.last_key_value().expect("the job has events").0);
        assert_eq!(check(&self.of_job.end(), &of_job), []);
    }
}

#[test]
fn a_server_that_dies_or_stops_costs_no_event() {
    for version in VERSIONS {
        let mut server = NatsServer::start(version, "");
        create(&server.url(), &["--replicas", "1"]);
        let fleet = Fleet::start(vec![vec![server.url()]; 3], &["--drain-seconds", "2"]);
        let mut life = Life::start(Desk::new(vec![server.url()]), fleet, &[0, 1]);
        // One without `dedupe`, whose lines come once all the same.
        let mut steady = life.fleet.daemon(0).acked_feed();
        let lines: Vec<String> = (1..=600).map(|n| line("steady", n)).collect();
        steady.lines(lines[..300].iter().map(String::as_str));
        if version == NEWEST {
            server.signal(Signal::STOP);
        } else {
            server.kill();
        }
        steady.lines(lines[300..].iter().map(String::as_str));
        life.watchers.iter().for_each(|(_, watcher)| watcher.wait_for_reconnecting());
        for daemon in life.fleet.running() {
            wait_until("the metric says so", || metric(daemon, "luxcast_bus_connected") == 0.0);
        }
        life.fleet.check_health();
        // Memory is served, and a newcomer is told how things are.
        let known = life.watchers[0].1.visits()[0].position().expect("much was published");
        let newcomer = life.fleet.watch(1, "start");
        newcomer.wait_for_number(known);
        drop(newcomer);
        life.fleet.daemon(0).reload();
        // One ends meanwhile, and the line that it took is not promised; it listens again once the stream is there.
        let mut unheard = life.fleet.daemon(2).acked_feed();
        unheard.line(&line("unheard", 1));
        let waiting = || metric(life.fleet.daemon(2), "luxcast_bus_waiting_bytes");
        wait_until("the line waits", || waiting() > 0.0);
        if version == VERSIONS[0] {
            let log = life.fleet.stop(2);
            assert!(log.contains("they have no ack"), "{log}");
        } else {
            life.fleet.kill(2);
        }
        assert!(unheard.try_answer().is_none());
        thread::scope(|scope| {
            let fleet = &mut life.fleet;
            let starting = scope.spawn(move || fleet.restart(2));
            if version == NEWEST {
                server.signal(Signal::CONT);
            } else {
                server.restart();
            }
            starting.join().expect("it listens");
        });
        life.watchers.iter().for_each(|(_, watcher)| watcher.wait_for_connected());
        life.fleet.wait_until_connected();
        life.go_on(&format!("an outage of {version}"));
        assert_eq!(steady.sync(), [""; 0]);
        check_publishers(&life.desk.truth(), [("steady", 600)]);
        life.end();
    }
}

#[test]
fn a_daemon_that_is_cut_off_waits_and_its_publisher_goes_elsewhere() {
    let server = NatsServer::start(NEWEST, "");
    create(&server.url(), &["--replicas", "1"]);
    let link = Link::to(server.address);
    let direct = vec![server.url()];
    let fleet = Fleet::start(vec![direct.clone(), direct, vec![link.url()]], &[]);
    let mut life = Life::start(Desk::new(vec![server.url()]), fleet, &[0, 1, 2]);
    for (round, what) in ["a silence", "a cut", "a halt"].into_iter().enumerate() {
        let cut_off = life.fleet.daemon(2);
        match what {
            "a silence" => link.silence(),
            "a cut" => link.cut(),
            _ => cut_off.signal(Signal::STOP),
        }
        // A publisher that comes here from another daemon hears what that has taken, once this one knows it.
        let moves =
            format!("{{\"op\":\"hello\",\"publisher\":\"moving-{round}\",\"ack\":true,\"dedupe\":true}}");
        let mut moving = Feed::connect(&life.fleet.daemon(0).ingest);
        moving.line(&moves);
        assert_eq!(moving.answer()["accepted"], 0);
        moving.line(&line(&format!("moving-{round}"), 1));
        while moving.answer()["line"] != 1 {}
        let mut moved = Feed::connect(&cut_off.ingest);
        moved.line(&moves);
        let mut stranded = Feed::connect(&cut_off.ingest);
        let name = format!("stranded-{round}");
        let lines: Vec<String> = (1..=500).map(|n| line(&name, n)).collect();
        // It gets no welcome before the daemon knows what the stream has, and does not wait for it.
        let hello = format!("{{\"op\":\"hello\",\"publisher\":\"{name}\",\"ack\":true,\"dedupe\":true}}");
        stranded.line(&hello);
        stranded.line(r#"{"op":"from","line":1}"#);
        stranded.lines(lines.iter().map(String::as_str));
        if what != "a halt" {
            life.watchers[2].1.wait_for_reconnecting();
            assert_eq!(cut_off.admin_get("/readyz").0, 200);
        }
        assert!(life.watchers[..2].iter().all(|(_, watcher)| watcher.statuses().is_empty()));
        // The publisher leaves, and sends all of it through another daemon.
        drop(stranded);
        let mut feed = Feed::connect(&life.fleet.daemon(round % 2).ingest);
        feed.line(&hello);
        let welcome = feed.answer();
        assert_eq!((&welcome["op"], &welcome["accepted"]), (&"welcome".into(), &0.into()), "{welcome}");
        feed.lines(lines.iter().map(String::as_str));
        while feed.answer()["line"] != 500 {}
        life.watchers[0].1.wait_for(lines[499].strip_prefix('{').expect("an object"));
        link.heal();
        if what == "a halt" {
            cut_off.signal(Signal::CONT);
        } else {
            life.watchers[2].1.wait_for_connected();
        }
        assert_eq!(moved.answer()["accepted"], 1);
        life.go_on(what);
        check_publishers(&life.desk.truth(), [(name.as_str(), 500)]);
    }
    life.end();
}

/// An outage is longer than the half of it, when chunks are not simply sent again, and shorter than the five times for
/// which names of publishers are remembered.
const WINDOW: Duration = Duration::from_secs(4);

/// The server forgets ids of chunks before a daemon can send them again: only reading shows what the stream has.
#[test]
fn a_server_that_forgets_soon_doubles_nothing() {
    let server = NatsServer::start(NEWEST, "");
    let desk = Desk::new(vec![server.url()]);
    desk.create(BASE, WINDOW);
    let links = [0, 1, 2].map(|_| Link::to(server.address));
    let urls = links.iter().map(|link| vec![link.url()]).collect();
    let mut life = Life::start(desk, Fleet::start(urls, &[]), &[0, 1, 2]);
    for round in 0..6 {
        let link = &links[round % 3];
        let mut feed = life.fleet.daemon(round % 3).acked_feed();
        let name = format!("hasty-{round}");
        let lines: Vec<String> = (1..=2_000).map(|n| line(&name, n)).collect();
        feed.lines(lines.iter().map(String::as_str));
        if round < 3 {
            link.silence()
        } else {
            link.cut()
        }
        life.watchers[round % 3].1.wait_for_reconnecting();
        link.heal();
        assert_eq!(feed.sync(), [""; 0]);
        life.go_on(&format!("round {round}"));
        check_publishers(&life.desk.truth(), [(name.as_str(), 2_000)]);
    }
    life.end();
}

#[test]
fn three_copies_outlive_any_one_server_and_any_way_between_them() {
    let mut cluster = Cluster::start();
    create(&cluster.urls()[0], &["--max-age", "3600"]);
    let fleet = Fleet::three(&cluster.urls());
    let mut life = Life::start(cluster.desk(), fleet, &[0, 2]);

    let leader = cluster.leader();
    cluster.servers[leader].kill();
    life.fleet.kill(1);
    life.go_on("the death of the leader");
    cluster.servers[leader].restart();
    life.fleet.restart(1);
    life.go_on("the return of a server and a daemon");

    // A daemon's consumer has one copy: it dies with its server, and nobody says so.
    let holder = |cluster: &Cluster| {
        let consumers = cluster.desk().consumers();
        consumers.iter().find(|(name, _)| name.starts_with("luxcast-")).map(|(_, server)| server.clone())
    };
    wait_until("somebody holds a consumer", || holder(&cluster).is_some_and(|name| !name.is_empty()));
    let server = cluster.place(&holder(&cluster).expect("it was just seen"));
    cluster.servers[server].kill();
    life.go_on("the death of the server with a consumer");
    cluster.servers[server].restart();

    let leader = cluster.leader();
    cluster.servers[leader].signal(Signal::STOP);
    life.go_on("the halt of the leader");
    cluster.servers[leader].signal(Signal::CONT);
    life.go_on("the return of a halted server");

    life.desk.ask_stream("STREAM.LEADER.STEPDOWN", "");
    life.go_on("a change of the leader");
    for (name, _) in life.desk.consumers() {
        life.desk.try_ask(&format!("CONSUMER.DELETE.LUXCAST.{name}"), "");
    }
    life.go_on("the loss of all consumers");

    let leader = cluster.leader();
    cluster.isolate(leader);
    wait_until("another one leads", || cluster.try_leader().is_some_and(|next| next != leader));
    life.go_on("the isolation of the leader");
    cluster.heal();
    life.go_on("its end");

    cluster.servers.iter_mut().for_each(NatsServer::kill);
    life.watchers.iter().for_each(|(_, watcher)| watcher.wait_for_reconnecting());
    cluster.servers.iter_mut().for_each(NatsServer::restart);
    life.watchers.iter().for_each(|(_, watcher)| watcher.wait_for_connected());
    life.go_on("the death of all servers");
    life.end();
}

/// A leader that is cut off from the others goes on answering for ten seconds, and after four there is another one.
#[test]
fn a_server_that_has_lost_the_others_is_not_believed() {
    let cluster = Cluster::start();
    create(&cluster.urls()[0], &["--max-age", "3600"]);
    let leader = cluster.leader();
    let mut others = cluster.urls();
    let lost = vec![others.remove(leader)];
    let fleet = Fleet::start(vec![others.clone(), lost, cluster.urls()], &[]);
    let watchers = [0, 1, 2].map(|place| fleet.watch(place, "start"));
    let name = &cluster.servers[leader].name;
    wait_until("the leader holds all consumers", || {
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            cluster.desk().consumers().into_iter().partition(|(_, server)| server == name);
        for (consumer, _) in &elsewhere {
            cluster.desk().try_ask(&format!("CONSUMER.DELETE.LUXCAST.{consumer}"), "");
        }
        here.len() == 3 && elsewhere.is_empty()
    });
    cluster.isolate(leader);
    let hello = r#"{"op":"hello","publisher":"mover","ack":true,"dedupe":true}"#;
    let lines: Vec<String> = (1..=300).map(|n| line("mover", n)).collect();
    let mut feed = fleet.daemon(0).feed();
    feed.line(hello);
    assert_eq!(feed.answer()["accepted"], 0);
    feed.lines(lines[..200].iter().map(String::as_str));
    while feed.answer()["line"] != 200 {}
    drop(feed);
    // What the lost server says would be that the stream has none of them.
    let mut moved = Feed::connect(&fleet.daemon(1).ingest);
    moved.line(hello);
    watchers[1].wait_for_reconnecting();
    fleet.check_health();
    // One that knows more servers has found another.
    watchers[2].wait_for(lines[199].strip_prefix('{').expect("an object"));
    cluster.heal();
    assert_eq!(moved.answer()["accepted"], 200);
    moved.line(r#"{"op":"from","line":201}"#);
    moved.lines(lines[200..].iter().map(String::as_str));
    while moved.answer()["line"] != 300 {}
    let truth = cluster.desk().truth();
    let last = *truth.last_key_value().expect("much was published").0;
    check_publishers(&truth, [("mover", 300)]);
    for watcher in watchers {
        watcher.wait_for_number(last);
        assert_eq!(check(&watcher.end(), &truth), []);
    }
}

/// A file system of its own, which is gone with it.
struct SmallDisk<'a>(&'a std::path::Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a std::path::Path, size: &str) -> Self {
        std::fs::create_dir(path).expect("the test's own directory");
        let mount = ["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"];
        let status = Command::new("mount").args(mount).arg(path).status().expect("mount is there");
        assert!(status.success(), "tests/nats runs as root");
        Self(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_stops_publishers_and_loses_nothing() {
    let mut server = NatsServer::prepare(NEWEST, "one", "");
    let store = server.store();
    let _disk = SmallDisk::mount(&store, "64m");
    let ballast = store.join("ballast");
    std::fs::write(&ballast, vec![1; 48 << 20]).expect("there is room");
    let config = format!(
        "server_name: one\nlisten: \"{}\"\njetstream {{ store_dir: \"{}\", max_file_store: 1GB }}\n",
        server.address,
        store.display()
    );
    server.configure_with(&config, &[]);
    server.restart();
    create(&server.url(), &["--replicas", "1"]);
    let desk = Desk::new(vec![server.url()]);
    let daemons = [0, 1].map(|_| serve(&[server.url()], &[]));
    let watchers = [0, 1].map(|place: usize| Watcher::stay(daemons[place].address, "start"));
    let filler = "x".repeat(100_000);
    let lines: Vec<String> =
        (1..=300).map(|n| line("full", n).replace('}', &format!(",\"filler\":\"{filler}\"}}"))).collect();
    let mut feed = daemons[0].acked_feed();
    thread::scope(|scope| {
        let writing = scope.spawn(|| feed.publish(lines.iter().map(String::as_str)));
        wait_until("the disk is full", || server.log_text().contains("no space left on device"));
        // The daemon keeps what it may, and reads no more of its publisher.
        let waiting = metric(&daemons[0], "luxcast_bus_waiting_bytes");
        assert!(waiting <= f64::from(9 << 20), "{waiting}");
        std::fs::remove_file(&ballast).expect("it is there");
        server.kill();
        server.restart();
        writing.join().expect("all is acknowledged");
    });
    let truth = desk.truth();
    let last = *truth.last_key_value().expect("much was published").0;
    check_publishers(&truth, [("full", 300)]);
    for watcher in watchers {
        watcher.wait_for_number(last);
        assert_eq!(check(&watcher.end(), &truth), []);
    }
}
