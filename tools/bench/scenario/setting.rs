//! The parts of scenarios: a server, a crowd, a feed; the contestants; a run as fast as possible; the verdicts.

use crate::Outcome;
use crate::crowd::Crowd;
use crate::feed::Feed;
use crate::format;
use crate::lab::{
    BYTES_PER_MESSAGE, BYTES_PER_SECOND, CPU_PER_MESSAGE, Contestant, Findings, Kind, Lab,
    MESSAGES_PER_SECOND, SYSCALLS_PER_MESSAGE, ratio,
};
use crate::layout::Transport;
use crate::load::{Load, Pace, Sample};
use crate::peers::Peer;
use crate::process::SyscallCount;
use crate::result::{Role, Scenario, ServerResult, Target};
use crate::scenario::Options;
use crate::server::{Server, Which};
use crate::wire::{Shape, TEXT_FRAME_BYTES};

/// The frame size of all figures of the project, unless `--bytes` says otherwise.
const FRAME_BYTES: u64 = 260;
/// System calls are counted over this fraction of what is timed.
const SYSCALL_SHARE: u64 = 8;

/// How many watchers a run has, of how many jobs.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub watchers: usize,
    pub topics: usize,
    pub window: u64,
    pub shape: Shape,
}

impl Size {
    pub fn new(options: &Options, watchers: usize, topics: usize, window: u64) -> Outcome<Self> {
        Ok(Self {
            watchers: options.watchers.map_or(watchers, |count| count as usize),
            topics: options.topics.map_or(topics, |count| count as usize),
            window: options.window.unwrap_or(window),
            shape: shape(options)?,
        })
    }

    /// Checks that the file limit allows this many watchers.
    pub fn check(self, lab: &Lab) -> Outcome<Self> {
        match self.watchers <= lab.room {
            true => Ok(self),
            false => {
                let (watchers, room) = (self.watchers, lab.room);
                Err(format!("{watchers} watchers need a higher file limit: there is room for {room}").into())
            }
        }
    }

    pub fn parameters(&self) -> Vec<(String, String)> {
        [
            ("watchers", self.watchers as f64),
            ("jobs", self.topics as f64),
            ("bytes a frame", self.shape.frame_bytes as f64),
            ("events on their way, at most", self.window as f64),
        ]
        .map(|(name, value)| (name.to_owned(), format::number(value)))
        .to_vec()
    }
}

pub fn shape(options: &Options) -> Outcome<Shape> {
    match options.deflate {
        true => Ok(Shape::of_text(options.bytes.unwrap_or(TEXT_FRAME_BYTES) as usize)?),
        false => Ok(Shape::new(options.bytes.unwrap_or(FRAME_BYTES) as usize)?),
    }
}

/// Opens all watchers, topic by topic in turn, and starts the streams.
pub fn begin(server: &Server, size: Size, lab: &Lab) -> Outcome<Load> {
    begin_in(server, size, lab, 0)
}

/// The same with all watchers in `group`.
pub fn begin_in(server: &Server, size: Size, lab: &Lab, group: u8) -> Outcome<Load> {
    let mut crowd = Crowd::of(server, size.shape, lab.spins())?;
    crowd
        .gather(size.watchers, server.address, group, |watcher| server.request(watcher % size.topics, ""))?;
    let feed = Feed::open(server.inlet.clone(), size.shape, size.topics, &crowd.poll)?;
    let listeners = (0..size.topics).map(|topic| (topic..size.watchers).step_by(size.topics).count() as u64);
    let listeners = listeners.collect();
    crowd.appoint_witnesses(size.topics);
    let mut load = Load::new(crowd, feed, listeners, Pace::Window(size.window));
    load.warm_up()?;
    Ok(load)
}

/// Everything that a run as fast as possible measures.
pub fn measure_fanout(
    contestant: &Contestant,
    size: Size,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = contestant.start(&lab.pinning)?;
    let mut load = begin(&server, size, lab)?;
    let sample = load.run(&server, contestant.events, watch)?;
    let mut figures = vec![(CPU_PER_MESSAGE, sample.cpu_micros_per_message())];
    figures.extend(bytes_of(&sample, size.shape));
    figures.extend([
        (MESSAGES_PER_SECOND, sample.messages_per_second()),
        (BYTES_PER_SECOND, sample.bytes as f64 / sample.seconds),
    ]);
    if let Some(count) = SyscallCount::begin(server.id()) {
        let sample = load.run(&server, (contestant.events / SYSCALL_SHARE).max(1), watch)?;
        let calls = count.end();
        figures.extend(calls.map(|calls| (SYSCALLS_PER_MESSAGE, calls as f64 / sample.messages as f64)));
    }
    Ok(Findings { figures, latency: None, complaint: load.crowd.tally.complaint() })
}

/// What a message takes on the wire, where that differs between the servers.
pub fn bytes_of(sample: &Sample, shape: Shape) -> Option<(Kind, f64)> {
    shape.has_text().then(|| (BYTES_PER_MESSAGE, sample.bytes as f64 / sample.messages as f64))
}

/// luxcast, and with `--deflate` beside it the same with watchers that agree on compression. Neither makes `metrics`
/// events then: a watcher that only counts compressed messages could not tell them from those of the load.
pub fn luxcasts(lab: &Lab, options: &Options, name: &str, events: u64, flags: &[&str]) -> Vec<Contestant> {
    if !options.deflate {
        return vec![lab.luxcast(name, events, flags)];
    }
    let plain = lab.luxcast(name, events, &[flags, &["--metrics-seconds", "0"]].concat());
    vec![plain.clone(), plain.over(Transport::Deflate)]
}

/// How compressed messages are checked, for those who judge the figures.
pub fn note_checks(scenario: &mut Scenario, options: &Options) {
    const NOTE: &str = "All servers got the text of real events. One watcher in 50 (at least four) inflates what it \
        gets, and compares it byte for byte with what was published. The others count what is compressed, and each must \
        have got as many messages as were published.";
    if options.deflate {
        scenario.notes.push(NOTE.to_owned());
    }
}

/// The name of what compresses beside this.
pub fn deflating(name: &str) -> String {
    format!("{name}, {}", Transport::Deflate.title())
}

pub const FLOOR: &str = "floor, 1 event a send";

pub fn floor(size: Size, events_per_send: usize, events: u64) -> Contestant {
    let name = match events_per_send {
        1 => FLOOR.to_owned(),
        count => format!("floor, {count} events a send"),
    };
    let which =
        Which::Floor { watchers: size.watchers, frame_bytes: size.shape.frame_bytes, events_per_send };
    Contestant { name, role: Role::Floor, which, transport: Transport::WebSocket, events }
}

/// The peers that can have this many watchers, with their share of the events.
pub fn peers(lab: &Lab, watchers: usize, events: u64) -> Vec<Contestant> {
    peers_over(Transport::WebSocket, lab, watchers, events)
}

/// The peers that can compress for this many watchers, in each way that they have, if that is asked for.
pub fn compressing_peers(lab: &Lab, options: &Options, watchers: usize, events: u64) -> Vec<Contestant> {
    let able = able_peers(lab, watchers).filter(|_| options.deflate);
    able.flat_map(|peer| {
        peer.compressions.iter().map(move |compression| Contestant {
            name: format!("{}, {}", peer.title, compression.title),
            role: Role::Peer,
            which: Which::Peer(*peer, Some(*compression)),
            transport: Transport::Deflate,
            events: (events / compression.share).max(100),
        })
    })
    .collect()
}

fn able_peers(lab: &Lab, watchers: usize) -> impl Iterator<Item = &Peer> {
    const MANY: usize = 2_000;
    lab.peers.iter().filter(move |peer| watchers <= MANY || peer.is_large)
}

/// The same, of those whose watchers can speak this.
pub fn peers_over(transport: Transport, lab: &Lab, watchers: usize, events: u64) -> Vec<Contestant> {
    let able = able_peers(lab, watchers).filter(|peer| peer.transports.contains(&transport));
    able.map(|peer| Contestant {
        name: peer.title.to_owned(),
        role: Role::Peer,
        which: Which::Peer(*peer, None),
        transport: Transport::WebSocket,
        events: (events / peer.share).max(100),
    })
    .map(|peer| peer.over(transport))
    .collect()
}

/// The inverse of how many times the figure of one server is another's.
pub fn target_of_floor(
    kind: Kind,
    results: &[ServerResult],
    luxcast: &str,
    floor: &str,
    times_min: f64,
) -> Option<Target> {
    let of = results.iter().find(|result| result.name == luxcast)?;
    let to = results.iter().find(|result| result.name == floor)?;
    let times = 1.0 / ratio(kind, of, to)?;
    Some(Target {
        text: format!("{}: at most 1/{times_min:.0} of {floor}", kind.label),
        measured: format!("1/{times:.1}"),
        is_met: times >= times_min,
    })
}

/// A figure is at most this.
pub fn target_at_most(kind: Kind, results: &[ServerResult], name: &str, max: f64) -> Option<Target> {
    let value = results.iter().find(|result| result.name == name)?.median(kind.name)?;
    Some(Target {
        text: format!("{name}: {} at most {}", kind.label, format::value(max, kind.unit)),
        measured: format::value(value, kind.unit),
        is_met: value <= max,
    })
}

/// One server's figure is at most this many times another's.
pub fn target_times(
    kind: Kind,
    results: &[ServerResult],
    name: &str,
    other: &str,
    times_max: f64,
) -> Option<Target> {
    let of = results.iter().find(|result| result.name == name)?;
    let to = results.iter().find(|result| result.name == other)?;
    let times = ratio(kind, of, to)?;
    Some(Target {
        text: format!("{name}: {} at most {times_max} times that of {other}", kind.label),
        measured: format!("{times:.3} times"),
        is_met: times <= times_max,
    })
}

/// One server's figure is at most one part of another's.
pub fn target_part(
    kind: Kind,
    results: &[ServerResult],
    name: &str,
    other: &str,
    parts_min: f64,
) -> Option<Target> {
    let of = results.iter().find(|result| result.name == name)?;
    let to = results.iter().find(|result| result.name == other)?;
    let parts = 1.0 / ratio(kind, of, to)?;
    Some(Target {
        text: format!("{name}: {} at most 1/{parts_min} of {other}", kind.label),
        measured: format!("1/{parts:.2}"),
        is_met: parts >= parts_min,
    })
}

/// Over plain HTTP a figure is at most this many times that over WebSocket.
const STREAM_TIMES_MAX: f64 = 1.2;

/// One server's figure over each form of plain HTTP beside that over WebSocket, which has its bare name.
pub fn targets_of_streams(kind: Kind, results: &[ServerResult], name: &str) -> [Option<Target>; 2] {
    [Transport::Sse, Transport::Ndjson].map(|transport| {
        let of = format!("{name}, {}", transport.title());
        target_times(kind, results, &of, name, STREAM_TIMES_MAX)
    })
}

/// One server's figure exceeds another's by at most this.
pub fn target_at_most_more(
    kind: Kind,
    results: &[ServerResult],
    name: &str,
    other: &str,
    more_max: f64,
) -> Option<Target> {
    let median = |name: &str| results.iter().find(|result| result.name == name)?.median(kind.name);
    let more = median(name)? - median(other)?;
    Some(Target {
        text: format!(
            "{name}: {} at most {} more than {other}",
            kind.label,
            format::value(more_max, kind.unit)
        ),
        measured: format::value(more, kind.unit),
        is_met: more <= more_max,
    })
}

/// A figure is at least this.
pub fn target_at_least(kind: Kind, results: &[ServerResult], name: &str, min: f64) -> Option<Target> {
    let value = results.iter().find(|result| result.name == name)?.median(kind.name)?;
    Some(Target {
        text: format!("{name}: {} at least {}", kind.label, format::value(min, kind.unit)),
        measured: format::value(value, kind.unit),
        is_met: value >= min,
    })
}

/// One server's figure is at least this many times another's.
pub fn target_at_least_times(
    kind: Kind,
    results: &[ServerResult],
    name: &str,
    other: &str,
    times_min: f64,
) -> Option<Target> {
    let of = results.iter().find(|result| result.name == name)?;
    let to = results.iter().find(|result| result.name == other)?;
    let times = ratio(kind, of, to)?;
    Some(Target {
        text: format!("{name}: {} at least {times_min} times that of {other}", kind.label),
        measured: format!("{times:.3} times"),
        is_met: times >= times_min,
    })
}

/// One figure of a server is at most this many times another of its figures.
pub fn target_times_within(
    kind: Kind,
    to: Kind,
    results: &[ServerResult],
    name: &str,
    times_max: f64,
) -> Option<Target> {
    let result = results.iter().find(|result| result.name == name)?;
    let times = result.median(kind.name)? / result.median(to.name)?;
    Some(Target {
        text: format!("{name}: {} at most {times_max} times {}", kind.label, to.label),
        measured: format!("{times:.2} times"),
        is_met: times <= times_max,
    })
}

/// A scenario's result without targets and notes.
pub fn scenario(
    name: &str,
    title: &str,
    about: &str,
    parameters: Vec<(String, String)>,
    primary: Kind,
    servers: Vec<ServerResult>,
) -> Scenario {
    Scenario {
        name: name.to_owned(),
        title: title.to_owned(),
        about: about.to_owned(),
        parameters,
        primary: primary.name.to_owned(),
        servers,
        targets: Vec::new(),
        notes: Vec::new(),
    }
}
