//! The types that a client wants: only those that it names, or all but those.

use std::collections::BTreeSet;

use super::rng::Rng;

#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub is_only: bool,
    pub names: BTreeSet<String>,
}

impl Filter {
    /// Only these, as a client asks when it connects. Without any, it asks for no filter.
    pub fn only(names: Vec<String>) -> Self {
        Self { is_only: !names.is_empty(), names: names.into_iter().collect() }
    }

    /// Whether it lets an event through, if its names are among those that the client has named or not.
    pub fn lets_through(&self, is_named: bool) -> bool {
        is_named == self.is_only
    }

    /// What a client that connects names of it.
    pub fn asked(&self) -> Option<Vec<String>> {
        self.is_only.then(|| self.names.iter().cloned().collect())
    }

    /// Changes it as one message does, which is returned.
    pub fn change(&mut self, names: Vec<String>, rng: &mut Rng) -> String {
        let list = serde_json::to_string(&names).expect("names are text");
        match rng.below(4) {
            0 | 1 => {
                if !self.is_only {
                    self.names.clear();
                }
                self.is_only = true;
                self.names.extend(names);
                format!(r#"{{"action":"subscribe","events":{list}}}"#)
            }
            2 => {
                match self.is_only {
                    true => self.names.retain(|name| !names.contains(name)),
                    false => self.names.extend(names),
                }
                format!(r#"{{"action":"unsubscribe","events":{list}}}"#)
            }
            _ => {
                self.is_only = false;
                self.names.clear();
                r#"{"action":"subscribe_all"}"#.to_owned()
            }
        }
    }
}
