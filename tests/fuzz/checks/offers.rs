//! Offers of compression: read as a naive reader with strings and lists reads them, and answered with what the client can keep.

use luxcast::wire::deflater::WINDOW_BITS;
use luxcast::wire::permessage_deflate::{Agreement, Form, agree};

/// Panics where something does not hold for this line of `Sec-WebSocket-Extensions`.
pub fn check(line: &[u8]) {
    let agreement = agree(line);
    assert_eq!(agreement, naive(line), "{}", line.escape_ascii());
    // What cannot be kept hides nothing behind it, unless a quoted string is still open.
    if line.iter().all(|byte| *byte != b'"') {
        let behind = [line, b", permessage-deflate"].concat();
        assert_eq!(agree(&behind), agreement.or(agree(b"permessage-deflate")));
    }
    if let Some(agreement) = agreement {
        check_answer(&agreement);
    }
}

/// The answer has its parameters once, and would itself be a good offer for the same.
fn check_answer(agreement: &Agreement) {
    let mut out = Vec::new();
    agreement.write(&mut out);
    let text = str::from_utf8(&out).expect("an answer is ASCII");
    assert!(text.starts_with("permessage-deflate; client_no_context_takeover"), "{text}");
    assert_eq!(text.contains("server_no_context_takeover"), agreement.form == Form::Alone, "{text}");
    assert_eq!(agree(&out), Some(*agreement), "{text}");
}

fn naive(line: &[u8]) -> Option<Agreement> {
    // Each byte is a letter, whatever it is.
    let line: String = line.iter().map(|byte| char::from(*byte)).collect();
    cut(&line, ',').iter().find_map(|offer| {
        let parts: Vec<String> = cut(offer, ';').iter().map(|part| trim(part).to_owned()).collect();
        let (name, parameters) = parts.split_first()?;
        let mut names = Vec::new();
        let (mut is_alone, mut bits) = (false, None);
        for parameter in parameters {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (trim(name), Some(unquoted(trim(value))?)),
                None => (parameter.as_str(), None),
            };
            let window = |value: &str| (8..=15).find(|bits: &u8| bits.to_string() == value);
            match (name, value.as_deref()) {
                ("server_no_context_takeover", None) => is_alone = true,
                ("client_no_context_takeover" | "client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(value)) => drop(window(value)?),
                ("server_max_window_bits", Some(value)) => bits = Some(window(value)?),
                _ => return None,
            }
            if names.contains(&name) {
                return None;
            }
            names.push(name);
        }
        let form = match is_alone || bits.is_some_and(|bits| bits < WINDOW_BITS) {
            true => Form::Alone,
            false => Form::Shared,
        };
        (name == "permessage-deflate")
            .then_some(Agreement { form, server_max_window_bits: bits.map(|bits| bits.min(WINDOW_BITS)) })
    })
}

fn trim(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_ascii_whitespace())
}

fn cut(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for letter in text.chars() {
        if letter == separator && !is_quoted {
            parts.push(String::new());
            continue;
        }
        parts.last_mut().expect("one is there").push(letter);
        is_quoted ^= letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && is_quoted && !is_escaped;
    }
    parts
}

/// A token as it is, a quoted string without its quotes and backslashes.
fn unquoted(value: &str) -> Option<String> {
    if !value.starts_with('"') {
        return Some(value.to_owned());
    }
    let mut text = String::new();
    let mut letters = value[1..].chars();
    loop {
        match letters.next()? {
            '"' => return letters.next().is_none().then_some(text),
            '\\' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
}
