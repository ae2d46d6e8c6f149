//! The thread that makes what takes longer than a shard may: under `/console` the jobs that somebody may see, and the
//! daemon's own figures. Shards hand it inquiries and get the answers back; nothing here waits for a client.
#![doc = include_str!("README.md")]

pub mod admin;
pub mod arrivals;
pub mod figures;
pub mod jobs;
pub mod liveness;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::setpriority_process;

use crate::access::rights::Permit;
use crate::delivery::keys::WatcherKey;
use crate::delivery::owned_body::{InFlightBudget, OwnedBody};
use crate::metrics::Counters;
use crate::net::clock::unix_micros;
use crate::net::ingest::maintenance::JobReport;
use crate::net::listen::listener::Admission;
use crate::net::report::admin::{NICENESS, jobs_of, sights_of};
use crate::net::report::arrivals::Range;
use crate::net::report::figures::Figures;
use crate::net::report::jobs::Listing;
use crate::net::shard::IngestWaker;
use crate::net::shard::handle::{Command, ShardHandle};
use crate::stream::directory::Directory;
use crate::wire::http::Refusal;

/// Orders that wait: those that wait together are answered from one look at the jobs.
const ORDERS_MAX: usize = 256;
/// Figures are made anew so often at most, however many ask.
const FIGURES_AGE_MAX: Duration = Duration::from_secs(1);

/// What somebody wants who may have it.
pub enum Question {
    Jobs(Listing, Permit),
    Arrivals(Range),
    Figures,
}

/// A wish, and the connection that has it.
pub struct Inquiry {
    pub shard: usize,
    pub key: WatcherKey,
    pub wish: Question,
}

pub fn inquiries() -> (Sender<Inquiry>, Receiver<Inquiry>) {
    bounded(ORDERS_MAX)
}

pub struct Reporter {
    pub inquiries: Receiver<Inquiry>,
    pub shards: Vec<ShardHandle>,
    pub ingest: Arc<IngestWaker>,
    pub admission: Arc<Admission>,
    pub directory: Arc<Directory>,
    pub counters: Arc<Counters>,
    pub history_bytes_max: usize,
    pub start: Instant,
}

impl Reporter {
    /// Answers until nobody is left who could ask.
    pub fn run(self) -> io::Result<()> {
        // Whoever watches goes first. Of the calling thread alone (setpriority(2), NOTES); without it nothing is wrong.
        let _ = setpriority_process(None, NICENESS);
        let afloat = InFlightBudget::default();
        let mut figures: Option<(Instant, Vec<u8>)> = None;
        while let Ok(first) = self.inquiries.recv() {
            let inquiries: Vec<Inquiry> = [first].into_iter().chain(self.inquiries.try_iter()).collect();
            let mut jobs = None;
            for order in inquiries {
                let made = match &order.wish {
                    Question::Jobs(listing, permit) => self.list(&mut jobs, listing, permit),
                    Question::Arrivals(range) => {
                        Ok(range.write(&self.directory.all, self.directory.published()))
                    }
                    Question::Figures => self.figures(&mut figures),
                };
                self.deliver(&order, made, &afloat);
            }
        }
        Ok(())
    }

    fn deliver(&self, order: &Inquiry, made: Result<Vec<u8>, Refusal>, afloat: &InFlightBudget) {
        let answer = made.and_then(|mut bytes| {
            bytes.shrink_to_fit();
            let parcel = OwnedBody::new(bytes, afloat);
            parcel.ok_or_else(|| Refusal::full("too many long answers are on their way; try again"))
        });
        let Inquiry { shard, key, .. } = *order;
        self.shards[shard].send(Command::Answer { key, answer });
    }

    /// The jobs, gathered after the first of these inquiries came, and so for all of them.
    fn list(
        &self,
        jobs: &mut Option<Result<(u64, Vec<JobReport>), Refusal>>,
        listing: &Listing,
        permit: &Permit,
    ) -> Result<Vec<u8>, Refusal> {
        let gathered = jobs.get_or_insert_with(|| {
            let newest = self.directory.published();
            jobs_of(&self.ingest, &self.admission).map(|jobs| (newest, jobs)).map_err(|_| self.is_late())
        });
        let (newest, jobs) = gathered.as_ref().map_err(Clone::clone)?;
        Ok(listing.write(jobs, permit, *newest, unix_micros()))
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
            connections: self.admission.connections(),
            counters: &self.counters,
        }
        .write(|| sights_of(&self.shards).map_err(|_| self.is_late()))?;
        *made = Some((Instant::now(), bytes.clone()));
        Ok(bytes)
    }

    /// A thread has not told in time what it sees.
    fn is_late(&self) -> Refusal {
        match self.admission.is_draining() {
            true => Refusal::draining(),
            false => Refusal::full("the daemon is too busy to tell; try again"),
        }
    }
}
