//! One connection: a socket that takes as much as it likes, its session, and the client who reads what it took.

use std::io::{self, ErrorKind};

use luxcast::delivery::keys::WatcherKey;
use luxcast::session::conversation::Session;

use super::conversation::Conversation;
use super::decoder::Decoder;
use super::message::Message;
use super::others::Others;

pub trait Client {
    type Others: Others;

    /// What a simulation keeps for each shard.
    type Notes: Default;

    fn id(&self) -> usize;

    /// The last position it knows, which `since=` may name.
    fn position(&self) -> Option<u64>;

    /// Checks a message at once.
    fn handle(&mut self, message: &Message<'_>, others: &Self::Others);

    /// It is gone.
    fn leave(self, key: WatcherKey, notes: &mut Self::Notes);
}

pub struct Socket<C> {
    pub client: C,
    pub decoder: Decoder,
    pub conversation: Conversation,
    /// Bytes that it takes before it is full.
    room: usize,
    /// It was full, so the next read makes an edge.
    pub wants_edge: bool,
    pub has_edge: bool,
    pub is_broken: bool,
    pub is_ending: bool,
    pub session: Option<Session>,
}

impl<C: Client> Socket<C> {
    pub fn new(client: C, decoder: Decoder, room: usize) -> Self {
        Self {
            client,
            decoder,
            conversation: Conversation::default(),
            room,
            wants_edge: false,
            has_edge: false,
            is_broken: false,
            is_ending: false,
            session: None,
        }
    }

    /// The client reads, so there is room again.
    pub fn read(&mut self, bytes: usize) {
        self.room = self.room.saturating_add(bytes);
        if self.wants_edge {
            self.wants_edge = false;
            self.has_edge = true;
        }
    }

    /// Makes an edge without room.
    pub fn nudge(&mut self) {
        self.has_edge |= !self.wants_edge;
    }

    /// The daemon may end the connection: it has said so, or nothing can be said.
    pub fn has_end(&self) -> bool {
        self.is_broken || self.decoder.is_closed() && self.conversation.has_farewell()
    }

    /// Checks that nothing is left half said, once everything is read.
    pub fn check_rest(&self) {
        let id = self.client.id();
        assert!(!self.decoder.is_closed(), "client {id}: a closed connection is gone");
        assert!(self.decoder.is_empty(), "client {id}: half a message came");
        assert!(self.conversation.is_answered(), "client {id}: it was not answered");
    }

    /// The daemon writes; it is told how much was taken.
    pub fn take(&mut self, slices: &[&[u8]], others: &mut C::Others) -> io::Result<usize> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(length > 0, "nothing is written");
        if self.is_broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let plan = others.sockets();
        if others.rng().chance(plan.interrupted_percent) {
            return Err(ErrorKind::Interrupted.into());
        }
        if self.room == 0 {
            self.wants_edge = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut taken = length.min(self.room);
        if others.rng().chance(plan.short_percent) {
            taken = others.rng().between(1, taken);
        }
        self.room -= taken;
        if taken < length {
            self.wants_edge = true;
            self.room = 0;
        }
        others.trace(|| format!("        client {} takes {taken} of {length}", self.client.id()));
        let mut left = taken;
        for slice in slices {
            let part = left.min(slice.len());
            self.decoder.push(&slice[..part]);
            left -= part;
        }
        while let Some(text) = self.decoder.next() {
            others.trace(|| format!("        client {} gets {text:.160}", self.client.id()));
            let message = Message::of(text);
            match &message {
                Message::Event(number, _) => self.conversation.hear_event(*number),
                Message::Notice(notice) => self.conversation.hear(notice),
            }
            self.client.handle(&message, others);
        }
        Ok(taken)
    }
}
