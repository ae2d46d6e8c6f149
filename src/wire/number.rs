//! Numbers that are JSON but too wide for simd-json, which stops at 64 bits and at f64's range.

/// simd-json can hold every number of at most this many bytes without an exponent.
const NARROW_NUMBER_BYTES_MAX: usize = 18;

/// Replaces each well-formed number that simd-json may be unable to hold by `0` and blanks. RFC 8259 section 6 sets
/// no range, and nothing here reads such a number, so exactly what is JSON is then accepted. A malformed number is
/// left as it is and is refused.
#[cold]
pub fn narrow_numbers(text: &mut [u8]) {
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'"' {
            at = string_end(text, at);
            continue;
        }
        let token_length =
            text[at..].iter().position(|byte| b" \t\r\n,:[]{}\"".contains(byte)).unwrap_or(text.len() - at);
        let token = &mut text[at..at + token_length];
        if is_number(token) && is_wide(token) {
            token.fill(b' ');
            token[0] = b'0';
        }
        at += token_length.max(1);
    }
}

/// The place behind the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn is_wide(number: &[u8]) -> bool {
    number.len() > NARROW_NUMBER_BYTES_MAX || number.iter().any(|byte| matches!(byte, b'e' | b'E'))
}

/// The grammar of RFC 8259 section 6.
fn is_number(token: &[u8]) -> bool {
    let mut rest = token.strip_prefix(b"-").unwrap_or(token);
    rest = match rest {
        [b'0', rest @ ..] => rest,
        [b'1'..=b'9', rest @ ..] => after_digits(rest),
        _ => return false,
    };
    if let [b'.', fraction @ ..] = rest {
        rest = after_digits(fraction);
        if rest.len() == fraction.len() {
            return false;
        }
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let digits = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            digits => digits,
        };
        rest = after_digits(digits);
        if rest.len() == digits.len() {
            return false;
        }
    }
    rest.is_empty()
}

fn after_digits(text: &[u8]) -> &[u8] {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    &text[digits..]
}

#[cfg(test)]
mod tests {
    use super::{is_number, narrow_numbers};

    #[test]
    fn only_wide_numbers_outside_strings_are_replaced() {
        let table = [
            (r#"{"a":1e400}"#, r#"{"a":0    }"#),
            (r#"[-1E5,12345678901234567890]"#, r#"[0   ,0                   ]"#),
            (r#"[1.5,-0,123456789012345678]"#, r#"[1.5,-0,123456789012345678]"#),
            (r#"{"1e400":"1e400 \" 1e400","k":1e4}"#, r#"{"1e400":"1e400 \" 1e400","k":0  }"#),
            ("1e400", "0    "),
            // What is not JSON does not become JSON.
            ("[01e400,1e400x,1e,- 1e4]", "[01e400,1e400x,1e,- 0  ]"),
            (r#"["open 1e400"#, r#"["open 1e400"#),
            (r#"["\"#, r#"["\"#),
            ("", ""),
        ];
        for (text, expected) in table {
            let mut bytes = text.as_bytes().to_vec();
            narrow_numbers(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn number_grammar() {
        for good in ["0", "-0", "7", "10", "-12.5", "0.0", "1e5", "1E-5", "1.25e+10", "0e0"] {
            assert!(is_number(good.as_bytes()), "{good}");
        }
        for bad in [
            "", "-", "01", "-01", "1.", ".1", "1.e5", "1e", "1e+", "+1", "1a", "0x1", "1e5.5", "--1", "1-2",
            "1_0",
        ] {
            assert!(!is_number(bad.as_bytes()), "{bad}");
        }
    }
}
