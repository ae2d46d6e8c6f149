//! Escapes text for the page: whatever a name or an error holds, it stays text.

use std::fmt::{self, Display, Formatter, Write};

/// Displays as text or attribute value of HTML and XML.
pub struct Text<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                '\n' | '\t' => formatter.write_char(character)?,
                // A peer's standard error may hold escape sequences, which HTML text may not.
                _ if character.is_control() => formatter.write_char('\u{fffd}')?,
                _ => formatter.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn markup_becomes_text() {
        assert_eq!(Text(r#"<a b="c">&'d'"#).to_string(), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;d&#39;");
        assert_eq!(Text("\u{1b}[31mred\0\n").to_string(), "\u{fffd}[31mred\u{fffd}\n");
        assert_eq!(Text("µs, 1,000 – ü").to_string(), "µs, 1,000 – ü");
    }
}
