//! What other threads ask of the ingest thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;

use crate::stream::topic::Topic;

/// One job, as far as only the ingest thread can tell.
pub struct JobReport {
    pub topic: Arc<Topic>,
    pub flow: Option<Arc<Topic>>,
}

/// A request for all jobs that is being answered, and where the next slice begins.
pub(super) struct JobsRequest {
    pub next: u32,
    pub answer: Sender<Vec<JobReport>>,
}

/// What others ask of the ingest thread: to wake, and to tell of jobs.
pub struct IngestWaker {
    pub waker: Waker,
    pub is_waiting: AtomicBool,
    /// How many publishers may be connected.
    pub publishers_max: AtomicUsize,
    /// Where lists of jobs are wanted.
    pub job_requests: Sender<Sender<Vec<JobReport>>>,
    pub pending_requests: Receiver<Sender<Vec<JobReport>>>,
}

impl IngestWaker {
    pub fn new(waker: Waker, publishers_max: usize) -> Self {
        let (job_requests, pending_requests) = unbounded();
        let publishers_max = AtomicUsize::new(publishers_max);
        Self { waker, is_waiting: AtomicBool::new(false), publishers_max, job_requests, pending_requests }
    }

    pub fn wake(&self) {
        // As with a shard's.
        self.waker.wake().expect("the ingest thread's waker works");
    }
}
