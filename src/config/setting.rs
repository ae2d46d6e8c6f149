//! What a setting is: its names and bounds, and how it reads, copies and shows a value.

use std::time::Duration;

use crate::config::fields::Config;
use crate::config::value::{read_count, read_seconds, read_switch};

/// One setting.
#[derive(Clone, Copy)]
pub struct Setting {
    /// The TOML key; flag and variable are made from it.
    pub name: &'static str,
    pub default: Initial,
    /// What the value is, in one word; empty for a switch.
    pub unit: &'static str,
    pub change: Change,
    pub(super) kind: Kind,
    pub help: &'static str,
}

/// The default of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// Read like any other value of this setting.
    Text(&'static str),
    /// Computed when the program starts; the words are for people.
    Computed(&'static str),
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// After a restart.
    AtStart,
    /// After SIGHUP.
    OnReload,
}

/// How a setting's text is read, its bounds (both included), and where it is stored.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A bare flag; `true` or `false` elsewhere.
    Switch(Field<bool>),
    Count {
        field: Field<usize>,
        min: u64,
        max: u64,
    },
    /// With `or_zero`, 0 is allowed below `min`, and the help says what it means.
    Seconds {
        field: Field<Duration>,
        min: f64,
        max: f64,
        or_zero: bool,
    },
    Text {
        store: fn(&mut Config, &str) -> Result<(), String>,
        show: fn(&Config) -> String,
        /// Copies from the second to the first.
        copy: fn(&mut Config, &Config),
    },
    /// May be given more than once.
    List {
        store: fn(&mut Config, &[String]) -> Result<(), String>,
        show: fn(&Config) -> String,
        copy: fn(&mut Config, &Config),
    },
}

type Field<T> = fn(&mut Config) -> &mut T;

impl Setting {
    /// `--kebab-case`
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// `LUXCAST_UPPER_CASE`
    pub fn variable(&self) -> String {
        format!("LUXCAST_{}", self.name.to_ascii_uppercase())
    }

    /// The default as a person reads it.
    pub fn default_words(&self) -> &'static str {
        match self.default {
            Initial::Text(words) | Initial::Computed(words) => words,
        }
    }

    /// The allowed values as text; `None` if the unit and the help say it all.
    pub fn bounds(&self) -> Option<String> {
        match self.kind {
            Kind::Count { min, max, .. } => Some(format!("{min} to {max}")),
            Kind::Seconds { min, max, or_zero: true, .. } if min > 0.0 => {
                Some(format!("0, or {min} to {max}"))
            }
            Kind::Seconds { min, max, .. } => Some(format!("{min} to {max}")),
            Kind::Switch(_) => Some("true or false".to_string()),
            Kind::Text { .. } | Kind::List { .. } => None,
        }
    }

    /// The words that the value may be, if there are only a few. They come from the error that refuses any other
    /// word.
    pub(super) fn words(&self) -> Vec<String> {
        let refused = match self.kind {
            Kind::Text { .. } => self.store(&mut Config::default(), &["?".to_string()]).err(),
            _ => None,
        };
        let words = refused.as_ref().and_then(|problem| problem.split_once(" is not one of "));
        words.map_or_else(Vec::new, |(_, words)| words.split(", ").map(str::to_string).collect())
    }

    /// Reads the value and stores it. Only a `List` takes other than one text. The error says what is wrong with the
    /// value; the caller knows where it came from.
    pub(super) fn store(&self, config: &mut Config, texts: &[String]) -> Result<(), String> {
        if let Kind::List { store, .. } = self.kind {
            return store(config, texts);
        }
        let [text] = texts else {
            return Err("must be given once".to_string());
        };
        match self.kind {
            Kind::Switch(field) => *field(config) = read_switch(text)?,
            Kind::Count { field, min, max } => *field(config) = read_count(text, min, max)?,
            Kind::Seconds { field, min, max, or_zero } => {
                *field(config) = read_seconds(text, min, max, or_zero)?;
            }
            Kind::Text { store, .. } => store(config, text)?,
            Kind::List { .. } => unreachable!("lists are stored above"),
        }
        Ok(())
    }

    /// Copies the value from another configuration.
    pub(super) fn copy(&self, to: &mut Config, from: &Config) {
        // As in `show`: a row only names a place to write to.
        let mut from = from.clone();
        match self.kind {
            Kind::Switch(field) => *field(to) = *field(&mut from),
            Kind::Count { field, .. } => *field(to) = *field(&mut from),
            Kind::Seconds { field, .. } => *field(to) = *field(&mut from),
            Kind::Text { copy, .. } | Kind::List { copy, .. } => copy(to, &from),
        }
    }

    /// The value in force, as a user would write it.
    pub fn show(&self, config: &Config) -> String {
        // A row only names a place to write to; a copy saves it a second place to read from.
        let mut copy = config.clone();
        match self.kind {
            Kind::Switch(field) => field(&mut copy).to_string(),
            Kind::Count { field, .. } => field(&mut copy).to_string(),
            Kind::Seconds { field, .. } => field(&mut copy).as_secs_f64().to_string(),
            Kind::Text { show, .. } | Kind::List { show, .. } => show(config),
        }
    }
}
