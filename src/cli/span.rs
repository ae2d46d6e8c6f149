//! Lengths of time for people: `350ms`, `42s`, `3m4s`, `2h5m`, `3d4h`.

/// Two units at most; what is smaller is left out.
pub fn span(seconds: f64) -> String {
    if seconds < 1.0 {
        return format!("{}ms", (seconds.max(0.0) * 1e3) as u64);
    }
    let whole = seconds as u64;
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let place = units.iter().position(|(length, _)| whole >= *length).unwrap_or(units.len() - 1);
    let (length, name) = units[place];
    let mut text = format!("{}{name}", whole / length);
    if let Some((smaller, name)) = units.get(place + 1)
        && whole % length / smaller > 0
    {
        text.push_str(&format!("{}{name}", whole % length / smaller));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn two_units_say_it() {
        let cases = [
            (-1.0, "0ms"),
            (0.3509, "350ms"),
            (1.9, "1s"),
            (59.9, "59s"),
            (60.0, "1m"),
            (184.0, "3m4s"),
            (7_500.0, "2h5m"),
            (3_601.0, "1h"),
            (273_600.0, "3d4h"),
            (8_640_000.0, "100d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }
}
