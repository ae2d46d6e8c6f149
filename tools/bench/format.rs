//! Formats numbers for people, the same way on the terminal and in the page.

/// Shown in place of a number that was not measured or cannot be computed.
pub const NOTHING: &str = "—";

/// Three significant digits below 1,000 (whole numbers stay whole), whole and with thousands separators above.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.to_string();
    }
    if value.abs() >= 999.5 || value.fract() == 0.0 {
        return with_separators(value);
    }
    // The exponent after rounding: 9.996 becomes 10.0 and not 10.00.
    let scientific = format!("{value:.2e}");
    let exponent = scientific.rsplit('e').next().and_then(|digits| digits.parse::<i32>().ok()).unwrap_or(0);
    if exponent < -6 {
        return scientific;
    }
    let decimals = (2 - exponent).max(0) as usize;
    format!("{value:.decimals$}")
}

/// A number and its unit: `0.0331 µs`, `2,312,000/s`, `3.20×`.
pub fn value(value: f64, unit: &str) -> String {
    let number = number(value);
    match unit {
        _ if !value.is_finite() => number,
        "" | "/s" | "×" => number + unit,
        _ => format!("{number} {unit}"),
    }
}

/// How one figure compares to another: `1/84` below a half, `3.2 times` above.
pub fn ratio(ratio: f64) -> String {
    if !ratio.is_finite() || ratio < 0.0 || ratio.recip() == f64::INFINITY {
        NOTHING.to_string()
    } else if ratio < 0.5 {
        format!("1/{}", short(ratio.recip()))
    } else {
        format!("{} times", short(ratio))
    }
}

/// A memory size in the largest unit that leaves at least one: `23.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    let (size, unit) = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|&(size, _)| bytes >= size)
        .unwrap_or((1, "B"));
    value(bytes as f64 / size as f64, unit)
}

/// About two digits, more around 1, where targets are.
fn short(ratio: f64) -> String {
    match ratio {
        ..1.995 => format!("{ratio:.2}"),
        ..9.95 => format!("{ratio:.1}"),
        _ => with_separators(ratio),
    }
}

/// The nearest whole number: `1,234,567`.
fn with_separators(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value <= -0.5 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{bytes, number, ratio, value};

    #[test]
    fn numbers_have_three_digits_below_a_thousand_and_separators_above() {
        let table = [
            (0.0, "0"),
            (-0.0, "0"),
            (0.033_14, "0.0331"),
            (0.4, "0.400"),
            (9.996, "10.0"),
            (50.0, "50"),
            (99.96, "100"),
            (999.4, "999"),
            (999.7, "1,000"),
            (1_234.5, "1,234"),
            (2_312_000.0, "2,312,000"),
            (-12.34, "-12.3"),
            (-1_234_567.0, "-1,234,567"),
            (3.31e-9, "3.31e-9"),
            (f64::NAN, "—"),
            (f64::NEG_INFINITY, "—"),
        ];
        for (input, text) in table {
            assert_eq!(number(input), text, "{input}");
        }
    }

    #[test]
    fn units_stand_as_people_write_them() {
        let table = [
            (0.0331, "µs", "0.0331 µs"),
            (2e6, "/s", "2,000,000/s"),
            (3.2, "×", "3.20×"),
            (7.0, "", "7"),
            (12.34, "%", "12.3 %"),
            (f64::NAN, "µs", "—"),
        ];
        for (input, unit, text) in table {
            assert_eq!(value(input, unit), text);
        }
    }

    #[test]
    fn a_ratio_is_a_fraction_below_a_half() {
        let table = [
            (1.0 / 84.0, "1/84"),
            (0.4, "1/2.5"),
            (0.5, "0.50 times"),
            (1.149, "1.15 times"),
            (1.996, "2.0 times"),
            (3.2, "3.2 times"),
            (9.96, "10 times"),
            (61.5, "62 times"),
            (12_345.0, "12,345 times"),
            (0.0, "—"),
            (-1.0, "—"),
            (f64::NAN, "—"),
            (f64::INFINITY, "—"),
        ];
        for (input, text) in table {
            assert_eq!(ratio(input), text, "{input}");
        }
    }

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        let table = [
            (0, "0 B"),
            (1_023, "1,023 B"),
            (1_536, "1.50 KiB"),
            (25_276_510_208, "23.5 GiB"),
            (1 << 40, "1 TiB"),
        ];
        for (input, text) in table {
            assert_eq!(bytes(input), text);
        }
    }
}
