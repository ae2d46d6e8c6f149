//! What the threads that serve are asked for, a slice a turn of each: it is waited for here, by nobody else.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::access::admission::Admission;
use crate::net::ingest::handle::IngestWaker;
use crate::net::ingest::handle::JobReport;
use crate::net::shard::connection_report::ConnectionReport;
use crate::net::shard::handle::{Command, ShardHandle};
use crate::wire::http::Refusal;

/// What is asked of a thread has to be there within this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the shards see, each slice as it comes.
///
/// # Errors
/// A shard has not told in time.
pub fn connections_of(shards: &[ShardHandle]) -> Result<Vec<ConnectionReport>, Refusal> {
    let (sender, receiver) = unbounded();
    for shard in shards {
        shard.send(Command::Survey(sender.clone()));
    }
    drop(sender);
    gather(&receiver, "of a shard")
}

/// The jobs that the ingest thread knows, each slice as it comes.
///
/// # Errors
/// It has not told in time, or the daemon drains: it ends before everybody else.
pub fn jobs_of(ingest: &IngestWaker, admission: &Admission) -> Result<Vec<JobReport>, Refusal> {
    if admission.is_draining() {
        return Err(Refusal::draining());
    }
    let (sender, receiver) = unbounded();
    // The ingest thread is there for as long as its waker.
    let _ = ingest.job_requests.send(sender);
    ingest.wake();
    gather(&receiver, "ingest")
}

/// All that comes until everybody who was asked is done.
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
