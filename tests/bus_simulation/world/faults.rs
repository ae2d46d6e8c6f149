//! What goes wrong in a world.

use std::sync::Arc;

use luxcast::bus::numbers::PLACES;

use crate::daemon::Daemon;
use crate::server::{Message, Server};
use crate::world::{Answer, BASE, DAEMONS, Event, World};

impl World {
    pub(super) fn step(&mut self) {
        self.after(100, Event::Step);
        if !self.is_chaotic {
            return;
        }
        if self.rng.below(1_000) < self.plan.foreign {
            self.publish_foreign();
        }
        if !self.per_mille(self.plan.faults) {
            return;
        }
        let index = self.rng.below(DAEMONS);
        match self.rng.below(11) {
            0 => self.take_server_down(),
            1 => self.disconnect_if(index),
            2 | 3 => self.harm_consumer(),
            4 | 5 if self.plan.loses_tail => self.lose_tail(),
            6 if self.plan.deletes => self.delete(),
            7 if self.plan.kills => self.kill(index),
            8 if self.plan.replaces_stream => self.replace_stream(),
            9 => self.cut_off(index),
            10 => self.lead_astray(index),
            _ => {}
        }
    }

    fn publish_foreign(&mut self) {
        self.foreign += 1;
        // Some programs send more than a message may have.
        let is_long = self.rng.chance(2);
        let count = if is_long { self.rng.between(PLACES - 1, PLACES + 2) } else { self.rng.between(1, 3) };
        self.judge.tally.cut += u64::from(count > PLACES);
        let lines: Vec<String> = (0..count)
            .map(|line| format!(r#"{{"type":"t","job_id":"ext","key":"ext{}:{}"}}"#, self.foreign, line + 1))
            .collect();
        let id = self.rng.chance(30).then(|| format!("ext{}:1", self.foreign));
        let count = self.rng.chance(30).then(|| "7-9".to_owned());
        let payload = Arc::new(lines.join("\n").into_bytes());
        let is_odd = self.rng.chance(self.plan.odd_percent);
        if self.server.is_up {
            self.store(&Arc::new(Message { id, lines: count, from: None, payload, is_odd }));
        }
    }

    fn take_server_down(&mut self) {
        self.trace(|_| "the server is down".into());
        self.server.is_up = false;
        if self.rng.chance(50) {
            self.server.consumers.clear();
        }
        let pause = *self.rng.pick(&[300, 3_000, 10_000, 30_000]);
        self.after(pause, Event::ServerUp);
        for index in 0..DAEMONS {
            // Who is not told has to find out.
            if self.rng.chance(60) {
                let link = (self.daemons[index].life, self.daemons[index].link);
                let late = self.rng.between(1, 200) as u64;
                self.after(late, Event::Disconnect(index, link));
            }
        }
    }

    fn disconnect_if(&mut self, index: usize) {
        if self.daemons[index].is_connected {
            self.disconnect(index);
        }
    }

    /// It gets no messages any more, then nothing, and comes back when the server has forgotten its ids.
    fn cut_off(&mut self, index: usize) {
        self.trace(|_| format!("daemon {index} is cut off"));
        self.stop_consumers(index);
        let daemon = &mut self.daemons[index];
        daemon.is_cut_off = true;
        let link = (daemon.life, daemon.link);
        let pause = self.rng.between(10, 2_500) as u64;
        self.after(pause, Event::Disconnect(index, link));
    }

    /// Until it takes another server.
    fn lead_astray(&mut self, index: usize) {
        self.trace(|_| format!("daemon {index} is led astray"));
        self.stop_consumers(index);
        self.daemons[index].is_astray = true;
    }

    fn stop_consumers(&mut self, index: usize) {
        for (_, consumer) in self.server.consumers.iter_mut().filter(|(key, _)| key.0 == index) {
            consumer.is_stuck = true;
        }
    }

    fn harm_consumer(&mut self) {
        let keys: Vec<_> = self.server.consumers.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        let key = *self.rng.pick(&keys);
        self.trace(|_| format!("consumer {key:?} is harmed"));
        match self.rng.below(3) {
            0 => drop(self.server.consumers.remove(&key)),
            1 => self.server.consumers.get_mut(&key).expect("it is there").is_stuck = true,
            _ => {
                self.server.consumers.remove(&key);
                let link = (self.daemons[key.0].life, key.1);
                self.answer(key.0, link, Answer::Gone { attempt: key.2 });
            }
        }
    }

    fn lose_tail(&mut self) {
        let left = self.server.last.saturating_sub(self.rng.between(1, 3) as u64);
        self.trace(|_| format!("all behind message {left} is lost"));
        for stored in self.server.log.range(left + 1..).map(|(_, stored)| stored) {
            self.judge.handle_lost(stored, true);
        }
        self.judge.handle_truncated(left, &self.server, &self.daemons);
        self.server.truncate(left);
        if self.rng.chance(50) {
            self.server.forget_ids();
        }
        // All servers that had it have lost it, so they were down, and consumers are in memory. Who read without one had
        // no answer.
        let has_consumer = |index: &usize| self.server.consumers.keys().any(|key| key.0 == *index);
        let without: Vec<usize> = (0..DAEMONS).filter(|index| !has_consumer(index)).collect();
        self.server.consumers.clear();
        without.into_iter().for_each(|index| self.disconnect_if(index));
    }

    fn delete(&mut self) {
        let seqs: Vec<u64> = self.server.log.keys().copied().collect();
        if seqs.is_empty() {
            return;
        }
        // One anywhere, or the oldest.
        let count = if self.rng.chance(50) { 1 } else { self.rng.between(1, seqs.len()) };
        let first = if count == 1 { self.rng.below(seqs.len()) } else { 0 };
        self.trace(|_| format!("messages from {} on are deleted: {count}", seqs[first]));
        for seq in &seqs[first..first + count] {
            let stored = self.server.log.remove(seq).expect("it is there");
            self.judge.handle_lost(&stored, false);
        }
    }

    fn kill(&mut self, index: usize) {
        self.trace(|_| format!("daemon {index} is killed"));
        for hopper in &mut self.hoppers {
            if hopper.seat.is_some_and(|seat| seat.daemon == index) {
                hopper.leave();
            }
        }
        for publisher in 0..self.publishers.len() {
            let state = &mut self.publishers[publisher];
            if state.connection.is_some_and(|connection| connection.daemon == index) {
                state.connection = None;
            }
            if state.waits_for == Some(index) {
                state.waits_for = None;
            }
        }
        let link = self.daemons[index].link;
        self.server.consumers.retain(|key, _| (key.0, key.1) != (index, link));
        let (from, served_from) = self.start();
        let old = &self.daemons[index];
        let mut new = Daemon::new(index, old.life + 1, &self.plan, from, served_from);
        (new.link, new.sent_until, new.heard_until) = (old.link + 1, old.sent_until, old.heard_until);
        if served_from > 1 {
            self.judge.has_losses = true;
        }
        self.daemons[index] = new;
        self.judge.tally.kills += 1;
        let pause = self.rng.between(10, 3_000) as u64;
        self.after(pause, Event::Connect(index));
    }

    /// Where a daemon that starts now begins to read, and to serve.
    fn start(&self) -> (u64, u64) {
        let newest = self.server.log.values().next_back().map_or(0, |stored| stored.time_nanos / 1_000_000);
        let since = |millis: u64| {
            let mut stored = self.server.log.values();
            let first = stored.find(|stored| stored.time_nanos / 1_000_000 >= millis);
            first.map_or(self.server.last + 1, |stored| stored.seq)
        };
        let from = since(newest.saturating_sub(2 * self.plan.history_millis));
        if from == 1 { (1, 1) } else { (from, since(newest.saturating_sub(self.plan.history_millis))) }
    }

    fn replace_stream(&mut self) {
        self.trace(|_| "the stream is replaced".into());
        let has_room = self.rng.chance(50);
        // Some may be under way to daemons yet.
        let epochs = &self.server.epochs;
        let stored = epochs.number(self.server.last.max(1), PLACES - 1).expect("it is in range");
        let newest = self.newest.max(stored);
        let base = if has_room { newest + 10_000 } else { BASE };
        for stored in self.server.log.values() {
            self.judge.handle_lost(stored, true);
        }
        let mut server = Server::new(base.max(BASE), self.plan.window_millis);
        server.created_nanos = self.server.created_nanos + 1;
        (server.is_up, server.stores) = (self.server.is_up, self.server.stores);
        self.server = server;
        self.judge.handle_replaced(newest);
        // One that has not seen the old stream begins where it would have.
        for daemon in self.daemons.iter_mut().filter(|daemon| daemon.reader.epochs().is_some()) {
            daemon.served_from = 1;
        }
    }
}
