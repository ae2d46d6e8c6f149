//! Judges what one connection received, in order, as soon as the stream is known that far.

use std::collections::VecDeque;

use crate::check::{Checker, Said};
use crate::lines::JobId;
use crate::stream::Stream;

/// What came, for the topic of one job if the connection has many.
pub enum Entry {
    Said(Option<JobId>, Said),
    Join(JobId, Checker, Option<u64>),
    Leave(JobId),
}

struct Watched {
    job: Option<JobId>,
    checker: Checker,
    /// Up to here its past may come out of order with other jobs.
    past_until: u64,
}

pub struct Judge {
    name: String,
    watched: Vec<Watched>,
    entries: VecDeque<Entry>,
    newest: u64,
    pub events: u64,
    pub gaps: u64,
    pub overruns: u64,
}

impl Judge {
    pub fn new(name: String) -> Self {
        Self {
            name,
            watched: Vec::new(),
            entries: VecDeque::new(),
            newest: 0,
            events: 0,
            gaps: 0,
            overruns: 0,
        }
    }

    /// Sets the one topic of a connection, once it is known where it begins.
    pub fn begin(&mut self, checker: Checker) {
        self.watched.push(Watched { job: None, checker, past_until: 0 });
    }

    pub fn hear(&mut self, entry: Entry) {
        match &entry {
            Entry::Said(_, Said::Event { .. }) => self.events += 1,
            Entry::Said(_, Said::Gap { is_overrun, .. }) => {
                self.gaps += 1;
                self.overruns += u64::from(*is_overrun);
            }
            _ => {}
        }
        self.entries.push_back(entry);
    }

    pub fn is_done(&self) -> bool {
        self.entries.is_empty()
    }

    /// Judges what can be judged.
    pub fn judge(&mut self, stream: &Stream) -> Result<(), String> {
        while let Some(entry) = self.entries.front() {
            let needs = if let Entry::Said(_, said) = entry { said.needs() } else { 0 };
            if needs > stream.newest() {
                return Ok(());
            }
            let entry = self.entries.pop_front().expect("there is a first");
            self.take(entry, stream).map_err(|error| format!("{}: {error}", self.name))?;
        }
        Ok(())
    }

    /// Reports what is left although everything that happened is known.
    pub fn finish(&mut self, stream: &Stream) -> Result<(), String> {
        self.judge(stream)?;
        match self.is_done() {
            true => Ok(()),
            false => Err(format!("{}: something beyond event {}, the last", self.name, stream.newest())),
        }
    }

    fn take(&mut self, entry: Entry, stream: &Stream) -> Result<(), String> {
        match entry {
            Entry::Join(job, checker, past_until) => {
                let past_until = past_until.unwrap_or(0);
                self.watched.push(Watched { job: Some(job), checker, past_until });
                Ok(())
            }
            Entry::Leave(job) => {
                self.watched.retain(|watched| watched.job != Some(job));
                Ok(())
            }
            Entry::Said(job, said @ (Said::Event { .. } | Said::Gap { .. })) => {
                let mut watched = self.watched.iter_mut();
                let Some(watched) = watched.find(|watched| watched.job == job) else {
                    return Err(format!("{said:?} of {job:?}, which is not watched"));
                };
                if let Said::Event { seq, .. } = said
                    && seq > watched.past_until
                {
                    if seq <= self.newest {
                        return Err(format!("event {seq} after event {}", self.newest));
                    }
                    self.newest = seq;
                }
                watched.checker.take(said, stream)
            }
            Entry::Said(_, said) => {
                // A filter or a position applies to all its topics.
                self.watched.iter_mut().try_for_each(|watched| watched.checker.take(said, stream))
            }
        }
    }
}
