//! Makes identifiers as workflow engines do.

use std::fmt::Write;

use fastrand::Rng;

/// RFC 9562, 5.4: 122 random bits, version 4 and the variant.
pub fn uuid(random: &mut Rng) -> String {
    let bits = (random.u128(..) & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62);
    let digits = format!("{bits:032x}");
    let mut text = String::with_capacity(36);
    for (index, part) in [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().enumerate() {
        let dash = if index == 0 { "" } else { "-" };
        write!(text, "{dash}{}", &digits[part]).expect("a String takes everything");
    }
    text
}
