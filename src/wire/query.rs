//! Reads the query of a request: pairs of a name and a value, both percent-encoded.
//!
//! `form_urlencoded` does not fit: it reads a plus as a blank, and tokens have pluses. It also replaces what is
//! malformed without a word; here that is refused.

use std::borrow::Cow;

use memchr::memchr;

use crate::wire::refusal::Refusal;
use crate::wire::text::{decode, digits, split, split_once};

/// Rows of a list if the request does not say how many.
pub const ROWS: usize = 1_000;

/// Each name, `None` if it is malformed, and its value as it was sent.
pub fn pairs(query: &str) -> impl Iterator<Item = (Option<Cow<'_, str>>, &str)> {
    split(query, b'&').map(|pair| {
        let (name, value) = split_once(pair, b'=').unwrap_or((pair, ""));
        (decode(name), value)
    })
}

/// The values of the parameters `names`. Of all others only the names must be well-formed.
///
/// # Errors
/// 400: a name or a value is malformed, or a name came twice.
pub fn read_all<'a, const N: usize>(
    query: Option<&'a str>,
    names: [&str; N],
) -> Result<[Option<Cow<'a, str>>; N], Refusal> {
    let text = query.unwrap_or_default();
    let has_good_names =
        memchr(b'%', text.as_bytes()).is_none() || pairs(text).all(|(name, _)| name.is_some());
    if !has_good_names {
        return Err(Refusal::bad_parameter("the name of a query parameter is not percent-encoded UTF-8"));
    }
    read(query, names)
}

/// The values of the parameters `names`. All others are ignored, even malformed ones.
///
/// # Errors
/// 400: a value is malformed, or a name came twice.
pub fn read<'a, const N: usize>(
    query: Option<&'a str>,
    names: [&str; N],
) -> Result<[Option<Cow<'a, str>>; N], Refusal> {
    let mut values = [const { None }; N];
    for (name, value) in pairs(query.unwrap_or_default()) {
        let place = name.and_then(|name| names.iter().position(|&known| known == name));
        let Some(place) = place else { continue };
        let value = decode(value).ok_or_else(|| {
            Refusal::bad_parameter(format!("the value of {} is not percent-encoded UTF-8", names[place]))
        })?;
        if values[place].replace(value).is_some() {
            return Err(Refusal::bad_parameter(format!("{} was sent twice", names[place])));
        }
    }
    Ok(values)
}

/// The value of `name` as a number.
///
/// # Errors
/// 400: it is not a whole number from 1 to `max`.
pub fn number(name: &str, value: &str, max: u64) -> Result<u64, Refusal> {
    let number = digits(value).filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| Refusal::bad_parameter(format!("{name} must be a whole number from 1 to {max}")))
}

/// How many rows the request wants; [`ROWS`] if it does not say.
///
/// # Errors
/// 400: it is not a whole number from 1 to `rows_max`.
pub fn limit(value: Option<&str>, rows_max: usize) -> Result<usize, Refusal> {
    value.map_or(Ok(ROWS), |value| number("limit", value, rows_max as u64).map(|rows| rows as usize))
}

/// The meaning of the value of `name`, which is one of these words.
///
/// # Errors
/// 400: it is none of them.
pub fn word<T>(
    name: &str,
    value: Option<&str>,
    words: impl IntoIterator<Item = (&'static str, T)>,
) -> Result<Option<T>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let mut known = Vec::new();
    for (word, meaning) in words {
        if word == value {
            return Ok(Some(meaning));
        }
        known.push(word);
    }
    Err(Refusal::bad_parameter(format!("{name} must be one of: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::{ROWS, limit, pairs, read, read_all, word};

    #[test]
    fn a_pair_is_a_name_and_what_follows_its_first_equals_sign() {
        let read =
            |query| Vec::from_iter(pairs(query).map(|(name, value)| (name.unwrap().into_owned(), value)));
        let owned = |pairs: &[(&str, &'static str)]| {
            Vec::from_iter(pairs.iter().map(|(name, value)| (name.to_string(), *value)))
        };
        assert_eq!(read(""), owned(&[("", "")]));
        assert_eq!(read("%61=b=c&d&=%20"), owned(&[("a", "b=c"), ("d", ""), ("", "%20")]));
        assert_eq!(pairs("%=1").next(), Some((None, "1")));
        let is_good = |query| read_all(query, ["sort"]).is_ok();
        assert!([None, Some("a=%zz"), Some("%61=1&b")].map(is_good).iter().all(|&is_good| is_good));
        assert!(![Some("%zz=1"), Some("sort=1&%ff")].map(is_good).iter().any(|&is_good| is_good));
    }

    #[test]
    fn parameters_are_decoded_and_others_ignored() {
        let read = |query| read(query, ["sort", "flow"]);
        assert_eq!(read(None).unwrap(), [None, None]);
        assert_eq!(read(Some("")).unwrap(), [None, None]);
        assert_eq!(read(Some("token=%zz&%z=1&fl%6fw=a%3Ab+&x")).unwrap(), [None, Some("a:b+".into())]);
        assert_eq!(read(Some("sort")).unwrap(), [Some("".into()), None]);
        let message = |query| read(Some(query)).unwrap_err().message;
        assert_eq!(message("flow=a&flow=a"), "flow was sent twice");
        assert_eq!(message("flow=a&fl%6Fw"), "flow was sent twice");
        assert_eq!(message("flow=%z"), "the value of flow is not percent-encoded UTF-8");
        assert_eq!(message("flow=%ff"), "the value of flow is not percent-encoded UTF-8");
    }

    #[test]
    fn limits_are_whole_numbers() {
        let limit = |value| limit(value, 1_000_000);
        assert_eq!(limit(None).unwrap(), ROWS);
        assert_eq!((limit(Some("1")).unwrap(), limit(Some("1000000")).unwrap()), (1, 1_000_000));
        for bad in ["", "0", "-1", "+1", "1.0", "x", "1000001", "99999999999999999999"] {
            let refusal = limit(Some(bad)).unwrap_err();
            assert_eq!((refusal.status.code(), refusal.code), (400, "bad_parameter"), "{bad}");
        }
    }

    #[test]
    fn a_word_is_one_of_a_list_that_the_refusal_names() {
        let word = |value| word("sort", value, [("lag", 1), ("age", 2)]);
        assert_eq!((word(None).unwrap(), word(Some("age")).unwrap()), (None, Some(2)));
        assert_eq!(word(Some("")).unwrap_err().message, "sort must be one of: lag, age");
    }
}
