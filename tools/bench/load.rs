//! One measurement: events in, messages out, and the server's CPU time in between.

use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Outcome;
use crate::crowd::{Crowd, PATIENCE};
use crate::feed::Feed;
use crate::server::Server;
use crate::tally::Tally;
use crate::wire::Shape;

/// Before publishing starts, each topic gets an event this often until all its watchers have one.
const WARM_UP_PAUSE: Duration = Duration::from_millis(100);
/// Wait after the last message, for messages that should not come.
const AFTERMATH: Duration = Duration::from_millis(50);

/// A run without progress for this long ends if something was lost before.
const AFTER_A_LOSS: Duration = Duration::from_secs(2);

/// How fast events are published.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as watchers get them: at most this many events are in transit.
    Window(u64),
    /// This many a second, whether watchers keep up or not.
    PerSecond(f64),
}

pub struct Load {
    pub crowd: Crowd,
    pub feed: Feed,
    /// How many watchers get each topic's events.
    pub listeners: Vec<u64>,
    pub pace: Pace,
    next_topic: usize,
    /// The topic whose messages are timed.
    timed: usize,
    /// Messages still to come for what was published.
    due: u64,
}

/// The result of a measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub events: u64,
    pub messages: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub cpu_nanos: u64,
}

impl Sample {
    pub fn cpu_micros_per_message(&self) -> f64 {
        self.cpu_nanos as f64 / 1e3 / self.messages as f64
    }

    pub fn cpu_micros_per_event(&self) -> f64 {
        self.cpu_nanos as f64 / 1e3 / self.events as f64
    }

    pub fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }
}

impl Load {
    pub fn new(crowd: Crowd, feed: Feed, listeners: Vec<u64>, pace: Pace) -> Self {
        Self { crowd, feed, listeners, pace, next_topic: 0, timed: 0, due: 0 }
    }

    /// Publishes to each topic until all its watchers have received something: from then on each message counts.
    pub fn warm_up(&mut self) -> Outcome<()> {
        let begin = Instant::now();
        let listeners: u64 = self.listeners.iter().sum();
        let mut pause = WARM_UP_PAUSE;
        loop {
            let before = self.crowd.tally.messages;
            for topic in 0..self.feed.topics() {
                self.feed.publish(topic);
            }
            let round = Instant::now();
            while round.elapsed() < pause || !self.feed.is_flushed() {
                self.turn()?;
                if begin.elapsed() > PATIENCE {
                    return Err("not all watchers get events".into());
                }
            }
            let came = self.crowd.tally.messages - before;
            if came == listeners {
                break;
            }
            pause *= 2;
        }
        self.crowd.tally = Tally::default();
        self.crowd.begin_counts(|topic| self.feed.next_of(topic));
        self.due = 0;
        Ok(())
    }

    /// Publishes `events` round robin, and waits for all messages. Now and then `watch` is called with the share that
    /// has come.
    pub fn run(&mut self, server: &Server, events: u64, watch: &mut dyn FnMut(f64)) -> Outcome<Sample> {
        let before = server.usage()?;
        let tally = self.crowd.tally;
        let begin = Instant::now();
        self.publish(events, begin, watch)?;
        let seconds = begin.elapsed().as_secs_f64();
        let after = server.usage()?;
        self.rest()?;
        Ok(Sample {
            events,
            messages: self.crowd.tally.messages - tally.messages,
            bytes: self.crowd.tally.bytes - tally.bytes,
            seconds,
            cpu_nanos: after.cpu_nanos - before.cpu_nanos,
        })
    }

    /// Waits for messages that should not come.
    fn rest(&mut self) -> Outcome<()> {
        let begin = Instant::now();
        while begin.elapsed() < AFTERMATH {
            self.crowd.turn(Duration::from_millis(1))?;
        }
        self.crowd.compare_counts(|topic| self.feed.next_of(topic));
        Ok(())
    }

    /// Waits until these watchers of the first topic have all that was published, and for messages that should not come.
    pub fn settle(&mut self, watchers: Range<usize>) -> Outcome<()> {
        let begin = Instant::now();
        let next = self.feed.next_of(0);
        while !watchers.clone().all(|watcher| self.crowd.next_of(watcher) >= next)
            && begin.elapsed() < PATIENCE
        {
            self.turn()?;
        }
        self.rest()
    }

    fn publish(&mut self, events: u64, begin: Instant, watch: &mut dyn FnMut(f64)) -> Outcome<()> {
        let mut published = 0;
        let mut progress = (self.crowd.tally.messages, Instant::now());
        loop {
            let now = Instant::now();
            for _ in 0..self.allowance(events, published, now.duration_since(begin)) {
                self.publish_one(now);
                published += 1;
            }
            self.turn()?;
            let messages = self.crowd.tally.messages;
            if messages >= self.due && published == events && self.feed.is_flushed() {
                return Ok(());
            }
            if messages > progress.0 {
                if now.duration_since(progress.1) > Duration::from_millis(100) {
                    watch(messages as f64 / self.due.max(1) as f64 * (published as f64 / events as f64));
                    progress = (messages, now);
                }
            } else if now.duration_since(progress.1) > self.patience() {
                let complaint = self.crowd.tally.complaint().unwrap_or_default();
                return Err(format!("{messages} of {} messages came; {complaint}", self.due).into());
            }
        }
    }

    /// How long nothing may come. What is lost already need not be waited for.
    fn patience(&self) -> Duration {
        if self.crowd.tally.complaint().is_some() { AFTER_A_LOSS } else { PATIENCE }
    }

    fn publish_one(&mut self, now: Instant) {
        let topic = self.next_topic;
        self.next_topic = (topic + 1) % self.feed.topics();
        self.publish_to(topic, self.listeners[topic], now);
    }

    fn publish_to(&mut self, topic: usize, listeners: u64, now: Instant) {
        let number = self.feed.publish(topic);
        self.due += listeners;
        if let Some(times) = &mut self.crowd.times
            && topic == self.timed
        {
            times.publish(number, now);
        }
    }

    /// Runs one turn of the load: publishes to the first topic as fast as its watchers read, and one event to
    /// `other`, which has one watcher.
    pub fn keep_busy(&mut self, other: Option<usize>) -> Outcome<()> {
        let now = Instant::now();
        for _ in 0..self.allowance(u64::MAX, 0, Duration::ZERO) {
            self.publish_to(0, self.listeners[0], now);
        }
        if let Some(other) = other {
            self.publish_to(other, 1, now);
        }
        self.turn()
    }

    /// Publishes to the first topic at this many events a second from `begin` on, until `is_done` returns true for
    /// the watchers and the next number.
    pub fn keep_pace(
        &mut self,
        begin: Instant,
        rate: f64,
        is_done: impl FnMut(&Crowd, u64) -> bool,
    ) -> Outcome<()> {
        self.keep_pace_within(PATIENCE, begin, rate, is_done)
    }

    /// The same where it may take longer.
    pub fn keep_pace_within(
        &mut self,
        patience: Duration,
        begin: Instant,
        rate: f64,
        mut is_done: impl FnMut(&Crowd, u64) -> bool,
    ) -> Outcome<()> {
        let mut published = 0;
        while !is_done(&self.crowd, self.feed.next_of(0)) {
            let now = Instant::now();
            let due = (now.duration_since(begin).as_secs_f64() * rate) as u64;
            while published < due {
                self.publish_to(0, self.listeners[0], now);
                published += 1;
            }
            self.turn()?;
            if begin.elapsed() > patience {
                return Err("not all watchers have caught up".into());
            }
        }
        Ok(())
    }

    /// Publishes an event for each of this many further topics, and one that shows that they have been taken in.
    pub fn introduce(&mut self, server: &Server, topics: u64, shape: Shape) -> Outcome<()> {
        for topic in 1..=topics as usize {
            self.feed.publish_elsewhere(&shape.template(topic));
            if topic % 1_000 == 0 {
                while !self.feed.flush()? {
                    self.crowd.turn(Duration::from_millis(1))?;
                }
            }
        }
        self.run(server, 1, &mut |_| {}).map(|_| ())
    }

    fn turn(&mut self) -> Outcome<()> {
        if self.crowd.is_feed_writable {
            self.crowd.is_feed_writable = self.feed.flush()?;
        }
        self.crowd.turn(Duration::from_millis(1))?;
        self.listen()
    }

    /// How many events may be published now.
    fn allowance(&self, events: u64, published: u64, elapsed: Duration) -> u64 {
        let left = events - published;
        match self.pace {
            Pace::PerSecond(rate) => {
                let due = (elapsed.as_secs_f64() * rate) as u64;
                due.saturating_sub(published).min(left)
            }
            Pace::Window(window) => {
                let listeners: u64 = self.listeners.iter().sum();
                let each = listeners as f64 / self.listeners.len() as f64;
                let on_way = self.due.saturating_sub(self.crowd.tally.messages) as f64 / each;
                let room = window.saturating_sub(on_way.ceil() as u64);
                // A publisher writes what has gathered, not each event by itself.
                if room >= window / 4 || room >= left { room.min(left) } else { 0 }
            }
        }
    }

    /// From now on, records how long the messages of a topic take to reach a group of watchers.
    pub fn time_messages(&mut self, topic: usize, group: u8) {
        self.timed = topic;
        self.crowd.time(group);
    }

    /// The latencies recorded since then.
    pub fn latency(&mut self) -> Outcome<Histogram<u64>> {
        Ok(self.crowd.times.take().ok_or("nothing was timed")?.histogram)
    }

    fn listen(&mut self) -> Outcome<()> {
        while let Some(token) = self.crowd.feed_tokens.pop() {
            self.feed.listen(token)?;
        }
        Ok(())
    }
}
