//! A publisher: what it has to say, how far it has come, and where it is connected.

use luxcast::bus::chunk::{token_of_connection, token_of_name};
use luxcast::bus::writer::LaneKey;

/// A connection to a daemon that has said welcome.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub daemon: usize,
    pub lane: LaneKey,
    /// The last line that was sent.
    pub sent: u64,
}

pub struct Publisher {
    /// Its name, if it has one: two with one name say the same.
    pub name: Option<String>,
    /// What its lines are known by: its name, or a word for its connection.
    pub word: String,
    pub connection: Option<Connection>,
    /// A daemon that has not said welcome.
    pub waits_for: Option<usize>,
    /// All lines up to this one were acknowledged.
    pub acked: u64,
    /// How many lines it has.
    pub lines: u64,
    /// Connections that had no name.
    pub connections: u64,
}

impl Publisher {
    pub fn new(index: usize, name: Option<String>) -> Self {
        let word = name.clone().unwrap_or(format!("u{index}.0"));
        Self { name, word, connection: None, waits_for: None, acked: 0, lines: 0, connections: 0 }
    }

    /// Without a name it begins anew, and what was not acknowledged is nobody's business.
    pub fn begin_anew(&mut self, index: usize) {
        self.connections += 1;
        self.word = format!("u{index}.{}", self.connections);
        (self.acked, self.lines) = (0, 0);
    }

    pub fn token(&self, daemon: usize, life: u64, index: usize) -> String {
        match &self.name {
            Some(name) => token_of_name(name),
            None => {
                let connection = index as u64 * 1_000 + self.connections;
                token_of_connection(&format!("d{daemon}-{life}"), connection)
            }
        }
    }
}

/// Its line; the same for each who has this word. None: the daemon refuses it.
pub fn line(word: &str, number: u64) -> Option<String> {
    if number % 11 == 7 {
        return None;
    }
    let job = (number - 1) / 5 % 3;
    // The first of five names the flow.
    let flow = if number % 5 == 1 { format!(r#""flow_id":"f-{word}-{job}","#) } else { String::new() };
    let pad = "x".repeat((number * 37 % 90) as usize);
    Some(format!(r#"{{"type":"t","job_id":"{word}-{job}",{flow}"key":"{word}:{number}","pad":"{pad}"}}"#))
}
