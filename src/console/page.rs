//! Finds the page and its files by their paths under `/console`.

use crate::console::Asset;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The path without the slash at its end, where relative addresses would be wrong.
    Entrance,
    Asset(&'static Asset),
}

impl Page {
    /// Finds what a path means behind `/console`; it is compared as it was sent.
    pub fn find(local: &str) -> Option<Page> {
        match local.strip_prefix('/') {
            None if local.is_empty() => Some(Page::Entrance),
            None => None,
            Some("") => Asset::find("index.html").map(Page::Asset),
            Some(name) => Asset::find(name).map(Page::Asset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn the_page_and_its_files_are_found_and_nothing_else() {
        let name = |local| match Page::find(local) {
            Some(Page::Entrance) => Some("entrance"),
            Some(Page::Asset(asset)) => Some(asset.name),
            None => None,
        };
        assert_eq!(name(""), Some("entrance"));
        assert_eq!(name("/"), Some("index.html"));
        assert_eq!(name("/console.js"), Some("console.js"));
        for other in [
            "s",
            "s/",
            "//",
            "/x",
            "/console.js/",
            "/Console.js",
            "/%63onsole.js",
            "/../index.html",
            "/page/",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
