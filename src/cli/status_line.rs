//! A status line at the bottom of the terminal: what is watched, the number of events, their rate, gaps, and whether
//! it is connected. Drawn on standard error, and only if that is a terminal.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::cli::ending::is_lost;
use crate::cli::watch_args::WatchArgs;
use crate::wire::members::members;

const REDRAW: Duration = Duration::from_millis(250);

pub struct StatusLine {
    bar: ProgressBar,
    what: String,
    /// The status of the watched job.
    job_status: Option<&'static str>,
    gaps: u64,
    is_connected: bool,
}

impl StatusLine {
    pub fn new(args: &WatchArgs, is_hidden: bool) -> Self {
        let what = match (&args.job, &args.flow) {
            (Some(job), _) => format!("job {job}"),
            (None, Some(flow)) => format!("flow {flow}"),
            (None, None) => "everything".to_owned(),
        };
        let target = if is_hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let status = Self {
            bar: ProgressBar::with_draw_target(None, target).with_style(style()),
            what,
            job_status: args.job.is_some().then_some("not seen yet"),
            gaps: 0,
            is_connected: false,
        };
        status.tell();
        status.bar.enable_steady_tick(REDRAW);
        status
    }

    /// Hides the line while something else is written.
    pub fn make_way<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    pub fn count_event(&mut self, event: &str) {
        self.bar.inc(1);
        let Some(shown) = self.job_status else { return };
        let now = job_status(event).unwrap_or(match shown {
            "not seen yet" | "lost" => "running",
            other => other,
        });
        if now != shown {
            self.job_status = Some(now);
            self.tell();
        }
    }

    pub fn count_gap(&mut self) {
        self.gaps += 1;
        self.tell();
    }

    pub fn set_connected(&mut self, is_connected: bool) {
        self.is_connected = is_connected;
        self.tell();
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn tell(&self) {
        self.bar.set_prefix(self.what.clone());
        self.bar.set_message(self.text());
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(status) = self.job_status {
            text.push_str(" · ");
            text.push_str(status);
        }
        if self.gaps > 0 {
            let gaps = if self.gaps == 1 { "gap" } else { "gaps" };
            let _ = write!(text, " · {} {gaps}", self.gaps);
        }
        if !self.is_connected {
            text.push_str(" · not connected");
        }
        text
    }
}

fn style() -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.0}", state.per_sec());
    };
    let events = |state: &ProgressState, out: &mut dyn Write| {
        let _ = out.write_str(events_word(state.pos()));
    };
    ProgressStyle::with_template("{spinner} {prefix} · {human_pos} {events} · {rate}/s{msg}")
        .expect("a fixed template")
        .with_key("events", events)
        .with_key("rate", rate)
}

fn events_word(count: u64) -> &'static str {
    if count == 1 { "event" } else { "events" }
}

/// The job status that an event implies.
fn job_status(event: &str) -> Option<&'static str> {
    let kind = members(event, &["type"])?[0]?;
    let status = match kind {
        r#""job_started""# | r#""job_resumed""# => "running",
        r#""job_paused""# => "paused",
        r#""job_completed""# => "completed",
        r#""job_failed""# => "failed",
        r#""job_cancelled""# => "cancelled",
        r#""metrics""# if is_lost(event) => "lost",
        _ => return None,
    };
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::{StatusLine, events_word};
    use crate::cli::watch_args::tests::args;

    #[test]
    fn the_status_of_a_job_follows_its_events() {
        let args = args(&["--job", "j"]).unwrap();
        let mut line = StatusLine::new(&args, true);
        assert_eq!(line.text(), " · not seen yet · not connected");
        line.set_connected(true);
        for (kind, text) in [
            ("routine_started", " · running"),
            ("job_paused", " · paused"),
            ("execution_event", " · paused"),
            ("job_started", " · running"),
            ("job_failed", " · failed"),
        ] {
            line.count_event(&format!(r#"{{"stream_seq":1,"type":"{kind}","job_id":"j"}}"#));
            assert_eq!(line.text(), text);
        }
        line.count_event(r#"{"stream_seq":2,"type":"metrics","job_id":"j","metrics":{"status":"lost"}}"#);
        assert_eq!(line.text(), " · lost");
        line.count_event(r#"{"stream_seq":3,"type":"x","job_id":"j"}"#);
        assert_eq!(line.text(), " · running");
        line.count_gap();
        line.count_gap();
        line.set_connected(false);
        assert_eq!(line.text(), " · running · 2 gaps · not connected");
        assert_eq!(line.bar.position(), 7);
        assert_eq!([0, 1, 2].map(events_word), ["events", "event", "events"]);
    }
}
