//! Asks shards and the ingest thread for reports, and waits for them. Each thread answers with one slice per turn, so only
//! this thread waits.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::access::admission::Admission;
use crate::net::ingest::handle::IngestWaker;
use crate::net::ingest::handle::JobReport;
use crate::net::shard::connection_report::ConnectionReport;
use crate::net::shard::handle::{Command, ShardHandle};
use crate::wire::http::Refusal;

/// The longest wait for the next slice.
const PATIENCE: Duration = Duration::from_secs(2);

/// The shards' reports on their connections, in the order of arrival.
///
/// # Errors
/// A shard has not answered in time.
pub fn connections_of(shards: &[ShardHandle]) -> Result<Vec<ConnectionReport>, Refusal> {
    let (sender, receiver) = unbounded();
    for shard in shards {
        shard.send(Command::Survey(sender.clone()));
    }
    drop(sender);
    gather(&receiver, "of a shard")
}

/// The jobs that the ingest thread knows.
///
/// # Errors
/// The thread has not answered in time, or the daemon drains: the ingest thread ends first.
pub fn jobs_of(ingest: &IngestWaker, admission: &Admission) -> Result<Vec<JobReport>, Refusal> {
    if admission.is_draining() {
        return Err(Refusal::draining());
    }
    let (sender, receiver) = unbounded();
    // Both ends of the channel are in the waker, so this cannot fail.
    let _ = ingest.job_requests.send(sender);
    ingest.wake();
    gather(&receiver, "ingest")
}

/// Receives slices until every sender is dropped.
fn gather<T>(receiver: &Receiver<Vec<T>>, thread: &str) -> Result<Vec<T>, Refusal> {
    let mut all = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(mut slice) => all.append(&mut slice),
            Err(RecvTimeoutError::Disconnected) => return Ok(all),
            Err(RecvTimeoutError::Timeout) => return Err(Refusal::stalled(thread)),
        }
    }
}
