//! What a watcher must receive, computed naively from the stream of an `/events` watcher.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::seq_of;

/// One event as the daemon sent it, and where it belongs.
pub struct Seen {
    pub seq: u64,
    pub text: String,
    pub kind: String,
    pub inner: Option<String>,
    pub job_id: Option<String>,
    /// The event's own flow, and its job's flow as far as it was known then.
    pub flows: Vec<String>,
}

/// The texts of an `/events` watcher, with each job's flow folded in: the first one seen wins.
pub fn read_stream(texts: &[String]) -> Vec<Seen> {
    let mut flow_of: HashMap<String, String> = HashMap::new();
    let mut stream = Vec::new();
    for text in texts {
        let seq = seq_of(text).expect("an event has a number in front");
        let event: Value = serde_json::from_str(text).expect("an event is JSON");
        let member = |value: &Value| value.as_str().map(str::to_owned);
        let kind = member(&event["type"]).expect("an event has a type");
        let inner = member(&event["event"]["event_type"]).filter(|_| kind == "execution_event");
        let (job_id, flow_id) = (member(&event["job_id"]), member(&event["flow_id"]));
        if let Some(job) = &job_id
            && let Some(flow) = flow_id.clone().or_else(|| member(&event["data"]["flow_id"]))
        {
            flow_of.entry(job.clone()).or_insert(flow);
        }
        let of_job = job_id.as_ref().and_then(|job| flow_of.get(job)).cloned();
        let flows = flow_id.into_iter().chain(of_job).collect();
        stream.push(Seen { seq, text: text.clone(), kind, inner, job_id, flows });
    }
    stream
}

/// What an endpoint delivers, without any filter.
#[derive(Clone, Debug)]
pub enum Topic {
    Job(String),
    Debug(String),
    Flow(String),
    All,
}

impl Topic {
    pub fn path(&self) -> String {
        match self {
            Topic::Job(id) => format!("/api/ws/jobs/{id}/monitor"),
            Topic::Debug(id) => format!("/api/v1/ws/jobs/{id}/debug"),
            Topic::Flow(id) => format!("/api/ws/flows/{id}/monitor"),
            Topic::All => "/api/v1/ws/events".to_owned(),
        }
    }

    pub fn has(&self, event: &Seen) -> bool {
        match self {
            Topic::Job(id) => event.job_id.as_ref() == Some(id),
            Topic::Debug(id) => event.job_id.as_ref() == Some(id) && is_debug(&event.kind),
            Topic::Flow(id) => event.flows.contains(id),
            Topic::All => true,
        }
    }
}

fn is_debug(kind: &str) -> bool {
    let listed = [
        "breakpoint_hit",
        "breakpoint_resumed",
        "execution_event",
        "routine_started",
        "routine_completed",
        "routine_failed",
    ];
    listed.contains(&kind) || kind.starts_with("job_")
}

/// Which events of its topic a watcher wants.
#[derive(Clone, Debug)]
pub enum Names {
    All,
    Only(Vec<String>),
    AllBut(Vec<String>),
}

impl Names {
    pub fn only(names: &[&str]) -> Self {
        Names::Only(names.iter().map(|name| (*name).to_owned()).collect())
    }

    pub fn want(&self, event: &Seen) -> bool {
        let is_in = |names: &[String]| {
            names.contains(&event.kind) || event.inner.as_ref().is_some_and(|inner| names.contains(inner))
        };
        match self {
            Names::All => true,
            Names::Only(names) => is_in(names),
            Names::AllBut(names) => !is_in(names),
        }
    }
}

/// The messages between two confirmations of a filter change.
pub struct Section<'a> {
    pub received: Vec<String>,
    pub wants: Box<dyn Fn(&Seen) -> bool + 'a>,
}

/// Checks that all sections together are the stream after `from`, filtered by their filters, byte for byte. At which
/// event a filter changed is not visible from outside, so every possible place is tried.
pub fn check_sections(stream: &[Seen], from: u64, sections: &[Section<'_>]) -> Result<(), String> {
    // A state: the section, and how many of its events have come.
    let advance = |states: &mut Vec<(usize, usize)>| {
        let mut index = 0;
        while index < states.len() {
            let (section, count) = states[index];
            let is_over = count == sections[section].received.len() && section + 1 < sections.len();
            if is_over && !states.contains(&(section + 1, 0)) {
                states.push((section + 1, 0));
            }
            index += 1;
        }
    };
    let mut states = vec![(0, 0)];
    advance(&mut states);
    for event in stream.iter().filter(|event| event.seq > from) {
        let before = states.clone();
        states.retain_mut(|(section, count)| {
            let Section { received, wants } = &sections[*section];
            if !wants(event) {
                return true;
            }
            let is_next = received.get(*count) == Some(&event.text);
            *count += 1;
            is_next
        });
        advance(&mut states);
        if states.is_empty() {
            let next =
                before.iter().map(|(section, count)| (section, sections[*section].received.get(*count)));
            let next: Vec<_> = next.collect();
            return Err(format!("expected {}\nreceived, by section: {next:?}", event.text));
        }
    }
    let end = sections.len() - 1;
    if states.contains(&(end, sections[end].received.len())) {
        return Ok(());
    }
    let (section, count) = states[states.len() - 1];
    Err(format!(
        "received beyond what the stream has, in section {section}: {:?}",
        sections[section].received.get(count)
    ))
}

/// The Overseer form of an event.
pub fn overseer(event: &Value) -> Value {
    let mut object = event.as_object().expect("an event is an object").clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let inner = &event["event"];
    let as_object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut data: Map<String, Value> = as_object(&event["data"]);
    let mut routine_id = present(&event["routine_id"]);
    match (text(&event["type"]).as_str(), text(&inner["event_type"]).as_str()) {
        ("execution_event", kind @ ("slot_call" | "event_emit" | "error")) => {
            data = as_object(&inner["data"]);
            routine_id = present(&inner["routine_id"]).or(routine_id);
            if let Some(event_id) = inner.get("event_id") {
                data.entry("event_id").or_insert(event_id.clone());
            }
            match kind {
                "slot_call" => object["type"] = json!("slot_called"),
                "event_emit" => object["type"] = json!("event_emitted"),
                _ => {}
            }
        }
        ("breakpoint_hit", _) if event["breakpoint"].is_object() => {
            data = Map::new();
            for name in ["breakpoint_id", "routine_id", "slot_name", "event_name"] {
                if let Some(value) = event["breakpoint"].get(name) {
                    data.insert(name.to_owned(), value.clone());
                }
            }
            if let Some(variables) = event["context"].get("variables") {
                data.insert("variables".to_owned(), variables.clone());
            }
        }
        _ => {}
    }
    if let Some(routine_id) = routine_id {
        data.entry("routine_id").or_insert(routine_id);
    }
    object.insert("data".to_owned(), Value::Object(data));
    Value::Object(object)
}

/// Null counts as absent.
fn present(value: &Value) -> Option<Value> {
    (!value.is_null()).then(|| value.clone())
}
