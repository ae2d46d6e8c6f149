//! Whether a new connection is served: counts over all shards, and the reasons to turn one away.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::access::address_limits::{AddressCounts, AddressLimits, TooMany};
use crate::access::client_address::Proxies;
use crate::access::refusal_log::RefusalLog;
use crate::tick::Tick;
use crate::wire::http::Refusal;

/// Most sockets at one time that are only sent a refusal or the end of an answer. Each stays until its client has read
/// that. They take no place in `connections_max`; their descriptors are reserved. Beyond this number a new connection is
/// refused without an answer.
pub const REFUSED_MAX: usize = 64;
/// Most of these places that idle connections may take: those that have their answer and may send another request. A
/// connection beyond this number is closed after its answer.
const IDLE_MAX: usize = REFUSED_MAX / 2;

/// Why an accepted socket is refused before its request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnAway {
    Full,
    TooMany(TooMany),
    Draining,
    NoDescriptor,
}

impl TurnAway {
    pub fn refusal(self) -> Refusal {
        match self {
            TurnAway::Full => Refusal::full("no room for another connection (connections_max)"),
            TurnAway::NoDescriptor => Refusal::full("no room for another connection (file limit)"),
            TurnAway::TooMany(what) => what.refusal(),
            TurnAway::Draining => Refusal::draining(),
        }
    }
}

/// Which counts include a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// All connections. Its address does not count yet: a trusted proxy has still to name it.
    InAll,
    /// All connections, and those of its address.
    WithAddress,
    /// Operators, who have a listener and places of their own.
    AsOperator,
    /// Idle connections, which have their answer and may send another request.
    AsIdle,
    /// Sockets that are only sent a refusal or the end of an answer.
    AsRefused,
    /// None: there is no room for a refusal either.
    Not,
}

/// A connection as it was accepted.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection {
    pub address: IpAddr,
    pub counted: Counted,
    pub turn_away: Option<TurnAway>,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    pub connections_max: usize,
    pub of_address: AddressLimits,
}

/// Counts connections over all shards and applies the limits.
pub struct Admission {
    connections_max: AtomicUsize,
    /// Without the refused and the idle ones. At most `connections_max`, unless that was lowered.
    connections: AtomicUsize,
    /// `refused + idle <= REFUSED_MAX`, unless the daemon drains or two threads add one at once.
    refused: AtomicUsize,
    /// At most `IDLE_MAX`.
    idle: AtomicUsize,
    refusal_log: Mutex<RefusalLog>,
    /// When that has something left to log; `u64::MAX`: it has not.
    refusal_rest_at: AtomicU64,
    addresses: Mutex<AddressCounts>,
    is_draining: AtomicBool,
    /// No descriptor was left for a connection, and none has been closed since.
    is_short: AtomicBool,
}

impl Admission {
    pub fn new(limits: AdmissionLimits) -> Self {
        Self {
            connections_max: AtomicUsize::new(limits.connections_max),
            connections: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            refusal_log: Mutex::default(),
            refusal_rest_at: AtomicU64::new(u64::MAX),
            addresses: Mutex::new(AddressCounts::new(limits.of_address)),
            is_draining: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
        }
    }

    /// Applies other limits to new connections. Open ones stay.
    pub fn set_limits(&self, limits: AdmissionLimits) {
        self.connections_max.store(limits.connections_max, Ordering::Relaxed);
        self.addresses.lock().limits = limits.of_address;
    }

    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// All sockets but those of operators. Idle and refused ones count until they are closed.
    pub fn connections(&self) -> usize {
        let counters = [&self.connections, &self.refused, &self.idle];
        counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// Sockets that take a place of `connections_max`.
    pub fn places_taken(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn connections_max(&self) -> usize {
        self.connections_max.load(Ordering::Relaxed)
    }

    /// Adds a connection to the count, unless there is no room. The caller takes it out again.
    fn enter(&self) -> Result<(), TurnAway> {
        if self.is_draining() {
            return Err(TurnAway::Draining);
        }
        let max = self.connections_max.load(Ordering::Relaxed);
        let entered = self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |connections| {
            (connections < max).then_some(connections + 1)
        });
        entered.map(drop).map_err(|_| TurnAway::Full)
    }

    /// Adds a refused socket to the count, if there is room to send it a refusal.
    pub fn refuse(&self) -> Counted {
        // In a drain all watchers come back at once. So a refusal may also use the place of a watcher that has gone.
        let left = match self.is_draining() {
            true => self.connections_max().saturating_sub(self.connections.load(Ordering::Relaxed)),
            false => 0,
        };
        let idle = self.idle.load(Ordering::Relaxed);
        let refused = self.refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |refused| {
            (refused + idle < REFUSED_MAX + left).then_some(refused + 1)
        });
        if refused.is_ok() { Counted::AsRefused } else { Counted::Not }
    }

    /// Frees the place of a connection that waits only for its last bytes, if there is room among the refused. Otherwise it
    /// keeps its place until it is closed. Returns where it counts now.
    pub fn free_place(&self, counted: Counted, address: IpAddr) -> Counted {
        match counted {
            Counted::InAll | Counted::WithAddress if self.refuse() == Counted::AsRefused => {
                self.count_out(counted, address);
                Counted::AsRefused
            }
            _ => counted,
        }
    }

    /// Frees the place of a connection that has its answer, until it sends another request. None: it has to be closed.
    pub fn make_idle(&self, counted: Counted, address: IpAddr) -> Option<Counted> {
        match counted {
            // A new connection needs its descriptor.
            _ if self.is_short() => None,
            Counted::AsOperator => Some(counted),
            Counted::InAll | Counted::WithAddress if !self.is_draining() => {
                let refused = self.refused.load(Ordering::Relaxed);
                let idle = self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |idle| {
                    (idle < IDLE_MAX && idle + refused < REFUSED_MAX).then_some(idle + 1)
                });
                idle.ok()?;
                self.count_out(counted, address);
                Some(Counted::AsIdle)
            }
            _ => None,
        }
    }

    /// Admits an idle connection that sends another request, as if it were new.
    pub fn readmit(&self, counted: Counted, address: IpAddr, proxies: &Proxies, now: Tick) -> NewConnection {
        if counted != Counted::AsIdle {
            return NewConnection { address, counted, turn_away: None };
        }
        self.count_out(counted, address);
        self.admit_socket(address, proxies, now)
    }

    fn count_out(&self, counted: Counted, address: IpAddr) {
        match counted {
            Counted::InAll => drop(self.connections.fetch_sub(1, Ordering::Relaxed)),
            Counted::WithAddress => {
                self.connections.fetch_sub(1, Ordering::Relaxed);
                self.addresses.lock().leave(address);
            }
            Counted::AsRefused => drop(self.refused.fetch_sub(1, Ordering::Relaxed)),
            Counted::AsIdle => drop(self.idle.fetch_sub(1, Ordering::Relaxed)),
            Counted::AsOperator | Counted::Not => {}
        }
    }

    /// Some: a refusal for this reason is to be logged, with the number of such refusals that were not logged before.
    pub fn note_refusal(&self, reason: (u16, &'static str), now_millis: u64) -> Option<u64> {
        let mut log = self.refusal_log.lock();
        let noted = log.note(reason, now_millis);
        self.refusal_rest_at.store(log.rest_at().unwrap_or(u64::MAX), Ordering::Relaxed);
        noted
    }

    /// When [`Admission::take_refusal_rest`] has something. None: all was logged.
    pub fn refusal_rest_at(&self) -> Option<u64> {
        Some(self.refusal_rest_at.load(Ordering::Relaxed)).filter(|&at| at != u64::MAX)
    }

    /// A reason that has stopped coming with some refusals not logged, and their number.
    pub fn take_refusal_rest(&self, now_millis: u64) -> Option<((u16, &'static str), u64)> {
        if self.refusal_rest_at.load(Ordering::Relaxed) > now_millis {
            return None;
        }
        let mut log = self.refusal_log.lock();
        let rest = log.take_rest(now_millis);
        self.refusal_rest_at.store(log.rest_at().unwrap_or(u64::MAX), Ordering::Relaxed);
        rest
    }

    /// Adds a connection to the count of its address.
    ///
    /// # Errors
    /// The address has too many.
    pub fn admit(&self, address: IpAddr, now: Tick) -> Result<(), TooMany> {
        self.addresses.lock().enter(address, now)
    }

    /// A new connection waits for a descriptor.
    pub fn note_short(&self) {
        self.is_short.store(true, Ordering::Relaxed);
    }

    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Takes a closed socket out of the counts. True: a new connection waits for its descriptor.
    pub fn leave(&self, counted: Counted, address: IpAddr) -> bool {
        self.count_out(counted, address);
        self.is_short() && self.is_short.swap(false, Ordering::Relaxed)
    }

    /// Adds a new connection to the counts, or turns it away if there is no room.
    pub fn admit_socket(&self, address: IpAddr, proxies: &Proxies, now: Tick) -> NewConnection {
        if let Err(turn_away) = self.enter() {
            return NewConnection { address, counted: self.refuse(), turn_away: Some(turn_away) };
        }
        if proxies.are_trusted(address) {
            return NewConnection { address, counted: Counted::InAll, turn_away: None };
        }
        match self.admit(address, now) {
            Ok(()) => NewConnection { address, counted: Counted::WithAddress, turn_away: None },
            Err(too_many) => {
                self.connections.fetch_sub(1, Ordering::Relaxed);
                NewConnection {
                    address,
                    counted: self.refuse(),
                    turn_away: Some(TurnAway::TooMany(too_many)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Admission, AdmissionLimits, IDLE_MAX, REFUSED_MAX};
    use super::{Counted, TurnAway};
    use crate::access::address_limits::{AddressLimits, TooMany};
    use crate::access::client_address::Proxies;

    fn admission(connections_max: usize, of_address_max: usize) -> Admission {
        let of_address = AddressLimits { connections_max: of_address_max, handshakes_per_second: 0 };
        Admission::new(AdmissionLimits { connections_max, of_address })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_refusal_takes_no_place_of_a_connection_and_there_are_only_a_few() {
        let (admission, no_proxies) = (admission(8, 5), Proxies::new(Vec::new()));
        let greedy = address("192.0.2.1");
        for _ in 0..5 {
            let new = admission.admit_socket(greedy, &no_proxies, 0);
            assert_eq!((new.counted, new.turn_away), (Counted::WithAddress, None));
        }
        let too_many = Some(TurnAway::TooMany(TooMany::Connections));
        for _ in 0..REFUSED_MAX {
            let new = admission.admit_socket(greedy, &no_proxies, 0);
            assert_eq!((new.counted, new.turn_away), (Counted::AsRefused, too_many));
        }
        for _ in 0..1_000 {
            let new = admission.admit_socket(greedy, &no_proxies, 0);
            assert_eq!((new.counted, new.turn_away), (Counted::Not, too_many));
        }
        for number in 2..5 {
            let new = admission.admit_socket(address(&format!("192.0.2.{number}")), &no_proxies, 0);
            assert_eq!((new.counted, new.turn_away), (Counted::WithAddress, None));
        }
        assert_eq!(admission.connections(), 8 + REFUSED_MAX);
        let late = address("192.0.2.9");
        assert_eq!(admission.admit_socket(late, &no_proxies, 0).turn_away, Some(TurnAway::Full));
        // A free place goes to the next connection, however many are being refused.
        admission.leave(Counted::AsRefused, greedy);
        assert_eq!(admission.admit_socket(late, &no_proxies, 0).counted, Counted::AsRefused);
        admission.leave(Counted::WithAddress, greedy);
        assert_eq!(admission.admit_socket(late, &no_proxies, 0).counted, Counted::WithAddress);
        assert_eq!(admission.admit_socket(greedy, &no_proxies, 0).turn_away, Some(TurnAway::Full));
    }

    #[test]
    fn one_too_many_of_an_address_behind_a_proxy_frees_its_place() {
        let (admission, proxies) = (admission(2, 1), Proxies::new(vec!["10.0.0.1/32".parse().unwrap()]));
        let proxy = address("10.0.0.1");
        let client = address("192.0.2.1");
        assert_eq!(admission.admit_socket(proxy, &proxies, 0).counted, Counted::InAll);
        assert_eq!(admission.admit(client, 0), Ok(()));
        assert_eq!(admission.admit_socket(proxy, &proxies, 0).counted, Counted::InAll);
        assert_eq!(admission.admit(client, 0), Err(TooMany::Connections));
        assert_eq!(admission.free_place(Counted::InAll, client), Counted::AsRefused);
        assert_eq!(admission.admit_socket(proxy, &proxies, 0).counted, Counted::InAll);
        assert_eq!(admission.admit_socket(proxy, &proxies, 0).turn_away, Some(TurnAway::Full));
        // The first one has its answer: its address may have another.
        assert_eq!(admission.free_place(Counted::WithAddress, client), Counted::AsRefused);
        assert_eq!(admission.admit(client, 0), Ok(()));
        assert_eq!(admission.free_place(Counted::AsRefused, client), Counted::AsRefused);
    }

    #[test]
    fn without_room_among_the_refused_a_connection_keeps_its_place() {
        let (admission, no_proxies) = (admission(2 * REFUSED_MAX, 0), Proxies::new(Vec::new()));
        let client = address("192.0.2.1");
        for number in 0..2 * REFUSED_MAX {
            assert_eq!(admission.admit_socket(client, &no_proxies, 0).counted, Counted::WithAddress);
            let expected = if number < REFUSED_MAX { Counted::AsRefused } else { Counted::WithAddress };
            assert_eq!(admission.free_place(Counted::WithAddress, client), expected);
        }
        assert_eq!(admission.connections(), 2 * REFUSED_MAX);
    }

    #[test]
    fn an_idle_connection_takes_no_place_and_is_admitted_anew() {
        let (admission, no_proxies) = (admission(2, 1), Proxies::new(Vec::new()));
        let (client, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let readmit = |counted: Counted| admission.readmit(counted, client, &no_proxies, 0);
        assert_eq!(admission.admit_socket(client, &no_proxies, 0).counted, Counted::WithAddress);
        assert_eq!(admission.make_idle(Counted::WithAddress, client), Some(Counted::AsIdle));
        // Its address may have another meanwhile, and then this one is one too many.
        assert_eq!(admission.admit_socket(client, &no_proxies, 0).counted, Counted::WithAddress);
        let too_many = readmit(Counted::AsIdle);
        assert_eq!(too_many.turn_away, Some(TurnAway::TooMany(TooMany::Connections)));
        admission.leave(too_many.counted, client);
        assert_eq!(admission.make_idle(Counted::WithAddress, client), Some(Counted::AsIdle));
        for counted in [Counted::AsIdle, Counted::AsOperator] {
            let back = readmit(counted);
            assert_eq!(back.turn_away, None);
            assert_eq!(back.counted == Counted::AsOperator, counted == Counted::AsOperator);
        }
        assert_eq!(admission.admit_socket(other, &no_proxies, 0).counted, Counted::WithAddress);
        assert_eq!(admission.connections(), 2);
        assert_eq!(admission.make_idle(Counted::AsOperator, client), Some(Counted::AsOperator));
        assert_eq!(admission.make_idle(Counted::AsRefused, client), None);
        admission.drain();
        assert_eq!(
            admission.make_idle(Counted::WithAddress, client),
            None,
            "no connection stays idle in a drain"
        );
    }

    #[test]
    fn idle_connections_are_few_and_leave_room_for_refusals() {
        let (admission, no_proxies) = (admission(2 * REFUSED_MAX, 0), Proxies::new(Vec::new()));
        let client = address("192.0.2.1");
        for number in 0..REFUSED_MAX {
            let counted = admission.admit_socket(client, &no_proxies, 0).counted;
            let idle = admission.make_idle(counted, client);
            assert_eq!(idle, (number < IDLE_MAX).then_some(Counted::AsIdle), "{number}");
        }
        for number in 0..REFUSED_MAX {
            let is_room = number < REFUSED_MAX - IDLE_MAX;
            assert_eq!(admission.refuse() == Counted::AsRefused, is_room, "{number}");
        }
        admission.leave(Counted::AsIdle, client);
        assert_eq!(admission.make_idle(Counted::WithAddress, client), Some(Counted::AsIdle));
        admission.note_short();
        assert_eq!(
            admission.make_idle(Counted::AsOperator, client),
            None,
            "a new connection needs its descriptor"
        );
    }

    #[test]
    fn a_drain_counts_refused_sockets_until_they_are_closed() {
        let (admission, no_proxies) = (admission(2, 0), Proxies::new(Vec::new()));
        admission.drain();
        let new = admission.admit_socket(address("192.0.2.1"), &no_proxies, 0);
        assert_eq!((new.counted, new.turn_away), (Counted::AsRefused, Some(TurnAway::Draining)));
        assert_eq!(admission.connections(), 1);
        admission.leave(new.counted, new.address);
        assert_eq!(admission.connections(), 0);
    }
}
