//! Saves states and loads them again: whole, cut, damaged, into a smaller daemon.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;

use super::{PublisherPart, Restored, Saver, Unusable, load};
use crate::stream::batch::Batch;
use crate::stream::directory::Directory;
use crate::stream::now::Now;
use crate::stream::numbers::SEQ_MIN;
use crate::stream::sequencer::{Limits, Sequencer, Step, Taken};
use crate::stream::silence::Standing;
use crate::stream::topic::{Log, Lost, Topic, TopicKind};
use crate::wire::line::PADDING;

const LARGE: usize = 1 << 20;
const NOW: Now = Now { millis: 1_000_000, unix_micros: SEQ_MIN as i64 };

fn limits(history_bytes: usize, jobs_max: usize) -> Limits {
    Limits {
        history_bytes,
        history_millis: 1 << 40,
        job_idle_millis: 1 << 40,
        metrics_millis: 5_000,
        jobs_max,
        depth_max: 64,
    }
}

fn sequencer(directory: Directory, history_bytes: usize, jobs_max: usize) -> Sequencer {
    Sequencer::new(Arc::new(directory), Vec::new(), limits(history_bytes, jobs_max))
}

/// One turn with these lines.
fn take(sequencer: &mut Sequencer, millis: u64, lines: &[String]) {
    let now = Now { millis, ..NOW };
    sequencer.begin_turn(now, lines.iter().map(String::len).sum());
    for line in lines {
        let mut block = line.clone().into_bytes();
        block.resize(line.len() + PADDING, 0);
        let taken = sequencer.take_line(&mut block, line.len());
        assert!(matches!(taken, Ok(Taken::Event(_))), "{line}");
    }
    sequencer.end_turn();
    while sequencer.step() != Step::Done {}
}

/// Some jobs and flows with any types, in a history of `history_bytes`.
fn random_state(random: &mut Rng, lines: u64, history_bytes: usize) -> Sequencer {
    let mut sequencer = sequencer(Directory::new(SEQ_MIN + 10, 1_000), history_bytes, 1_000);
    let types = if random.u64(..4) == 0 { 200 } else { 3 };
    let mut left = lines;
    while left > 0 {
        let count = (1 + random.u64(..9)).min(left);
        left -= count;
        let lines: Vec<String> = (0..count).map(|_| random_line(random, types)).collect();
        take(&mut sequencer, 1_000 + lines.len() as u64, &lines);
    }
    sequencer
}

fn random_line(random: &mut Rng, types: u64) -> String {
    let kind = match random.u64(..10) {
        0 => "job_started".to_owned(),
        1 => "job_completed".to_owned(),
        2 => "metrics".to_owned(),
        3 => "slot_called".to_owned(),
        _ => format!("custom_{}", random.u64(..types)),
    };
    let flow = match random.u64(..3) {
        0 => format!(r#","flow_id":"f{}""#, random.u64(..3)),
        _ => String::new(),
    };
    let pad = "x".repeat(random.u64(..100) as usize);
    format!(r#"{{"type":"{kind}","job_id":"j{}"{flow},"pad":"{pad}"}}"#, random.u64(..6))
}

fn publishers() -> Vec<PublisherPart> {
    vec![PublisherPart { name: "p".into(), accepted: 7, silent_millis: 5 }]
}

/// The bytes of a snapshot with at most `batches` batches.
fn saved(sequencer: &Sequencer, batches: usize) -> Vec<u8> {
    let mut saver = Saver::new(sequencer, publishers(), NOW);
    let all = saver.batches.len();
    let mut out = Vec::new();
    let mut written = 0;
    let mut length = 0;
    while saver.write_next(&mut out, written >= batches) {
        // Kind 3 is a batch.
        written += usize::from(out.len() > length && out[length] == 3);
        length = out.len();
    }
    assert_eq!(saver.batches_left_out(), all.saturating_sub(batches));
    out
}

fn restored(from: Restored, history_bytes: usize, jobs_max: usize) -> Sequencer {
    let run_start = from.seq() + 1_000;
    let directory = Directory::with_earlier(run_start, from.earlier_runs(run_start), 1_000);
    let mut next = sequencer(directory, history_bytes, jobs_max);
    next.restore(from, NOW);
    next
}

fn reload(bytes: &[u8]) -> Sequencer {
    restored(load(bytes, bytes.len() as u64).expect("it is whole"), LARGE, 1_000)
}

/// Number, index, type and bytes of an event.
type Seen = (u64, u64, u8, Vec<u8>);

/// All that a watcher can see of a log.
#[derive(Debug, PartialEq)]
struct Picture {
    base: u64,
    base_seq: u64,
    head: u64,
    first_seq: u64,
    last_seq: u64,
    lost: BTreeMap<u8, (u64, u64)>,
    events: Vec<Seen>,
    kept: Vec<Seen>,
    job: String,
    rest: String,
}

fn seen(batch: &Batch, event: u32, at: u64) -> Seen {
    let mut bytes = batch.object(event).to_vec();
    if batch.bit(event) == crate::event::OVERFLOW_BIT {
        bytes.extend_from_slice(format!("{:?}", batch.overflow_name(event)).as_bytes());
    }
    (batch.seq(event), at, batch.bit(event), bytes)
}

fn picture(log: &Log, rest: String) -> Picture {
    let mut events = Vec::new();
    for handle in log.handles() {
        let run = handle.run();
        for event in run.first..run.first + run.count {
            events.push(seen(&handle.batch, event, run.at + u64::from(event - run.first)));
        }
    }
    let lost = log.lost.iter().map(|&Lost { bit, count, last_seq }| (bit, (count, last_seq)));
    Picture {
        base: log.base(),
        base_seq: log.base_seq(),
        head: log.head(),
        first_seq: log.first_seq,
        last_seq: log.last_seq(),
        lost: lost.collect(),
        events,
        kept: log.kept_after(0).map(|handle| seen(&handle.batch, 0, handle.run().at)).collect(),
        job: format!("{:?}", log.job),
        rest,
    }
}

/// Every topic's log by name; the log of all events has an empty name.
fn pictures(sequencer: &Sequencer) -> BTreeMap<String, Picture> {
    let topic_index = &sequencer.topic_index;
    let mut pictures = BTreeMap::new();
    pictures.insert(String::new(), picture(&sequencer.directory.all.log.lock(), String::new()));
    for standing in Standing::OF_JOBS.into_iter().chain([Standing::Flow]) {
        for (place, (key, _)) in topic_index.silent_keys(standing).enumerate() {
            let entry = topic_index.entry(key);
            let flow = entry.flow.map(|flow| topic_index.entry(flow).topic.name.clone());
            let rest = format!(
                "{standing:?} {place} {flow:?} {} {} {} {} {}",
                entry.jobs, entry.next_at, entry.last_seq, entry.has_metrics, entry.is_due
            );
            pictures.insert(entry.topic.name.to_string(), picture(&entry.topic.log.lock(), rest));
        }
    }
    pictures
}

/// Nothing is missing without being counted, and every event is one of the `originals`.
fn check(sequencer: &Sequencer, originals: &BTreeMap<String, Picture>, what: &str) {
    let pictures = pictures(sequencer);
    for (name, picture) in &pictures {
        let original = originals.get(name).unwrap_or_else(|| panic!("{what}: {name} is new"));
        let lost: u64 = picture.lost.values().map(|(count, _)| count).sum();
        assert_eq!(
            lost + picture.kept.len() as u64,
            picture.base,
            "{what}: {name}: what was lost is counted"
        );
        assert_eq!(picture.head, original.head, "{what}: {name}");
        assert_eq!(picture.base + picture.events.len() as u64, picture.head, "{what}: {name}");
        let all = || original.events.iter().chain(&original.kept);
        for event in picture.events.iter().chain(&picture.kept) {
            assert!(all().any(|known| known == event), "{what}: {name}: {event:?} never was");
        }
        let first = picture.events.first().map_or(u64::MAX, |event| event.0);
        assert!(picture.base_seq < first, "{what}: {name}");
        assert!(picture.lost.values().all(|&(_, last_seq)| last_seq <= picture.base_seq), "{what}: {name}");
    }
    for (name, original) in originals.iter().filter(|(name, _)| !pictures.contains_key(*name)) {
        let kinds = [TopicKind::Job, TopicKind::Flow];
        let noted = kinds.map(|kind| sequencer.directory.dropped.last(kind, name)).into_iter().max();
        assert!(noted >= Some(original.last_seq), "{what}: {name} is missing");
    }
}

#[test]
fn a_state_is_the_same_after_saving_and_loading() {
    for seed in 0..60 {
        let mut random = Rng::with_seed(seed);
        let history_bytes = [LARGE, 64 << 10, 16 << 10][random.u64(..3) as usize];
        let lines = 1 + random.u64(..600);
        let sequencer = random_state(&mut random, lines, history_bytes);
        let before = pictures(&sequencer);
        let bytes = saved(&sequencer, usize::MAX);
        let read = load(&bytes[..], bytes.len() as u64).expect("it is whole");
        assert_eq!((read.seq(), read.damage), (sequencer.seq(), super::Damage::default()), "seed {seed}");
        let names: Vec<PublisherPart> = read.publishers(NOW.unix_micros + 2_000_000).collect();
        assert_eq!(names, [PublisherPart { silent_millis: 2_005, ..publishers().remove(0) }]);
        let next = restored(read, LARGE, 1_000);
        assert_eq!(pictures(&next), before, "seed {seed}");
        assert_eq!(next.directory.types.names(), sequencer.directory.types.names(), "seed {seed}");
        assert_eq!(next.directory.unknown_to(0), SEQ_MIN + 10);
        // Once more, now with events of the next run.
        let mut next = next;
        let lines: Vec<String> = (0..20).map(|_| random_line(&mut random, 3)).collect();
        take(&mut next, 2_000_000, &lines);
        let again = reload(&saved(&next, usize::MAX));
        assert_eq!(pictures(&again), pictures(&next), "seed {seed}");
    }
}

#[test]
fn batches_not_saved_count_as_lost_and_jobs_keep_their_events() {
    for seed in 0..40 {
        let mut random = Rng::with_seed(seed);
        let history_bytes = [LARGE, 96 << 10][random.u64(..2) as usize];
        let sequencer = random_state(&mut random, 300, history_bytes);
        let originals = pictures(&sequencer);
        let all = originals[""].events.len();
        for batches in [0, 1, 3, 10] {
            let next = reload(&saved(&sequencer, batches));
            check(&next, &originals, &format!("seed {seed}, {batches} batches"));
            let pictures = pictures(&next);
            assert!(pictures[""].events.len() < all || batches > 3);
            for (name, picture) in &pictures {
                let newest = originals[name].events.len() - picture.events.len();
                assert_eq!(picture.events, originals[name].events[newest..], "the newest are there");
                let had = &originals[name];
                let kinds = [&b"\"job_started\""[..], b"\"job_completed\""];
                for kind in kinds.into_iter().filter(|_| name.starts_with('j')) {
                    let has = |picture: &Picture| {
                        let events = picture.events.iter().chain(&picture.kept);
                        events.filter(|event| memchr::memmem::find(&event.3, kind).is_some()).count() > 0
                    };
                    assert_eq!(has(had), has(picture), "{name} keeps its first start and latest end");
                }
            }
        }
    }
}

#[test]
fn a_damaged_snapshot_never_invents_events_and_never_hides_a_loss() {
    let mut sequencer = sequencer(Directory::new(SEQ_MIN + 10, 1_000), LARGE, 1_000);
    for turn in 0..4 {
        let lines = [
            format!(r#"{{"type":"job_started","job_id":"a","flow_id":"f","n":{turn}}}"#),
            format!(r#"{{"type":"custom_{turn}","job_id":"b"}}"#),
            format!(r#"{{"type":"job_failed","job_id":"a","n":{turn}}}"#),
        ];
        take(&mut sequencer, 1_000, &lines);
    }
    let originals = pictures(&sequencer);
    for batches in [usize::MAX, 2] {
        let bytes = saved(&sequencer, batches);
        check(&reload(&bytes), &originals, "whole");
        let mut usable = 0;
        let mut judge = |bytes: &[u8], what: &str| {
            let Ok(read) = load(bytes, bytes.len() as u64) else { return };
            assert!(read.damage.is_damaged, "{what}: the damage is not reported");
            usable += 1;
            check(&restored(read, LARGE, 1_000), &originals, what);
        };
        for length in 0..bytes.len() {
            judge(&bytes[..length], &format!("cut at {length}"));
        }
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[place] ^= 1 << bit;
                judge(&flipped, &format!("byte {place} flipped in bit {bit}"));
            }
        }
        assert!(usable > bytes.len(), "most damage costs a part only: {usable}");
    }
}

#[test]
fn a_damaged_batch_costs_only_itself_and_older_ones() {
    let sequencer = random_state(&mut Rng::with_seed(3), 200, LARGE);
    let originals = pictures(&sequencer);
    let mut bytes = saved(&sequencer, usize::MAX);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let next = reload(&bytes);
    check(&next, &originals, "the middle");
    let events = pictures(&next)[""].events.len();
    assert!((60..140).contains(&events), "{events} of 200 are left");
    assert!(next.directory.missing_to > 0);
}

#[test]
fn anything_but_a_snapshot_is_refused_with_its_reason() {
    let sequencer = random_state(&mut Rng::with_seed(1), 10, LARGE);
    let bytes = saved(&sequencer, usize::MAX);
    let why = |bytes: &[u8]| load(bytes, bytes.len() as u64).err();
    assert_eq!(why(b""), Some(Unusable::Foreign));
    assert_eq!(why(b"{\"type\":\"x\"}\n{\"type\":\"x\"}\n"), Some(Unusable::Foreign));
    let mut other = bytes.clone();
    other[15] += 1;
    assert_eq!(why(&other), Some(Unusable::Version));
    assert_eq!(why(&bytes[..40]), Some(Unusable::Head));
}

#[test]
fn a_smaller_history_keeps_the_newest_and_counts_the_rest() {
    for seed in 0..20 {
        let sequencer = random_state(&mut Rng::with_seed(seed), 500, LARGE);
        let originals = pictures(&sequencer);
        let bytes = saved(&sequencer, usize::MAX);
        let next = restored(load(&bytes[..], bytes.len() as u64).unwrap(), 24 << 10, 1_000);
        check(&next, &originals, &format!("seed {seed}"));
        assert!(!next.history.is_over(0) && next.history.used() <= 24 << 10, "{}", next.history.used());
        assert!(pictures(&next)[""].events.len() < 500);
    }
}

#[test]
fn beyond_jobs_max_the_jobs_silent_for_longest_are_dropped() {
    let mut sequencer = sequencer(Directory::new(SEQ_MIN + 10, 1_000), LARGE, 1_000);
    for job in 0..10 {
        take(&mut sequencer, 1_000 + job, &[format!(r#"{{"type":"x","job_id":"j{job}"}}"#)]);
    }
    let bytes = saved(&sequencer, usize::MAX);
    let next = restored(load(&bytes[..], bytes.len() as u64).unwrap(), LARGE, 3);
    let names: Vec<String> = pictures(&next).into_keys().collect();
    assert_eq!(names, ["", "j7", "j8", "j9"]);
    let noted = |job: &str| next.directory.dropped.last(TopicKind::Job, job);
    assert_eq!((noted("j0"), noted("j6"), noted("j7")), (SEQ_MIN + 11, SEQ_MIN + 17, 0));
}

#[test]
fn topics_grow_older_while_the_daemon_is_down() {
    let mut sequencer = sequencer(Directory::new(SEQ_MIN + 10, 1_000), LARGE, 1_000);
    take(&mut sequencer, NOW.millis - 300, &[r#"{"type":"job_failed","job_id":"old"}"#.to_owned()]);
    take(&mut sequencer, NOW.millis - 100, &[r#"{"type":"job_failed","job_id":"new"}"#.to_owned()]);
    let bytes = saved(&sequencer, usize::MAX);
    let later = Now { millis: 1 << 41, unix_micros: NOW.unix_micros + 400_000 };
    let read = load(&bytes[..], bytes.len() as u64).unwrap();
    let directory = Directory::with_earlier(SEQ_MIN + 99, read.earlier_runs(SEQ_MIN + 99), 1_000);
    let limits = Limits { history_millis: 600, ..limits(LARGE, 1_000) };
    let mut next = Sequencer::new(Arc::new(directory), Vec::new(), limits);
    next.restore(read, later);
    next.sweep(later);
    assert_eq!(pictures(&next).into_keys().collect::<Vec<_>>(), ["", "new"]);
}

#[test]
fn a_number_of_an_earlier_run_has_its_index_in_the_log_of_all() {
    let mut sequencer = sequencer(Directory::new(SEQ_MIN + 10, 1_000), LARGE, 1_000);
    let lines = vec![r#"{"type":"x","job_id":"j"}"#.to_owned(); 5];
    take(&mut sequencer, 1_000, &lines);
    let mut next = reload(&saved(&sequencer, usize::MAX));
    take(&mut next, 2_000_000, &lines);
    let directory = &next.directory;
    let (first, second) = (SEQ_MIN + 10, SEQ_MIN + 15 + 1_000);
    assert_eq!(directory.run_start, second);
    let given = [first, first + 3, first + 5, second, second + 2, second + 5];
    assert_eq!(given.map(|seq| directory.index_of_all(seq)), [0, 3, 5, 5, 7, 10].map(Some));
    assert_eq!(given.map(|seq| directory.unknown_to(seq)), [0; 6]);
    // A number from before or between the two runs was given by a run that left nothing.
    assert_eq!([first - 1, first + 500].map(|seq| directory.unknown_to(seq)), [first, second]);
    let log = directory.all.log.lock();
    assert!(given.iter().all(|&seq| Some(log.index_after(seq)) == directory.index_of_all(seq)));
}

/// A topic that exists for watchers alone is not in the way.
#[test]
fn a_topic_without_events_is_not_saved() {
    let sequencer = random_state(&mut Rng::with_seed(2), 50, LARGE);
    let topic: Arc<Topic> = sequencer.directory.watch(TopicKind::Job, "nobody").unwrap();
    let next = reload(&saved(&sequencer, usize::MAX));
    assert!(!pictures(&next).contains_key(&*topic.name));
}
