//! What a message of a shared stream says of the flows of its jobs.

/// A job, and the flow that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub job: Box<str>,
    pub flow: Box<str>,
}

/// What the lines taken in now are told of their jobs' flows.
#[derive(Default)]
pub(super) struct Told {
    /// By job; of each job one.
    flows: Vec<Flow>,
    /// Where the job of the last line is, most often the next line's job too.
    last: usize,
}

impl Told {
    pub fn set(&mut self, mut flows: Vec<Flow>) {
        flows.sort_by(|one, other| one.job.cmp(&other.job));
        // Of two for one job, the first counts.
        flows.dedup_by(|next, first| next.job == first.job);
        *self = Self { flows, last: 0 };
    }

    /// None: nothing is said of this job.
    pub fn flow_of(&mut self, job: &str) -> Option<&str> {
        if self.flows.get(self.last).is_none_or(|last| *last.job != *job) {
            self.last = self.flows.binary_search_by(|flow| (*flow.job).cmp(job)).ok()?;
        }
        Some(&self.flows[self.last].flow)
    }
}

#[cfg(test)]
mod tests {
    use super::{Flow, Told};

    #[test]
    fn of_each_job_the_first_flow_counts() {
        let flow = |job: &str, flow: &str| Flow { job: job.into(), flow: flow.into() };
        let mut told = Told::default();
        assert_eq!(told.flow_of("a"), None);
        told.set(vec![flow("b", "1"), flow("a", "2"), flow("b", "3")]);
        let found = ["a", "b", "b", "c", "a", ""].map(|job| told.flow_of(job).map(str::to_owned));
        assert_eq!(
            found.each_ref().map(Option::as_deref),
            [Some("2"), Some("1"), Some("1"), None, Some("2"), None]
        );
        told.set(Vec::new());
        assert_eq!(told.flow_of("a"), None);
    }
}
