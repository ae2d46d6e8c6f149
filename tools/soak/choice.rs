//! Chooses at random what the next watcher wants and does.

use std::time::Duration;

use fastrand::Rng;

use crate::check::{NAMES, Names, Since, Topic};
use crate::lines::{FLOWS, JobId};
use crate::stream::Stream;
use crate::watcher::{Ending, Form, Pace, Plan, Wish};

/// Jobs are chosen from this many of the newest events.
const RECENT: u64 = 3_000;
/// Some watchers ask for events that are long gone.
const OLD: u64 = 60_000;
/// A watcher that does not read, or does not answer, must live until the daemon ends it.
const STUBBORN_LIFE: Duration = Duration::from_secs(25);

/// True once in `count` times.
pub fn one_in(random: &mut Rng, count: u64) -> bool {
    random.u64(..count) == 0
}

/// A job that had an event recently, long ago, or not yet.
pub fn job(random: &mut Rng, stream: &Stream) -> JobId {
    let reach = if one_in(random, 10) { OLD } else { RECENT };
    let Some(record) = stream.back(random.u64(..reach)) else {
        return JobId { publisher: 0, number: 0 };
    };
    let later = if one_in(random, 5) { random.u32(..6) } else { 0 };
    JobId { number: record.job.number + later, ..record.job }
}

fn since(random: &mut Rng, stream: &Stream) -> Since {
    match random.u64(..20) {
        0..=8 => Since::Now,
        9..=12 => Since::After(stream.before_last(random.u64(..8_000))),
        13..=15 => Since::Start,
        _ => Since::Last(1 + random.u64(..300)),
    }
}

pub fn names(random: &mut Rng) -> u16 {
    (0..1 + random.u64(..3)).fold(0, |names, _| names | 1 << random.u64(..NAMES.len() as u64))
}

/// Half of the watchers come over plain HTTP.
fn form(random: &mut Rng) -> Form {
    match random.u64(..4) {
        0 => Form::Sse,
        1 => Form::Ndjson,
        _ => Form::WebSocket,
    }
}

fn pace(random: &mut Rng) -> Pace {
    match random.u64(..100) {
        0..=84 => Pace::Fast,
        85..=95 => Pace::Slow(2_000 + random.usize(..4_000)),
        _ => Pace::Never,
    }
}

/// A watcher of something, or one that returns to its earlier position.
pub fn plan(random: &mut Rng, stream: &Stream, comebacks: &mut Vec<(Topic, u64)>) -> Plan {
    let topic = match random.u64(..20) {
        0 => Topic::All,
        1..=5 => Topic::Flow(random.u64(..FLOWS)),
        6..=12 => Topic::Job(job(random, stream)),
        _ => Topic::Debug(job(random, stream)),
    };
    let names = match random.u64(..3) {
        0 => Names::ALL.subscribe(names(random)),
        _ => Names::ALL,
    };
    let mut wish = Wish::One { topic, names, since: since(random, stream) };
    if one_in(random, 5) {
        wish = Wish::Many;
    } else if one_in(random, 3)
        && let Some((topic, position)) = comebacks.pop()
    {
        wish = Wish::One { topic, names: Names::ALL, since: Since::After(position) };
    }
    let pace = pace(random);
    if pace == Pace::Never {
        wish = Wish::One { topic: Topic::All, names: Names::ALL, since: since(random, stream) };
    }
    let is_mute = pace == Pace::Fast && one_in(random, 60);
    let is_stubborn = pace == Pace::Never || is_mute;
    let life = match is_stubborn {
        true => STUBBORN_LIFE,
        // From a tenth of a second to half a minute; most are short.
        false => Duration::from_millis(100 << random.u64(..8)) + Duration::from_millis(random.u64(..1_000)),
    };
    let form = match wish {
        Wish::One { .. } if !is_mute => form(random),
        _ => Form::WebSocket,
    };
    let ending = match (pace, random.u64(..4)) {
        (Pace::Fast, 0) if form == Form::WebSocket => Ending::Close,
        (Pace::Fast, 1) => Ending::HalfClose,
        (_, 0 | 2) => Ending::Drop,
        _ => Ending::Reset,
    };
    Plan { wish, form, pace, life, ending, is_mute }
}

/// Wants everything from here on, and reads it.
pub fn steady(random: &mut Rng, stream: &Stream) -> Plan {
    let flow = Topic::Flow(random.u64(..FLOWS));
    let topic = if random.bool() { Topic::All } else { flow };
    let from = stream.before_last(random.u64(..500));
    Plan {
        wish: Wish::One { topic, names: Names::ALL, since: Since::After(from) },
        form: form(random),
        pace: Pace::Fast,
        life: Duration::MAX,
        ending: Ending::Close,
        is_mute: false,
    }
}
