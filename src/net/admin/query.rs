//! The query of an operator's request.

use std::borrow::Cow;

use crate::hub::endpoint::decode;
use crate::wire::http::Refusal;

/// Rows of a list that nobody has asked for more or fewer of.
const ROWS: usize = 1_000;
const ROWS_MAX: usize = 1_000_000;

/// The values of the parameters `names`. Others mean nothing here, a token's among them.
///
/// # Errors
/// One that is malformed, or there twice.
pub fn read<'a, const N: usize>(
    query: Option<&'a str>,
    names: [&str; N],
) -> Result<[Option<Cow<'a, str>>; N], Refusal> {
    let mut values = [const { None }; N];
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(place) = names.iter().position(|&known| known == name) else { continue };
        let value = decode(value).ok_or_else(|| {
            Refusal::bad_parameter(format!("the value of {name} is not percent-encoded UTF-8"))
        })?;
        if values[place].replace(value).is_some() {
            return Err(Refusal::bad_parameter(format!("{name} was sent twice")));
        }
    }
    Ok(values)
}

/// How many rows are wanted at most.
pub fn limit(value: Option<&str>) -> Result<usize, Refusal> {
    let Some(value) = value else { return Ok(ROWS) };
    let is_number = value.bytes().all(|digit| digit.is_ascii_digit());
    let limit = value.parse().ok().filter(|limit| is_number && (1..=ROWS_MAX).contains(limit));
    limit.ok_or_else(|| Refusal::bad_parameter(format!("limit must be a whole number from 1 to {ROWS_MAX}")))
}

/// The one of these words that `value` is.
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
    use super::{ROWS, limit, read, word};

    #[test]
    fn parameters_are_decoded_and_others_passed_over() {
        let read = |query| read(query, ["sort", "flow"]);
        assert_eq!(read(None).unwrap(), [None, None]);
        assert_eq!(read(Some("")).unwrap(), [None, None]);
        assert_eq!(read(Some("token=%zz&flow=a%3Ab&x")).unwrap(), [None, Some("a:b".into())]);
        assert_eq!(read(Some("sort")).unwrap(), [Some("".into()), None]);
        let message = |query| read(Some(query)).unwrap_err().message;
        assert_eq!(message("flow=a&flow=a"), "flow was sent twice");
        assert_eq!(message("flow=%z"), "the value of flow is not percent-encoded UTF-8");
    }

    #[test]
    fn limits_are_whole_numbers() {
        assert_eq!(limit(None).unwrap(), ROWS);
        assert_eq!((limit(Some("1")).unwrap(), limit(Some("1000000")).unwrap()), (1, 1_000_000));
        for bad in ["", "0", "-1", "+1", "1.0", "x", "1000001", "99999999999999999999"] {
            let refusal = limit(Some(bad)).unwrap_err();
            assert_eq!((refusal.status.code(), refusal.code), (400, "bad_parameter"), "{bad}");
        }
    }

    #[test]
    fn a_word_is_one_of_those_that_are_named_otherwise() {
        let word = |value| word("sort", value, [("lag", 1), ("age", 2)]);
        assert_eq!((word(None).unwrap(), word(Some("age")).unwrap()), (None, Some(2)));
        assert_eq!(word(Some("")).unwrap_err().message, "sort must be one of: lag, age");
    }
}
