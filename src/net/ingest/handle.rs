//! How other threads wake the ingest thread and ask it for jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;

use crate::net::ingest::posted::PostedDesk;
use crate::stream::topic::Topic;

/// One job: the facts that only the ingest thread has.
pub struct JobReport {
    pub topic: Arc<Topic>,
    pub flow: Option<Arc<Topic>>,
}

/// A request for all jobs that is being answered.
pub(super) struct JobsRequest {
    /// The slot that the next slice begins at.
    pub next: u32,
    pub answer: Sender<Vec<JobReport>>,
}

/// The outside end of the ingest thread.
pub struct IngestWaker {
    pub waker: Waker,
    pub is_waiting: AtomicBool,
    /// How many publishers may be connected.
    pub publishers_max: AtomicUsize,
    /// Requests for all jobs: each is the channel for the answer.
    pub job_requests: Sender<Sender<Vec<JobReport>>>,
    pub pending_requests: Receiver<Sender<Vec<JobReport>>>,
    /// What is published over HTTP.
    pub posted: Arc<PostedDesk>,
}

impl IngestWaker {
    pub fn new(waker: Waker, publishers_max: usize) -> Self {
        let (job_requests, pending_requests) = unbounded();
        let publishers_max = AtomicUsize::new(publishers_max);
        Self {
            waker,
            is_waiting: AtomicBool::new(false),
            publishers_max,
            job_requests,
            pending_requests,
            posted: Arc::default(),
        }
    }

    pub fn wake(&self) {
        // An eventfd that cannot be written would mean that no more lines are taken.
        self.waker.wake().expect("the ingest thread's waker works");
    }
}
