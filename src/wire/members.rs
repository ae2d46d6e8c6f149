//! Finds members of a JSON object by name and returns their JSON text unchanged, numbers of any size included. It is
//! for values that are shown or moved. Not for the feed: see `line`.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The raw values of an object's members with these names. Of repeated ones the last counts, as with JSON.parse. None
/// if `json` is not an object.
pub fn members<'a, const N: usize>(json: &'a str, names: &[&'static str; N]) -> Option<[Option<&'a str>; N]> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = deserializer.deserialize_map(MembersVisitor(names)).ok()?;
    deserializer.end().ok()?;
    Some(found)
}

/// All members of an object in their order, repeated ones too: each name and its raw value. None if `json` is not an
/// object.
pub fn all_members(json: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = deserializer.deserialize_map(AllMembersVisitor).ok()?;
    deserializer.end().ok()?;
    Some(found)
}

struct AllMembersVisitor;

impl<'de> Visitor<'de> for AllMembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = Vec::new();
        while let Some((key, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            found.push((key, value.get()));
        }
        Ok(found)
    }
}

struct MembersVisitor<'names, const N: usize>(&'names [&'static str; N]);

impl<'de, const N: usize> Visitor<'de> for MembersVisitor<'_, N> {
    type Value = [Option<&'de str>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = [None; N];
        while let Some(index) = map.next_key_seed(NameIndex(self.0))? {
            match index {
                Some(index) => found[index] = Some(map.next_value::<&'de RawValue>()?.get()),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// The index of a key among the names, without keeping the key.
struct NameIndex<'names>(&'names [&'static str]);

impl<'de> DeserializeSeed<'de> for NameIndex<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIndex<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

/// Whether the feed takes this line for a control line, such as `hello` or `from`, and not for an event. For lines
/// that are only looked at, not taken in.
pub fn is_control_line(line: &[u8]) -> bool {
    if memmem::find(line, br#""op""#).is_none() {
        return false;
    }
    let text = String::from_utf8_lossy(line);
    matches!(members(&text, &["op", "type"]), Some([Some(_), None]))
}

/// Whether a JSON value is this string.
pub fn is_text(json: &str, text: &str) -> bool {
    let bare = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match bare {
        Some(bare) if bare.contains('\\') => {
            serde_json::from_str::<String>(json).is_ok_and(|decoded| decoded == text)
        }
        Some(bare) => bare == text,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{all_members, is_text, members};

    #[test]
    fn values_come_as_their_raw_text() {
        let json = r#" {"a" : 1E+400 , "\u0062":"\u0041", "c":[ 1, {} ],"a":-0 } "#;
        assert_eq!(
            members(json, &["a", "b", "c", "d"]),
            Some([Some("-0"), Some(r#""\u0041""#), Some("[ 1, {} ]"), None])
        );
        assert_eq!(members("{}", &["a"]), Some([None]));
        for other in ["", "[]", "1", "{", r#"{"a":1} x"#, r#"{"a":01}"#] {
            assert_eq!(members(other, &["a"]), None, "{other}");
        }
    }

    #[test]
    fn all_members_come_in_their_order() {
        let all = all_members(r#"{"b":1E+400,"\u0061":[ ],"b":"x"}"#).unwrap();
        let all: Vec<(&str, &str)> = all.iter().map(|(key, value)| (key.as_ref(), *value)).collect();
        assert_eq!(all, [("b", "1E+400"), ("a", "[ ]"), ("b", r#""x""#)]);
        for other in ["", "[]", "{", r#"{"a":1} x"#] {
            assert_eq!(all_members(other), None, "{other}");
        }
    }

    #[test]
    fn texts_are_compared_decoded() {
        assert!(is_text(r#""slot_call""#, "slot_call"));
        assert!(is_text(r#""slot\u005fcall""#, "slot_call"));
        assert!(!is_text("slot_call", "slot_call"));
        assert!(!is_text(r#""slot""#, "slot_call"));
        assert!(!is_text("1", "1"));
        assert!(!is_text("\"", ""));
    }
}
