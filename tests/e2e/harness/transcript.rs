//! What one watcher received from greeting to end, compared with the filtered stream.

use serde_json::Value;

use super::oracle::{Names, Section, Seen, Topic, check_sections};
use super::seq_of;

/// One connection.
pub struct Transcript {
    pub name: String,
    pub topic: Topic,
    /// The filter that it opened with.
    pub names: Names,
    /// Where it asked to begin; none means now.
    pub since: Option<u64>,
    pub texts: Vec<String>,
    /// The daemon ended it, so nothing may be missing at its end.
    pub is_whole: bool,
}

impl Transcript {
    /// Compares all of it with the stream of an `/events` watcher.
    pub fn check(&self, stream: &[Seen]) -> Result<(), String> {
        self.compare(stream).map_err(|error| {
            let Self { name, topic, names, since, .. } = self;
            format!("{name} at {topic:?} {names:?} since {since:?}: {error}")
        })
    }

    fn compare(&self, stream: &[Seen]) -> Result<(), String> {
        let greeting = self.texts.first().ok_or("no greeting")?;
        let greeting: Value = serde_json::from_str(greeting).expect("JSON");
        if greeting["status"] != "connected" {
            return Err(format!("greeted with {greeting}"));
        }
        let from = self.since.unwrap_or_else(|| greeting["stream_seq"].as_u64().expect("a number"));
        let mut filters = vec![self.names.clone()];
        let mut received: Vec<Vec<String>> = vec![Vec::new()];
        let mut last = from;
        for (index, text) in self.texts.iter().enumerate().skip(1) {
            if let Some(seq) = seq_of(text) {
                last = seq;
                received.last_mut().expect("there is one").push(text.clone());
                continue;
            }
            let message: Value = serde_json::from_str(text).expect("JSON");
            let position = message["stream_seq"].as_u64();
            match message["type"].as_str() {
                Some("metrics") if index == 1 => {}
                Some("subscription:confirmed") => {
                    filters.push(change(filters.last().expect("there is one"), &message));
                    received.push(Vec::new());
                }
                Some("ping" | "connection:status") if filters.len() == 1 => {
                    let position = position.expect("a position");
                    let count = self.matching(stream, from).filter(|event| event.seq <= position).count();
                    if position < last || count != received[0].len() {
                        let got = received[0].len();
                        return Err(format!(
                            "{text}: {count} events up to there, {got} received, last {last}"
                        ));
                    }
                }
                Some("ping" | "connection:status" | "pong") => {}
                _ => return Err(format!("unexpected {text}")),
            }
        }
        let end = if self.is_whole { u64::MAX } else { last };
        let until = stream.partition_point(|event| event.seq <= end);
        let sections: Vec<Section<'_>> = received
            .into_iter()
            .zip(filters)
            .map(|(received, names)| Section {
                received,
                wants: Box::new(move |event| self.topic.has(event) && names.want(event)),
            })
            .collect();
        check_sections(&stream[..until], from, &sections)
    }

    fn matching<'a>(&'a self, stream: &'a [Seen], from: u64) -> impl Iterator<Item = &'a Seen> {
        stream.iter().filter(move |event| event.seq > from && self.topic.has(event) && self.names.want(event))
    }
}

/// The filter after a confirmed message.
fn change(names: &Names, confirmed: &Value) -> Names {
    let listed = confirmed["events"].as_array().expect("a list").iter();
    let listed: Vec<String> = listed.map(|name| name.as_str().expect("a name").to_owned()).collect();
    let joined = |names: &[String]| names.iter().chain(&listed).cloned().collect();
    match (confirmed["action"].as_str(), names) {
        (Some("subscribe"), Names::Only(names)) => Names::Only(joined(names)),
        (Some("subscribe"), _) => Names::Only(listed),
        (Some("unsubscribe"), Names::All) => Names::AllBut(listed),
        (Some("unsubscribe"), Names::AllBut(names)) => Names::AllBut(joined(names)),
        (Some("unsubscribe"), Names::Only(names)) => {
            Names::Only(names.iter().filter(|name| !listed.contains(name)).cloned().collect())
        }
        (Some("subscribe_all"), _) => Names::All,
        _ => panic!("{confirmed}"),
    }
}
