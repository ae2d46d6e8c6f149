//! The colours of what is shown on a terminal.

use anstream::stream::RawStream;
use anstyle::{AnsiColor, Style};
use clap::ColorChoice;

/// The styles of the parts of a line.
pub struct Palette {
    pub faint: Style,
    pub begun: Style,
    pub good: Style,
    pub bad: Style,
    pub held: Style,
}

impl Palette {
    pub fn plain() -> Self {
        let [faint, begun, good, bad, held] = [Style::new(); 5];
        Self { faint, begun, good, bad, held }
    }

    pub fn coloured() -> Self {
        Self {
            faint: Style::new().dimmed(),
            begun: Style::new().bold(),
            good: AnsiColor::Green.on_default(),
            bad: AnsiColor::Red.on_default().bold(),
            held: AnsiColor::Yellow.on_default(),
        }
    }

    /// Colours if they are wanted: where nothing is said, if `out` is a terminal that shows them.
    pub fn chosen(when: ColorChoice, out: &impl RawStream) -> Self {
        let is_coloured = match when {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => anstream::AutoStream::choice(out) != anstream::ColorChoice::Never,
        };
        if is_coloured { Self::coloured() } else { Self::plain() }
    }

    /// A job's status in its colour.
    pub fn status(&self, status: &str) -> String {
        let style = match status {
            "running" => self.begun,
            "completed" => self.good,
            "failed" => self.bad,
            "paused" | "cancelled" | "lost" => self.held,
            _ => Style::new(),
        };
        format!("{style}{status}{style:#}")
    }

    pub fn of_type(&self, kind: &str) -> Style {
        match kind {
            "job_started" => self.begun,
            "job_completed" => self.good,
            "job_failed" | "routine_failed" | "error" => self.bad,
            "job_paused" | "job_cancelled" | "breakpoint_hit" => self.held,
            _ => Style::new(),
        }
    }
}
