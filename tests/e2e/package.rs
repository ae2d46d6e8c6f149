//! The contents of the Debian package, as far as they can be checked without building it (`tools/package` does that).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;

use crate::harness::{Scratch, luxcast};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> toml::Table {
    let text = fs::read_to_string(project().join("Cargo.toml")).expect("it is there");
    let manifest: toml::Table = text.parse().expect("TOML");
    manifest["package"]["metadata"]["deb"].as_table().expect("a table").clone()
}

/// Where the files of the package come from.
fn sources() -> Vec<String> {
    let metadata = metadata();
    let assets = metadata["assets"].as_array().expect("a list");
    assets.iter().map(|asset| asset[0].as_str().expect("a path").to_owned()).collect()
}

fn generate() -> Scratch {
    let scratch = Scratch::new();
    let script = project().join("tools/packaging/generate");
    let status = Command::new(script).arg(luxcast().get_program()).arg(scratch.path()).status();
    assert!(status.expect("bash is there").success());
    scratch
}

/// Whether this is a non-empty file, or a pattern that matches some.
fn is_something(path: &Path) -> bool {
    match path.to_str().expect("UTF-8").contains('*') {
        true => !names(path.parent().expect("a directory")).is_empty(),
        false => fs::metadata(path).is_ok_and(|file| file.len() > 0),
    }
}

/// The names in a directory.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn each_file_of_the_package_is_there_or_made() {
    let made = generate();
    let sources = sources();
    assert!(sources.len() > 5, "{sources:?}");
    for source in sources {
        let is_there = match source.strip_prefix("target/release/") {
            Some("luxcast" | "luxcast-bench") => true,
            Some(made_path) => {
                let path =
                    made.path().join(made_path.strip_prefix("packaging/").expect("made by the script"));
                is_something(&path)
            }
            None => is_something(&project().join(&source)),
        };
        assert!(is_there, "{source}");
    }
    let units = metadata()["systemd-units"]["unit-scripts"].as_str().expect("a path").to_owned();
    let expected = ["luxcast.service", "luxcast.socket", "luxcast.sysusers", "postinst", "postrm"];
    let expected = expected.map(str::to_owned);
    assert_eq!(names(&project().join(units)), BTreeSet::from(expected));
}

#[test]
fn each_command_has_its_manual_page_in_the_package() {
    let help = luxcast().arg("--help").output().expect("it runs").stdout;
    let help = String::from_utf8(help).expect("text");
    let (_, rest) = help.split_once("Commands:\n").expect("a list of commands");
    let (list, _) = rest.split_once("\n\n").expect("its end");
    // A long description continues in the next line, further to the right.
    let rows = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands = rows.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let mut expected: BTreeSet<String> = commands.map(|name| format!("luxcast-{name}.1.gz")).collect();
    assert!(expected.len() > 5, "{help}");
    expected.insert("luxcast.1.gz".to_owned());
    expected.extend(["create", "check", "new-epoch"].map(|name| format!("luxcast-bus-{name}.1.gz")));
    let made = names(&generate().path().join("man"));
    assert_eq!(made, expected);
}

#[test]
fn the_changelog_begins_with_this_version_in_both_of_its_forms() {
    let changes = fs::read_to_string(project().join("tools/packaging/CHANGELOG.md")).expect("it is there");
    let heading = changes.lines().find(|line| line.starts_with("## ")).expect("it has a version");
    let version = env!("CARGO_PKG_VERSION");
    assert!(heading.starts_with(&format!("## [{version}] - ")), "{heading}");
    let packed = fs::File::open(generate().path().join("changelog.Debian.gz")).expect("it is made");
    let debian = io::read_to_string(GzDecoder::new(packed)).expect("text");
    assert!(
        debian.starts_with(&format!("luxcast ({version}-1) unstable; urgency=medium\n\n  * ")),
        "{debian}"
    );
    // The same words, wherever the lines break.
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let points = |text: &str, begin| text.lines().filter(|line| line.starts_with(begin)).count();
    assert_eq!(points(&changes, "- "), points(&debian, "  * "), "{debian}");
    let first = changes.split_once("\n- ").expect("a change").1.split_once("\n- ").expect("another").0;
    assert!(words(&debian).contains(&words(first)), "{debian}");
    let mut lines = debian.lines().filter(|line| !line.starts_with(" -- "));
    assert!(lines.all(|line| line.len() <= 80), "{debian}");
}

#[test]
fn the_files_for_monitoring_are_in_the_package() {
    let sources = sources();
    for file in ["prometheus/*.yml", "grafana/luxcast.json"] {
        assert!(sources.contains(&format!("tools/monitoring/{file}")), "{file} in {sources:?}");
    }
}

/// They keep their relative paths there, so that their links work.
#[test]
fn the_pages_for_users_and_operators_are_in_the_package() {
    let front = fs::read_to_string(project().join("README.md")).expect("it is there");
    let links = front.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap_or_default());
    let is_installed = |page: &&str| page.starts_with("src/") || page.starts_with("tools/packaging/README");
    let pages: BTreeSet<&str> = links.filter(is_installed).collect();
    assert!(pages.len() > 8, "{pages:?}");
    let metadata = metadata();
    let assets = metadata["assets"].as_array().expect("a list");
    for page in pages {
        let asset = assets.iter().find(|asset| asset[0].as_str() == Some(page)).expect(page);
        let folder = page.strip_suffix("README.md").expect("a page");
        assert_eq!(asset[1].as_str(), Some(format!("usr/share/doc/luxcast/{folder}").as_str()));
    }
}

/// Runs a script of the package as dpkg does, with a directory of ours as the root.
#[test]
fn a_purge_leaves_nothing_behind_and_a_removal_all() {
    let script = fs::read_to_string(project().join("tools/packaging/systemd/postrm")).expect("it is there");
    let scratch = Scratch::new();
    let root = scratch.path().to_str().expect("UTF-8");
    let here =
        script.replace("/var/lib", &format!("{root}/var/lib")).replace("/run/", &format!("{root}/run/"));
    for directory in ["var/lib/luxcast/deep", "run/luxcast", "var/lib/other"] {
        fs::create_dir_all(scratch.path().join(directory)).expect("the directory is ours");
    }
    for (word, left) in [("remove", 2), ("upgrade", 2), ("purge", 1)] {
        let status = Command::new("sh").args(["-c", &here, "postrm", word]).status().expect("a shell");
        assert!(status.success());
        assert_eq!(names(&scratch.path().join("var/lib")).len(), left, "{word}");
    }
    assert!(names(&scratch.path().join("run")).is_empty());
}
