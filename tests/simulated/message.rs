//! One message of the daemon, as its client reads it.

use serde_json::Value;

pub enum Message<'a> {
    /// An event with its number. The text is all of it.
    Event(u64, &'a str),
    /// Anything that the daemon itself says.
    Notice(Value),
}

impl<'a> Message<'a> {
    pub fn of(text: &'a str) -> Self {
        match text.strip_prefix("{\"stream_seq\":") {
            Some(rest) => {
                let number = rest.get(..16).and_then(|digits| digits.parse().ok());
                Self::Event(number.expect("a number of sixteen digits"), text)
            }
            None => Self::Notice(serde_json::from_str(text).expect("a notice is JSON")),
        }
    }
}

/// A field of a notice that is a number.
pub fn number(notice: &Value, name: &str) -> u64 {
    notice[name].as_u64().unwrap_or_else(|| panic!("{name} is a number in {notice}"))
}
