//! A list of a shard's connections: made a slice a turn, so that nobody who is served notices.

use crossbeam_channel::Sender;

use crate::access::admission::Counted;
use crate::delivery::keys::WatcherKey;
use crate::delivery::table::Slot;
use crate::net::shard::clients::Clients;
use crate::net::shard::connection::Phase;
use crate::net::shard::connection_report::ConnectionReport;
use crate::tick::TICK_MILLIS;

/// Connections looked at in one turn, of which each job of a multi-job one counts as another: less than a tenth of a
/// millisecond.
const PLACES_PER_TURN: usize = 64;

/// A list that is wanted, and how far it is.
pub struct Survey {
    next: usize,
    answer: Sender<Vec<ConnectionReport>>,
}

impl Survey {
    pub fn new(answer: Sender<Vec<ConnectionReport>>) -> Self {
        Self { next: 0, answer }
    }

    /// Sends the next slice. Returns whether more is to follow.
    pub fn answer_slice(&mut self, clients: &mut Clients) -> bool {
        let end = clients.connections.end();
        let mut reports = Vec::new();
        let mut places = 0;
        while places < PLACES_PER_TURN && self.next < end {
            let key = clients.watchers.watchers.key_at(Slot::new(self.next));
            let report = key.and_then(|key| report(clients, key));
            self.next += 1;
            places +=
                1 + report.as_ref().map_or(0, |report| report.description.places.len().saturating_sub(1));
            reports.extend(report);
        }
        // The one who asked may have given up.
        self.answer.send(reports).is_ok() && self.next < end
    }
}

/// None: the connection is an operator's.
fn report(clients: &mut Clients, key: WatcherKey) -> Option<ConnectionReport> {
    let connection = clients.connections.get(key)?;
    if connection.counted == Counted::AsOperator {
        return None;
    }
    let is_compressed = matches!(&connection.phase, Phase::Open(session) if session.is_compressed());
    let (phase, view) = match &connection.phase {
        Phase::Shaking | Phase::Head(_) | Phase::Idle => ("opening", None),
        Phase::Open(session) => ("open", Some(session.view())),
        Phase::Publishing(_) => ("publishing", None),
        Phase::Asking(_) | Phase::Answering { .. } | Phase::Closing => ("closing", None),
    };
    Some(ConnectionReport {
        peer: clients.sockets.get(key).and_then(|socket| socket.peer_addr().ok()),
        client: connection.address(),
        shard: clients.environment.index,
        phase,
        view,
        is_compressed,
        age_millis: u64::from(clients.moment.tick().wrapping_sub(connection.came_at)) * TICK_MILLIS,
        description: clients.watchers.describe(key),
    })
}
