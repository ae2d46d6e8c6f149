//! One connection beside its socket and its watcher: its phase, its deadline, what is kept of its requests.

use std::net::{IpAddr, Ipv6Addr};

use crate::access::admission::{Counted, NewConnection, TurnAway};
use crate::delivery::keys::WatcherKey;
use crate::net::shard::publishing::Publishing;
use crate::session::conversation::Session;
use crate::session::heartbeat::Silence;
use crate::tick::Tick;
use crate::wire::cross_origin::Readers;
use crate::wire::head_buffer::HeadBuffer;
use crate::wire::http_answer::{ContentType, Then};
use crate::wire::message_reader::MessageReader;

/// The life of a connection.
pub enum Phase {
    /// The handshake of TLS is under way. A client that is turned away is refused after it: before, it could not read
    /// that.
    Shaking,
    /// A request head comes in.
    Head(HeadBuffer),
    Open(Session),
    /// Its answer is being made by the report thread.
    Asking(Box<Asking>),
    /// It publishes.
    Publishing(Box<Publishing>),
    /// Its answer is being sent, for as long as the client takes it.
    Answering {
        then: Then,
        /// It has published: until its next request it keeps its place, as a publisher on the Unix socket does.
        is_publisher: bool,
        rest: Vec<u8>,
    },
    /// It has its answer; nothing of another request has come.
    Idle,
    /// Its last bytes are being sent or read.
    Closing,
}

/// What is known of an answer before it is made.
pub struct Asking {
    /// It has no body.
    pub is_of_head: bool,
    pub content_type: ContentType,
    pub readers: Readers,
    pub then: Then,
    /// What has come behind the request.
    pub rest: Vec<u8>,
}

impl Phase {
    /// Keeps what comes behind a request until that is answered: the beginning of the next one. Of too much nothing is
    /// kept, and the connection ends behind the answer.
    pub fn keep_back(&mut self, bytes: &[u8], bytes_max: usize) {
        let (then, rest) = match self {
            Phase::Asking(asking) => (&mut asking.then, &mut asking.rest),
            Phase::Answering { then, rest, .. } => (then, rest),
            _ => return,
        };
        if rest.len() + bytes.len() > bytes_max {
            *then = Then::Close;
        }
        match then {
            Then::Next => rest.extend_from_slice(bytes),
            Then::Close => *rest = Vec::new(),
        }
    }
}

/// Which side of a connection has ended. When both have, it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    Open,
    /// We have: the peer's end is still to come.
    OursShut,
    /// The peer has: the end of the answer is still to be sent.
    TheirsShut,
}

pub struct Connection {
    /// IPv4 mapped to IPv6 (RFC 4291, 2.5.5.2): one byte less than an `IpAddr`, and so a word less for each connection.
    address: Ipv6Addr,
    pub counted: Counted,
    /// There is no room for it: whatever it asks is refused.
    pub turn_away: Option<TurnAway>,
    /// When it was accepted.
    pub came_at: Tick,
    pub phase: Phase,
    pub reader: MessageReader,
    /// The one deadline in the wheel that counts.
    pub due: Tick,
    pub silence: Silence,
    /// More may be waiting in the socket than was read.
    pub has_more: bool,
    /// A read that fills less than its buffer does not mean that the socket is empty: there is the peer's end, for which
    /// no further edge comes, or urgent data, at which a read stops (tcp(7)).
    pub reads_to_end: bool,
    /// The socket was full once, and is watched for room since.
    pub awaits_room: bool,
    pub sides: Sides,
}

impl Connection {
    pub fn new(newcomer: NewConnection, came_at: Tick, phase: Phase, due: Tick) -> Self {
        Self {
            address: mapped(newcomer.address),
            counted: newcomer.counted,
            turn_away: newcomer.turn_away,
            came_at,
            phase,
            reader: MessageReader::new(),
            due,
            silence: Silence::default(),
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

    /// Its token expires at some time: the wheel may have an entry for that beside the deadline.
    pub fn may_expire(&self) -> bool {
        matches!(&self.phase, Phase::Open(session) if session.permit().expires_at().is_some())
    }

    /// A trusted proxy has named the client.
    pub fn recognise(&mut self, client: IpAddr) {
        self.address = mapped(client);
    }
}

/// A shard's connections, by their watchers' keys.
#[derive(Default)]
pub struct Connections(Vec<Option<Connection>>);

impl Connections {
    pub fn insert(&mut self, key: WatcherKey, connection: Connection) {
        if self.0.len() <= key.index() {
            self.0.resize_with(key.index() + 1, || None);
        }
        self.0[key.index()] = Some(connection);
    }

    pub fn remove(&mut self, key: WatcherKey) -> Option<Connection> {
        self.0.get_mut(key.index())?.take()
    }

    pub fn get(&self, key: WatcherKey) -> Option<&Connection> {
        self.by_index(key.index())
    }

    /// That of the watcher with this index, whichever it is.
    pub fn by_index(&self, index: usize) -> Option<&Connection> {
        self.0.get(index)?.as_ref()
    }

    /// One more than the greatest index that a connection ever had.
    pub fn end(&self) -> usize {
        self.0.len()
    }

    /// The connection of a watcher that is there.
    pub fn at(&mut self, key: WatcherKey) -> &mut Connection {
        self.0[key.index()].as_mut().expect("each watcher has a connection")
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
    use crate::wire::head_buffer::HeadBuffer;
    use crate::wire::http_answer::Then;
    use crate::wire::message_reader::MessageReader;

    #[test]
    fn a_connection_is_small() {
        // Ten thousand of them are idle most of the time: beside session and reader four words.
        assert!(size_of::<Connection>() <= size_of::<Phase>() + size_of::<MessageReader>() + 32);
        assert!(size_of::<Phase>() <= size_of::<Session>() + size_of::<usize>());
    }

    #[test]
    fn so_much_is_kept_of_what_comes_behind_a_request() {
        let mut phase = Phase::Answering { then: Then::Next, is_publisher: false, rest: Vec::new() };
        phase.keep_back(&[1; 99], 100);
        phase.keep_back(&[2], 100);
        let is_whole = |rest: &[u8]| rest.len() == 100 && rest.ends_with(&[1, 2]);
        assert!(matches!(&phase, Phase::Answering { then: Then::Next, rest, .. } if is_whole(rest)));
        phase.keep_back(&[3], 100);
        assert!(matches!(&phase, Phase::Answering { then: Then::Close, rest, .. } if rest.capacity() == 0));
        phase.keep_back(&[4], 100);
        assert!(matches!(&phase, Phase::Answering { then: Then::Close, rest, .. } if rest.is_empty()));
        let mut phase = Phase::Head(HeadBuffer::default());
        phase.keep_back(&[1], 100);
        assert!(matches!(&phase, Phase::Head(held) if held.is_empty()));
    }
}
