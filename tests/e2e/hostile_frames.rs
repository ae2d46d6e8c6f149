//! Frames that no good client sends, and good ones that come in an unusual way.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use luxcast::wire::message_reader::{Flow, MessageLimits, MessageReader};
use rustix::time::{ClockId, clock_gettime};
use socket2::SockRef;

use crate::harness::client::{Frame, Raw, masked_frame};
use crate::harness::{Client, Daemon, wait_until};

const PATH: &str = "/api/ws/events";
const PING: &[u8] = br#"{"action":"ping"}"#;
const PONG: &[u8] = br#"{"type":"pong"}"#;

/// An open connection with its greeting read.
fn open(daemon: &Daemon) -> Raw {
    let mut raw = daemon.raw();
    raw.upgrade(PATH);
    raw.read_frame_of(0x1);
    raw
}

/// The first bytes of a frame with a zero mask, which leaves the payload readable.
fn begun(header: &[u8], payload: &[u8]) -> Vec<u8> {
    [header, &[0; 4], payload].concat()
}

#[test]
fn each_fault_is_answered_at_the_byte_that_shows_it() {
    // The rest is never sent, and the daemon would wait for it for a day.
    let daemon = Daemon::start(&["--heartbeat-seconds", "86400"]);
    let text = masked_frame(0x1, false, b"a");
    let after = |bytes: &[u8]| [text.as_slice(), bytes].concat();
    let limit = masked_frame(0x2, false, &[0; 65_530]);
    let table: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", b"\x81\x05".to_vec(), 1002),
        ("unmasked close", b"\x88\x00".to_vec(), 1002),
        ("reserved bit 1", b"\xc1".to_vec(), 1002),
        ("reserved bit 2", b"\xa1".to_vec(), 1002),
        ("reserved bit 3", b"\x91".to_vec(), 1002),
        ("reserved opcode", b"\x83".to_vec(), 1002),
        ("reserved control opcode", b"\x8b".to_vec(), 1002),
        ("fragmented ping", b"\x09".to_vec(), 1002),
        ("fragmented close", b"\x08".to_vec(), 1002),
        ("ping of 126 bytes", b"\x89\xfe".to_vec(), 1002),
        ("length not minimal, 16 bits", b"\x81\xfe\x00\x7d".to_vec(), 1002),
        ("length not minimal, 64 bits", b"\x81\xff\0\0\0\0\0\0".to_vec(), 1002),
        ("top bit of a 64-bit length", b"\x81\xff\x80".to_vec(), 1002),
        ("length over the limit", b"\x81\xff\0\0\0\0\0\x01\0\x01".to_vec(), 1009),
        ("length of exabytes", b"\x82\xff\x7f".to_vec(), 1009),
        ("sum of fragments over the limit", [&limit[..], b"\x80\x87"].concat(), 1009),
        ("continuation without start", b"\x80".to_vec(), 1002),
        ("empty continuation without start", b"\x00".to_vec(), 1002),
        ("new data inside a message", after(b"\x81"), 1002),
        ("new binary inside a message", after(b"\x02"), 1002),
        ("invalid byte", begun(b"\x81\x85", b"a\xff"), 1007),
        ("continuation byte alone", begun(b"\x81\x85", b"\x80"), 1007),
        ("overlong", begun(b"\x81\x85", b"\xc0"), 1007),
        ("overlong in three", begun(b"\x81\x85", b"\xe0\x80"), 1007),
        ("surrogate", begun(b"\x81\x85", b"\xed\xa0"), 1007),
        ("beyond U+10FFFF", begun(b"\x81\x85", b"\xf4\x90"), 1007),
        ("cut off at the end", begun(b"\x81\x82", b"\xe2\x82"), 1007),
        (
            "split over fragments",
            after(&[&begun(b"\x00\x81", b"\xe2")[..], &begun(b"\x00\x85", b"x")].concat()),
            1007,
        ),
        ("close of one byte", b"\x88\x81".to_vec(), 1002),
        ("close code 0", begun(b"\x88\x85", b"\x00\x00"), 1002),
        ("close code 999", begun(b"\x88\x85", b"\x03\xe7"), 1002),
        ("close code 1005", begun(b"\x88\x85", b"\x03\xed"), 1002),
        ("close code 1015", begun(b"\x88\x85", b"\x03\xf7"), 1002),
        ("close code 2999", begun(b"\x88\x85", b"\x0b\xb7"), 1002),
        ("close code 5000", begun(b"\x88\x85", b"\x13\x88"), 1002),
        ("close reason not UTF-8", begun(b"\x88\x85", b"\x03\xe8\xff"), 1007),
    ];
    let raws = table.iter().map(|(_, bytes, _)| {
        let mut raw = open(&daemon);
        raw.send(bytes);
        raw
    });
    let mut raws: Vec<Raw> = raws.collect();
    for ((what, bytes, code), raw) in table.iter().zip(&mut raws) {
        let shown = &bytes[..bytes.len().min(24)];
        assert_eq!(raw.read_close(), Some(*code), "{what}: {}", shown.escape_ascii());
    }
    daemon.wait_for_connections(0);
}

#[test]
fn endless_fragments_end_with_1008() {
    let daemon = Daemon::start(&[]);
    for (first, payload) in [(0x1, &b""[..]), (0x2, b""), (0x1, b" ")] {
        let mut raw = open(&daemon);
        raw.send(&masked_frame(first, false, payload));
        let more = masked_frame(0x0, false, payload).repeat(1023);
        raw.send(&more);
        // The greatest number allowed: it still listens.
        raw.send(&masked_frame(0x9, true, b"x"));
        assert_eq!(raw.read_frame(), Some(Frame { opcode: 0xa, payload: b"x".to_vec() }));
        raw.send(&[0x00]);
        assert_eq!(raw.read_close(), Some(1008));
    }
}

/// Eight times the pieces take about eight times as long, not 64 times.
#[test]
fn small_pieces_cost_no_quadratic_work() {
    let limits = MessageLimits { message_bytes_max: 1 << 30, fragments_max: u32::MAX };
    // Only of this thread: others may use the processor.
    let spent = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("it is not negative");
    let time = |count: usize| {
        let runs = (0..5).map(|_| {
            let mut reader = MessageReader::new();
            let begin = spent();
            for piece in 0..count {
                let mut frame = masked_frame(u8::from(piece == 0), false, "ä".as_bytes());
                reader.read(&mut frame, &limits, None, &mut |_| Flow::Continue).expect("good frames");
            }
            spent() - begin
        });
        runs.min().expect("five runs")
    };
    let (few, many) = (time(20_000), time(160_000));
    assert!(many < 24 * few, "{few:?} for 20,000 pieces, {many:?} for 160,000");
}

#[test]
fn what_follows_a_close_frame_is_ignored() {
    let daemon = Daemon::start(&[]);
    let mut raw = open(&daemon);
    let mut bytes = masked_frame(0x8, true, &4000_u16.to_be_bytes());
    bytes.extend(masked_frame(0x1, true, PING));
    bytes.extend(b"\xff\xff garbage");
    raw.send(&bytes);
    let frame = raw.read_frame().expect("the answer");
    assert_eq!(frame, Frame { opcode: 0x8, payload: 4000_u16.to_be_bytes().to_vec() });
    // Later ones too, until the peer has read.
    let _ = raw.stream.write_all(&masked_frame(0x9, true, b"x"));
    raw.stream.shutdown(Shutdown::Write).ok();
    while raw.fill() > 0 {}
    assert!(raw.buffer.is_empty(), "{:02x?} after the close", raw.buffer);
}

#[test]
fn a_peer_that_never_answers_our_close_is_released() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "86400"]);
    let mut raw = open(&daemon);
    let begin = Instant::now();
    raw.send(b"\xff");
    assert_eq!(raw.read_frame_of(0x8).payload[..2], 1002_u16.to_be_bytes());
    // The daemon's end comes at once; it waits for ours, but not for long.
    assert_eq!((raw.fill(), raw.buffer.len()), (0, 0));
    daemon.wait_for_connections(0);
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(3), "it let go after {waited:?} already");
    println!("it held on for {waited:.1?}");
}

#[test]
fn a_close_frame_is_not_lost_to_a_reset() {
    let daemon = Daemon::start(&[]);
    for _ in 0..20 {
        let mut raw = open(&daemon);
        // The fault, and then much that the daemon will not obey. Closing a socket with unread bytes resets it, and
        // the peer loses what it has not read.
        raw.send(b"\xff");
        let flood = masked_frame(0x1, true, &[b'x'; 60_000]);
        for _ in 0..40 {
            if raw.stream.write_all(&flood).is_err() {
                break;
            }
        }
        assert_eq!(raw.read_frame_of(0x8).payload[..2], 1002_u16.to_be_bytes());
    }
}

#[test]
fn of_many_pings_the_newest_is_answered_and_too_many_end_with_1008() {
    let daemon = Daemon::start(&[]);
    let mut raw = open(&daemon);
    let pings =
        |count: u8| (1..=count).flat_map(|number| masked_frame(0x9, true, &[number])).collect::<Vec<u8>>();
    raw.send(&pings(100));
    let mut last = 0;
    let mut answers = 0;
    while last < 100 {
        let pong = raw.read_frame_of(0xa);
        assert!(pong.payload[0] > last, "{} after {last}", pong.payload[0]);
        last = pong.payload[0];
        answers += 1;
    }
    // One for each read, which is far fewer than pings unless the machine split the one segment.
    assert!(answers <= 100);
    let mut raw = open(&daemon);
    (0..40).for_each(|_| raw.send(&pings(100)));
    assert_eq!(raw.read_close(), Some(1008));
}

/// The text answers, in order, to a stream of bytes that is cut into `pieces`.
fn answers(daemon: &Daemon, pieces: &[&[u8]], pause: Option<Duration>) -> Vec<Vec<u8>> {
    let mut raw = daemon.raw();
    for piece in pieces {
        raw.send(piece);
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
    }
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    let mut answers = Vec::new();
    while let Some(frame) = raw.read_frame() {
        match frame.opcode {
            0x1 => answers.push(frame.payload),
            0x8 => {
                answers.push(frame.payload);
                raw.stream.shutdown(Shutdown::Write).ok();
            }
            _ => {}
        }
    }
    // The greeting contains the time.
    answers.remove(0);
    answers
}

#[test]
fn a_stream_cut_anywhere_is_answered_the_same() {
    let daemon = Daemon::start(&[]);
    let mut stream = Raw::upgrade_request("/api/ws/jobs/j/monitor").into_bytes();
    stream.extend(masked_frame(0x1, true, PING));
    stream.extend(masked_frame(0x1, false, br#"{"action":"subscribe","#));
    stream.extend(masked_frame(0x9, true, b"between"));
    stream.extend(masked_frame(0x0, false, b""));
    stream.extend(masked_frame(0x0, true, "\"events\":[\"ä€💩\"]}".as_bytes()));
    stream.extend(masked_frame(0x2, true, b"\xff"));
    stream.extend(masked_frame(0x1, true, b"nonsense"));
    stream.extend(masked_frame(0x8, true, b"\x0f\xa0bye"));
    let whole = answers(&daemon, &[&stream], None);
    assert_eq!(whole.len(), 5, "{whole:?}");
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(answers(&daemon, &bytes, None), whole, "byte by byte");
    let mut random = Rng::with_seed(7);
    for round in 0..100 {
        let mut places: Vec<usize> = (0..4).map(|_| random.usize(..stream.len())).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let pause = (round % 2 == 0).then(|| Duration::from_millis(1));
        assert_eq!(answers(&daemon, &pieces, pause), whole, "cut at {places:?}");
    }
}

/// After resets in every phase, there is room for as many connections as before.
#[test]
fn a_reset_in_mid_frame_frees_the_slot_once() {
    const ROOM: usize = 8;
    let daemon = Daemon::start(&["--connections-max", &ROOM.to_string()]);
    let request = Raw::upgrade_request(PATH).into_bytes();
    let frame = masked_frame(0x1, true, PING);
    for round in 0..60 {
        let mut raw = daemon.raw();
        match round % 5 {
            0 => raw.send(&request[..30]),
            1 => raw.send(&[&request[..], &frame[..3]].concat()),
            2 => {
                raw.upgrade(PATH);
                raw.send(&frame[..frame.len() - 1]);
            }
            3 => {
                raw.upgrade(PATH);
                raw.send(b"\xff");
            }
            _ => {
                raw.upgrade(PATH);
                raw.send(&frame);
                raw.stream.shutdown(Shutdown::Write).unwrap();
            }
        }
        // With this option, closing is a reset.
        SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(raw);
        daemon.wait_for_connections(0);
    }
    let watchers: Vec<Client> = (0..ROOM).map(|_| daemon.watch(PATH)).collect();
    assert_eq!(daemon.refuse(PATH).status, 503);
    drop(watchers);
    wait_until("room again", || Client::try_connect(daemon.address, PATH).is_ok());
}

#[test]
fn a_half_close_is_a_close() {
    let daemon = Daemon::start(&["--heartbeat-seconds", "86400"]);
    let mut between_frames = open(&daemon);
    let mut in_a_frame = open(&daemon);
    in_a_frame.send(&masked_frame(0x1, true, PING)[..9]);
    for raw in [&mut between_frames, &mut in_a_frame] {
        raw.stream.shutdown(Shutdown::Write).unwrap();
        while raw.fill() > 0 {}
    }
    daemon.wait_for_connections(0);
}

/// The sorted latencies of `rounds` pings.
fn latencies(raw: &mut Raw, rounds: usize) -> Vec<Duration> {
    let ping = masked_frame(0x1, true, PING);
    let mut all: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begin = Instant::now();
            raw.send(&ping);
            assert_eq!(raw.read_frame_of(0x1).payload, PONG);
            begin.elapsed()
        })
        .collect();
    all.sort_unstable();
    all
}

/// Beside a socket that sends large messages as fast as it can, another one waits for a portion of them, not for all.
#[test]
fn a_client_that_sends_as_fast_as_it_can_does_not_delay_others() {
    const ROUNDS: usize = 300;
    const FLOOD_BYTES: usize = 10 << 20;
    let daemon = Daemon::start(&["--shards", "1", "--messages-per-second", "1000000"]);
    let mut quiet = open(&daemon);
    let alone = latencies(&mut quiet, ROUNDS);
    // Obeyed and not answered: only the budget bounds what is read of it.
    let pong = format!(r#"{{"type":"pong","pad":"{}"}}"#, "x".repeat(60_000));
    let block = masked_frame(0x1, true, pong.as_bytes()).repeat(16);
    let mut flood = open(&daemon);
    let stream = flood.stream.try_clone().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let sum = sent.clone();
    let sender = thread::spawn(move || {
        while flood.stream.write_all(&block).is_ok() {
            sum.fetch_add(block.len(), Ordering::Relaxed);
        }
    });
    wait_until("the flood is on", || sent.load(Ordering::Relaxed) > FLOOD_BYTES);
    let beside = latencies(&mut quiet, ROUNDS);
    wait_until("the flood goes on", || sent.load(Ordering::Relaxed) > 2 * FLOOD_BYTES);
    stream.shutdown(Shutdown::Both).unwrap();
    sender.join().unwrap();
    println!("alone {:?}, beside the flood {:?}", alone[ROUNDS / 2], beside[ROUNDS / 2]);
    // Several turns with a full portion each; without a budget there would be no answer at all.
    let bound = 20 * alone[ROUNDS / 2] + Duration::from_millis(50);
    assert!(beside[ROUNDS / 2] < bound, "{:?} alone, {:?} beside", alone[ROUNDS / 2], beside[ROUNDS / 2]);
}
