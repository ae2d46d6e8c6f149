//! The feed over HTTP, beside that over the Unix socket.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::crowd::{Crowd, FEED_TOKENS, PATIENCE, PROMPT_GROUP};
use crate::feed::Feed;
use crate::lab::{
    CPU_PER_EVENT, CPU_PER_REQUEST, EVENTS_PER_SECOND, Findings, Kind, Lab, P99, P99_BEFORE,
    REQUESTS_PER_SECOND, latency_figures,
};
use crate::load::{Load, Pace};
use crate::posts::Posts;
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::ingest::{LINES_AT_ONCE, feed_alone, lines};
use crate::scenario::setting::{Size, begin_in, scenario, shape, target_at_least, target_times};
use crate::server::Server;
use crate::wire::{Shape, topic_name};

const ABOUT: &str = "Publishers write lines into the Unix socket, or post them over HTTP on connections that they \
    keep, as fast as they are taken: what reading, checking, numbering and keeping an event costs. Each has a request \
    on its way at a time. Every answer is checked, and so is the end of each job's stream. In the last two, watchers \
    of another job are timed meanwhile.";

const SOCKET: &str = "luxcast";
const BODIES: &str = "luxcast, 1,000 lines a POST";
const REQUESTS: &str = "luxcast, 1 line a POST";
const BESIDE_SOCKET: &str = "luxcast, beside the socket";
const BESIDE_POSTS: &str = "luxcast, beside POSTs of 1,000 lines";

const BODY_LINES: u64 = 1_000;
/// Publishers with large bodies: while one waits for its answer, the others' lines are taken.
const BODY_POSTERS: usize = 4;
/// As many connections as the daemon keeps at most while they are idle, as each is between two requests.
const REQUEST_POSTERS: usize = 32;
/// A request of one line gets this share of the events.
const REQUEST_SHARE: u64 = 40;
/// Of each job's last events so many are read back, all jobs together.
const READ_BACK: u64 = 10_000;

/// Events a second for the timed watchers.
const RATE: f64 = 1_000.0;
const TIMED_WATCHERS: usize = 100;
/// For the latency before.
const STEADY_EVENTS: u64 = 2_000;
/// The job of the publisher beside the timed watchers.
const BUSY_TOPIC: usize = 1;

const TIMES_OF_SOCKET_MAX: f64 = 1.4;
const REQUESTS_PER_SECOND_MIN: f64 = 15_000.0;

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let events = options.events.unwrap_or(4_000_000);
    let size = Size::new(options, TIMED_WATCHERS, 1, 1)?.check(lab)?;
    let seconds = options.seconds.unwrap_or(4);
    let names = [SOCKET, BODIES, REQUESTS, BESIDE_SOCKET, BESIDE_POSTS];
    let contestants = names.map(|name| lab.luxcast(name, events, &["--http-publish", "anyone"]));
    let results = lab.compare("ingest", &contestants, |contestant, watch| {
        let server = contestant.start(&lab.pinning)?;
        match contestant.name.as_str() {
            SOCKET => {
                let figures = feed_alone(&server, events, 1, size.shape, lab, watch)?;
                Ok(Findings { figures, latency: None, complaint: None })
            }
            BODIES => bodies(&server, events, size.shape, lab, watch),
            REQUESTS => requests(&server, events, size.shape, lab, watch),
            _ => {
                let busy = Busy::open(&server, size.shape, contestant.name == BESIDE_POSTS)?;
                beside(&server, busy, size, Duration::from_secs(seconds), lab)
            }
        }
    });
    let targets = [
        target_times(CPU_PER_EVENT, &results, BODIES, SOCKET, TIMES_OF_SOCKET_MAX),
        target_at_least(REQUESTS_PER_SECOND, &results, REQUESTS, REQUESTS_PER_SECOND_MIN),
    ];
    let number = |count: usize| crate::format::number(count as f64);
    let mut parameters = lines(events, shape(options)?);
    parameters.extend([
        ("publishers of 1,000 lines a POST".to_owned(), number(BODY_POSTERS)),
        ("publishers of 1 line a POST".to_owned(), number(REQUEST_POSTERS)),
        ("timed watchers".to_owned(), number(size.watchers)),
        ("events a second for them".to_owned(), number(RATE as usize)),
    ]);
    let mut found =
        scenario("ingest", "The feed, also over HTTP", ABOUT, parameters, EVENTS_PER_SECOND, results);
    found.targets.extend(targets.into_iter().flatten());
    found.notes.push("The daemon has one core for all of its threads; the load has the other.".to_owned());
    Ok(found)
}

fn bodies(
    server: &Server,
    events: u64,
    shape: Shape,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let requests = events.div_ceil(BODY_LINES).max(BODY_POSTERS as u64);
    let mut posts = Posts::open(server.address, shape, 0, BODY_POSTERS, BODY_LINES)?;
    let (seconds, cpu) = post_all(&mut posts, requests, server, lab, watch)?;
    let events = (requests * BODY_LINES) as f64;
    let figures = vec![(EVENTS_PER_SECOND, events / seconds), (CPU_PER_EVENT, cpu / events)];
    Ok(Findings { figures, latency: None, complaint: read_back(server, &posts.topics(), shape, lab)? })
}

fn requests(
    server: &Server,
    events: u64,
    shape: Shape,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let requests = (events / REQUEST_SHARE).max(REQUEST_POSTERS as u64);
    let mut posts = Posts::open(server.address, shape, 0, REQUEST_POSTERS, 1)?;
    let (seconds, cpu) = post_all(&mut posts, requests, server, lab, watch)?;
    let requests = requests as f64;
    let figures = vec![
        (EVENTS_PER_SECOND, requests / seconds),
        (CPU_PER_EVENT, cpu / requests),
        (REQUESTS_PER_SECOND, requests / seconds),
        (CPU_PER_REQUEST, cpu / requests),
    ];
    Ok(Findings { figures, latency: None, complaint: read_back(server, &posts.topics(), shape, lab)? })
}

/// Makes requests, after one of each publisher that does not count. Returns seconds, and µs of the daemon's CPU time.
fn post_all(
    posts: &mut Posts,
    requests: u64,
    server: &Server,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<(f64, f64)> {
    posts.begin(posts.topics().len() as u64)?;
    posts.finish(lab.spins(), &mut |_| {})?;
    let (before, begin) = (server.usage()?, Instant::now());
    posts.begin(requests)?;
    posts.finish(lab.spins(), watch)?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok((seconds, (server.usage()?.cpu_nanos - before.cpu_nanos) as f64 / 1e3))
}

/// Reads the end of each job's stream, up to the number before its next; says what is wrong there.
fn read_back(server: &Server, topics: &[(usize, u64)], shape: Shape, lab: &Lab) -> Outcome<Option<String>> {
    // No more than came now: a daemon that was running already may have had such jobs before.
    let fewest = topics.iter().map(|(_, next)| next - 1).min().unwrap_or(0);
    let each = (READ_BACK / topics.len() as u64).min(fewest).max(1);
    let mut crowd = Crowd::of(server, shape, lab.spins())?;
    let query = format!("?since=-{each}");
    crowd.gather(topics.len(), server.address, 0, |place| server.request(topics[place].0, &query))?;
    let begin = Instant::now();
    // The first may be any: the daemon's own events are among the last ones too.
    while let Some(place) = (0..topics.len()).find(|&place| crowd.next_of(place) < topics[place].1) {
        crowd.turn(Duration::from_millis(1))?;
        if begin.elapsed() > PATIENCE {
            let (topic, next) = topics[place];
            let (name, seen) = (topic_name(topic), crowd.next_of(place));
            return Ok(Some(format!("{name} ends before number {seen}, and {next} was to be the next")));
        }
    }
    let is_beyond = (0..topics.len()).any(|place| crowd.next_of(place) > topics[place].1);
    let complaint = is_beyond.then(|| "more was numbered than published".to_owned());
    Ok(crowd.tally.complaint().or(complaint))
}

/// A publisher that is as fast as it can be.
enum Busy {
    Socket { feed: Box<Feed>, _poll: mio::Poll },
    Posts(Posts),
}

impl Busy {
    fn open(server: &Server, shape: Shape, posts: bool) -> Outcome<Self> {
        if posts {
            return Ok(Busy::Posts(Posts::open(server.address, shape, BUSY_TOPIC, 1, BODY_LINES)?));
        }
        let poll = mio::Poll::new()?;
        let mut feed = Feed::open(server.inlet.clone(), shape, BUSY_TOPIC + 1, &poll)?;
        feed.ask_for_acks();
        Ok(Busy::Socket { feed: Box::new(feed), _poll: poll })
    }

    /// Publishes what there is room for.
    fn turn(&mut self) -> Outcome<()> {
        match self {
            Busy::Socket { feed, .. } => {
                while feed.waiting_bytes() < LINES_AT_ONCE as usize * 256 {
                    feed.publish(BUSY_TOPIC);
                }
                feed.flush()?;
                feed.listen(FEED_TOKENS)
            }
            Busy::Posts(posts) => {
                if posts.is_done() {
                    posts.begin(1)?;
                }
                posts.turn(Duration::ZERO)
            }
        }
    }

    /// Publishes nothing more, and waits until all is taken.
    fn finish(&mut self, load: &mut Load) -> Outcome<()> {
        let begin = Instant::now();
        loop {
            let is_done = match self {
                Busy::Socket { feed, .. } => {
                    feed.flush()?;
                    feed.listen(FEED_TOKENS)?;
                    // The first line asked for acks.
                    feed.acknowledged() > feed.published
                }
                Busy::Posts(posts) => {
                    posts.stop();
                    posts.turn(Duration::ZERO)?;
                    posts.is_done()
                }
            };
            if is_done {
                return Ok(());
            }
            load.crowd.turn(Duration::from_millis(1))?;
            if begin.elapsed() > PATIENCE {
                return Err("the busy publisher's last lines are not taken".into());
            }
        }
    }

    fn published(&self) -> u64 {
        match self {
            Busy::Socket { feed, .. } => feed.published,
            Busy::Posts(posts) => posts.published(),
        }
    }
}

/// Times watchers of one job while a publisher of another is as fast as it can be.
fn beside(server: &Server, mut busy: Busy, size: Size, duration: Duration, lab: &Lab) -> Outcome<Findings> {
    let mut load = begin_in(server, size, lab, PROMPT_GROUP)?;
    load.pace = Pace::PerSecond(RATE);
    load.time_messages(0, PROMPT_GROUP);
    load.run(server, STEADY_EVENTS, &mut |_| {})?;
    let before = latency_figures(&load.latency()?);
    load.time_messages(0, PROMPT_GROUP);
    let (begin, mut failed) = (Instant::now(), None);
    load.keep_pace_within(duration + PATIENCE, begin, RATE, |_, _| {
        failed = busy.turn().err();
        failed.is_some() || begin.elapsed() >= duration
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let rate = busy.published() as f64 / begin.elapsed().as_secs_f64();
    let histogram = load.latency()?;
    busy.finish(&mut load)?;
    // What was published meanwhile must have come too.
    load.run(server, 1, &mut |_| {})?;
    let mut figures: Vec<(Kind, f64)> = vec![(EVENTS_PER_SECOND, rate)];
    figures.extend(latency_figures(&histogram));
    figures.extend(before.iter().filter(|(kind, _)| *kind == P99).map(|(_, value)| (P99_BEFORE, *value)));
    let complaint = load.crowd.tally.complaint();
    let topics = [(BUSY_TOPIC, busy.published() + 1)];
    let complaint = complaint.or(read_back(server, &topics, size.shape, lab)?);
    Ok(Findings { figures, latency: Some(histogram), complaint })
}
