//! One connection beside its socket and its watcher: the phase it is in, its deadlines, its unread rest.

use std::net::{IpAddr, Ipv6Addr};

use crate::access::admission::{Counted, NewConnection, TurnAway};
use crate::session::conversation::Session;
use crate::tick::Tick;
use crate::wire::answer::{ContentType, Then};
use crate::wire::message::MessageReader;

/// The life of a connection.
pub enum Phase {
    /// The handshake of TLS is under way; whether its client is turned away after it, since only then it can be told.
    Shaking(Option<TurnAway>),
    /// The request head comes in; what came so far.
    Head(Vec<u8>),
    Open(Session),
    /// Its answer in HTTP is being made elsewhere; to a HEAD without the body.
    Asking {
        is_of_head: bool,
        content_type: ContentType,
        then: Then,
        /// What came behind the request.
        rest: Vec<u8>,
    },
    /// An answer in HTTP is on its way out, for as long as the client takes it.
    Answering {
        then: Then,
        rest: Vec<u8>,
    },
    /// It has its answer, and nothing of another request has come.
    Idle,
    /// Its last bytes are on their way out, or are waited for to be read.
    Closing,
}

impl Phase {
    /// Keeps what comes behind a request until that is answered: the beginning of the next one. Of more than a head may
    /// have nothing is kept, and the connection ends behind the answer.
    pub fn keep_back(&mut self, bytes: &[u8], head_bytes_max: usize) {
        let (Phase::Asking { then, rest, .. } | Phase::Answering { then, rest }) = self else {
            return;
        };
        if rest.len() + bytes.len() > head_bytes_max {
            *then = Then::Close;
        }
        match then {
            Then::Next => rest.extend_from_slice(bytes),
            Then::Close => *rest = Vec::new(),
        }
    }
}

/// Which side of a connection says no more. When both do, it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    Open,
    /// Only the peer's end is waited for.
    OursShut,
    /// Only the end of the answer is waited for.
    TheirsShut,
}

pub struct Connection {
    /// Of IPv4 as IPv6 maps it (RFC 4291, 2.5.5.2): one byte less than an `IpAddr`, and so a word less for each
    /// connection.
    address: Ipv6Addr,
    pub counted: Counted,
    /// When it was accepted.
    pub came_at: Tick,
    pub phase: Phase,
    pub reader: MessageReader,
    /// The one deadline in the wheel that counts.
    pub due: Tick,
    /// Heartbeat intervals without a byte from the client.
    pub silent: u16,
    /// Something came since the last heartbeat.
    pub is_heard: bool,
    /// More may be waiting in the socket than was read.
    pub has_more: bool,
    /// A read that fills less than its buffer does not mean that the socket is empty: the peer's end has come, for
    /// which there is no further edge, or urgent data, at which a read stops (tcp(7)).
    pub reads_to_end: bool,
    /// The socket is watched for room: it was full once.
    pub awaits_room: bool,
    pub sides: Sides,
}

impl Connection {
    pub fn new(guest: NewConnection, came_at: Tick, phase: Phase, due: Tick) -> Self {
        Self {
            address: mapped(guest.address),
            counted: guest.counted,
            came_at,
            phase,
            reader: MessageReader::new(),
            due,
            silent: 0,
            is_heard: true,
            has_more: false,
            reads_to_end: false,
            awaits_room: false,
            sides: Sides::Open,
        }
    }

    /// The client's address; behind a trusted proxy it is the proxy's until the request has come.
    pub fn address(&self) -> IpAddr {
        IpAddr::V6(self.address).to_canonical()
    }

    /// Its token ends at some time, of which the wheel may tell beside the deadline.
    pub fn may_expire(&self) -> bool {
        matches!(&self.phase, Phase::Open(session) if session.permit().expires_at().is_some())
    }

    /// It is not the peer's own, but on behalf of this client.
    pub fn recognise(&mut self, client: IpAddr) {
        self.address = mapped(client);
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::{Connection, Phase};
    use crate::session::conversation::Session;
    use crate::wire::answer::Then;
    use crate::wire::message::MessageReader;

    #[test]
    fn a_connection_is_small() {
        // Ten thousand of them are idle most of the time: beside session and reader four words.
        assert!(size_of::<Connection>() <= size_of::<Phase>() + size_of::<MessageReader>() + 32);
        assert!(size_of::<Phase>() <= size_of::<Session>() + size_of::<usize>());
    }

    #[test]
    fn of_what_comes_behind_a_request_so_much_is_kept_as_a_head_may_have() {
        let mut phase = Phase::Answering { then: Then::Next, rest: Vec::new() };
        phase.keep_back(b"12345", 8);
        phase.keep_back(b"678", 8);
        assert!(matches!(&phase, Phase::Answering { then: Then::Next, rest } if rest == b"12345678"));
        phase.keep_back(b"9", 8);
        assert!(matches!(&phase, Phase::Answering { then: Then::Close, rest } if rest.capacity() == 0));
        phase.keep_back(b"1", 8);
        assert!(matches!(&phase, Phase::Answering { then: Then::Close, rest } if rest.is_empty()));
        let mut phase = Phase::Head(Vec::new());
        phase.keep_back(b"1", 8);
        assert!(matches!(&phase, Phase::Head(held) if held.is_empty()));
    }
}
