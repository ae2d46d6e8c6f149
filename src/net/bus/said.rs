//! What was said already, so that the log has it once.

use std::collections::BTreeSet;

/// So many different words are known at once.
const WORDS_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct Said(BTreeSet<String>);

impl Said {
    /// Notes words; false: they were noted before.
    pub fn is_new(&mut self, words: &str) -> bool {
        if self.0.contains(words) {
            return false;
        }
        if self.0.len() == WORDS_MAX {
            self.0.clear();
        }
        self.0.insert(words.to_owned())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From now on everything is new.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{Said, WORDS_MAX};

    #[test]
    fn words_are_new_once_until_all_is_well() {
        let mut said = Said::default();
        assert!(said.is_empty() && said.is_new("a") && said.is_new("b"));
        assert!(!said.is_new("a") && !said.is_new("b") && !said.is_empty());
        said.clear();
        assert!(said.is_new("a"));
        (0..10 * WORDS_MAX).for_each(|n| assert!(said.is_new(&n.to_string())));
        assert!(said.0.len() <= WORDS_MAX);
    }
}
