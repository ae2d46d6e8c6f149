//! Patterns of ids in scopes: a whole id, or a prefix and a `*`.

use std::fmt;
use std::str::FromStr;

use crate::wire::line::is_id;

/// One id, or all ids with one prefix.
#[derive(Clone, PartialEq, Eq)]
struct Pattern {
    text: Box<str>,
    is_beginning: bool,
}

/// Any number of patterns, sorted. None of them is covered by another: lists that match the same ids are equal.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Patterns(Box<[Pattern]>);

/// A pattern is neither an id nor the prefix of one with a `*` behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern;

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let (text, is_beginning) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        let is_good = is_id(text) || (is_beginning && text.is_empty());
        is_good.then(|| Self { text: text.into(), is_beginning }).ok_or(BadPattern)
    }
}

impl Pattern {
    fn covers(&self, id: &str) -> bool {
        if self.is_beginning { id.starts_with(&*self.text) } else { id == &*self.text }
    }
}

impl Patterns {
    /// # Errors
    /// One of the texts is no pattern.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPattern> {
        let mut patterns = texts.into_iter().map(str::parse).collect::<Result<Vec<Pattern>, _>>()?;
        // A beginning stands before all that it covers.
        patterns.sort_unstable_by(|one, other| {
            one.text.cmp(&other.text).then(other.is_beginning.cmp(&one.is_beginning))
        });
        patterns.dedup_by(|later, kept| kept.covers(&later.text));
        Ok(Self(patterns.into()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them matches this id.
    pub fn cover(&self, id: &str) -> bool {
        self.0.iter().any(|pattern| pattern.covers(id))
    }

    /// Whether they match every id.
    pub fn are_all(&self) -> bool {
        self.0.iter().any(|pattern| pattern.is_beginning && pattern.text.is_empty())
    }

    /// Whether each of the ids that are there is matched.
    pub fn cover_all<'a>(&self, ids: impl IntoIterator<Item = Option<&'a str>>) -> bool {
        ids.into_iter().flatten().all(|id| self.cover(id))
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = |is_beginning| if is_beginning { "*" } else { "" };
        let texts = self.0.iter().map(|pattern| format!("{}{}", pattern.text, star(pattern.is_beginning)));
        formatter.debug_list().entries(texts).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{BadPattern, Patterns};

    #[test]
    fn an_id_matches_itself_and_a_star_whatever_follows() {
        let patterns = Patterns::new(["a", "b*"]).unwrap();
        for id in ["a", "b", "bb", "b:1"] {
            assert!(patterns.cover(id), "{id}");
        }
        for id in ["aa", "A", "ab", "", "cb"] {
            assert!(!patterns.cover(id), "{id}");
        }
        assert!(Patterns::new(["*"]).unwrap().cover("anything"));
        assert!(Patterns::new(["a", "*"]).unwrap().are_all() && !patterns.are_all());
        let none = Patterns::new([]).unwrap();
        assert!(none.is_empty() && !none.cover("a"));
        assert_eq!(format!("{patterns:?}"), r#"["a", "b*"]"#);
    }

    #[test]
    fn lists_that_match_the_same_ids_are_equal() {
        let patterns = |texts: &[&str]| Patterns::new(texts.iter().copied()).unwrap();
        let same: [&[&str]; 4] =
            [&["a", "b*"], &["b*", "a", "a"], &["b*", "b", "a"], &["bc*", "b0", "b*", "a", "bcd"]];
        for texts in same {
            assert_eq!(format!("{:?}", patterns(texts)), r#"["a", "b*"]"#);
        }
        assert_eq!(patterns(&["x", "*", "a*"]), patterns(&["*"]));
        let others: [&[&str]; 4] = [&["a"], &["a", "b"], &["a*", "b*"], &["a", "b*", "c"]];
        for texts in others {
            assert_ne!(patterns(texts), patterns(same[0]), "{texts:?}");
        }
    }

    #[test]
    fn other_patterns_are_refused() {
        for bad in ["", "a*b", "**", "*a", "a b", "a/b", "ä*"] {
            assert_eq!(Patterns::new(["good", bad]), Err(BadPattern), "{bad}");
        }
    }
}
