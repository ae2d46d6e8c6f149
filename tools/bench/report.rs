//! The report as one HTML page for people who have never seen the project: no scripts, nothing from elsewhere.
//!
//! It is well-formed XML as well, which the tests use to check it.

mod bars;
mod curves;
mod headline;
mod lineup;
mod pairs;
#[cfg(test)]
mod sample;
mod scale;
mod tables;
mod text;

use std::io::{self, Write};

use self::curves::Palette;
use self::lineup::{Primary, groups};
use self::text::Text;
use crate::format;
use crate::result::{Report, Scenario};

const STYLE: &str = include_str!("report/page.css");

/// The glossary of the page.
const GLOSSARY: [(&str, &str); 12] = [
    (
        "Event",
        "One line of JSON that a workflow engine publishes: a job has started, has made progress, has failed.",
    ),
    (
        "Watcher",
        "One connection that receives the events of a job, of a flow or of everything: a WebSocket, unless its name says \
         otherwise.",
    ),
    (
        "SSE, NDJSON",
        "The same events over plain HTTP: as Server-Sent Events, which browsers read by themselves, or as lines of JSON.",
    ),
    (
        "Deflate",
        "The watcher and the server have agreed on compression (permessage-deflate). Each message is then shorter on its \
         way; “bytes on the wire” are what arrives, frames, other messages and TLS included.",
    ),
    (
        "POST",
        "A publisher’s request over HTTP, with one or many events in its body. Its answer says how many were accepted, \
         which is checked.",
    ),
    (
        "Message",
        "One event delivered to one watcher. An event that 1,000 watchers see is 1,000 messages. Every one is checked \
         on receipt; what is lost, doubled or out of order is reported as an error.",
    ),
    (
        "CPU per message",
        "The processor time that the server used, in itself and in the kernel on its behalf, divided by the messages \
         delivered. 1 µs is a millionth of a second; at 1 µs a message, one core delivers a million messages a second.",
    ),
    (
        "Floor",
        "A program that does the least that any server could do when it handles each message by itself, and nothing \
         else: no parsing, no history, no filters. Its name says what it does. luxcast can lie below it because it \
         hands many messages to the kernel at once.",
    ),
    ("Peer", "Another server or library for the same work, under the same load."),
    (
        "Bus",
        "One stream of events that several daemons share, kept by nats-server (NATS JetStream). What one of them takes \
         in reaches the watchers of all. A copy is what one server keeps of it.",
    ),
    (
        "Latency",
        "The time from publishing an event to its receipt by a watcher. “p99” or “99 % within 3 ms” means that only \
         one message in a hundred took longer.",
    ),
    ("Median", "The middle one of the values from several runs."),
];

/// Writes the page. Whatever the report holds, names and errors stay text, and all numbers in drawings are finite.
pub fn write_html(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\"><head><meta charset=\"utf-8\"/>"
    )?;
    writeln!(out, r#"<meta name="viewport" content="width=device-width, initial-scale=1"/>"#)?;
    writeln!(out, r#"<meta name="color-scheme" content="light dark"/>"#)?;
    writeln!(out, "<title>How fast luxcast is: {}</title>", Text(&moment(&report.begun)))?;
    writeln!(out, "<style>\n{STYLE}</style></head><body>\n{}", curves::DEFINITIONS)?;
    write_top(out, report)?;
    writeln!(out, "<main>")?;
    headline::write_cards(out, report)?;
    headline::write_targets(out, &report.scenarios)?;
    write_problems(out, &report.scenarios)?;
    headline::write_overview(out, &report.scenarios)?;
    write_glossary(out)?;
    let palette = Palette::of(&report.scenarios);
    for (index, scenario) in report.scenarios.iter().enumerate() {
        write_scenario(out, index, scenario, report.runs, &palette)?;
    }
    if report.scenarios.is_empty() {
        writeln!(out, "<p>Nothing was measured.</p>")?;
    }
    writeln!(out, "</main><footer>Made by luxcast-bench {}.</footer></body></html>", Text(&report.version))
}

fn write_top(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let machine = &report.machine;
    let count = report.scenarios.len();
    let runs = match report.runs {
        0 | 1 => "once".to_string(),
        runs => format!("{runs} times; figures are the median"),
    };
    writeln!(
        out,
        r##"<header><p class="kicker">Report of luxcast-bench</p><h1>How fast luxcast is</h1>
<p class="lede">luxcast is a daemon for Linux that shows the events of workflow jobs to many people and programs over WebSocket while they happen. This page says what that costs: {count} scenario{}, measured where that can be beside a <a href="#words">floor</a> and beside other servers that do the same work on the same machine.</p>"##,
        if count == 1 { "" } else { "s" },
    )?;
    let cores = format!("{} {}", machine.cores, if machine.cores == 1 { "core" } else { "cores" });
    let rows = [
        ("Measured", moment(&report.begun)),
        ("Each measurement", runs),
        ("Version", format!("luxcast {}", report.version)),
        ("Processor", format!("{}, {cores}", machine.processor)),
        ("Memory", format::bytes(machine.memory_bytes)),
        ("Kernel", machine.kernel.clone()),
        ("Use of the cores", machine.pinning.clone()),
    ];
    writeln!(out, r#"<dl class="facts">"#)?;
    for (name, value) in rows {
        writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", Text(&value))?;
    }
    writeln!(
        out,
        r#"<div class="command"><dt>Command</dt><dd><code>{}</code></dd></div>"#,
        Text(&report.command)
    )?;
    writeln!(out, "</dl></header>")
}

/// `2001-02-03T04:05:06Z` in the form that people write; anything else unchanged.
fn moment(rfc3339: &str) -> String {
    match (rfc3339.get(..10), rfc3339.get(10..11), rfc3339.get(11..16)) {
        (Some(date), Some("T"), Some(time)) if rfc3339.ends_with('Z') => format!("{date}, {time} UTC"),
        _ => rfc3339.to_string(),
    }
}

/// Everything that went wrong, shown before any figure.
fn write_problems(out: &mut impl Write, scenarios: &[Scenario]) -> io::Result<()> {
    let count = scenarios
        .iter()
        .flat_map(|scenario| &scenario.servers)
        .filter(|server| server.error.is_some())
        .count();
    if count == 0 {
        return Ok(());
    }
    writeln!(
        out,
        r#"<div class="problems"><b>{count} {} with errors</b><ul>"#,
        if count == 1 { "result" } else { "results" }
    )?;
    for (index, scenario) in scenarios.iter().enumerate() {
        for server in scenario.servers.iter().filter(|server| server.error.is_some()) {
            writeln!(
                out,
                r##"<li><a href="#{}">{}</a>: {}</li>"##,
                anchor(index, scenario),
                Text(&scenario.name),
                Text(&server.name)
            )?;
        }
    }
    writeln!(out, "</ul></div>")
}

fn write_glossary(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, r#"<section class="glossary" id="words"><h2>Words on this page</h2><dl>"#)?;
    for (word, meaning) in GLOSSARY {
        writeln!(out, "<div><dt>{word}</dt><dd>{meaning}</dd></div>")?;
    }
    writeln!(out, "</dl></section>")
}

fn write_scenario(
    out: &mut impl Write,
    index: usize,
    scenario: &Scenario,
    runs: usize,
    palette: &Palette,
) -> io::Result<()> {
    writeln!(
        out,
        r#"<section class="scenario" id="{}"><h2><span class="name">{}</span> {}</h2><p class="about">{}</p>"#,
        anchor(index, scenario),
        Text(&scenario.name),
        Text(&scenario.title),
        Text(&scenario.about)
    )?;
    if !scenario.parameters.is_empty() {
        writeln!(out, r#"<ul class="parameters">"#)?;
        for (name, value) in &scenario.parameters {
            writeln!(out, "<li>{} <b>{}</b></li>", Text(name), Text(value))?;
        }
        writeln!(out, "</ul>")?;
    }
    let primary = Primary::of(scenario);
    let groups = groups(scenario, &primary);
    let pair = pairs::of(scenario);
    if pair.as_ref().is_none_or(|[_, cpu]| cpu.name != primary.name) {
        bars::write(out, &groups, &primary, runs)?;
    }
    if let Some(pair) = &pair {
        pairs::write(out, &groups, pair, runs)?;
    }
    write_errors(out, scenario)?;
    tables::write_targets(out, &scenario.targets)?;
    curves::write(out, &groups, palette)?;
    tables::write_figures(out, &groups, runs)?;
    if !scenario.notes.is_empty() {
        writeln!(out, r#"<div class="notes"><h3>To judge the figures</h3><ul>"#)?;
        for note in &scenario.notes {
            writeln!(out, "<li>{}</li>", Text(note))?;
        }
        writeln!(out, "</ul></div>")?;
    }
    writeln!(out, "</section>")
}

fn write_errors(out: &mut impl Write, scenario: &Scenario) -> io::Result<()> {
    let failed = || scenario.servers.iter().filter_map(|server| Some((&server.name, server.error.as_ref()?)));
    if failed().next().is_none() {
        return Ok(());
    }
    writeln!(out, r#"<div class="problems"><b>What went wrong</b><ul>"#)?;
    for (name, error) in failed() {
        writeln!(out, r#"<li><b>{}</b>: <span class="said">{}</span></li>"#, Text(name), Text(error.trim()))?;
    }
    writeln!(out, "</ul></div>")
}

/// The anchor of a scenario in the page. The number distinguishes two scenarios of one name.
fn anchor(index: usize, scenario: &Scenario) -> String {
    let name: String = scenario.name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}-{name}", index + 1)
}

#[cfg(test)]
mod tests {
    use super::{moment, sample, write_html};
    use crate::result::{Latency, Report, Role};

    fn page(report: &Report) -> String {
        let mut page = Vec::new();
        write_html(report, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert_well_formed(&page);
        page
    }

    /// Every tag is closed by its own kind, every attribute quoted, every `&` an entity.
    fn assert_well_formed(page: &str) {
        let page = page.strip_prefix("<!DOCTYPE html>").unwrap();
        let mut open = Vec::new();
        for piece in page.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag without its end");
            assert!(!text.contains('>') || tag == "style", "a loose > in {text}");
            for entity in piece.split('&').skip(1) {
                assert!(
                    ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|known| entity.starts_with(known)),
                    "{entity}"
                );
            }
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(
                    open.pop(),
                    Some(name),
                    "closed by </{name}> after {}",
                    &text[..text.len().min(80)]
                );
                continue;
            }
            assert_eq!(tag.matches('"').count(), 2 * tag.matches("=\"").count(), "attributes of <{tag}>");
            if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap());
            }
        }
        assert!(open.is_empty(), "left open: {open:?}");
    }

    /// Every attribute of a drawing must hold finite numbers.
    fn assert_finite(page: &str) {
        for tag in page.split('<').filter_map(|piece| piece.split_once('>')).map(|(tag, _)| tag) {
            let lower = tag.to_lowercase();
            assert!(!lower.contains("nan") && !lower.contains("inf"), "<{tag}>");
        }
    }

    #[test]
    fn every_scenario_and_every_server_is_there() {
        let page = page(&sample::report());
        for text in [
            "the title of fanout",
            "the title of latency",
            "What happens in latency.",
            "floor, 1 event a send",
            "&lt;ws&gt; &amp; &quot;co&quot;",
            "luxcast-bench all --report &lt;page&gt;.html",
            "Sample &amp; Sons, 2 cores",
            "4 GiB",
            "2001-02-03, 04:05 UTC",
            "server on core 0, load on core 1",
            "3 times; figures are the median",
            "✓ met",
            "A note.",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert_finite(&page);
    }

    #[test]
    fn markup_in_a_report_stays_text() {
        let mut report = sample::report();
        let hostile = "\"><script>alert('1')</script>\u{1b}[0m";
        report.version = hostile.into();
        report.begun = hostile.into();
        report.machine.kernel = hostile.into();
        let scenario = &mut report.scenarios[0];
        scenario.name = hostile.into();
        scenario.title = hostile.into();
        scenario.about = hostile.into();
        scenario.notes = vec![hostile.into()];
        scenario.parameters = vec![(hostile.into(), hostile.into())];
        scenario.targets[0].text = hostile.into();
        scenario.targets[0].measured = hostile.into();
        scenario.targets[0].is_met = false;
        for server in &mut scenario.servers {
            server.name = hostile.into();
            server.error = Some(hostile.into());
            server.latency = Some(sample::latency(1.0));
            server.figures[0].label = hostile.into();
            server.figures[0].unit = hostile.into();
        }
        let page = page(&report);
        assert!(!page.contains("<script") && !page.contains('\u{1b}'));
    }

    #[test]
    fn an_empty_report_is_a_page() {
        let mut report = sample::report();
        report.scenarios.clear();
        report.runs = 0;
        assert!(page(&report).contains("Nothing was measured."));
        let mut report = sample::report();
        for scenario in &mut report.scenarios {
            scenario.servers.clear();
            scenario.targets.clear();
            scenario.notes.clear();
            scenario.parameters.clear();
        }
        assert!(page(&report).contains("the title of fanout"));
    }

    #[test]
    fn what_is_no_number_is_not_drawn() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, f64::MIN_POSITIVE, f64::MAX, 1.0];
        for first in odd {
            for second in odd {
                let mut report = sample::report();
                for scenario in &mut report.scenarios {
                    scenario.servers[0].figures[0].values = vec![first];
                    scenario.servers[1].figures[0].values = vec![first, second];
                    scenario.servers[2].figures[0].values = vec![];
                    let curve = vec![(0.0, first), (first, second), (second, 1.0), (100.0, 2.0)];
                    scenario.servers[0].latency = Some(Latency { count: 0, max_ms: first, curve });
                    scenario.servers[1].latency =
                        Some(Latency { count: 9, max_ms: 1.0, curve: vec![(50.0, second)] });
                }
                assert_finite(&page(&report));
            }
        }
    }

    #[test]
    fn an_error_is_told_at_the_top_and_at_its_place() {
        let mut report = sample::report();
        report.scenarios[1].servers.push(sample::server("nchan", Role::Peer, &[]));
        report.scenarios[1].servers[3].error = Some("could not be started: no <nginx>\n".into());
        let page = page(&report);
        assert!(page.contains("1 result with errors"));
        assert!(
            page.contains(
                r#"<b>nchan</b>: <span class="said">could not be started: no &lt;nginx&gt;</span>"#
            )
        );
        assert!(page.contains("no result"));
    }

    #[test]
    fn a_moment_in_another_form_is_left_alone() {
        assert_eq!(moment("2001-02-03T04:05:06.7Z"), "2001-02-03, 04:05 UTC");
        for other in ["", "yesterday", "2001-02-03T04:05:06+01:00", "éééééééééé"] {
            assert_eq!(moment(other), other);
        }
    }
}
