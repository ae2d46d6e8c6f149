//! The shape of the source: layers, sizes, unsafe code in one file, no loose ends, and papers that agree with the
//! program and can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use luxcast::config::{settings_markdown, settings_toml};
use luxcast::event::TypeTable;
use luxcast::metrics::table::metrics_markdown;

/// From the bottom up; modules of one row may use each other. Nothing uses what stands further down here.
const LAYERS: [&[&str]; 12] = [
    &["event", "close", "config", "console", "metrics", "tick"],
    &["wire"],
    &["access"],
    &["stream"],
    &["bus"],
    &["delivery"],
    &["session"],
    &["net"],
    &["server"],
    &["sim"],
    &["cli"],
    &["main"],
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const FRONT_PAGE_LINES_MAX: usize = 250;
const SENTENCE_WORDS_MAX: usize = 30;

/// The one file with unsafe code, which argues for it.
const UNSAFE_FILE: &str = "src/net/shard/send_queue.rs";

struct Source {
    /// From the project's directory on.
    path: String,
    /// All lines.
    text: String,
}

impl Source {
    /// The lines before the file's tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
        lines.enumerate().map(|(place, line)| (place + 1, line))
    }

    /// `src/delivery/flush.rs` and `src/delivery/mod.rs` are of the module `delivery`.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").expect("only files of src have a module");
        inside.split(['/', '.']).next().expect("a path has a first part")
    }
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&project().join(directory), "rs", &mut files);
    files.sort();
    let sources = files.iter().map(|file| {
        let path = file.strip_prefix(project()).expect("it was found there").display().to_string();
        Source { path, text: fs::read_to_string(file).expect("a source file is readable text") }
    });
    sources.collect()
}

fn collect(directory: &Path, wanted: &str, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a directory can be read").path();
        if path.is_dir() {
            // What is built, and what npm brings, is not ours.
            if !["target", "node_modules"].iter().any(|name| path.ends_with(name)) && !is_hidden(&path) {
                collect(&path, wanted, files);
            }
        } else if path.extension().is_some_and(|extension| extension == wanted) {
            files.push(path);
        }
    }
}

/// `.venv`, `.pytest_cache`.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// Fails with every breach of a rule, not only the first.
fn assert_none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// What stands in `line` behind each `crate::`, and in a comment too: a link to what is above is a use of it.
fn used_modules(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn nothing_uses_what_is_above_it() {
    let mut breaches = Vec::new();
    for source in sources("src") {
        if source.path == "src/lib.rs" {
            continue;
        }
        let Some(own) = layer(source.module()) else {
            breaches.push(format!("{}: the module {} is in no layer", source.path, source.module()));
            continue;
        };
        for (place, line) in source.text.lines().enumerate() {
            let uses = used_modules(line);
            for used in uses.filter(|used| layer(used).is_some_and(|used| used > own)) {
                breaches.push(format!("{}:{}: uses {used}, which is above it", source.path, place + 1));
            }
            if line.contains("crate::{") {
                breaches.push(format!("{}:{}: names come one by one", source.path, place + 1));
            }
        }
    }
    assert_none(breaches);
}

/// `src/wire/line.rs` is `wire::line`, and `src/wire/mod.rs` is `wire`.
fn module_path(path: &str) -> String {
    let inside = path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")).expect("a file of src");
    inside.strip_suffix("/mod").unwrap_or(inside).replace('/', "::")
}

/// The modules that a source uses, apart from its tests and from links in comments.
fn uses_of(source: &Source, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let own = module_path(&source.path);
    let room = own.rsplit_once("::").map_or("", |(room, _)| room);
    let is_room = source.path.ends_with("/mod.rs");
    let mut uses = BTreeSet::new();
    for (_, line) in source.code() {
        let code = line.split("//").next().unwrap_or_default();
        let mut paths: Vec<String> = code.split("crate::").skip(1).map(str::to_owned).collect();
        paths.extend(code.split("super::").skip(1).map(|path| format!("{room}::{path}")));
        if is_room {
            let text = code.trim_start().trim_start_matches("pub ").trim_start_matches("use ");
            let word = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            if word.is_some_and(|end| text[end..].starts_with("::")) {
                paths.push(format!("{own}::{text}"));
            }
        }
        for path in paths {
            let end = path.find(|letter: char| !letter.is_ascii_alphanumeric() && !"_:".contains(letter));
            let mut path = path[..end.unwrap_or(path.len())].trim_end_matches(':');
            // The longest part that is a file.
            while !modules.contains(path) {
                let Some((shorter, _)) = path.rsplit_once("::") else { break };
                path = shorter;
            }
            if modules.contains(path) && path != own {
                uses.insert(path.to_owned());
            }
        }
    }
    uses
}

/// Files that use each other can only be understood together.
#[test]
fn no_file_uses_itself_through_others() {
    let sources: Vec<Source> = sources("src")
        .into_iter()
        .filter(|source| !["src/lib.rs", "src/main.rs"].contains(&&*source.path))
        .collect();
    let modules: BTreeSet<String> = sources.iter().map(|source| module_path(&source.path)).collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> =
        sources.iter().map(|source| (module_path(&source.path), uses_of(source, &modules))).collect();
    // What uses nothing that is left, or is used by nothing that is left, is in no circle.
    loop {
        let is_used = |module: &String| uses.values().any(|used| used.contains(module));
        let is_free = |(module, used): &(&String, &BTreeSet<String>)| used.is_empty() || !is_used(module);
        let free: Vec<String> = uses.iter().filter(is_free).map(|(module, _)| module.clone()).collect();
        if free.is_empty() {
            break;
        }
        for module in free {
            uses.remove(&module);
            for used in uses.values_mut() {
                used.remove(&module);
            }
        }
    }
    assert_none(uses.iter().map(|(module, used)| format!("{module} uses {used:?}")).collect());
}

/// What decides is state alone: it can be run at any time and in any order.
#[test]
fn pure_rooms_have_no_socket_and_no_clock() {
    const PURE: [&str; 6] = ["wire", "access", "stream", "bus", "delivery", "session"];
    const IMPURE: [&str; 10] = [
        "mio",
        "socket2",
        "rustix",
        "Instant",
        "SystemTime",
        "std::thread",
        "std::fs",
        "TcpStream",
        "UnixStream",
        "signal_hook",
    ];
    let mut breaches = Vec::new();
    for source in PURE.iter().flat_map(|room| sources(&format!("src/{room}"))) {
        for (place, line) in source.code() {
            let code = line.split("//").next().unwrap_or_default();
            for word in IMPURE.iter().filter(|word| code.contains(**word)) {
                breaches.push(format!("{}:{place}: {word}", source.path));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn files_are_short() {
    let mut breaches = Vec::new();
    for source in ["src", "tools"].into_iter().flat_map(sources) {
        let lines = source.code().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!("{}: {lines} lines before its tests", source.path));
        }
    }
    assert_none(breaches);
}

#[test]
fn functions_are_short() {
    let mut breaches = Vec::new();
    for source in ["src", "tools", "benches"].into_iter().flat_map(sources) {
        for (name, place, lines) in functions(source.code()) {
            if lines > FUNCTION_LINES_MAX {
                breaches.push(format!("{}:{place}: {name} has {lines} lines", source.path));
            }
        }
    }
    assert_none(breaches);
}

/// Name, first line and number of lines of each function: from `fn` to the brace that stands as far left as it, as
/// rustfmt sets it.
fn functions<'a>(code: impl Iterator<Item = (usize, &'a str)>) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, String, usize)> = Vec::new();
    for (place, line) in code {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim_start();
        if let Some(name) = function_name(text) {
            // A declaration, or a body on the same line.
            if !text.ends_with([';', '}']) {
                open.push((indent, name.to_owned(), place));
            }
        } else if open.last().is_some_and(|function| function.0 == indent) && text.starts_with('}') {
            let (_, name, start) = open.pop().expect("it was just looked at");
            found.push((name, start, place + 1 - start));
        }
    }
    found
}

fn function_name(text: &str) -> Option<&str> {
    const BEFORE: [&str; 7] = ["pub", "const", "unsafe", "extern", "async", "\"C\"", "default"];
    let mut words = text.split(' ');
    loop {
        let word = words.next()?;
        if word == "fn" {
            let name = words.next()?;
            return Some(&name[..name.find(['(', '<']).unwrap_or(name.len())]);
        }
        let is_before = BEFORE.contains(&word) || word.starts_with("pub(");
        // `pub(in some::path)` has a blank.
        if !is_before && !word.ends_with(')') {
            return None;
        }
    }
}

#[test]
fn functions_are_found_and_measured() {
    let code = "fn one() {\n    x\n}\nimpl A {\n    pub(super) fn two<T>(\n        a: T,\n    ) {\n        if a {\n        }\n    }\n\
                fn none();\n    pub const fn three() -> u8 { 1 }\n    pub fn four() {\n    }\n}\n";
    let found = functions(code.lines().enumerate().map(|(place, line)| (place + 1, line)));
    let expected = [("one", 1, 3), ("two", 5, 6), ("four", 13, 2)];
    assert_eq!(found, expected.map(|(name, place, lines)| (name.to_owned(), place, lines)));
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let mut breaches = Vec::new();
    for source in ["src", "tools", "benches"].into_iter().flat_map(sources) {
        for (place, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let is_unsafe = words(code).any(|word| word == "unsafe" || word == "unsafe_code");
            let forbids = code.contains("deny(unsafe_code)") || code.contains("forbid(unsafe_code)");
            if is_unsafe && !forbids && source.path != UNSAFE_FILE {
                breaches.push(format!("{}:{}: unsafe", source.path, place + 1));
            }
        }
    }
    let library = fs::read_to_string(project().join("src/lib.rs")).expect("the library has a front page");
    if !library.contains("#![deny(unsafe_code)]") {
        breaches.push("src/lib.rs: unsafe code is not denied".to_owned());
    }
    assert_none(breaches);
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

#[test]
fn nothing_is_left_undone() {
    let mut breaches = Vec::new();
    for source in ["src", "tools", "benches"].into_iter().flat_map(sources) {
        for (place, line) in source.text.lines().enumerate() {
            for macro_name in ["todo", "unimplemented", "dbg"] {
                if line.contains(&format!("{macro_name}!(")) {
                    breaches.push(format!("{}:{}: {macro_name}!", source.path, place + 1));
                }
            }
            if words(line).any(|word| ["TODO", "FIXME", "XXX"].contains(&word)) {
                breaches.push(format!("{}:{}: {}", source.path, place + 1, line.trim()));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn names_are_imported_one_by_one() {
    let mut breaches = Vec::new();
    for source in sources("src") {
        for (place, line) in source.text.lines().enumerate() {
            let text = line.trim_start();
            let is_own =
                ["use crate", "use super", "use self", "pub use"].iter().any(|own| text.starts_with(own));
            if is_own && text.contains("::*") {
                breaches.push(format!("{}:{}: {text}", source.path, place + 1));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn every_file_says_what_it_is() {
    let mut breaches = Vec::new();
    for source in ["src", "tools", "benches", "tests"].into_iter().flat_map(sources) {
        // Attributes of the whole crate may come first.
        let first = source.text.lines().find(|line| !line.starts_with("#![") && !line.trim().is_empty());
        if !first.is_some_and(|line| line.len() > "//! ".len() && line.starts_with("//! ")) {
            breaches.push(format!("{}: does not begin with what it is", source.path));
        }
    }
    assert_none(breaches);
}

#[test]
fn each_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(project().join("Cargo.toml")).expect("there is a Cargo.toml");
    let mut breaches = Vec::new();
    for list in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let (_, rest) = manifest.split_once(&format!("\n[{list}]\n")).expect("it has this list");
        let lines: Vec<&str> = rest.lines().take_while(|line| !line.is_empty()).collect();
        let names = lines.iter().filter_map(|line| Some(line.split_once(" = ")?.0));
        if !names.is_sorted() {
            breaches.push(format!("Cargo.toml: the {list} are not sorted"));
        }
        let is_row =
            |pair: &[&str]| matches!(pair, [reason, row] if reason.starts_with("# ") && row.contains(" = "));
        // Behind the first, all are shifted.
        let bad = lines.chunks(2).find(|pair| !is_row(pair));
        breaches.extend(bad.map(|pair| format!("Cargo.toml: not a reason and a dependency: {pair:?}")));
    }
    assert_none(breaches);
}

#[test]
fn each_manifest_names_the_licence() {
    let inherited = "license.workspace = true";
    let toml = "license = \"MIT OR Apache-2.0\"";
    let json = "\"license\": \"MIT OR Apache-2.0\",";
    let manifests = [
        ("Cargo.toml", toml),
        ("Cargo.toml", inherited),
        ("tests/browser/package.json", json),
        ("tests/e2e/package.json", json),
        ("tests/fuzz/Cargo.toml", toml),
        ("tools/bench/Cargo.toml", inherited),
        ("tools/bench/peers/tokio-tungstenite/Cargo.toml", toml),
        ("tools/bench/peers/ws/package.json", json),
        ("tools/javascript/package.json", json),
        ("tools/packaging/copyright", "License: MIT OR Apache-2.0"),
        ("tools/python/pyproject.toml", toml),
        ("tools/soak/Cargo.toml", inherited),
    ];
    let names = |path: &str, wanted: &str| {
        let manifest = fs::read_to_string(project().join(path)).expect("it is there");
        manifest.lines().any(|line| line.trim() == wanted)
    };
    let missing = manifests.into_iter().filter(|(path, line)| !names(path, line));
    assert_none(missing.map(|(path, line)| format!("{path}: without {line}")).collect());
}

#[test]
fn packages_bring_the_texts_of_the_licence() {
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let text = |folder: &str| fs::read_to_string(project().join(folder).join(name)).expect("it is there");
        for folder in ["tools/javascript", "tools/python"] {
            assert!(text(folder) == text(".github"), "{folder}/{name} differs from that in .github");
        }
    }
}

#[test]
fn a_page_lists_the_settings_as_they_are() {
    assert_paper_has("src/config/README.md", "settings", &settings_markdown());
}

#[test]
fn the_package_brings_the_settings_as_they_are() {
    let file = fs::read_to_string(project().join("tools/packaging/luxcast.toml")).expect("it is there");
    assert!(file == settings_toml(), "tools/packaging/luxcast.toml should be:\n{}", settings_toml());
}

#[test]
fn a_page_lists_the_metrics_as_they_are() {
    assert_paper_has("src/net/report/README.md", "metrics", &metrics_markdown());
}

/// What stands in the paper between the comments `name` and `/name`.
fn table(path: &str, name: &str) -> String {
    let paper = fs::read_to_string(project().join(path)).expect("the paper is there");
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (_, rest) = paper.split_once(&begin).expect("the paper has the comment before the table");
    let (table, _) = rest.split_once(&end).expect("the paper has the comment behind the table");
    table.to_owned()
}

#[test]
fn a_page_lists_the_types_of_events_and_their_members() {
    let table = table("src/wire/README.md", "events");
    let rows: Vec<(&str, &str)> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).collect();
    let listed: BTreeSet<&str> = rows.iter().map(|(kind, _)| *kind).collect();
    let known = TypeTable::new().names();
    let known: BTreeSet<&str> = known.iter().map(|(kind, _)| &**kind).collect();
    assert_eq!(listed, known, "the types in src/event.rs");
    let inner = TypeTable::new().names().into_iter().filter_map(|(_, inner)| inner);
    let missing = inner.filter(|inner| !table.contains(&format!("`{inner}`")));
    assert_none(missing.map(|inner| format!("without the inner type {inner}")).collect());
    // The types for TypeScript have the same; those of the other dialect are no types of their own there.
    let types = fs::read_to_string(project().join("tools/javascript/luxcast.d.ts")).expect("it is there");
    let (members, rest) = types.split_once("/** For the compiler only").expect("the events come first");
    let (_, list) = rest.split_once("export interface DocumentedEvents {").expect("it has this");
    let (list, _) = list.split_once('}').expect("it ends");
    let typed: BTreeSet<&str> =
        list.lines().filter_map(|line| Some(line.trim().split_once(':')?.0)).collect();
    let other_dialect = BTreeSet::from(["slot_called", "event_emitted"]);
    assert_eq!(typed, &known - &other_dialect, "the types in luxcast.d.ts");
    let (_, members) = members.split_once("export type JobStarted").expect("the first type");
    let mut pieces: Vec<&str> = members.split("?:").collect();
    // Behind the last member.
    pieces.pop();
    let optional = pieces.into_iter().filter_map(|text| words(text).last());
    let missing = optional.filter(|name| !table.contains(&format!("`{name}`")));
    assert_none(
        missing.map(|name| format!("a member in luxcast.d.ts that the table lacks: {name}")).collect(),
    );
}

#[test]
fn the_front_page_has_the_figures_of_the_bench() {
    let read = |path: &str| fs::read_to_string(project().join(path)).expect("it is there");
    let (front, bench) = (read("README.md"), read("tools/bench/README.md"));
    let figures = table("tools/bench/README.md", "figures");
    let row =
        figures.lines().find_map(|line| line.strip_prefix("| luxcast | ")).expect("luxcast has its row");
    let micros: f64 = row.split(' ').next().expect("a figure").parse().expect("a number");
    let rate = format!("{:.0} million messages a second", 1.0 / micros);
    assert!(front.contains(&rate) && bench.contains(&rate), "{micros} µs are {rate}");
    let others = [&front, &bench].map(|text| text.matches("million messages a second").count());
    assert_eq!(others, [1, 1], "the same figure is said once on each page");
    let peers = read("tools/bench/peers/README.md");
    assert!(!peers.contains("| `uwebsockets` | 0."), "figures of peers have one place");
}

#[test]
fn the_handbook_shows_lines_of_the_recipe_for_nginx() {
    let read = |path: &str| fs::read_to_string(project().join(path)).expect("it is there");
    let recipe = read("tools/packaging/nginx/luxcast.conf");
    let recipe: Vec<&str> = recipe.lines().map(|line| line.trim_start_matches(['#', ' '])).collect();
    let handbook = read("tools/packaging/README.md");
    let (_, part) = handbook.split_once("\n## nginx\n").expect("it has this part");
    let (part, _) = part.split_once("\n## ").expect("another part follows");
    let samples = part.split("```").skip(1).step_by(2);
    let shown = samples.filter(|sample| sample.starts_with("nginx\n") || sample.starts_with("toml\n"));
    let lines: Vec<&str> = shown.flat_map(|sample| sample.lines().skip(1)).map(str::trim).collect();
    let lines = lines.into_iter().filter(|line| !line.is_empty());
    assert!(lines.clone().count() > 10, "they are found");
    let missing = lines.filter(|line| !recipe.contains(line));
    assert_none(missing.map(|line| format!("not in the recipe: {line}")).collect());
}

/// The program's table stands in the paper between the comments `name` and `/name`.
fn assert_paper_has(path: &str, name: &str, expected: &str) {
    let table = table(path, name);
    assert!(table.trim() == expected.trim(), "the {name} in {path} differ from the program's:\n{expected}");
}

/// A page for people.
struct Paper {
    /// From the project's directory on.
    path: String,
    text: String,
}

fn papers() -> Vec<Paper> {
    let mut files = vec![project().join("README.md")];
    for directory in [".github", "src", "tests", "tools"] {
        collect(&project().join(directory), "md", &mut files);
    }
    files.sort();
    let papers = files.iter().map(|file| {
        let path = file.strip_prefix(project()).expect("it was found there").display().to_string();
        Paper { path, text: fs::read_to_string(file).expect("a paper is readable text") }
    });
    papers.collect()
}

impl Paper {
    /// The lines outside of samples, with their numbers.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_sample = false;
        let lines = self.text.lines().enumerate().filter(move |(_, line)| {
            let is_fence = line.trim_start().starts_with("```");
            is_sample ^= is_fence;
            !is_sample && !is_fence
        });
        lines.map(|(place, line)| (place + 1, line))
    }

    /// Paragraphs, points, headings and cells of tables, each on one line, with the number of its first.
    fn paragraphs(&self) -> Vec<(usize, String)> {
        let mut found: Vec<(usize, String)> = Vec::new();
        let mut goes_on = false;
        for (place, line) in self.prose() {
            let text = line.trim();
            // Where pictures are, and what they show.
            let is_html = text.starts_with('<');
            let is_own = text.starts_with(['#', '|']) || is_html;
            if is_own {
                let text = if is_html { "" } else { text };
                found.extend(text.split('|').map(|cell| (place, cell.to_owned())));
            } else if goes_on && !begins_point(text) && !text.is_empty() {
                let (_, paragraph) = found.last_mut().expect("it goes on");
                *paragraph += " ";
                *paragraph += text;
            } else {
                found.push((place, text.to_owned()));
            }
            goes_on = !is_own && !text.is_empty();
        }
        found
    }

    /// Where the code host puts each heading.
    fn anchors(&self) -> Vec<String> {
        let headings = self.prose().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
    }
}

fn begins_point(text: &str) -> bool {
    let number = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    text.starts_with("- ") || (number.len() < text.len() && number.starts_with(". "))
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|letter| letter.is_alphanumeric() || ['-', '_'].contains(letter)).collect()
}

/// Without what is code, and where links lead.
fn spoken(paragraph: &str) -> String {
    let mut said = String::new();
    for (place, part) in paragraph.split('`').enumerate() {
        said += if place % 2 == 0 { part } else { "code" };
    }
    let mut parts = said.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').map_or("", |(_, rest)| rest))
}

/// The sentences of a paragraph: they end with a mark and a blank.
fn sentences(paragraph: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let sentence = found.last_mut().expect("there is a first");
        *sentence += " ";
        *sentence += word;
        if word.trim_end_matches(['*', '"', ')']).ends_with(['.', '!', '?']) {
            found.push(String::new());
        }
    }
    found
}

#[test]
fn the_front_page_is_short() {
    let lines = fs::read_to_string(project().join("README.md")).expect("it is there").lines().count();
    assert!(lines <= FRONT_PAGE_LINES_MAX, "README.md has {lines} lines");
}

#[test]
fn each_room_and_each_tool_has_its_page() {
    let mut breaches = Vec::new();
    for parent in ["src", "src/net", "tools"] {
        for entry in fs::read_dir(project().join(parent)).expect("it can be listed") {
            let folder = entry.expect("it can be listed").path();
            if !folder.is_dir() {
                continue;
            }
            if !folder.join("README.md").exists() {
                breaches.push(format!("{}: no README.md", folder.display()));
            }
            let code =
                ["mod.rs", "main.rs"].map(|name| folder.join(name)).into_iter().find(|file| file.exists());
            let text = code.map(|file| fs::read_to_string(file).expect("it is readable"));
            if text.is_some_and(|text| !text.contains("#![doc = include_str!(\"README.md\")]")) {
                breaches.push(format!("{}: its README.md is not its documentation", folder.display()));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn files_that_a_rooms_page_names_are_there() {
    let mut breaches = Vec::new();
    for Paper { path, text } in papers().iter().filter(|paper| paper.path.starts_with("src/")) {
        let page = project().join(path);
        let folder = page.parent().expect("a file is in a folder");
        for name in text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")) {
            if !folder.join(name).exists() && !project().join(name).exists() {
                breaches.push(format!("{path} names {name}"));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn sentences_in_papers_are_short() {
    let mut breaches = Vec::new();
    for paper in papers() {
        for (place, paragraph) in paper.paragraphs() {
            for sentence in sentences(&spoken(&paragraph)) {
                let count = sentence.split_whitespace().filter(|word| words(word).next().is_some()).count();
                if count > SENTENCE_WORDS_MAX {
                    breaches.push(format!("{}:{place}: {count} words:{sentence}", paper.path));
                }
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn links_between_papers_lead_somewhere() {
    let papers = papers();
    let mut breaches = Vec::new();
    for paper in &papers {
        let folder = Path::new(&paper.path).parent().expect("a file is in a folder");
        for (place, line) in paper.prose() {
            let links = line.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default());
            let own =
                |name: &str| line.split(&format!("{name}=\"")).nth(1)?.split('"').next().map(str::to_owned);
            let pictures = ["src", "srcset"].into_iter().filter_map(own);
            for link in links.map(str::to_owned).chain(pictures).filter(|link| !link.contains("://")) {
                let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
                let target = if file.is_empty() { PathBuf::from(&paper.path) } else { joined(folder, file) };
                let leads = match papers.iter().find(|paper| Path::new(&paper.path) == target) {
                    Some(target) => heading.is_empty() || target.anchors().iter().any(|own| own == heading),
                    None => project().join(&target).exists(),
                };
                if !leads {
                    breaches.push(format!("{}:{place}: {link}", paper.path));
                }
            }
        }
    }
    assert_none(breaches);
}

fn joined(folder: &Path, link: &str) -> PathBuf {
    let mut path = folder.to_path_buf();
    for part in link.split('/') {
        match part {
            ".." => assert!(path.pop(), "{link} leads out of the project"),
            "." => {}
            name => path.push(name),
        }
    }
    path
}

#[test]
fn sentences_and_links_are_found() {
    let text = "# A `b` c\n\nOne *two*. [Three](four.md)\nfive.\n- Six\n- Seven\n\n```sh\n# Eight\n```\n\n| Nine. | Ten |\n";
    let paper = Paper { path: "x.md".to_owned(), text: text.to_owned() };
    let spoken: Vec<String> =
        paper.paragraphs().iter().flat_map(|(_, paragraph)| sentences(&spoken(paragraph))).collect();
    let spoken: Vec<&str> = spoken.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
    assert_eq!(spoken, ["# A code c", "One *two*.", "[Three five.", "- Six", "- Seven", "Nine.", "Ten"]);
    assert_eq!(paper.anchors(), ["a-b-c"]);
    assert_eq!(joined(Path::new("src/wire"), "../net/README.md"), Path::new("src/net/README.md"));
}

#[test]
fn the_handbook_says_what_to_do_about_each_alert() {
    let read = |path: &str| fs::read_to_string(project().join(path)).expect("it is there");
    let handbook = read("tools/packaging/README.md");
    let rules = read("tools/monitoring/prometheus/alerts.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let missing = alerts.into_iter().filter(|alert| !handbook.contains(&format!("| `{alert}` |")));
    assert_none(missing.map(|alert| format!("the handbook lacks {alert}")).collect());
}

/// In each point of the page for contributors: the files that it names, and in one of them each name of code.
#[test]
fn contributors_are_told_of_what_is_there() {
    let page = fs::read_to_string(project().join(".github/CONTRIBUTING.md")).expect("it is there");
    let (_, page) = page.split_once("\n## To add something\n").expect("it has this part");
    let (page, _) = page.split_once("\n## ").expect("another part follows");
    let mut breaches = Vec::new();
    for point in page.split("\n- ").skip(1) {
        let quoted: Vec<&str> = point.split('`').skip(1).step_by(2).collect();
        let is_path = |name: &str| ["src/", "tests/", "tools/"].iter().any(|root| name.starts_with(root));
        let paths = quoted.iter().filter(|name| is_path(name));
        breaches
            .extend(paths.clone().filter(|path| !project().join(path).exists()).map(|path| path.to_string()));
        let code: String = paths.filter_map(|path| fs::read_to_string(project().join(path)).ok()).collect();
        // Of `Type::function`, both; `/debug` is no name.
        let names = quoted.iter().filter(|name| !name.contains('/')).flat_map(|name| name.split("::"));
        let missing = names.filter(|name| !words(&code).any(|word| word == *name));
        breaches.extend(missing.map(|name| name.to_owned()));
    }
    assert!(
        breaches.is_empty(),
        "the page for contributors names what is not there: {}",
        breaches.join(", ")
    );
}

/// What strangers may send or break, and the tests that show what then happens.
#[test]
fn each_row_of_hostile_input_names_tests_that_are_there() {
    let table = fs::read_to_string(project().join("tests/hostile.tsv")).expect("there is tests/hostile.tsv");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("section\tinput\ttests"));
    let mut breaches = Vec::new();
    let mut inputs = Vec::new();
    for line in lines {
        let Ok([section, input, tests]) = <[&str; 3]>::try_from(line.split('\t').collect::<Vec<_>>()) else {
            breaches.push(format!("not three columns: {line}"));
            continue;
        };
        if inputs.contains(&(section, input)) {
            breaches.push(format!("twice: {section}: {input}"));
        }
        inputs.push((section, input));
        if tests.split_whitespace().next().is_none() {
            breaches.push(format!("without a test: {section}: {input}"));
        }
        let missing = tests.split_whitespace().filter(|test| !is_test(test));
        breaches.extend(missing.map(|test| format!("{section}: {input}: no test {test}")));
    }
    assert!(!inputs.is_empty(), "tests/hostile.tsv has no row");
    assert_none(breaches);
}

/// Whether `path::name` is a function marked as a test in that file.
fn is_test(test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else {
        return false;
    };
    let text = fs::read_to_string(project().join(path)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| pair[0] == "#[test]" && function_name(pair[1]) == Some(name))
}
