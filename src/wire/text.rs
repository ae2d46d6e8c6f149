//! Small readers of a request's text: split at a byte, percent-decode, read a number.

use std::borrow::Cow;

use memchr::memchr;
use percent_encoding::percent_decode_str;

/// `str::split_once` for one ASCII byte, with memchr: std's own search for a character takes several times as long.
pub fn split_once(text: &str, byte: u8) -> Option<(&str, &str)> {
    debug_assert!(byte.is_ascii());
    memchr(byte, text.as_bytes()).map(|place| (&text[..place], &text[place + 1..]))
}

/// `str::split` for one ASCII byte, likewise with memchr.
pub fn split(text: &str, byte: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || match split_once(rest?, byte) {
        Some((item, behind)) => {
            rest = Some(behind);
            Some(item)
        }
        None => rest.take(),
    })
}

/// Percent-decodes (RFC 3986, 2.1). `None` if a percent sign lacks its two hexadecimal digits, which the library
/// would accept, or if the result is not UTF-8. A plus stays a plus: it means a blank only in HTML forms.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if memchr(b'%', text.as_bytes()).is_none() {
        return Some(Cow::Borrowed(text));
    }
    let is_encoded = |rest: &str| match rest.as_bytes() {
        [high, low, ..] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    };
    if !text.split('%').skip(1).all(is_encoded) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok()
}

/// A number written in digits only: `u64::from_str` would also take a plus in front of them.
pub fn digits(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::{decode, digits, split, split_once};

    #[test]
    fn text_is_split_as_std_splits_it() {
        for text in ["", "&", "a", "a&b", "&a&&b&", "ä&€"] {
            assert!(split(text, b'&').eq(text.split('&')), "{text}");
            assert_eq!(split_once(text, b'&'), text.split_once('&'), "{text}");
        }
    }

    #[test]
    fn only_whole_escapes_and_utf_8_are_decoded() {
        for (text, expected) in
            [("", ""), ("a+b", "a+b"), ("%61%2B", "a+"), ("%2561", "%61"), ("%C3%a4", "ä"), ("%00", "\0")]
        {
            assert_eq!(decode(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["%", "%4", "a%4", "%zz", "%+1", "%%41", "%ff", "%C3", "%C3%28", "%ed%a0%80"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_has_nothing_but_digits() {
        for (text, expected) in [("0", 0), ("007", 7), ("18446744073709551615", u64::MAX)] {
            assert_eq!(digits(text), Some(expected), "{text}");
        }
        for text in ["", "+", "+1", "-", "-0", "-1", " 1", "1 ", "1_0", "0x1", "١", "18446744073709551616"] {
            assert_eq!(digits(text), None, "{text}");
        }
    }
}
