//! How watchers hop between the daemons of a world.

use luxcast::wire::client_action::Since;

use crate::hopper::Seat;
use crate::world::{Event, World};

/// What a watcher watches: everything, or the first job of some publisher.
pub(super) fn job_of_hopper(index: usize) -> Option<String> {
    match index {
        0..3 => None,
        3 => Some("p0-0".to_owned()),
        _ => Some("u1.1-0".to_owned()),
    }
}

impl World {
    pub(super) fn let_hop(&mut self, index: usize) {
        let pause = self.rng.between(10, 1_500) as u64;
        self.after(pause, Event::Hopper(index));
        let Some(seat) = self.hoppers[index].seat else { return self.join(index) };
        let choice = self.rng.below(8);
        let core = self.daemons[seat.daemon].core.as_mut().expect("it has a watcher");
        match choice {
            0..3 => {
                core.leave(seat.key);
                self.hoppers[index].leave();
                self.trace(|world| {
                    format!("watcher {index} hangs up at {:?}", world.hoppers[index].position)
                });
                if choice > 0 {
                    self.join(index);
                }
                return;
            }
            3 => core.beat(seat.key),
            4 => core.fill(seat.key),
            _ => core.make_room(seat.key),
        }
        self.serve_hoppers(seat.daemon);
    }

    /// Goes to some daemon, if that has come so far that it listens.
    fn join(&mut self, index: usize) {
        let daemon = self.rng.below(self.daemons.len());
        let wants_past = self.rng.chance(50);
        let Some(core) = &mut self.daemons[daemon].core else { return };
        let hopper = &mut self.hoppers[index];
        let since = match hopper.position {
            Some(position) => Since::After(position),
            None if wants_past => {
                (hopper.begun, hopper.position) = (core.run_start(), Some(0));
                Since::Start
            }
            None => Since::Now,
        };
        self.judge.tally.hops += 1;
        self.judge.tally.stood += u64::from(hopper.position.is_some_and(|at| at > core.published()));
        let key = core.join(hopper.job.as_deref(), since);
        hopper.seat = Some(Seat { daemon, key });
        self.trace(|world| {
            let published = world.daemons[daemon].published();
            format!("watcher {index} joins daemon {daemon}, which is at {published}, with {since:?}")
        });
        self.serve_hoppers(daemon);
    }

    /// Lets the watchers of a daemon get what they can take.
    pub(super) fn serve_hoppers(&mut self, daemon: usize) {
        self.daemons[daemon].serve();
        for hopper in &mut self.hoppers {
            let Some(seat) = hopper.seat.filter(|seat| seat.daemon == daemon) else { continue };
            let core = self.daemons[daemon].core.as_mut().expect("it has a watcher");
            let bytes = core.received(seat.key);
            hopper.receive(&bytes, &self.daemons[daemon], &mut self.judge);
        }
    }

    /// When all is at rest, each has everything, once.
    pub(super) fn check_hoppers(&mut self) {
        for index in 0..self.hoppers.len() {
            while self.hoppers[index].seat.is_none() {
                self.join(index);
            }
            let seat = self.hoppers[index].seat.expect("it has joined");
            self.take_all(seat);
            self.daemons[seat.daemon].core.as_mut().expect("it has a watcher").beat(seat.key);
            self.take_all(seat);
            let hopper = &self.hoppers[index];
            let newest = self.daemons[seat.daemon].published();
            assert!(
                hopper.position >= Some(newest),
                "watcher {index} is at {:?} of {newest}",
                hopper.position
            );
            hopper.check_end(&self.judge, &self.server.epochs, self.server.last);
        }
    }

    fn take_all(&mut self, seat: Seat) {
        loop {
            let core = self.daemons[seat.daemon].core.as_mut().expect("it has a watcher");
            core.make_room(seat.key);
            self.serve_hoppers(seat.daemon);
            if self.daemons[seat.daemon].core.as_ref().is_none_or(|core| !core.is_full(seat.key)) {
                return;
            }
        }
    }
}
