//! The connections of operators: they are few, and a new one always gets a place. For it, the oldest connection that
//! waits for no answer is ended, or else the oldest of all.

/// Connections of operators, at most. Each costs a descriptor and at most one answer; operators and their tools need
/// fewer.
pub const OPERATORS_MAX: usize = 32;

/// The connections of operators.
pub struct Operators<K> {
    /// Oldest first; at most [`OPERATORS_MAX`].
    all: Vec<Operator<K>>,
}

struct Operator<K> {
    key: K,
    /// Its request has come, and its answer is not sent yet.
    is_served: bool,
}

impl<K> Default for Operators<K> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

impl<K: Copy + PartialEq> Operators<K> {
    /// Takes in a connection. Returns the one that has to go for it, which the caller ends.
    pub fn enter(&mut self, key: K) -> Option<K> {
        let is_full = self.all.len() >= OPERATORS_MAX;
        let idle = self.all.iter().position(|operator| !operator.is_served);
        let gone = is_full.then(|| self.all.remove(idle.unwrap_or(0)).key);
        self.all.push(Operator { key, is_served: false });
        gone
    }

    /// Notes that it has asked something, or has its answer.
    pub fn note_served(&mut self, key: K, is_served: bool) {
        if let Some(operator) = self.all.iter_mut().find(|operator| operator.key == key) {
            operator.is_served = is_served;
        }
    }

    pub fn leave(&mut self, key: K) {
        self.all.retain(|operator| operator.key != key);
    }

    /// Whether an operator waits for an answer.
    pub fn is_any_served(&self) -> bool {
        self.all.iter().any(|operator| operator.is_served)
    }
}

#[cfg(test)]
mod tests {
    use super::{OPERATORS_MAX, Operators};

    #[test]
    fn an_operator_without_a_question_gives_way_and_one_being_served_stays() {
        let mut operators = Operators::default();
        let max = OPERATORS_MAX as u32;
        for key in 0..max {
            assert_eq!(operators.enter(key), None);
        }
        operators.note_served(0, true);
        assert!(operators.is_any_served());
        for key in 0..max {
            assert_eq!(operators.enter(max + key), Some(key + 1), "the oldest that is not served");
        }
        operators.leave(0);
        assert!(!operators.is_any_served());
        assert_eq!(operators.enter(1_000), None, "a place has come free");
    }

    #[test]
    fn if_all_are_being_served_the_oldest_gives_way() {
        let mut operators = Operators::default();
        for key in 0..OPERATORS_MAX {
            operators.enter(key);
            operators.note_served(key, true);
        }
        assert_eq!(operators.enter(100), Some(0));
        operators.note_served(7, false);
        assert_eq!(operators.enter(101), Some(7), "it has its answer");
        assert_eq!(operators.enter(102), Some(100), "it has asked nothing");
    }
}
