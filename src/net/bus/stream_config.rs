//! How a stream for luxcast is made, and what is wrong with one that is there. Both are JSON as the server's API has it
//! (ADR-31 of the NATS project), so that what this version does not know is kept.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bus::accounts::history_millis;
use crate::bus::chunk::{Bounds, OVERHEAD_BYTES_MAX};
use crate::bus::numbers::Epochs;
use crate::bus::verdict::CREDIT_BYTES;
use crate::config::BUS_LINE_BYTES_MAX;
use crate::net::bus::stream_info::{FORMAT, METADATA_BASE, METADATA_EPOCHS, METADATA_FORMAT};

/// Names in the stream's metadata: the bounds of the feed that all daemons must have at least.
pub const METADATA_LINE_BYTES_MAX: &str = "luxcast.line_bytes_max";
pub const METADATA_DEPTH_MAX: &str = "luxcast.depth_max";

/// The server takes each id of a chunk once within this time.
const DUPLICATE_WINDOW_NANOS: u64 = MAX_AGE_SECONDS_MIN * 1_000_000_000;

/// No server makes a stream that keeps messages for less than its duplicate window.
pub const MAX_AGE_SECONDS_MIN: u64 = 120;

/// Members that are times in nanoseconds.
const TIMES: [&str; 3] = ["max_age", "duplicate_window", "subject_delete_marker_ttl"];

const _: () = assert!(2 * (BUS_LINE_BYTES_MAX + OVERHEAD_BYTES_MAX) as u64 <= CREDIT_BYTES);

/// A stream to make.
#[derive(Clone, Copy, Debug)]
pub struct NewStream<'a> {
    pub name: &'a str,
    pub subject: &'a str,
    pub replicas: u64,
    /// `None`: no bound.
    pub max_age_nanos: Option<u64>,
    /// `None`: no bound.
    pub max_bytes: Option<u64>,
    pub bounds: Bounds,
}

impl NewStream<'_> {
    pub fn config(&self, epochs: &Epochs) -> Value {
        let mut config = json!({
            "name": self.name,
            "subjects": [self.subject],
            "num_replicas": self.replicas,
            "max_age": self.max_age_nanos.unwrap_or(0),
            "max_bytes": self.max_bytes.map_or(json!(-1), |bytes| json!(bytes)),
            "metadata": {
                METADATA_FORMAT: FORMAT,
                METADATA_BASE: epochs.base_text(),
                METADATA_LINE_BYTES_MAX: self.bounds.line_bytes_max.to_string(),
                METADATA_DEPTH_MAX: self.bounds.depth_max.to_string(),
            },
        });
        for row in rows() {
            // Some servers refuse members that they do not know.
            if !is_nothing(&row.wanted) {
                config[row.name] = row.wanted;
            }
        }
        config
    }
}

/// Something about a stream that is not as it is made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// No daemon can use the stream.
    pub is_fatal: bool,
    pub what: String,
}

struct Row {
    name: &'static str,
    wanted: Value,
    is_fatal: bool,
}

/// What each stream has. Nothing, zero, false and "none" are the same.
fn rows() -> [Row; 20] {
    let fatal = |name, wanted| Row { name, wanted, is_fatal: true };
    let other = |name, wanted| Row { name, wanted, is_fatal: false };
    [
        // Messages go as they age, and for no other reason.
        fatal("retention", json!("limits")),
        fatal("discard", json!("old")),
        fatal("max_msgs_per_subject", json!(-1)),
        fatal("max_msg_size", json!(-1)),
        fatal("allow_rollup_hdrs", json!(false)),
        fatal("allow_msg_ttl", json!(false)),
        fatal("subject_delete_marker_ttl", Value::Null),
        // Messages are what was published to the one subject.
        fatal("mirror", Value::Null),
        fatal("sources", Value::Null),
        fatal("subject_transform", Value::Null),
        fatal("allow_msg_counter", json!(false)),
        fatal("allow_msg_schedules", json!(false)),
        fatal("no_ack", json!(false)),
        fatal("sealed", json!(false)),
        other("storage", json!("file")),
        other("max_msgs", json!(-1)),
        other("duplicate_window", json!(DUPLICATE_WINDOW_NANOS)),
        other("deny_delete", json!(true)),
        other("deny_purge", json!(true)),
        other("compression", json!("none")),
    ]
}

/// In the order in which they matter; empty if the stream is as it is made here. How many copies it has, and how old
/// and large it gets, is the operator's to say.
pub fn faults(config: &Value, subject: &str, bounds: Bounds) -> Vec<Fault> {
    let mut faults = Vec::new();
    if config["subjects"] != json!([subject]) {
        faults.push(fault("subjects", &config["subjects"], &json!([subject]), true));
    }
    for Row { name, wanted, is_fatal } in rows() {
        let found = &config[name];
        if *found != wanted && !(is_nothing(found) && is_nothing(&wanted)) {
            faults.push(fault(name, found, &wanted, is_fatal));
        }
    }
    if let Err(what) = epochs(config) {
        faults.push(Fault { is_fatal: true, what });
    }
    let own = [
        (METADATA_LINE_BYTES_MAX, "line_bytes_max", bounds.line_bytes_max),
        (METADATA_DEPTH_MAX, "depth_max", bounds.depth_max),
    ];
    faults.extend(own.into_iter().filter_map(|(name, setting, own)| bound_fault(config, name, setting, own)));
    faults.extend(age_fault(config));
    faults.sort_by_key(|fault| !fault.is_fatal);
    faults
}

fn fault(name: &str, found: &Value, wanted: &Value, is_fatal: bool) -> Fault {
    let found = if found.is_null() { "missing".to_owned() } else { shown(name, found) };
    let wanted = shown(name, wanted);
    Fault { is_fatal, what: format!("{name} is {found}, not {wanted}") }
}

/// A member's value in words; times in seconds, as flags have them.
pub fn shown(name: &str, value: &Value) -> String {
    match value.as_u64().filter(|_| TIMES.contains(&name)) {
        Some(0) => "none".to_owned(),
        Some(nanos) => format!("{} s", Duration::from_nanos(nanos).as_secs_f64()),
        None if value.is_null() => "none".to_owned(),
        None => value.to_string(),
    }
}

/// What publishers have sent is known from the stream. One that forgets it sooner lets daemons disagree on lines that came
/// twice.
pub fn age_fault(config: &Value) -> Option<Fault> {
    let millis = |name: &str| config[name].as_u64().unwrap_or(0) / 1_000_000;
    let (age, needed) = (millis("max_age"), 2 * history_millis(millis("duplicate_window")));
    let what = || {
        format!(
            "max_age is {} s: with less than {} s, a publisher that comes back late may have lines taken twice",
            age / 1_000,
            needed / 1_000
        )
    };
    (age > 0 && age < needed).then(|| Fault { is_fatal: false, what: what() })
}

/// The bounds that hold on this stream: its own, where they are smaller than those of a daemon's settings.
pub fn bounds_of(config: &Value, own: Bounds) -> Bounds {
    let smaller = |name: &str, own: usize| {
        let found = metadata(config, name).and_then(|text| text.parse().ok());
        found.filter(|&bound| bound > 0).map_or(own, |bound: usize| bound.min(own))
    };
    Bounds {
        line_bytes_max: smaller(METADATA_LINE_BYTES_MAX, own.line_bytes_max),
        depth_max: smaller(METADATA_DEPTH_MAX, own.depth_max),
    }
}

/// A daemon with a smaller bound would leave out what others have. With a larger one, the stream's holds.
fn bound_fault(config: &Value, name: &str, setting: &str, own: usize) -> Option<Fault> {
    let text = metadata(config, name);
    match text.map(str::parse::<usize>) {
        Some(Ok(0)) => Some(Fault { is_fatal: true, what: format!("its {name} is 0") }),
        Some(Ok(bound)) if bound == own => None,
        Some(Ok(bound)) if bound < own => Some(Fault {
            is_fatal: false,
            what: format!("its {name} is {bound}, and {setting} is {own} here: the stream's holds"),
        }),
        Some(Ok(bound)) => Some(Fault {
            is_fatal: true,
            what: format!(
                "its {name} is {bound}, and {setting} is {own} here: set it to {bound} or more{}",
                if setting == "line_bytes_max" { ", and history_bytes to eight times that" } else { "" }
            ),
        }),
        Some(Err(_)) => Some(Fault { is_fatal: true, what: format!("its {name} is no number") }),
        None => Some(Fault { is_fatal: false, what: format!("it has no {name}") }),
    }
}

/// The numbers of a stream.
///
/// # Errors
/// What of its metadata is missing or not understood.
pub fn epochs(config: &Value) -> Result<Epochs, String> {
    match metadata(config, METADATA_FORMAT) {
        Some(FORMAT) => {}
        Some(other) => return Err(format!("its {METADATA_FORMAT} is {other}; this version reads {FORMAT}")),
        None => return Err(format!("it has no {METADATA_FORMAT}: luxcast bus create has not made it")),
    }
    let base = metadata(config, METADATA_BASE).ok_or_else(|| format!("it has no {METADATA_BASE}"))?;
    let later = metadata(config, METADATA_EPOCHS).unwrap_or_default();
    Epochs::parse(base, later)
        .map_err(|_| format!("{METADATA_BASE} or {METADATA_EPOCHS} is not what luxcast writes"))
}

fn metadata<'a>(config: &'a Value, name: &str) -> Option<&'a str> {
    config["metadata"][name].as_str()
}

/// The same stream with these numbers, and nothing else changed.
pub fn with_epochs(config: &Value, epochs: &Epochs) -> Value {
    let mut config = config.clone();
    config["metadata"][METADATA_EPOCHS] = json!(epochs.later_text());
    config
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_on) => !is_on,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Bounds, NewStream, bounds_of, epochs, faults, shown, with_epochs};
    use crate::bus::numbers::Epochs;

    const BOUNDS: Bounds = Bounds { line_bytes_max: 1_000, depth_max: 64 };

    fn made() -> serde_json::Value {
        let stream = NewStream {
            name: "LUXCAST",
            subject: "luxcast.events",
            replicas: 3,
            max_age_nanos: None,
            max_bytes: Some(1 << 30),
            bounds: BOUNDS,
        };
        stream.config(&Epochs::new(1_700_000_000_000_000).unwrap())
    }

    #[test]
    fn what_is_made_has_no_fault_and_each_change_is_one() {
        let made = made();
        assert_eq!(faults(&made, "luxcast.events", BOUNDS), []);
        for (name, value, is_fatal) in [
            ("subjects", json!(["luxcast.events", "more"]), true),
            ("retention", json!("workqueue"), true),
            ("discard", json!("new"), true),
            ("max_msgs_per_subject", json!(1), true),
            ("allow_msg_ttl", json!(true), true),
            ("allow_rollup_hdrs", json!(true), true),
            ("mirror", json!({"name": "OTHER"}), true),
            ("deny_delete", json!(false), false),
            ("storage", json!("memory"), false),
            ("compression", json!("s2"), false),
            ("max_age", json!(1_199_000_000_000_u64), false),
            ("duplicate_window", json!(12_500_000_000_u64), false),
        ] {
            let mut changed = made.clone();
            changed[name] = value;
            let found = faults(&changed, "luxcast.events", BOUNDS);
            assert!(found.len() == 1 && found[0].is_fatal == is_fatal, "{name}: {found:?}");
            assert!(found[0].what.starts_with(&format!("{name} is ")), "{found:?}");
        }
    }

    #[test]
    fn times_are_told_in_seconds() {
        let mut changed = made();
        changed["duplicate_window"] = json!(12_500_000_000_u64);
        let found = faults(&changed, "luxcast.events", BOUNDS);
        assert_eq!(found[0].what, "duplicate_window is 12.5 s, not 120 s");
        for (name, value, expected) in [
            ("max_age", json!(604_800_000_000_000_u64), "604800 s"),
            ("max_age", json!(0), "none"),
            ("max_bytes", json!(1_000), "1000"),
            ("max_bytes", json!(-1), "-1"),
            ("mirror", json!(null), "none"),
        ] {
            assert_eq!(shown(name, &value), expected, "{name}");
        }
    }

    #[test]
    fn metadata_are_needed_and_larger_bounds_are_fatal() {
        let mut other = made();
        other["metadata"] = json!({});
        let found: Vec<bool> =
            faults(&other, "luxcast.events", BOUNDS).iter().map(|fault| fault.is_fatal).collect();
        assert_eq!(found, [true, false, false]);
        for (bounds, expected) in [
            (
                Bounds { line_bytes_max: 999, ..BOUNDS },
                "set it to 1000 or more, and history_bytes to eight times that",
            ),
            (Bounds { depth_max: 63, ..BOUNDS }, "set it to 64 or more"),
        ] {
            let found = faults(&made(), "luxcast.events", bounds);
            assert!(found.len() == 1 && found[0].is_fatal && found[0].what.ends_with(expected), "{found:?}");
        }
    }

    #[test]
    fn the_bounds_of_the_stream_hold_where_they_are_smaller() {
        let larger = Bounds { line_bytes_max: 2_000, depth_max: 65 };
        let found = faults(&made(), "luxcast.events", larger);
        let is_told =
            |fault: &super::Fault| !fault.is_fatal && fault.what.ends_with(" here: the stream's holds");
        assert!(found.len() == 2 && found.iter().all(is_told), "{found:?}");
        assert_eq!(bounds_of(&made(), larger), BOUNDS);
        let smaller = Bounds { depth_max: 10, ..BOUNDS };
        assert_eq!(bounds_of(&made(), smaller), smaller);
        let mut other = made();
        other["metadata"]["luxcast.depth_max"] = json!("0");
        assert!(faults(&other, "luxcast.events", BOUNDS)[0].is_fatal);
        other["metadata"] = json!({});
        assert_eq!(bounds_of(&other, larger), larger);
    }

    #[test]
    fn new_numbers_change_nothing_else() {
        let (mut made, first) = (made(), Epochs::new(1_700_000_000_000_000).unwrap());
        let more = first.with_epoch_above(10, first.number(20, 0).unwrap()).unwrap();
        let changed = with_epochs(&made, &more);
        assert_eq!((epochs(&made), epochs(&changed)), (Ok(first), Ok(more.clone())));
        made["metadata"]["luxcast.epochs"] = json!(more.later_text());
        assert_eq!(changed, made);
    }
}
