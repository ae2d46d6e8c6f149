//! The files of the live page, one row each.

use std::fmt;
use std::sync::OnceLock;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

/// A file of the page.
pub struct Asset {
    pub name: &'static str,
    pub content_type: &'static str,
    pub plain: &'static [u8],
    /// The same, compressed with gzip when the program was built.
    pub gzip: &'static [u8],
    tag: OnceLock<String>,
}

macro_rules! asset {
    ($name:literal, $content_type:literal) => {
        Asset {
            name: $name,
            content_type: $content_type,
            plain: include_bytes!(concat!("page/", $name)),
            gzip: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")),
            tag: OnceLock::new(),
        }
    };
}

static ASSETS: [Asset; 26] = [
    asset!("index.html", "text/html; charset=utf-8"),
    asset!("console.css", "text/css; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("console.js", "text/javascript; charset=utf-8"),
    asset!("copy.js", "text/javascript; charset=utf-8"),
    asset!("daemon_card.js", "text/javascript; charset=utf-8"),
    asset!("detail.js", "text/javascript; charset=utf-8"),
    asset!("entry.js", "text/javascript; charset=utf-8"),
    asset!("event_list.js", "text/javascript; charset=utf-8"),
    asset!("extent.js", "text/javascript; charset=utf-8"),
    asset!("fault.js", "text/javascript; charset=utf-8"),
    asset!("job_list.js", "text/javascript; charset=utf-8"),
    asset!("job_view.js", "text/javascript; charset=utf-8"),
    asset!("jobs.js", "text/javascript; charset=utf-8"),
    asset!("json_text.js", "text/javascript; charset=utf-8"),
    asset!("kinds.js", "text/javascript; charset=utf-8"),
    asset!("lane.js", "text/javascript; charset=utf-8"),
    asset!("lane_names.js", "text/javascript; charset=utf-8"),
    asset!("lanes.js", "text/javascript; charset=utf-8"),
    asset!("log.js", "text/javascript; charset=utf-8"),
    asset!("luxcast.js", "text/javascript; charset=utf-8"),
    asset!("rows.js", "text/javascript; charset=utf-8"),
    asset!("session.js", "text/javascript; charset=utf-8"),
    asset!("time_window.js", "text/javascript; charset=utf-8"),
    asset!("timeline.js", "text/javascript; charset=utf-8"),
    asset!("words.js", "text/javascript; charset=utf-8"),
];

/// As many bytes of a SHA-256 as distinguish two versions of a file.
const TAG_BYTES: usize = 12;

impl Asset {
    /// The file with this name.
    pub fn find(name: &str) -> Option<&'static Asset> {
        ASSETS.iter().find(|asset| asset.name == name)
    }

    /// Names the content in either encoding: the text between the quotes of an entity tag.
    pub fn tag(&self) -> &str {
        self.tag.get_or_init(|| {
            let digest = digest(&SHA256, self.plain);
            HEXLOWER.encode(&digest.as_ref()[..TAG_BYTES])
        })
    }
}

impl fmt::Debug for Asset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Asset({})", self.name)
    }
}

/// A name has one file.
impl PartialEq for Asset {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Asset {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use flate2::write::GzDecoder;

    use super::ASSETS;

    #[test]
    fn both_forms_of_a_file_are_the_same_content() {
        for asset in &ASSETS {
            let mut decoder = GzDecoder::new(Vec::new());
            decoder.write_all(asset.gzip).unwrap();
            assert!(decoder.finish().unwrap() == asset.plain, "{}", asset.name);
        }
    }

    #[test]
    fn every_file_of_the_page_is_in_the_table() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/page");
        for entry in fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(super::Asset::find(&name).is_some(), "{name} is not served");
        }
    }

    #[test]
    fn each_content_has_a_tag_of_its_own() {
        let tags: HashSet<&str> = ASSETS.iter().map(|asset| asset.tag()).collect();
        assert_eq!(tags.len(), ASSETS.len());
        assert!(tags.iter().all(|tag| tag.len() == 24 && tag.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }

    #[test]
    fn the_page_refers_to_nothing_but_its_own_files() {
        let texts = ASSETS.iter().map(|asset| std::str::from_utf8(asset.plain).unwrap());
        let text = texts.collect::<Vec<_>>().join("\n");
        let links = ["src=\"", "href=\"", "} from \""].iter().flat_map(|link| text.split(link).skip(1));
        // A place on the page itself is no address.
        let targets = links.map(|rest| rest.split('"').next().unwrap()).filter(|target| *target != "#");
        let targets: Vec<&str> = targets.collect();
        assert!(targets.len() >= ASSETS.len());
        for target in targets {
            let name = target.strip_prefix("./").unwrap_or(target);
            assert!(super::Asset::find(name).is_some(), "{target}");
        }
    }
}
