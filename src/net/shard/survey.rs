//! Where each connection stands: told to operators a slice a turn, so that nobody who is served notices.

use crate::access::admission::Counted;
use crate::delivery::keys::WatcherKey;
use crate::delivery::table::Slot;
use crate::net::shard::Shard;
use crate::net::shard::connection::Phase;
use crate::net::shard::connection_report::ConnectionReport;
use crate::tick::TICK_MILLIS;

/// Connections looked at in one turn, of which each job of a multi-job one counts as another: less than a tenth of a
/// millisecond.
const PLACES_PER_TURN: usize = 64;

impl Shard {
    /// Answers the next slice of the first request.
    pub(super) fn tell_sights(&mut self) {
        let Some(mut survey) = self.surveys.pop_front() else { return };
        let end = self.connections.len();
        let mut sights = Vec::new();
        let mut places = 0;
        while places < PLACES_PER_TURN && survey.next < end {
            let key = self.watchers.watchers.key_at(Slot::new(survey.next));
            let sight = key.and_then(|key| self.sight(key));
            survey.next += 1;
            places += 1 + sight.as_ref().map_or(0, |sight| sight.description.places.len().saturating_sub(1));
            sights.extend(sight);
        }
        // Whoever asked may have given up.
        if survey.answer.send(sights).is_ok() && survey.next < end {
            self.surveys.push_back(survey);
        }
    }

    fn sight(&mut self, key: WatcherKey) -> Option<ConnectionReport> {
        let connection = self.connections[key.index()].as_ref()?;
        if connection.counted == Counted::AsOperator {
            return None;
        }
        let (phase, view) = match &connection.phase {
            Phase::Shaking(_) | Phase::Head(_) | Phase::Idle => ("opening", None),
            Phase::Open(session) => ("open", Some(session.view())),
            Phase::Asking { .. } | Phase::Answering { .. } | Phase::Closing => ("closing", None),
        };
        let client = connection.address();
        let description = self.watchers.describe(key);
        Some(ConnectionReport {
            peer: self.sockets.get(key).and_then(|socket| socket.peer_addr().ok()),
            client,
            shard: self.parts.index,
            phase,
            view,
            age_millis: u64::from(self.moment.tick().wrapping_sub(connection.came_at)) * TICK_MILLIS,
            description,
        })
    }
}
