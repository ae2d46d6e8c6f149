//! Questions that take longer to answer than a shard's turn may, read from a request. Another thread answers them.

use crate::access::rights::Permit;
use crate::session::endpoint::Data;
use crate::stream::jobs::JobStatus;
use crate::stream::numbers::SEQ_END;
use crate::wire::http::Refusal;
use crate::wire::http_answer::ContentType;
use crate::wire::query;

/// Jobs in one answer for a watcher, at most: some MiB.
const JOBS_MAX: usize = 10_000;
/// Rows of a list for operators, at most.
const ROWS_MAX: usize = 1_000_000;

/// What a client that may know it wants to know.
pub enum Question {
    Jobs(JobsWanted),
    Arrivals(Range),
    Figures,
    Metrics,
    Connections(ConnectionsWanted),
    /// Whether no thread has stalled.
    Ready,
}

/// Which jobs, and how many.
pub struct JobsWanted {
    pub status: Option<JobStatus>,
    pub flow: Option<String>,
    /// Only this one.
    pub job: Option<String>,
    /// Only jobs whose first event has a smaller number.
    pub after: Option<u64>,
    pub limit: usize,
    pub by: JobsBy,
}

/// Who asks for jobs.
pub enum JobsBy {
    /// A watcher, who sees the jobs that the permit allows.
    Watcher(Permit),
    /// An operator, who sees all jobs, with more about each.
    Operator,
}

/// Numbers from `from` to `to`, both included.
pub struct Range {
    pub from: u64,
    pub to: u64,
}

/// Which connections, by order and number.
pub struct ConnectionsWanted {
    pub sort: Option<Sort>,
    pub limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Lag,
    Age,
    Bytes,
    Position,
}

impl Question {
    /// Reads the question for `data`, which `permit` allows.
    ///
    /// # Errors
    /// A parameter is wrong.
    pub fn parse(data: Data, query: Option<&str>, permit: Permit) -> Result<Self, Refusal> {
        Ok(match data {
            Data::Jobs => Question::Jobs(JobsWanted::parse(query, JobsBy::Watcher(permit))?),
            Data::AllJobs => Question::Jobs(JobsWanted::parse(query, JobsBy::Operator)?),
            Data::Arrivals => Question::Arrivals(Range::parse(query)?),
            Data::Daemon => Question::Figures,
            Data::Metrics => Question::Metrics,
            Data::Connections => Question::Connections(ConnectionsWanted::parse(query)?),
            Data::Ready => Question::Ready,
        })
    }

    /// The content type of the answer.
    pub fn content_type(&self) -> ContentType {
        match self {
            Question::Metrics => ContentType::Metrics,
            Question::Ready => ContentType::Text,
            Question::Jobs(_) | Question::Arrivals(_) | Question::Figures | Question::Connections(_) => {
                ContentType::Json
            }
        }
    }

    /// Whether the answer needs no other thread.
    pub fn is_quick(&self) -> bool {
        match self {
            Question::Metrics | Question::Arrivals(_) => true,
            Question::Jobs(_) | Question::Figures | Question::Connections(_) | Question::Ready => false,
        }
    }
}

impl JobsWanted {
    fn parse(query: Option<&str>, by: JobsBy) -> Result<Self, Refusal> {
        let [status, state, flow, job, after, limit] =
            query::read_all(query, ["status", "state", "flow", "job", "after", "limit"])?;
        let statuses = || JobStatus::ALL.map(|status| (status.as_str(), status));
        let (limit_max, state) = match by {
            JobsBy::Watcher(_) => (JOBS_MAX, None),
            // The older name of `status`, for operators.
            JobsBy::Operator => (ROWS_MAX, query::word("state", state.as_deref(), statuses())?),
        };
        Ok(Self {
            status: query::word("status", status.as_deref(), statuses())?.or(state),
            flow: flow.map(Into::into),
            job: job.map(Into::into),
            after: after.map(|after| query::number("after", &after, u64::MAX)).transpose()?,
            limit: query::limit(limit.as_deref(), limit_max)?,
            by,
        })
    }
}

impl Range {
    fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let [from, to] = query::read_all(query, ["from", "to"])?;
        let number = |name: &str, text: Option<&str>, usual: u64| {
            text.map_or(Ok(usual), |text| query::number(name, text, SEQ_END))
        };
        Ok(Self { from: number("from", from.as_deref(), 1)?, to: number("to", to.as_deref(), SEQ_END)? })
    }
}

impl ConnectionsWanted {
    fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let [sort, limit] = query::read_all(query, ["sort", "limit"])?;
        let sorts =
            [("lag", Sort::Lag), ("age", Sort::Age), ("bytes", Sort::Bytes), ("position", Sort::Position)];
        Ok(Self {
            sort: query::word("sort", sort.as_deref(), sorts)?,
            limit: query::limit(limit.as_deref(), ROWS_MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{JobsWanted, Question, Sort};
    use crate::access::rights::Permit;
    use crate::session::endpoint::Data;
    use crate::stream::jobs::JobStatus;
    use crate::wire::query::ROWS;

    fn parse(data: Data, query: &str) -> Result<Question, (u16, &'static str)> {
        let question = Question::parse(data, Some(query), Permit::Everything);
        question.map_err(|refusal| (refusal.status.code(), refusal.code))
    }

    fn jobs(data: Data, query: &str) -> JobsWanted {
        match parse(data, query) {
            Ok(Question::Jobs(wanted)) => wanted,
            _ => panic!("{query}"),
        }
    }

    #[test]
    fn parameters_for_jobs_are_read_alike_for_watchers_and_operators() {
        for data in [Data::Jobs, Data::AllJobs] {
            let wanted = jobs(data, "");
            assert_eq!((wanted.limit, wanted.after, wanted.status, wanted.flow), (ROWS, None, None, None));
            let wanted = jobs(data, "job=%6A");
            assert_eq!(wanted.job.as_deref(), Some("j"));
            let wanted = jobs(data, "limit=10000&after=17&status=failed&flow=a%3Ab&x=%&token=t");
            assert_eq!((wanted.limit, wanted.after), (10_000, Some(17)));
            assert_eq!((wanted.status, wanted.flow.as_deref()), (Some(JobStatus::Failed), Some("a:b")));
        }
        assert_eq!(jobs(Data::AllJobs, "state=lost&limit=1000000").status, Some(JobStatus::Lost));
        assert_eq!(jobs(Data::Jobs, "state=lost").status, None, "`state` has no meaning there");
    }

    #[test]
    fn wrong_parameters_are_refused() {
        let of_jobs = [
            "limit=0",
            "limit=10000001",
            "limit=",
            "limit=x",
            "limit=+1",
            "limit=1&limit=1",
            "after=",
            "after=-1",
            "after=0",
            "after=99999999999999999999",
            "status=",
            "status=Running",
            "flow=%",
            "flow=%ff",
            "flow=a&flow=a",
            "job=%",
            "job=a&job=a",
        ];
        let of_ranges = ["from=0", "from=", "to=x", "from=1&from=2", "to=99999999999999999999"];
        let of_connections = ["sort=name", "sort=", "limit=0", "limit=1e3", "limit=1000001", "sort=%zz"];
        for (data, queries) in [
            (Data::Jobs, &of_jobs[..]),
            (Data::Jobs, &["limit=10001"]),
            (Data::AllJobs, &of_jobs),
            (Data::AllJobs, &["state=done"]),
            (Data::Arrivals, &of_ranges),
            (Data::Connections, &of_connections),
        ] {
            for query in queries {
                assert_eq!(parse(data, query).err(), Some((400, "bad_parameter")), "{data:?} {query}");
            }
        }
    }

    #[test]
    fn ranges_and_orders_are_read() {
        let range = |query: &str| match parse(Data::Arrivals, query) {
            Ok(Question::Arrivals(range)) => (range.from, range.to),
            _ => panic!("{query}"),
        };
        assert_eq!((range(""), range("from=7&to=9&token=t")), ((1, 1 << 53), (7, 9)));
        let order = |query: &str| match parse(Data::Connections, query) {
            Ok(Question::Connections(wanted)) => (wanted.sort, wanted.limit),
            _ => panic!("{query}"),
        };
        assert_eq!(order("x=%"), (None, ROWS));
        assert!(parse(Data::Connections, "%=x").is_err(), "a name is malformed");
        assert_eq!(order("sort=lag&limit=1000000"), (Some(Sort::Lag), 1_000_000));
        for data in [Data::Daemon, Data::Metrics, Data::Ready] {
            assert!(parse(data, "limit=x&%").is_ok(), "{data:?} has no parameters");
        }
    }
}
