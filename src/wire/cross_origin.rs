//! Which pages of other origins may read an answer, as browsers are told it (Fetch, "CORS protocol").

use std::borrow::Cow;

/// The pages that may read an answer. Programs, and pages of the daemon's own origin, need no leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// None, whichever origin a request names: the answer does not depend on it.
    NoPage,
    /// None that this request names. Another request for the same may name one.
    NotThisPage,
    /// Those of this origin: visible ASCII.
    Page(Box<str>),
}

impl Readers {
    /// The pages of an origin that may connect. What no browser sends as an origin is no page.
    pub fn of(origin: &str) -> Self {
        match !origin.is_empty() && origin.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Readers::Page(origin.into()),
            false => Readers::NotThisPage,
        }
    }

    /// The lines of an answer that say so, each with its CR LF. `others`: lines of it that a page may read as well, and
    /// that a browser would hide from it.
    pub fn fields(&self, others: &str) -> Cow<'static, str> {
        let origin = match self {
            Readers::NoPage => return Cow::Borrowed(""),
            // Without it a cache could give this answer to a page that may read such (Fetch, "CORS protocol and HTTP
            // caches"), and the browser would not let it.
            Readers::NotThisPage => return Cow::Borrowed("Vary: Origin\r\n"),
            Readers::Page(origin) => origin,
        };
        // Never `*`: what a token opens is for the page that has the token.
        let mut fields = format!("Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n");
        let names: Vec<&str> =
            others.lines().filter_map(|line| line.split_once(':').map(|(name, _)| name)).collect();
        if !names.is_empty() {
            fields += &format!("Access-Control-Expose-Headers: {}\r\n", names.join(", "));
        }
        Cow::Owned(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::Readers;

    #[test]
    fn only_what_a_browser_sends_is_given_back() {
        for origin in ["https://a.example", "http://[::1]:1", "null", "chrome-extension://abc"] {
            assert_eq!(Readers::of(origin), Readers::Page(origin.into()));
        }
        for origin in ["", "a b", "a\tb", "a\r\nX: y", "a\nb", "\0", "http://\u{FC}", "\u{7F}"] {
            assert_eq!(Readers::of(origin), Readers::NotThisPage, "{origin:?}");
        }
    }

    #[test]
    fn a_page_is_named_and_whoever_names_none_is_told_that_it_matters() {
        assert_eq!(Readers::NoPage.fields("Allow: GET\r\n"), "");
        assert_eq!(Readers::NotThisPage.fields("Allow: GET\r\n"), "Vary: Origin\r\n");
        let page = Readers::of("http://a");
        let fields = "Access-Control-Allow-Origin: http://a\r\nVary: Origin\r\n";
        assert_eq!(page.fields(""), fields);
        let exposed = format!("{fields}Access-Control-Expose-Headers: Retry-After, X\r\n");
        assert_eq!(page.fields("Retry-After: 1\r\nX: y: z\r\n"), exposed);
    }
}
