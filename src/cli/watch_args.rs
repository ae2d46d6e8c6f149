//! What to watch and how, from the command line, variables and a pasted address.

use std::ffi::OsString;
use std::time::Duration;

use clap::ValueHint;

use crate::cli::address::Pasted;
use crate::cli::daemon_args::{DaemonArgs, Given, variable};
use crate::cli::transport::Transport;
use crate::wire::client_action::Since;
use crate::wire::line::{is_id, is_type_name};

/// Types that show how a job ends. Those that were not asked for are not shown.
const ENDING_TYPES: &[&str] =
    &["job_started", "job_resumed", "job_completed", "job_failed", "job_cancelled", "metrics"];

#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// Watch this job only, even before it starts
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = id, group = "what",
          value_hint = ValueHint::Other)]
    pub job: Option<String>,
    /// Watch this flow only, with all its jobs
    #[arg(long, value_name = "ID", allow_hyphen_values = true, value_parser = id, group = "what",
          value_hint = ValueHint::Other)]
    pub flow: Option<String>,
    /// Watch every event of the daemon (the default)
    #[arg(long, group = "what")]
    pub all: bool,
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// How the events come
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub transport: Transport,
    /// Only events of these types, separated by commas
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = type_name, value_hint = ValueHint::Other)]
    pub events: Vec<String>,
    /// With --job: only the events that debuggers use (jobs, routines, breakpoints, execution)
    #[arg(long, conflicts_with_all = ["flow", "all"])]
    pub debug: bool,
    /// With --job: end when the job ends, at once if it has ended already. Exit with 3 if it is lost: its publisher was
    /// silent for the daemon's job_idle_seconds
    #[arg(long, conflicts_with_all = ["flow", "all"])]
    pub until_end: bool,
    /// End when the connection ends, instead of reconnecting
    #[arg(long)]
    pub once: bool,
    /// End after this time in all; with --until-end exit with 3 then
    #[arg(long, value_name = "SECONDS", value_parser = seconds, value_hint = ValueHint::Other)]
    pub timeout: Option<Duration>,
    /// How long to try to connect, at first and after the connection is lost [default: one attempt at first, later
    /// for ever]
    #[arg(long, value_name = "SECONDS", conflicts_with = "once", value_parser = seconds, value_hint = ValueHint::Other)]
    pub give_up: Option<Duration>,
    /// Replaces `give_up` after the first connection.
    #[arg(skip)]
    pub give_up_later: Option<Duration>,
    /// From the address.
    #[arg(skip)]
    pub pasted_since: Option<Since>,
}

impl WatchArgs {
    /// Fills in from variables and from the pasted address what no flag gives.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn complete(&mut self) -> Result<(), String> {
        self.complete_from(variable)
    }

    fn complete_from(&mut self, variable: impl Fn(&str) -> Option<OsString>) -> Result<(), String> {
        if let Some(Given { pasted, name }) = self.daemon.complete(variable)? {
            self.take(pasted).map_err(|problem| format!("{name} {problem}"))?;
        }
        for (flag, is_given) in [("--until-end", self.until_end), ("--debug", self.debug)] {
            if is_given && self.job.is_none() {
                return Err(format!("{flag} needs --job"));
            }
        }
        Ok(())
    }

    /// Flags take precedence, but they must agree with the address on what to watch.
    fn take(&mut self, pasted: Pasted) -> Result<(), String> {
        let Pasted { job, flow, is_debug, is_multi_job, since: first, events, .. } = pasted;
        let names_another = |named: &Option<String>, given: &Option<String>, others: bool| {
            named.is_some() && (others || (given.is_some() && given != named))
        };
        if names_another(&job, &self.job, self.flow.is_some() || self.all)
            || names_another(&flow, &self.flow, self.job.is_some() || self.all)
        {
            return Err("does not name the same as the other flags".to_owned());
        }
        if is_multi_job && self.job.is_none() && self.flow.is_none() && !self.all {
            return Err("is the multi-job endpoint's, which does not say what to watch: \
                        add --job, --flow or --all"
                .to_owned());
        }
        self.job = self.job.take().or(job);
        self.flow = self.flow.take().or(flow);
        self.debug |= is_debug;
        if let Some(first) = first {
            self.pasted_since = Some(since(&first).map_err(|problem| format!("has a since that {problem}"))?);
        }
        if let Some(events) = events.filter(|_| self.events.is_empty()) {
            let names: Result<_, String> = events.split(',').map(type_name).collect();
            self.events = names.map_err(|_| "has events that are not types".to_owned())?;
        }
        Ok(())
    }

    /// The path and query to request.
    pub fn target(&self, since: Since) -> String {
        let mut target = match (&self.job, &self.flow) {
            (Some(job), _) if self.debug => format!("/api/v1/ws/jobs/{job}/debug"),
            (Some(job), _) => format!("/api/v1/ws/jobs/{job}/monitor"),
            (None, Some(flow)) => format!("/api/v1/ws/flows/{flow}/monitor"),
            (None, None) => "/api/v1/ws/events".to_owned(),
        };
        target.push_str(&format!("?since={since}"));
        if !self.events.is_empty() {
            let mut names: Vec<&str> = self.events.iter().map(String::as_str).collect();
            if self.until_end {
                names.extend(ENDING_TYPES.iter().filter(|kind| !self.asks_for(kind)));
            }
            // Names of types need no escaping in a query (RFC 3986 section 3.4).
            target.push_str(&format!("&events={}", names.join(",")));
        }
        target
    }

    /// Whether this event was asked for, and is not only needed to see how the job ends.
    pub fn asks_for(&self, kind: &str) -> bool {
        self.events.is_empty() || !ENDING_TYPES.contains(&kind) || self.events.iter().any(|name| name == kind)
    }
}

pub fn id(text: &str) -> Result<String, String> {
    if is_id(text) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 128 characters from A-Z a-z 0-9 _ . : -".to_owned())
}

pub fn type_name(text: &str) -> Result<String, String> {
    if is_type_name(text) {
        return Ok(text.to_owned());
    }
    Err("a type is 1 to 64 characters from A-Z a-z 0-9 _ . : -".to_owned())
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "must be a number of seconds, 0 or more".to_owned())
}

pub fn since(text: &str) -> Result<Since, String> {
    let since = Since::parse(text);
    since.ok_or_else(|| "must be an event number, start, now, or -100 for the last 100".to_owned())
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use clap::{Args, Command, FromArgMatches};

    use super::{Since, WatchArgs, seconds, since};

    /// From the flags alone, whatever variables the tests run with.
    pub fn args(words: &[&str]) -> Result<WatchArgs, String> {
        args_with(words, &[])
    }

    fn args_with(words: &[&str], variables: &[(&str, &str)]) -> Result<WatchArgs, String> {
        let command = WatchArgs::augment_args(Command::new("tail").no_binary_name(true));
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        let mut args = WatchArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let value =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        args.complete_from(value).map(|()| args)
    }

    #[test]
    fn the_target_names_what_is_watched() {
        let target = |words: &[&str], since| args(words).unwrap().target(since);
        let base = "/api/v1/ws";
        assert_eq!(target(&[], Since::Now), format!("{base}/events?since=now"));
        assert_eq!(target(&["--all"], Since::Last(100)), format!("{base}/events?since=-100"));
        let filtered = format!("{base}/jobs/a:1/monitor?since=start&events=job_failed,x");
        let words = ["--job", "a:1", "--events", "job_failed,x", "--until-end"];
        assert_eq!(target(&words[..4], Since::Start), filtered);
        assert_eq!(
            target(&words, Since::Start),
            format!("{filtered},job_started,job_resumed,job_completed,job_cancelled,metrics")
        );
        let debug = target(&["--job", "a", "--debug"], Since::After(17));
        assert_eq!(debug, format!("{base}/jobs/a/debug?since=17"));
        let flow = target(&["--flow", "f", "--url", "ws://[::1]:9/"], Since::Now);
        assert_eq!(flow, "/api/v1/ws/flows/f/monitor?since=now");
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for words in [
            &["--job", "a/b"][..],
            &["--job", "a", "--flow", "f"],
            &["--job", "a", "--all"],
            &["--flow", "f", "--debug"],
            &["--debug"],
            &["--until-end"],
            &["--flow", "f", "--until-end"],
            &["--give-up", "-1"],
            &["--give-up", "soon"],
            &["--give-up", "1", "--once"],
            &["--timeout", "-1"],
            &["--events", "a,"],
            &["--url", "ftp://host"],
            &["--url", "ws://127.0.0.1:99999"],
            &["--url", ""],
            &["--url", "ws://host?token=x"],
            &["--url", "h:1/#job=j", "--job", "k"],
            &["--url", "h:1/#job=j", "--all"],
            &["--url", "h:1/api/ws/flows/f/monitor", "--job", "j"],
            &["--url", "h:1/api/ws/events?since=soon"],
            &["--url", "ws://h:1/api/v1/websocket"],
            &["--url", "h:1/p/api/v1/ws?since=5"],
            &["--job"],
            &["--url", "h:1/api/ws/events?events=a+b"],
            &["--url", "ws://h", "--ca", "file"],
            &["--token"],
        ] {
            assert!(args(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_variables_and_the_address_say_what_no_flag_does() {
        let url = ("LUXCAST_URL", "https://h/live/api/ws/jobs/j/debug?since=-5&events=x,y&token=of-url");
        let token = ("LUXCAST_TOKEN", "of-variable");
        let all = args_with(&["--until-end"], &[url, token]).unwrap();
        assert_eq!(
            (all.daemon.address.to_string(), all.daemon.address.prefix.as_str()),
            ("h".to_owned(), "/live")
        );
        assert_eq!(
            (all.job.as_deref(), all.debug, all.pasted_since),
            (Some("j"), true, Some(Since::Last(5)))
        );
        assert_eq!(all.events, ["x", "y"]);
        assert_eq!(all.daemon.token.unwrap().header().unwrap(), "Bearer of-url");
        let words = ["--url", "g:2", "--token", "of-flag", "--events", "z"];
        let flags = args_with(&words, &[url, token]).unwrap();
        assert_eq!(
            (flags.daemon.address.to_string(), flags.job, flags.events),
            ("g:2".to_owned(), None, vec!["z".to_owned()])
        );
        assert_eq!(flags.daemon.token.unwrap().header().unwrap(), "Bearer of-flag");
        let none = args_with(&[], &[token]).unwrap();
        assert_eq!(none.daemon.address.to_string(), "127.0.0.1:20555");
        assert_eq!(none.daemon.token.unwrap().header().unwrap(), "Bearer of-variable");
        let wrong = args_with(&[], &[("LUXCAST_URL", "ws://h:99999")]).unwrap_err();
        assert!(wrong.contains("LUXCAST_URL has a port"), "{wrong}");
    }

    #[test]
    fn an_id_may_begin_with_a_hyphen() {
        assert_eq!(args(&["--job", "-x"]).unwrap().job.as_deref(), Some("-x"));
        assert_eq!(args(&["--flow", "--help"]).unwrap().flow.as_deref(), Some("--help"));
    }

    #[test]
    fn the_multi_job_endpoint_says_where_and_a_flag_says_what() {
        let url = "ws://h:1/p/api/v1/websocket";
        let problem = args(&["--url", url]).unwrap_err();
        assert!(problem.starts_with("--url is the multi-job endpoint's"), "{problem}");
        let wrong = args_with(&[], &[("LUXCAST_URL", url)]).unwrap_err();
        assert!(wrong.contains("LUXCAST_URL is the multi-job endpoint's"), "{wrong}");
        let given = args(&["--url", url, "--job", "j"]).unwrap();
        assert_eq!((given.job.as_deref(), given.daemon.address.prefix.as_str()), (Some("j"), "/p"));
        assert!(args(&["--url", url, "--all"]).is_ok());
    }

    #[test]
    fn a_token_is_sent_in_the_request_and_shown_nowhere() {
        let given = args(&["--token", "-secret"]).unwrap();
        assert!(!format!("{given:?}").contains("secret"));
        assert_eq!(given.daemon.token.unwrap().header().unwrap(), "Bearer -secret");
        for bad in ["sec ret", "secret\n", "sécret"] {
            let problem = args(&["--token", bad]).unwrap_err();
            assert_eq!(problem, "the token has a character that no token may have");
        }
    }

    #[test]
    fn since_reads_back() {
        for text in ["now", "start", "-100", "0", "1736937000000000"] {
            assert_eq!(since(text).unwrap().to_string(), text);
        }
        for wrong in ["soon", "-", "+5", "99999999999999999999", "9007199254740992", "-0"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    }
}
