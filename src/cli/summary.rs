//! What `publish` and `replay` say at their end.

/// The result of a run that ended well. Blank lines are not counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines sent now.
    pub accepted: u64,
    pub refused: u64,
    /// Refused lines for which the daemon gave no reason.
    pub unnamed: u64,
    /// Not sent: accepted earlier under this publisher's name.
    pub accepted_earlier: u64,
    /// Not sent either: among those, but lines that no daemon accepts.
    pub never_accepted: u64,
}

impl Summary {
    /// `publisher` is the name under which no line is taken twice.
    pub fn text(&self, publisher: Option<&str>) -> String {
        let lines = |count| if count == 1 { "line" } else { "lines" };
        let now = if publisher.is_some() { " now" } else { "" };
        let mut text =
            format!("{} {} accepted{now}, {} refused", self.accepted, lines(self.accepted), self.refused);
        if self.unnamed > 0 {
            let named = self.refused - self.unnamed;
            text.push_str(&format!(" ({named} named above, {} more, not named)", self.unnamed));
        }
        let earlier = self.accepted_earlier + self.never_accepted;
        if let Some(publisher) = publisher.filter(|_| earlier > 0) {
            let count = self.accepted_earlier;
            let lines = lines(count);
            text.push_str(&format!("; {count} {lines} accepted earlier under the name {publisher}, skipped"));
            text.push_str(&format!("; {} never accepted", self.never_accepted));
            if self.accepted + self.refused == 0 {
                text.push_str("; nothing was sent");
            }
            // Whether the file is another one cannot be seen here.
            text.push_str("; another file needs another name, or its first lines are skipped");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn the_summary_reads_well() {
        let summary = Summary { accepted: 7685, refused: 2, ..Summary::default() };
        assert_eq!(summary.text(None), "7685 lines accepted, 2 refused");
        let summary = Summary { refused: 1000, unnamed: 936, ..Summary::default() };
        let expected = "0 lines accepted, 1000 refused (64 named above, 936 more, not named)";
        assert_eq!(summary.text(None), expected);
        let summary = Summary { accepted: 1, accepted_earlier: 3, ..Summary::default() };
        let expected = "1 line accepted now, 0 refused; 3 lines accepted earlier under the name p, skipped; 0 never \
                        accepted; another file needs another name, or its first lines are skipped";
        assert_eq!(summary.text(Some("p")), expected);
        let summary = Summary { accepted_earlier: 1, never_accepted: 2, ..Summary::default() };
        let expected = "0 lines accepted now, 0 refused; 1 line accepted earlier under the name p, skipped; 2 never \
                        accepted; nothing was sent; another file needs another name, or its first lines are skipped";
        assert_eq!(summary.text(Some("p")), expected);
    }
}
