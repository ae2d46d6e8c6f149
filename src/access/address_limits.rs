//! The limits per address: how many connections each has, and how fast it makes new ones.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::access::client_address::counted_as;
use crate::access::token_bucket::TokenBucket;
use crate::tick::Tick;
use crate::wire::http::Refusal;

/// Below this many addresses there is no sweep.
const SWEEP_MIN: usize = 1024;

#[derive(Clone, Copy, Debug)]
pub struct AddressLimits {
    /// Zero: no limit.
    pub connections_max: usize,
    /// Zero: no limit. As many may come in one burst.
    pub handshakes_per_second: u32,
}

/// What an address has too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMany {
    Connections,
    Handshakes,
}

impl TooMany {
    /// The 429 that says so.
    pub fn refusal(self) -> Refusal {
        Refusal::too_many_requests(match self {
            TooMany::Connections => "too many connections from this address (connections_per_address_max)",
            TooMany::Handshakes => "too many handshakes a second from this address (handshakes_per_second)",
        })
    }
}

/// What is known of an address.
struct Visitor {
    connections: usize,
    handshakes: TokenBucket,
}

/// All addresses that have a connection or made one within the last second. They are counted even without limits: a
/// reload may set some.
pub struct AddressCounts {
    pub limits: AddressLimits,
    /// By [`counted_as`]. With the keyed hash of the standard library, since strangers choose their addresses.
    visitors: HashMap<IpAddr, Visitor>,
    /// At this many addresses a sweep forgets those without a connection or a recent handshake. It is twice what the
    /// last sweep left, so that sweeps cost little per visitor. The table stays in proportion to the open connections
    /// and the handshakes of one second.
    sweep_at: usize,
}

impl AddressCounts {
    pub fn new(limits: AddressLimits) -> Self {
        Self { limits, visitors: HashMap::new(), sweep_at: SWEEP_MIN }
    }

    /// Counts a new connection, if the limits allow it. Handshakes over loopback are not limited.
    pub fn enter(&mut self, address: IpAddr, now: Tick) -> Result<(), TooMany> {
        if self.visitors.len() >= self.sweep_at {
            self.sweep(now);
        }
        let AddressLimits { connections_max, handshakes_per_second: rate } = self.limits;
        let visitor = self
            .visitors
            .entry(counted_as(address))
            .or_insert_with(|| Visitor { connections: 0, handshakes: TokenBucket::new(rate, now) });
        if rate > 0 && !address.to_canonical().is_loopback() {
            visitor.handshakes.spend(now, rate, rate).map_err(|_| TooMany::Handshakes)?;
        }
        if connections_max > 0 && visitor.connections >= connections_max {
            return Err(TooMany::Connections);
        }
        visitor.connections += 1;
        Ok(())
    }

    /// Takes back the count of a connection that `enter` counted.
    pub fn leave(&mut self, address: IpAddr) {
        let visitor = self.visitors.get_mut(&counted_as(address)).expect("`enter` has counted it");
        visitor.connections -= 1;
    }

    fn sweep(&mut self, now: Tick) {
        let rate = self.limits.handshakes_per_second;
        self.visitors
            .retain(|_, visitor| visitor.connections > 0 || !visitor.handshakes.is_full(now, rate, rate));
        self.sweep_at = SWEEP_MIN.max(self.visitors.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressCounts, AddressLimits, SWEEP_MIN, TooMany};
    use crate::tick::TICK_MILLIS;
    use std::net::{IpAddr, Ipv4Addr};

    const SECOND: u32 = 1000 / TICK_MILLIS as u32;

    fn visitors(connections_max: usize, handshakes_per_second: u32) -> AddressCounts {
        AddressCounts::new(AddressLimits { connections_max, handshakes_per_second })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_bounded_per_address_and_per_network_of_ipv6() {
        let mut visitors = visitors(2, 0);
        let same = [
            ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"],
            ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:1"],
            ["127.0.0.1", "127.0.0.1", "127.0.0.1"],
        ];
        for [first, second, third] in same.map(|texts| texts.map(address)) {
            assert_eq!(visitors.enter(first, 0), Ok(()));
            assert_eq!(visitors.enter(second, 0), Ok(()));
            assert_eq!(visitors.enter(third, 0), Err(TooMany::Connections));
            // A refused connection does not count.
            visitors.leave(first);
            assert_eq!(visitors.enter(third, 0), Ok(()));
            assert_eq!(visitors.enter(first, 0), Err(TooMany::Connections));
        }
        assert_eq!(visitors.enter(address("2001:db8:0:1::1"), 0), Ok(()));
    }

    #[test]
    fn handshakes_are_bounded_per_second_except_over_loopback() {
        let mut visitors = visitors(0, 5);
        for text in ["192.0.2.1", "2001:db8::1"] {
            let stranger = address(text);
            for _ in 0..5 {
                assert_eq!(visitors.enter(stranger, 0), Ok(()));
            }
            assert_eq!(visitors.enter(stranger, 0), Err(TooMany::Handshakes));
            // One more is allowed every fifth of a second.
            assert_eq!(visitors.enter(stranger, SECOND / 5 - 1), Err(TooMany::Handshakes));
            assert_eq!(visitors.enter(stranger, SECOND / 5), Ok(()));
            assert_eq!(visitors.enter(stranger, SECOND / 5), Err(TooMany::Handshakes));
            // Another shard's clock may be behind.
            assert_eq!(visitors.enter(stranger, 0), Err(TooMany::Handshakes));
        }
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            for _ in 0..100 {
                assert_eq!(visitors.enter(address(text), 0), Ok(()), "{text}");
            }
        }
    }

    #[test]
    fn zero_is_no_limit_and_limits_may_come_later() {
        let mut visitors = visitors(0, 0);
        let stranger = address("192.0.2.1");
        for _ in 0..1000 {
            assert_eq!(visitors.enter(stranger, 0), Ok(()));
        }
        visitors.limits.connections_max = 1000;
        assert_eq!(visitors.enter(stranger, 0), Err(TooMany::Connections));
        visitors.leave(stranger);
        assert_eq!(visitors.enter(stranger, 0), Ok(()));
    }

    #[test]
    fn addresses_without_connections_are_forgotten_and_others_are_not() {
        let mut visitors = visitors(1, 10);
        let stranger = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number));
        let stays = stranger(0);
        assert_eq!(visitors.enter(stays, 0), Ok(()));
        let mut largest = 0;
        for number in 1..200_000 {
            // A thousand come each second.
            let now = number * SECOND / 1000;
            assert_eq!(visitors.enter(stranger(number), now), Ok(()));
            visitors.leave(stranger(number));
            largest = largest.max(visitors.visitors.len());
        }
        assert!(largest <= 2 * SWEEP_MIN, "{largest}");
        assert_eq!(visitors.enter(stays, 200 * SECOND), Err(TooMany::Connections));
    }
}
