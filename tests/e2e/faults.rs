//! Faults of the machine: what the system refuses, stops, blocks or breaks. The daemon continues.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use socket2::{Domain, SockRef, Socket, Type};
use tungstenite::{Error, Message};

use crate::crowd::cpu;
use crate::harness::{Client, Daemon, Raw, Scratch, Setup, luxcast, seq_of, wait_until};

const PATH: &str = "/api/ws/jobs/j/monitor";

fn line(n: usize) -> String {
    format!(r#"{{"type":"tick","job_id":"j","n":{n}}}"#)
}

/// The numbers of the daemon's open descriptors.
fn descriptors(daemon: &Daemon) -> Vec<u64> {
    let names = fs::read_dir(format!("/proc/{}/fd", daemon.id())).expect("the daemon lives");
    let numbers = names.map(|name| name.expect("a descriptor").file_name().into_string().ok()?.parse().ok());
    numbers.map(|number| number.expect("a number")).collect()
}

/// Lowers or raises the soft file limit of the running daemon.
fn limit_descriptors(daemon: &Daemon, limit: u64) {
    let pid = Pid::from_raw(daemon.id().cast_signed());
    let (_, hard) = file_limits(daemon);
    let limits = Rlimit { current: Some(limit), maximum: Some(hard) };
    prlimit(pid, Resource::Nofile, limits).expect("the daemon is ours");
}

/// The limit of open files that the kernel reports for a process: soft and hard.
fn file_limits(daemon: &Daemon) -> (u64, u64) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.id())).expect("the daemon lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("there is a limit");
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().expect("the soft limit"), numbers.next().expect("the hard limit"))
}

/// Watches until the daemon has no descriptor left but the spare one; returns the watchers.
fn exhaust(daemon: &Daemon) -> Vec<Client> {
    let limit = descriptors(daemon).into_iter().max().expect("there are some") + 5;
    limit_descriptors(daemon, limit);
    let mut watchers = Vec::new();
    // Not by counting: a descriptor held for a moment counts too.
    while let Ok(watcher) = Client::try_connect(daemon.address, "/api/ws/jobs/idle/monitor") {
        watchers.push(watcher);
    }
    wait_until("it has its spare again", || descriptors(daemon).len() as u64 == limit);
    watchers
}

#[test]
fn without_a_descriptor_new_clients_are_refused_and_others_notice_nothing() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "3600", "--admin", "off"]);
    let mut watcher = daemon.watch(PATH);
    watcher.connected();
    let mut feed = daemon.acked_feed();
    let (_, hard) = file_limits(&daemon);
    let mut idle = exhaust(&daemon);
    for n in 0..20 {
        let refused = daemon.refuse(PATH);
        assert_eq!((refused.status, refused.code().as_str()), (503, "full"), "{refused:?}");
        assert!(refused.header("retry-after").is_some());
        feed.publish([line(n).as_str()]);
        assert!(watcher.event().contains(&format!("\"n\":{n}")));
    }
    daemon.wait_for_log("no room for another connection (file limit)");
    // A freed descriptor is taken again at once.
    drop(idle.pop());
    wait_until("one more has room", || Client::try_connect(daemon.address, PATH).is_ok());
    limit_descriptors(&daemon, hard);
    let mut late = daemon.watch(PATH);
    late.connected();
    feed.publish([line(20).as_str()]);
    late.event();
    assert!(watcher.event().contains("\"n\":20"));
}

#[test]
fn without_a_descriptor_operators_are_answered() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "3600"]);
    let _idle = exhaust(&daemon);
    for path in ["/healthz", "/readyz", "/connections", "/healthz"] {
        assert_eq!(daemon.refuse(PATH).status, 503);
        assert_eq!(daemon.admin_get(path).0, 200, "{path}");
    }
}

#[test]
fn without_a_descriptor_a_waiting_crowd_makes_no_thread_spin() {
    let daemon =
        Daemon::start(&["--heartbeat-seconds", "3600", "--handshake-seconds", "3600", "--admin", "off"]);
    let _idle = exhaust(&daemon);
    // The first gets its refusal and does not leave; the others wait behind it.
    let waiting: Vec<Raw> = (0..50).map(|_| daemon.raw()).collect();
    daemon.wait_for_log("no descriptor or memory is left");
    let (began, before) = (Instant::now(), cpu(&daemon));
    thread::sleep(Duration::from_secs(2));
    let (elapsed, used) = (began.elapsed(), cpu(&daemon) - before);
    println!("50 wait for a descriptor: {used:.2?} of CPU in {elapsed:.2?}");
    assert!(used < elapsed / 5, "{used:?} of CPU in {elapsed:?}");
    let lines = daemon.stderr().matches("no descriptor or memory is left").count() as u64;
    assert!(lines <= 2 + began.elapsed().as_secs() * 2, "{lines} log lines");
    // None is forgotten: as each refused one leaves, the next is answered.
    for mut raw in waiting {
        assert_eq!(raw.request(&Raw::upgrade_request(PATH)).status, 503);
    }
}

#[test]
fn a_publisher_gets_in_when_there_is_a_descriptor_again() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "3600", "--admin", "off"]);
    let mut watcher = daemon.watch(PATH);
    watcher.connected();
    let mut idle = exhaust(&daemon);
    let mut feed = daemon.feed();
    feed.line(&line(1));
    daemon.wait_for_log("no descriptor is left for a publisher");
    let (began, before) = (Instant::now(), cpu(&daemon));
    thread::sleep(Duration::from_secs(1));
    assert!(cpu(&daemon) - before < began.elapsed() / 5, "a spin");
    idle.clear();
    assert!(watcher.event().contains("\"n\":1"));
}

#[test]
fn the_soft_file_limit_is_raised_and_too_many_connections_are_not_promised() {
    let soft_and_hard = "--nofile=300:1000";
    let daemon =
        Setup::default().under(&["prlimit", soft_and_hard]).flags(&["--connections-max", "5000"]).start();
    assert_eq!(file_limits(&daemon), (1_000, 1_000));
    daemon.wait_for_log("connections_max lowered to 872: the file limit is 1000");
    // If the hard limit is small too, fewer connections are allowed.
    let daemon = Setup::default().under(&["prlimit", "--nofile=60:60"]).start();
    let mut watchers: Vec<Client> = (0..30).map(|_| daemon.watch(PATH)).collect();
    assert_eq!(daemon.refuse(PATH).code(), "full");
    daemon.acked_feed().publish([line(1).as_str()]);
    watchers.iter_mut().for_each(|watcher| assert!(watcher.event().contains("\"n\":1")));
}

/// A daemon with failing system calls, by a rule of strace.
fn failing_calls(rule: &str) -> Setup {
    let (call, _) = rule.split_once(':').expect("a call and how it fails");
    let (trace, inject) = (format!("trace={call}"), format!("inject={rule}"));
    let command =
        ["strace", "-D", "-f", "-q", "--seccomp-bpf", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    Setup::default().under(&command)
}

/// All events up to the last but one, or the end of a connection that the system broke.
fn read_all(client: &mut Client, count: usize) -> Result<(), Error> {
    read_on(client, 0..count)
}

/// The same, of those in the middle.
fn read_on(client: &mut Client, events: Range<usize>) -> Result<(), Error> {
    let mut next = events.start;
    while next < events.end {
        if let Message::Text(text) = client.read()?
            && seq_of(&text).is_some()
        {
            assert!(text.contains(&format!("\"n\":{next}}}")), "{text} where {next} was due");
            next += 1;
        }
    }
    Ok(())
}

#[test]
fn a_call_that_fails_for_a_moment_is_tried_again_and_nobody_notices() {
    const EVENTS: usize = 300;
    for rule in [
        "accept4:error=ECONNABORTED:when=1+3",
        "accept4:error=EINTR:when=1+2",
        "accept4:error=ENOBUFS:when=2+4",
        "accept4:error=ENOMEM:when=2+4",
        "epoll_wait:error=EINTR:when=3+3",
        "sendto:error=EINTR:when=2+3",
        "sendto:error=EAGAIN:when=40+40",
        "writev:error=EINTR:when=1+2",
        "sendfile:error=EINTR:when=1+2",
        "memfd_create:error=EMFILE",
        "recvfrom:error=EINTR:when=1+2",
        "read:error=EINTR:when=30+5",
    ] {
        let daemon = failing_calls(rule).start();
        let mut watchers: Vec<Client> = (0..20).map(|_| daemon.watch(PATH)).collect();
        let mut feed = daemon.acked_feed();
        for block in (0..EVENTS).collect::<Vec<_>>().chunks(75) {
            let lines: Vec<String> = block.iter().map(|n| line(*n)).collect();
            feed.publish(lines.iter().map(String::as_str));
        }
        for watcher in &mut watchers {
            read_all(watcher, EVENTS).unwrap_or_else(|error| panic!("{rule}: {error}"));
        }
    }
}

/// Sandboxes and old kernels may not let a process send files.
#[test]
fn where_files_cannot_be_sent_events_are_copied_and_the_log_says_so_once() {
    const EVENTS: usize = 40;
    // Long enough to be written once to a file for all of a shard.
    let pad = "x".repeat(20_000);
    for error in ["EINVAL", "ENOSYS", "EPERM"] {
        let daemon = failing_calls(&format!("sendfile:error={error}")).start();
        let mut watchers: Vec<Client> = (0..40).map(|_| daemon.watch(PATH)).collect();
        let mut feed = daemon.acked_feed();
        for n in 0..EVENTS {
            feed.publish([format!(r#"{{"type":"x","job_id":"j","pad":"{pad}","n":{n}}}"#).as_str()]);
            // So each event is a portion of its own: every other one of the first few is sent as a file.
            for watcher in &mut watchers {
                read_on(watcher, n..n + 1).unwrap_or_else(|failed| panic!("{error}: {failed}"));
            }
        }
        daemon.wait_for_log("sendfile fails here");
        assert_eq!(daemon.stderr().matches("sendfile fails here").count(), 1, "{error}");
    }
}

#[test]
fn a_socket_that_breaks_affects_only_that_connection() {
    const EVENTS: usize = 200;
    for rule in [
        "sendto:error=EPIPE:when=100",
        "sendto:error=ENOBUFS:when=100",
        "sendto:error=ECONNRESET:when=100",
        "sendto:error=ETIMEDOUT:when=100",
    ] {
        let daemon = failing_calls(rule).flags(&["--shards", "1"]).start();
        let mut watchers: Vec<Client> = (0..10).map(|_| daemon.watch(PATH)).collect();
        // Each of the two sending threads counts for itself; the one with the publisher sends far less.
        let mut feed = daemon.acked_feed();
        for block in (0..EVENTS).collect::<Vec<_>>().chunks(4) {
            let lines: Vec<String> = block.iter().map(|n| line(*n)).collect();
            feed.publish(lines.iter().map(String::as_str));
        }
        // The hundredth send was one of theirs.
        let ended = watchers.iter_mut().filter_map(|watcher| read_all(watcher, EVENTS).err()).count();
        assert_eq!(ended, 1, "{rule}");
        let mut late = daemon.watch(PATH);
        late.connected();
        feed.publish([line(EVENTS).as_str()]);
        assert!(late.event().contains(&format!("\"n\":{EVENTS}}}")), "{rule}");
    }
}

#[test]
fn a_thread_that_cannot_go_on_ends_the_process_with_a_message() {
    // In each polling thread, at its hundredth poll.
    let mut daemon = failing_calls("epoll_wait:error=EBADF:when=100").start();
    let mut watcher = daemon.watch(PATH);
    watcher.connected();
    let mut feed = daemon.feed();
    let ended = (0..100_000).any(|n| {
        thread::sleep(Duration::from_millis(1));
        writeln!(feed.stream, "{}", line(n)).is_err()
    });
    assert!(ended, "half a server goes on");
    assert_eq!(daemon.wait().code(), Some(1));
    daemon.wait_for_log("a thread of the daemon failed");
    daemon.wait_for_log("panicked");
}

/// A wall clock that can be moved while everything else runs on: a library loaded before libc.
struct WallClock {
    scratch: Scratch,
}

impl WallClock {
    const SOURCE: &str = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <time.h>
        int clock_gettime(clockid_t id, struct timespec *now) {
            static int (*real)(clockid_t, struct timespec *);
            if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
            int result = real(id, now);
            if (id == CLOCK_REALTIME && result == 0) {
                long shift = 0;
                FILE *file = fopen(getenv("WALL_CLOCK_SHIFT"), "r");
                if (file) { if (fscanf(file, "%ld", &shift) == 1) now->tv_sec += shift; fclose(file); }
            }
            return result;
        }
    "#;

    fn new() -> Self {
        let scratch = Scratch::new();
        let source = scratch.path().join("clock.c");
        fs::write(&source, Self::SOURCE).expect("the directory can be written");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(scratch.path().join("clock.so"));
        let status = compiler.arg(&source).arg("-ldl").status().expect("there is a C compiler");
        assert!(status.success());
        let clock = Self { scratch };
        clock.shift(0);
        clock
    }

    fn variables(&self, setup: Setup) -> Setup {
        let path = |name| self.scratch.path().join(name).to_str().expect("the path is UTF-8").to_owned();
        setup.variable("LD_PRELOAD", &path("clock.so")).variable("WALL_CLOCK_SHIFT", &path("shift"))
    }

    /// Shifts it by this many seconds from the real one.
    fn shift(&self, seconds: i64) {
        let (new, place) = (self.scratch.path().join("new"), self.scratch.path().join("shift"));
        fs::write(&new, seconds.to_string()).expect("the directory can be written");
        fs::rename(new, place).expect("the directory can be written");
    }
}

/// The minute of the day in a ping.
fn minute_of(ping: &serde_json::Value) -> i64 {
    let at = ping["timestamp"].as_str().expect("a timestamp");
    let number =
        |range| at.get::<std::ops::Range<usize>>(range).and_then(|digits| digits.parse::<i64>().ok());
    number(11..13).expect("hours") * 60 + number(14..16).expect("minutes")
}

#[test]
fn a_clock_that_jumps_by_an_hour_moves_no_timer() {
    let clock = WallClock::new();
    let flags = [
        "--heartbeat-seconds",
        "0.5",
        "--handshake-seconds",
        "600",
        "--stalled-seconds",
        "600",
        "--shards",
        "1",
    ];
    let daemon = clock.variables(Setup::default().flags(&flags)).start();
    let mut feed = daemon.acked_feed();
    let mut newest = feed.publish([line(0).as_str()]);
    let mut watcher = daemon.watch("/api/ws/jobs/other/monitor");
    watcher.connected();
    let mut half = daemon.raw();
    let request = Raw::upgrade_request(PATH);
    half.send(&request.as_bytes()[..20]);
    let before = minute_of(&watcher.json_of("ping"));
    for (n, shift) in [(1, 3_600), (2, -3_600), (3, 7_200)] {
        clock.shift(shift);
        // The shift has taken effect: the daemon's own timestamps follow the clock.
        wait_until("the clock's new time in a ping", || {
            let now = minute_of(&watcher.json_of("ping"));
            let moved = (now - before - shift / 60).rem_euclid(24 * 60);
            moved <= 3
        });
        // Heartbeats neither stop nor come in a rush.
        let began = Instant::now();
        (0..4).for_each(|_| drop(watcher.json_of("ping")));
        assert!(began.elapsed() > Duration::from_secs(1), "four heartbeats in {:?}", began.elapsed());
        // Numbers keep growing, and what was kept is still there.
        let seq = feed.publish([line(n).as_str()]);
        assert_eq!(seq, newest + 1);
        newest = seq;
        let mut late = daemon.watch(&format!("{PATH}?since=start"));
        assert_eq!(late.events(n + 1).len(), n + 1);
    }
    // A slow request still has time.
    half.send(&request.as_bytes()[20..]);
    assert!(half.read_head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn a_stopped_daemon_continues_late_and_closes_nobody() {
    // Ten heartbeat intervals, where three silent ones end a connection, and longer than a stall may last.
    let flags = ["--heartbeat-seconds", "0.3", "--stalled-seconds", "1", "--handshake-seconds", "1"];
    let daemon = Setup::default().flags(&flags).start();
    let mut feed = daemon.acked_feed();
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let mut watcher = daemon.watch(PATH);
            watcher.connected();
            thread::spawn(move || read_all(&mut watcher, 3).map(|()| drop(watcher.json_of("ping"))))
        })
        .collect();
    feed.publish([line(0).as_str()]);
    daemon.signal(Signal::STOP);
    feed.line(&line(1));
    // A client that comes meanwhile is not hurried either.
    let mut comer = daemon.raw();
    comer.send(Raw::upgrade_request(PATH).as_bytes());
    thread::sleep(Duration::from_secs(3));
    daemon.signal(Signal::CONT);
    assert!(comer.read_head().starts_with("HTTP/1.1 101 "));
    assert!(feed.sync().is_empty());
    // Long enough for everything that was due meanwhile.
    thread::sleep(Duration::from_secs(1));
    feed.publish([line(2).as_str()]);
    for reader in readers {
        reader.join().expect("it only reads").expect("nobody is closed for it");
    }
}

/// A full pipe, and its reading end.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    let flags = fcntl_getfl(writer.as_fd()).expect("a pipe has flags");
    fcntl_setfl(writer.as_fd(), flags | OFlags::NONBLOCK).expect("a pipe has flags");
    for size in [4096, 1] {
        while writer.write(&[b'.'; 4096][..size]).is_ok() {}
    }
    // The daemon sees an ordinary pipe: a write waits.
    fcntl_setfl(writer.as_fd(), flags).expect("a pipe has flags");
    (reader, writer)
}

/// Makes events, refusals and bad lines while the log cannot be written.
fn work(daemon: &Daemon) {
    let mut watcher = daemon.watch(PATH);
    watcher.connected();
    let mut feed = daemon.acked_feed();
    for n in 0..200 {
        feed.line("bad");
        assert_eq!(feed.sync().len(), 1);
        feed.publish([line(n).as_str()]);
        assert!(watcher.event().contains(&format!("\"n\":{n}}}")));
        assert_eq!(daemon.refuse("/none").status, 404);
    }
}

#[test]
fn a_standard_error_that_nobody_reads_stops_nothing() {
    let (mut reader, writer) = full_pipe();
    let flags = ["--log-level", "debug"];
    let mut daemon = Setup::default().flags(&flags).stderr(writer).start();
    work(&daemon);
    daemon.terminate();
    assert_eq!(daemon.wait().code(), Some(0));
    // What the pipe held before is all that it could take.
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert!(text.starts_with('.'));
}

#[test]
fn a_log_that_is_read_again_says_how_many_lines_were_dropped() {
    let (mut reader, writer) = full_pipe();
    // A write to it now fails instead of waiting.
    let flags = fcntl_getfl(writer.as_fd()).expect("a pipe has flags");
    fcntl_setfl(writer.as_fd(), flags | OFlags::NONBLOCK).expect("a pipe has flags");
    let daemon = Setup::default().flags(&["--log-level", "debug"]).stderr(writer).start();
    work(&daemon);
    wait_until("the dropped lines to be counted", || {
        let figures = daemon.admin_get("/metrics").1;
        let dropped = figures.lines().find_map(|line| line.strip_prefix("luxcast_log_lines_dropped_total "));
        dropped.expect("it is told").parse::<u64>().expect("a number") >= 200
    });
    let log = thread::spawn(move || {
        let mut text = Vec::new();
        let mut chunk = [0; 4096];
        while !String::from_utf8_lossy(&text).contains(" log lines were dropped\n") {
            let count = reader.read(&mut chunk).expect("a pipe can be read");
            assert!(count > 0, "the daemon has not told it while it ran");
            text.extend_from_slice(&chunk[..count]);
        }
    });
    wait_until("the line that says so", || {
        daemon.refuse("/none");
        log.is_finished()
    });
    log.join().expect("it was told");
}

#[test]
fn a_standard_error_on_a_full_disk_stops_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("there is a full device");
    let mut daemon = Setup::default().flags(&["--log-level", "debug"]).stderr(full).start();
    work(&daemon);
    daemon.terminate();
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_panic_ends_the_process_although_nobody_reads_its_message() {
    let (_reader, writer) = full_pipe();
    let mut daemon = failing_calls("epoll_wait:error=EBADF:when=50").stderr(writer).start();
    let mut feed = daemon.feed();
    let ended = (0..100_000).any(|n| {
        thread::sleep(Duration::from_millis(1));
        writeln!(feed.stream, "{}", line(n)).is_err()
    });
    assert!(ended);
    assert_eq!(daemon.wait().code(), Some(1));
}

/// Connects from one of many loopback addresses, so that ports do not run out, and asks to watch.
fn ask_from(place: usize, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from: SocketAddr = format!("127.0.1.{}:0", 1 + place % 200).parse().expect("an address");
    socket.bind(&from.into()).expect("all of 127/8 is here");
    socket.connect(&address.into()).expect("the daemon listens");
    let mut stream = TcpStream::from(socket);
    stream.write_all(Raw::upgrade_request("/api/ws/jobs/idle/monitor").as_bytes()).expect("there is room");
    stream.set_nonblocking(true).expect("a socket");
    stream
}

/// How many have been answered so far.
fn answered(streams: &[TcpStream]) -> usize {
    streams.iter().filter(|stream| stream.peek(&mut [0]).is_ok_and(|count| count > 0)).count()
}

#[test]
fn a_crowd_is_accepted_in_portions_with_events_sent_in_between() {
    const CROWD: usize = 3_000;
    let daemon = Daemon::start(&["--shards", "1", "--heartbeat-seconds", "3600"]);
    let mut watcher = daemon.watch(PATH);
    watcher.connected();
    let mut feed = daemon.acked_feed();
    // All of them, and the event, come while the daemon is stopped.
    daemon.signal(Signal::STOP);
    let crowd: Vec<TcpStream> = (0..CROWD).map(|place| ask_from(place, daemon.address)).collect();
    feed.line(&line(1));
    daemon.signal(Signal::CONT);
    assert!(watcher.event().contains("\"n\":1"));
    let before = answered(&crowd);
    println!("{before} of {CROWD} had been let in when the event came");
    assert!(before < CROWD * 2 / 3, "{before} of {CROWD} were let in before the event");
    wait_until("all are let in", || answered(&crowd) == CROWD);
}

#[test]
fn ten_thousand_reconnects_do_not_delay_present_watchers() {
    const CROWD: usize = 10_000;
    let daemon = Daemon::start(&["--heartbeat-seconds", "3600"]);
    let mut watcher = daemon.watch(PATH);
    watcher.connected();
    let mut feed = daemon.acked_feed();
    let mut n = 0;
    let mut latencies = |is_over: &dyn Fn() -> bool| {
        let mut latencies = Vec::new();
        while !is_over() || latencies.len() < 50 {
            let began = Instant::now();
            feed.line(&line(n));
            assert!(watcher.event().contains(&format!("\"n\":{n}}}")));
            latencies.push(began.elapsed());
            n += 1;
            thread::sleep(Duration::from_millis(2));
        }
        latencies.sort_unstable();
        latencies
    };
    let began = Instant::now();
    let alone = latencies(&|| began.elapsed() > Duration::from_secs(1));
    let address = daemon.address;
    let began = Instant::now();
    let storm = thread::spawn(move || {
        let crowd: Vec<TcpStream> = (0..CROWD).map(|place| ask_from(place, address)).collect();
        wait_until("all are let in", || answered(&crowd) == CROWD);
        (crowd, began.elapsed())
    });
    let in_storm = Cell::new(0);
    let during = latencies(&|| {
        let is_over = storm.is_finished();
        in_storm.set(in_storm.get() + u32::from(!is_over));
        is_over
    });
    let in_storm = in_storm.get();
    let (crowd, span) = storm.join().expect("the storm is over");
    let median = |latencies: &[Duration]| latencies[latencies.len() / 2];
    println!(
        "{CROWD} came in {span:.2?}: latency {:.2?} in the median and {:.2?} at most, {:.2?} and {:.2?} before",
        median(&during),
        during[during.len() - 1],
        median(&alone),
        alone[alone.len() - 1],
    );
    // They are accepted in portions: present watchers wait for one of many.
    assert!(in_storm >= 20, "{in_storm} events came before the storm's end");
    // They leave all at once, without goodbye, and leave nothing behind.
    for stream in &crowd {
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }
    drop(crowd);
    wait_until("they are gone", || descriptors(&daemon).len() < 100);
    feed.line(&line(n));
    assert!(watcher.event().contains(&format!("\"n\":{n}}}")));
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line() {
    let scratch = Scratch::new();
    // A directory cannot be read by anybody, not even by root.
    let path = scratch.path().to_str().expect("the path is UTF-8");
    let output = luxcast().args(["serve", "--config", path]).output().expect("it can be started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains(path), "{error}");
}
