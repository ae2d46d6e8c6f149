//! Tells every watcher that the shared stream (`bus`) is away, or there again: a slice a turn, so that nobody waits.

use crate::delivery::keys::WatcherKey;
use crate::delivery::table::Slot;
use crate::net::shard::clients::Clients;

/// Connections in one slice.
const PLACES_PER_TURN: usize = 256;

#[derive(Default)]
pub struct Announcement {
    next: usize,
}

impl Announcement {
    /// Tells the next slice. Returns whether more is to follow.
    pub fn tell_slice(&mut self, clients: &mut Clients) -> bool {
        let end = clients.connections.end();
        let until = end.min(self.next + PLACES_PER_TURN);
        for slot in self.next..until {
            let key: Option<WatcherKey> = clients.watchers.watchers.key_at(Slot::new(slot));
            if let Some(key) = key {
                clients.tell_standing(key);
            }
        }
        self.next = until;
        until < end
    }
}
