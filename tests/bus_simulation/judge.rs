//! What must hold, whatever goes wrong.

use std::collections::{HashMap, HashSet};

use luxcast::bus::numbers::{Epochs, PLACES, Position};
use luxcast::bus::verdict::{Hole, HoleReason};

use crate::daemon::Daemon;
use crate::publisher::line;
use crate::server::{Server, Stored};

/// What schedules did, so that a run can show that it did everything.
#[derive(Default, Clone, Debug)]
pub struct Tally {
    pub events: u64,
    pub messages: u64,
    pub acks: u64,
    pub holes: u64,
    pub restarts: u64,
    pub epochs: u64,
    pub replaced: u64,
    pub kills: u64,
    pub duplicates: u64,
    pub retries: u64,
    pub repeated: u64,
    pub consumers: u64,
    pub cut: u64,
    pub hops: u64,
    pub stood: u64,
    pub hop_gaps: u64,
    /// Messages that no consumer could bring.
    pub odd: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.events += other.events;
        self.messages += other.messages;
        self.acks += other.acks;
        self.holes += other.holes;
        self.restarts += other.restarts;
        self.epochs += other.epochs;
        self.replaced += other.replaced;
        self.kills += other.kills;
        self.duplicates += other.duplicates;
        self.retries += other.retries;
        self.repeated += other.repeated;
        self.consumers += other.consumers;
        self.cut += other.cut;
        self.hops += other.hops;
        self.stood += other.stood;
        self.hop_gaps += other.hop_gaps;
        self.odd += other.odd;
    }

    pub fn is_broad(&self) -> bool {
        let all = [
            self.events,
            self.acks,
            self.holes,
            self.restarts,
            self.epochs,
            self.replaced,
            self.kills,
            self.duplicates,
            self.retries,
            self.repeated,
            self.consumers,
            self.cut,
            self.hops,
            self.stood,
            self.hop_gaps,
            self.odd,
        ];
        all.iter().all(|count| *count > 0)
    }
}

/// A daemon that had read what the stream then lost.
struct Victim {
    daemon: usize,
    life: u64,
    /// The last message left, and the last that the daemon had passed on.
    left: u64,
    passed: u64,
    newest: u64,
}

#[derive(Default)]
pub struct Judge {
    /// By number; the same for all daemons.
    bytes_of: HashMap<u64, String>,
    /// The last line of each publisher that each run of a daemon has delivered.
    last_line: HashMap<(usize, u64, String), u64>,
    /// What each run of a daemon has delivered.
    keys: HashMap<(usize, u64), HashSet<String>>,
    /// Lines that were in the stream at some time.
    pub stored: HashSet<String>,
    /// Lines that the stream has lost.
    pub lost: HashSet<String>,
    victims: Vec<Victim>,
    /// Messages that the stream has lost, and whose sequences it gives again.
    lost_times: HashSet<u64>,
    /// Their numbers. Two daemons may have shown different events under one of these.
    blurred: Vec<(u64, u64)>,
    /// Those that the stream has.
    epochs: Option<Epochs>,
    /// The stream was replaced by another.
    pub is_replaced: bool,
    /// The stream has lost something.
    has_lost: bool,
    /// Something was lost, so that a daemon need not know all flows.
    pub has_losses: bool,
    /// Daemons forget jobs, each others.
    pub forgets_flows: bool,
    /// Copies came so late that the server did not know them again, or messages were lost.
    pub is_unclean: bool,
    /// Some came when the daemons had forgotten the publisher.
    pub is_ancient: bool,
    /// Messages were deleted, which some daemons had read.
    has_deleted: bool,
    pub tally: Tally,
}

fn member<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}

/// `word:number`
pub fn key_of(line: &str) -> Option<&str> {
    member(line, "key")
}

pub fn job_of(line: &str) -> Option<&str> {
    member(line, "job_id")
}

pub fn flow_of(line: &str) -> Option<&str> {
    member(line, "flow_id")
}

impl Judge {
    /// A daemon is about to show an event.
    pub fn handle_event(&mut self, daemon: &Daemon, stored: &Stored, number: u64, line: &str) {
        let who = (daemon.index, daemon.life);
        assert!(number > daemon.newest(), "{who:?}: number {number} comes after {}", daemon.newest());
        if self.is_stale(stored, number) {
            self.note_victim(daemon, stored, number);
        } else {
            let same = self.bytes_of.entry(number).or_insert_with(|| line.to_owned());
            assert_eq!(same, line, "{who:?}: number {number} is another event");
        }
        let Some(key) = key_of(line) else { return };
        let (word, count) = key.rsplit_once(':').expect("keys have numbers");
        let count: u64 = count.parse().expect("keys have numbers");
        let last = self.last_line.entry((who.0, who.1, word.to_owned())).or_insert(0);
        assert!(*last < count || self.is_ancient, "{who:?}: line {count} of {word} comes after {last}");
        *last = count;
        self.keys.entry(who).or_default().insert(key.to_owned());
        self.tally.events += 1;
    }

    /// A daemon is about to take a message, whose first number is `number`.
    pub fn handle_message(&mut self, daemon: &Daemon, stored: &Stored, number: u64) {
        if self.is_stale(stored, number) {
            self.note_victim(daemon, stored, 0);
            if self.is_replaced {
                // It counts on as in the stream before, and may come to numbers of this one. Its watchers do, too.
                self.blurred.push((0, number + PLACES as u64 - 1));
            }
        }
    }

    /// It was under way when the stream lost it, or the daemon has not heard of an epoch.
    fn is_stale(&self, stored: &Stored, number: u64) -> bool {
        let is_elsewhere = self.epochs.as_ref().is_some_and(|epochs| match epochs.position(number) {
            Position::At { message, .. } => message != stored.seq,
            _ => true,
        });
        is_elsewhere || self.lost_times.contains(&stored.time_nanos)
    }

    fn note_victim(&mut self, daemon: &Daemon, stored: &Stored, newest: u64) {
        let (left, passed) = (stored.seq - 1, stored.seq);
        self.victims.push(Victim { daemon: daemon.index, life: daemon.life, left, passed, newest });
    }

    /// A daemon is about to tell of a hole.
    pub fn handle_hole(&mut self, daemon: &Daemon, hole: Hole) {
        let who = (daemon.index, daemon.life);
        assert!(
            hole.from <= hole.to && hole.from > daemon.newest(),
            "{who:?}: {hole:?} after {}",
            daemon.newest()
        );
        assert!(self.has_lost || !self.lost_times.is_empty(), "{who:?}: {hole:?}, and nothing was lost");
        self.tally.holes += 1;
        self.has_losses = true;
        if hole.why == HoleReason::Restart {
            self.tally.restarts += 1;
            self.last_line.retain(|key, _| (key.0, key.1) != who);
        }
    }

    /// What the daemons have shown, but what the stream has lost.
    pub fn events(&self) -> impl Iterator<Item = (&u64, &String)> {
        self.bytes_of.iter()
    }

    /// The stream may have given numbers twice.
    pub fn has_given_again(&self) -> bool {
        !self.lost_times.is_empty() || self.is_replaced
    }

    pub fn is_blurred(&self, number: u64) -> bool {
        self.blurred.iter().any(|(from, to)| (from..=to).contains(&&number))
    }

    pub fn note_epochs(&mut self, epochs: &Epochs) {
        if self.epochs.as_ref() != Some(epochs) {
            self.epochs = Some(epochs.clone());
        }
    }

    pub fn check_flow(&self, job: &str, flow: Option<&str>) {
        // A daemon that a lagging server has misled sends lines without knowing those before.
        let is_misled = self.is_unclean && !self.is_ancient;
        let may_forget = self.has_losses || self.forgets_flows || is_misled;
        if !may_forget && !job.starts_with("ext") {
            assert_eq!(flow, Some(format!("f-{job}").as_str()), "the flow of {job}");
        }
    }

    /// A publisher is told that its lines behind `before` and up to `through` are dealt with.
    pub fn check_ack(&mut self, daemon: &Daemon, word: &str, before: u64, through: u64, stream_seq: u64) {
        let who = (daemon.index, daemon.life);
        let keys = self.keys.entry(who).or_default();
        for number in before + 1..=through {
            let Some(text) = line(word, number) else { continue };
            let key = key_of(&text).expect("lines have keys");
            assert!(self.stored.contains(key), "{who:?}: {key} was acknowledged and never was in the stream");
            // What came before it began, or is in a hole, it need not show.
            let is_excused = self.lost.contains(key) || !daemon.holes.is_empty() || daemon.served_from > 1;
            let is_shown = keys.contains(key) || is_excused;
            assert!(is_shown, "{who:?}: {key} was acknowledged and is not visible");
        }
        let newest = daemon.newest();
        assert!(
            newest <= stream_seq || self.has_losses,
            "{who:?}: the ack names {stream_seq}, shown is {newest}"
        );
        self.tally.acks += 1;
    }

    pub fn handle_stored(&mut self, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        self.stored.extend(text.lines().filter_map(key_of).map(str::to_owned));
        self.tally.messages += 1;
    }

    pub fn handle_lost(&mut self, stored: &Stored, is_given_again: bool) {
        let text = String::from_utf8_lossy(&stored.message.payload);
        self.has_lost = true;
        self.has_deleted |= !is_given_again;
        if is_given_again {
            self.lost_times.insert(stored.time_nanos);
        }
        self.lost.extend(text.lines().filter_map(key_of).map(str::to_owned));
        (self.has_losses, self.is_unclean) = (true, true);
    }

    /// The stream will lose all behind `left`.
    pub fn handle_truncated(&mut self, left: u64, server: &Server, daemons: &[Daemon]) {
        let first = server.epochs.number(left + 1, 0).expect("it is in range");
        let last = server.epochs.number(server.last.max(left + 1), PLACES - 1).expect("it is in range");
        self.blurred.push((first, last));
        self.bytes_of.retain(|number, _| *number < first);
        for daemon in daemons.iter().filter(|daemon| daemon.reader.last() > left) {
            self.victims.push(Victim {
                daemon: daemon.index,
                life: daemon.life,
                left,
                passed: daemon.reader.last(),
                // What is below a hole that was told needs no other word.
                newest: daemon.delivered.range(first..).next_back().map_or(0, |event| *event.0),
            });
        }
        (self.has_lost, self.has_losses, self.is_unclean) = (true, true, true);
    }

    /// The stream has given no number above `newest`.
    pub fn handle_replaced(&mut self, newest: u64) {
        self.blurred.push((0, newest));
        self.bytes_of.clear();
        self.victims.clear();
        (self.is_replaced, self.has_losses, self.is_unclean) = (true, true, true);
        self.has_lost = true;
        self.tally.replaced += 1;
    }

    /// At the end: whatever the stream has, each daemon has shown or told of.
    pub fn check_end(&mut self, server: &Server, daemons: &[Daemon]) {
        for daemon in daemons {
            self.check_daemon(server, daemon);
        }
        if !self.has_deleted {
            self.check_agreement(server, daemons);
        }
        let mut keys = HashSet::new();
        for stored in server.log.values() {
            let text = String::from_utf8_lossy(&stored.message.payload);
            for key in text.lines().filter_map(key_of) {
                let is_new = keys.insert(key.to_owned());
                self.tally.repeated += u64::from(!is_new);
                assert!(is_new || self.is_unclean, "{key} is in the stream twice");
            }
        }
        for key in &self.stored {
            let is_there = keys.contains(key) || self.lost.contains(key) || self.is_replaced;
            assert!(is_there, "{key} went out of the stream");
        }
    }

    /// Of a line that is in the stream twice, all show the same one.
    fn check_agreement(&self, server: &Server, daemons: &[Daemon]) {
        for stored in server.log.values() {
            let first = server.epochs.number(stored.seq, 0).expect("it is in range");
            let last = first + PLACES as u64 - 1;
            let mut shown: Option<(usize, Vec<u64>)> = None;
            for daemon in daemons.iter().filter(|daemon| self.has_served(daemon, stored, first)) {
                let numbers: Vec<u64> = daemon.delivered.range(first..=last).map(|event| *event.0).collect();
                let (other, theirs) = shown.get_or_insert_with(|| (daemon.index, numbers.clone()));
                assert!(
                    *theirs == numbers,
                    "of message {} daemon {other} shows {theirs:?} and daemon {} {numbers:?}",
                    stored.seq,
                    daemon.index
                );
            }
        }
    }

    /// It has shown what it could of this message, whose numbers begin with `first`.
    fn has_served(&self, daemon: &Daemon, stored: &Stored, first: u64) -> bool {
        let is_told = daemon.holes.iter().any(|hole| hole.from <= first && first <= hole.to);
        let is_victim = self.victims.iter().any(|victim| {
            (victim.daemon, victim.life) == (daemon.index, daemon.life)
                && (victim.left + 1..=victim.passed).contains(&stored.seq)
        });
        let is_before = self.has_given_again() && daemon.holes.iter().any(|hole| first <= hole.to);
        stored.seq >= daemon.served_from && !is_told && !is_victim && !is_before
    }

    fn check_daemon(&mut self, server: &Server, daemon: &Daemon) {
        daemon.check();
        let who = (daemon.index, daemon.life);
        let keys = self.keys.entry(who).or_default();
        let is_own = |victim: &&Victim| (victim.daemon, victim.life) == who;
        let victims: Vec<&Victim> = self.victims.iter().filter(is_own).collect();
        let restarts: Vec<&Hole> =
            daemon.holes.iter().filter(|hole| hole.why == HoleReason::Restart).collect();
        for victim in &victims {
            let is_told = daemon.holes.iter().any(|hole| hole.from > victim.newest) || victim.newest == 0;
            assert!(is_told, "{who:?} has not told that messages behind {} are lost", victim.left);
        }
        let mut before = HashSet::new();
        for stored in server.log.values() {
            let number = |place| server.epochs.number(stored.seq, place).expect("it is in range");
            let is_excused = victims.iter().any(|it| (it.left + 1..=it.passed).contains(&stored.seq))
                || ((self.is_replaced || !victims.is_empty())
                    && restarts.iter().any(|hole| number(PLACES - 1) <= hole.to));
            let text = String::from_utf8_lossy(&stored.message.payload);
            let is_served = stored.seq >= daemon.served_from;
            let lines = text.lines().filter(|line| !line.starts_with("{\"op\"") && !line.is_empty());
            for (place, line) in lines.enumerate().take(PLACES) {
                let number = number(place);
                let is_shown = daemon.delivered.get(&number).is_some_and(|shown| shown == line);
                let is_told = daemon.holes.iter().any(|hole| (hole.from..=hole.to).contains(&number));
                let is_repeated = key_of(line).is_some_and(|key| {
                    !before.insert(key.to_owned()) || keys.contains(key) || self.lost.contains(key)
                });
                assert!(
                    !is_served || is_shown || is_told || is_repeated || is_excused,
                    "{who:?} has not shown {number} of message {}: {line}",
                    stored.seq
                );
            }
        }
    }
}
