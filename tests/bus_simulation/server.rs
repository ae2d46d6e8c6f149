//! A model of JetStream: one stream, its window of ids, its consumers. What it does wrong is decided elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use luxcast::bus::numbers::Epochs;
use luxcast::bus::verdict::Info;

/// What a message takes of a pull beside its payload.
const MESSAGE_BYTES: u64 = 100;

#[derive(Debug)]
pub struct Message {
    pub id: Option<String>,
    pub lines: Option<String>,
    pub from: Option<String>,
    pub payload: Arc<Vec<u8>>,
    /// It ends the connection of whoever gets it through a consumer.
    pub is_odd: bool,
}

#[derive(Debug)]
pub struct Stored {
    pub seq: u64,
    pub time_nanos: u64,
    pub message: Arc<Message>,
}

impl Stored {
    pub fn bytes(&self) -> u64 {
        self.message.payload.len() as u64 + MESSAGE_BYTES
    }
}

#[derive(Debug)]
pub struct Consumer {
    pub next: u64,
    pub delivered: u64,
    pub credit: u64,
    /// It says that it is there, and delivers nothing.
    pub is_stuck: bool,
}

/// Who a consumer belongs to: a daemon, its connection, its attempt.
pub type ConsumerKey = (usize, u64, u64);

pub struct Server {
    pub created_nanos: u64,
    pub epochs: Epochs,
    pub log: BTreeMap<u64, Arc<Stored>>,
    pub last: u64,
    pub stores: u64,
    window_millis: u64,
    ids: HashMap<String, (u64, u64)>,
    pub consumers: BTreeMap<ConsumerKey, Consumer>,
    pub is_up: bool,
}

impl Server {
    pub fn new(base: u64, window_millis: u64) -> Self {
        Self {
            created_nanos: base,
            epochs: Epochs::new(base).expect("it is in range"),
            log: BTreeMap::new(),
            last: 0,
            stores: 0,
            window_millis,
            ids: HashMap::new(),
            consumers: BTreeMap::new(),
            is_up: true,
        }
    }

    pub fn info(&self) -> Info {
        Info {
            created_nanos: self.created_nanos,
            epochs: self.epochs.clone(),
            first: self.log.keys().next().copied().unwrap_or(self.last + 1),
            last: self.last,
        }
    }

    /// The message that has taken this id within the window.
    pub fn known(&self, id: &str, now: u64) -> Option<u64> {
        self.ids.get(id).filter(|(_, time)| time + self.window_millis > now).map(|(seq, _)| *seq)
    }

    /// From now on this id counts as taken.
    pub fn remember(&mut self, id: &str, seq: u64, now: u64) {
        self.ids.insert(id.to_owned(), (seq, now));
    }

    pub fn forget_ids(&mut self) {
        self.ids.clear();
    }

    /// Stores a message that is no duplicate.
    pub fn store(&mut self, message: &Arc<Message>, now: u64) -> Arc<Stored> {
        self.last += 1;
        self.stores += 1;
        // No two messages have the same time.
        let time_nanos = now * 1_000_000 + self.stores % 1_000_000;
        let stored = Stored { seq: self.last, time_nanos, message: message.clone() };
        let stored = Arc::new(stored);
        self.log.insert(self.last, stored.clone());
        if let Some(id) = &message.id {
            self.remember(id, self.last, now);
        }
        stored
    }

    pub fn pending(&self, from: u64) -> u64 {
        self.log.range(from..).count() as u64
    }

    /// The messages behind `last` are gone, and their sequences are given again.
    pub fn truncate(&mut self, last: u64) {
        self.log.split_off(&(last + 1));
        self.last = last;
    }
}
