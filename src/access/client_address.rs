//! Finds a client's address behind proxies, and says what counts as one address.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use crate::wire::forwarded::forwarded_for;

/// Bits of an IPv6 address that name its network (RFC 4291, 2.5.4): a client with one address has all that share
/// them.
const NETWORK_BITS: u8 = 64;

/// What counts as one address for the limits per address: an IPv4 address, or an IPv6 network.
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Net::new_assert(address, NETWORK_BITS).network())
        }
        address => address,
    }
}

/// The proxies whose `X-Forwarded-For` is believed.
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    pub fn new(trusted: Vec<IpNet>) -> Self {
        Self(trusted)
    }

    pub fn are_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client's address. From the peer on, each trusted proxy names the next address. An address that is not
    /// trusted is the client: what it names may be made up. An item that is no address ends the list, too, and the
    /// last proxy counts as the client.
    pub fn client(&self, peer: IpAddr, head: &[u8]) -> IpAddr {
        let mut client = peer.to_canonical();
        for named in forwarded_for(head) {
            match named {
                Some(named) if self.are_trusted(client) => client = named,
                _ => break,
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::{Proxies, counted_as};

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let table = [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("::1", "::1"),
        ];
        for (address, expected) in table {
            assert_eq!(counted_as(address.parse().unwrap()).to_string(), expected, "{address}");
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_trusted() {
        let networks = ["10.0.0.0/8", "127.0.0.1/32", "2001:db8::/32"];
        let proxies = Proxies::new(networks.map(|network| network.parse().unwrap()).to_vec());
        let table = [
            // An untrusted peer's list does not count.
            ("192.0.2.9", "192.0.2.1", "192.0.2.9"),
            ("127.0.0.1", "192.0.2.1", "192.0.2.1"),
            ("::ffff:127.0.0.1", "192.0.2.1", "192.0.2.1"),
            ("2001:db8::7", "192.0.2.1", "192.0.2.1"),
            ("127.0.0.1", "192.0.2.1, 192.0.2.2", "192.0.2.2"),
            ("127.0.0.1", "192.0.2.1, 10.1.2.3, 10.1.2.4", "192.0.2.1"),
            ("127.0.0.1", "8.8.8.8, 192.0.2.1, 10.1.2.3", "192.0.2.1"),
            ("127.0.0.1", "10.1.2.3, 10.1.2.4", "10.1.2.3"),
            ("127.0.0.1", "", "127.0.0.1"),
            ("127.0.0.1", "192.0.2.1, unknown", "127.0.0.1"),
            ("127.0.0.1", "192.0.2.1, unknown, 10.1.2.3", "10.1.2.3"),
            ("127.0.0.1", "unknown, 192.0.2.1", "192.0.2.1"),
            ("127.0.0.2", "192.0.2.1", "127.0.0.2"),
        ];
        for (peer, list, expected) in table {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {list}\r\n\r\n");
            let client = proxies.client(peer.parse().unwrap(), head.as_bytes());
            assert_eq!(client.to_string(), expected, "{list} from {peer}");
        }
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(proxies.client("10.0.0.1".parse().unwrap(), head).to_string(), "10.0.0.1");
    }
}
