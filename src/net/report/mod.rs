//! The report thread: it makes the answers that take longer than a shard may spend (lists, figures, health). Shards send it
//! inquiries and get answers back. It never waits for a client, and operators never wait for watchers.
#![doc = include_str!("README.md")]

pub mod arrivals;
pub mod connections;
pub mod figures;
pub mod gather;
pub mod inquiry;
pub mod jobs;
pub mod liveness;
pub mod metrics;
pub mod process;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::select;
use rustix::process::setpriority_process;

use crate::delivery::owned_body::{InFlightBudget, OwnedBody};
use crate::net::clock::{Clock, unix_micros};
use crate::net::ingest::handle::JobReport;
use crate::net::report::figures::Figures;
use crate::net::report::gather::{connections_of, jobs_of};
use crate::net::report::inquiry::{Inbox, Inquiry};
use crate::net::report::liveness::Liveness;
use crate::net::shard::connection_report::ConnectionReport;
use crate::net::shard::handle::Command;
use crate::session::questions::{JobsBy, JobsWanted, Question};
use crate::stream::directory::Directory;
use crate::wire::http::Refusal;

/// Figures younger than this are sent again, not made anew.
const FIGURES_AGE_MAX: Duration = Duration::from_secs(1);
/// The nice value of the report thread: the threads that serve watchers go first.
const NICENESS: i32 = 10;

pub struct Reporter {
    pub inbox: Inbox,
    pub liveness: Liveness,
    pub directory: Arc<Directory>,
    pub history_bytes_max: usize,
    pub clock: Clock,
    pub start: Instant,
    /// `start` in Unix time.
    pub start_unix_micros: i64,
}

/// State that is kept from one answer to the next.
#[derive(Default)]
struct Kept {
    figures: Option<(Instant, Vec<u8>)>,
    /// The budgets for answers that are being sent. Slow readers of one kind do not use the other's budget.
    for_operators: InFlightBudget,
    for_watchers: InFlightBudget,
}

/// Reports that serve all inquiries that wait together.
#[derive(Default)]
struct Gathered {
    /// The newest number before the jobs were gathered, and the jobs.
    jobs: Option<Result<(u64, Vec<JobReport>), Refusal>>,
    connections: Option<Result<Vec<ConnectionReport>, Refusal>>,
    /// The name of a thread that begins no turn, if there is one.
    stalled: Option<Option<String>>,
}

impl Reporter {
    /// Answers inquiries until all shards have ended.
    pub fn run(self) -> io::Result<()> {
        // This sets the priority of the calling thread only (setpriority(2), NOTES). A failure does no harm.
        let _ = setpriority_process(None, NICENESS);
        let mut kept = Kept::default();
        loop {
            select! {
                recv(self.inbox.of_operators) -> first => match first {
                    Ok(first) => self.answer_operators(first, &mut kept),
                    Err(_) => return Ok(()),
                },
                recv(self.inbox.of_watchers) -> first => match first {
                    Ok(first) => self.answer_watchers(first, &mut kept),
                    Err(_) => return Ok(()),
                },
            }
        }
    }

    /// Answers all operators that wait, quick answers first.
    fn answer_operators(&self, first: Inquiry, kept: &mut Kept) {
        let mut all: Vec<Inquiry> = [first].into_iter().chain(self.inbox.of_operators.try_iter()).collect();
        all.sort_by_key(|inquiry| !inquiry.question.is_quick());
        let mut gathered = Gathered::default();
        for inquiry in &all {
            let made = self.make(&inquiry.question, &mut gathered, &mut kept.figures);
            self.deliver(inquiry, made, &kept.for_operators);
        }
    }

    /// Answers all watchers that wait. Operators that come meanwhile are answered before the next watcher.
    fn answer_watchers(&self, first: Inquiry, kept: &mut Kept) {
        let all: Vec<Inquiry> = [first].into_iter().chain(self.inbox.of_watchers.try_iter()).collect();
        let mut gathered = Gathered::default();
        for inquiry in &all {
            while let Ok(first) = self.inbox.of_operators.try_recv() {
                self.answer_operators(first, kept);
            }
            let made = self.make(&inquiry.question, &mut gathered, &mut kept.figures);
            self.deliver(inquiry, made, &kept.for_watchers);
        }
    }

    fn deliver(&self, inquiry: &Inquiry, made: Result<Vec<u8>, Refusal>, budget: &InFlightBudget) {
        let answer = made.and_then(|mut bytes| {
            bytes.shrink_to_fit();
            let body = OwnedBody::new(bytes, budget);
            body.ok_or_else(|| Refusal::full("too many long answers are being sent; try again"))
        });
        let Inquiry { shard, key, .. } = *inquiry;
        self.liveness.shards[shard].send(Command::Answer { key, answer });
    }

    fn make(
        &self,
        question: &Question,
        gathered: &mut Gathered,
        figures: &mut Option<(Instant, Vec<u8>)>,
    ) -> Result<Vec<u8>, Refusal> {
        match question {
            Question::Jobs(wanted) => self.jobs(wanted, gathered),
            Question::Arrivals(range) => {
                Ok(arrivals::write(range, &self.directory.all, self.directory.published()))
            }
            Question::Figures => self.figures(figures),
            Question::Metrics => Ok(metrics::write(&metrics::Sources {
                liveness: &self.liveness,
                directory: &self.directory,
                history_bytes_max: self.history_bytes_max,
                clock: self.clock,
                start_unix_micros: self.start_unix_micros,
            })),
            Question::Connections(wanted) => {
                let shards = &self.liveness.shards;
                let reports = gathered.connections.get_or_insert_with(|| connections_of(shards));
                let reports = reports.as_ref().map_err(Clone::clone)?;
                Ok(connections::write(wanted, reports))
            }
            Question::Ready => match gathered.stalled.get_or_insert_with(|| self.liveness.stalled_thread()) {
                Some(thread) => Err(Refusal::stalled(thread)),
                None => Ok(b"ready\n".to_vec()),
            },
        }
    }

    /// Answers with the jobs. They are gathered once for all inquiries that wait together.
    fn jobs(&self, wanted: &JobsWanted, gathered: &mut Gathered) -> Result<Vec<u8>, Refusal> {
        let gathered = gathered.jobs.get_or_insert_with(|| {
            let newest = self.directory.published();
            jobs_of(&self.liveness.ingest, &self.liveness.admission).map(|jobs| (newest, jobs))
        });
        let (newest, jobs) = gathered.as_ref().map_err(|refusal| match wanted.by {
            JobsBy::Operator => refusal.clone(),
            JobsBy::Watcher(_) => self.late_refusal(),
        })?;
        Ok(jobs::write(wanted, jobs, &self.directory, (*newest, unix_micros())))
    }

    fn figures(&self, made: &mut Option<(Instant, Vec<u8>)>) -> Result<Vec<u8>, Refusal> {
        if let Some((at, bytes)) = made
            && at.elapsed() < FIGURES_AGE_MAX
        {
            return Ok(bytes.clone());
        }
        let bytes = Figures {
            uptime: self.start.elapsed(),
            unix_micros: unix_micros(),
            newest: self.directory.published(),
            history_bytes_max: self.history_bytes_max,
            connections: self.liveness.admission.connections(),
            counters: &self.liveness.counters,
        }
        .write(|| connections_of(&self.liveness.shards).map_err(|_| self.late_refusal()))?;
        *made = Some((Instant::now(), bytes.clone()));
        Ok(bytes)
    }

    /// The refusal for a watcher when a thread has not answered in time.
    fn late_refusal(&self) -> Refusal {
        match self.liveness.admission.is_draining() {
            true => Refusal::draining(),
            false => Refusal::full("the daemon is too busy to answer; try again"),
        }
    }
}
