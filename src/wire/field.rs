//! One field of a request head.

use crate::wire::refusal::Refusal;

/// A field that may be sent only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    #[default]
    Absent,
    One(&'a [u8]),
    Repeated,
}

impl<'a> Field<'a> {
    #[inline]
    pub fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Field::Absent => Field::One(value),
            Field::One(_) | Field::Repeated => Field::Repeated,
        };
    }

    /// The value as text; `name` is for the refusal of a field that came twice or is not UTF-8.
    #[inline]
    pub fn text(self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self {
            Field::Absent => Ok(None),
            Field::One(value) => match str::from_utf8(value) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(Refusal::bad_request(format!("{name} is not UTF-8"))),
            },
            Field::Repeated => Err(Refusal::bad_request(format!("{name} was sent twice"))),
        }
    }
}
