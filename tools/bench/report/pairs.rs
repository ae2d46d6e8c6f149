//! Bars of two figures side by side: what a message takes on the wire, and what it costs. Compression is paid for with the
//! one to save the other, so neither says anything without the other.

use std::io::{self, Write};

use super::bars::{role_class, scale_in_words, write_ticks, write_track};
use super::lineup::{Group, Member, Primary};
use super::scale::Scale;
use super::text::Text;
use crate::format;
use crate::lab::{BYTES_PER_MESSAGE, CPU_PER_MESSAGE};
use crate::result::Scenario;

/// The two figures, if the scenario has both.
pub fn of(scenario: &Scenario) -> Option<[Primary<'_>; 2]> {
    let bytes = Primary::first(scenario, |figure| figure.name == BYTES_PER_MESSAGE.name)?;
    // That of the most watchers, if there are several.
    let cpu = Primary::first(scenario, |figure| {
        let with_bytes = scenario.servers.iter().find(|server| server.figure(bytes.name).is_some());
        let is_cpu = |name: &str| name.starts_with(CPU_PER_MESSAGE.name);
        let last = with_bytes.and_then(|server| server.figures.iter().rfind(|figure| is_cpu(&figure.name)));
        last.is_some_and(|last| last.name == figure.name)
    })?;
    Some([bytes, cpu])
}

pub fn write(out: &mut impl Write, groups: &[Group], pair: &[Primary; 2], runs: usize) -> io::Result<()> {
    let members = || groups.iter().flat_map(|group| &group.members);
    let scales = pair.each_ref().map(|one| {
        Scale::of(members().filter_map(|member| one.spread(member.server)).flat_map(|spread| {
            // Whiskers as well as bars.
            [spread.low, spread.median, spread.high]
        }))
    });
    let runs = match runs {
        0 | 1 => "of one run".to_string(),
        runs => format!("medians of {runs} runs"),
    };
    writeln!(
        out,
        r#"<figure class="bars pair"><figcaption><b>{}</b> and <b>{}</b>, {runs}; shorter bars are better. Behind each value: how many times that of luxcast it is</figcaption>"#,
        Text(&capital(pair[0].label)),
        Text(pair[1].label)
    )?;
    for group in groups {
        if !group.name.is_empty() {
            writeln!(out, "<h4>{}</h4>", Text(group.name))?;
        }
        for member in &group.members {
            write_row(out, group, *member, pair, &scales)?;
        }
    }
    write!(out, r#"<div class="bar axis">"#)?;
    for (one, scale) in pair.iter().zip(&scales) {
        write_ticks(out, scale)?;
        write!(out, r#"<div class="scale">{}</div>"#, scale_in_words(one, scale))?;
    }
    writeln!(out, "</div></figure>")
}

fn write_row(
    out: &mut impl Write,
    group: &Group,
    member: Member,
    pair: &[Primary; 2],
    scales: &[Scale; 2],
) -> io::Result<()> {
    write!(
        out,
        r#"<div class="bar {}"><div class="who">{}</div>"#,
        role_class(member.server.role),
        Text(member.name)
    )?;
    for (one, scale) in pair.iter().zip(scales) {
        let Some(spread) = one.spread(member.server) else {
            write!(out, r#"<div class="none">no result</div>"#)?;
            continue;
        };
        write_track(out, member, spread, one, scale)?;
        let is_first = group.luxcast(one).is_some_and(|first| std::ptr::eq(first.server, member.server));
        let ratio = group.ratio(member, one).filter(|_| !is_first && member.server.error.is_none());
        let beside = match (ratio, &member.server.error) {
            (_, Some(_)) => r#"<span class="flag">with errors</span>"#.to_string(),
            (ratio, None) => format!("<span>{}</span>", ratio.map_or(String::new(), format::ratio)),
        };
        let median = format::value(spread.median, one.unit);
        write!(out, r#"<div class="much"><b>{}</b> {beside}</div>"#, Text(&median))?;
    }
    writeln!(out, "</div>")
}

fn capital(label: &str) -> String {
    let mut rest = label.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use super::{of, write};
    use crate::lab::{BYTES_PER_MESSAGE, CPU_PER_MESSAGE, Kind};
    use crate::report::lineup::{Primary, groups};
    use crate::report::sample;
    use crate::result::{Figure, Role, Scenario};

    fn figure(kind: Kind, name: &str, value: f64) -> Figure {
        let Kind { label, unit, better, .. } = kind;
        Figure { name: name.into(), label: label.into(), unit: unit.into(), better, values: vec![value] }
    }

    fn scenario() -> Scenario {
        let mut scenario = sample::scenario("fanout");
        scenario.servers = ["luxcast", "luxcast, deflate", "<ws>"]
            .map(|name| sample::server(name, Role::Luxcast, &[1.0]))
            .to_vec();
        let values = [(347.0, 0.09), (39.7, 0.03), (191.0, 1.0)];
        for (server, (bytes, cpu)) in scenario.servers.iter_mut().zip(values) {
            server.figures.push(figure(CPU_PER_MESSAGE, "cpu_micros_per_message_100", 77.0));
            server.figures.push(figure(CPU_PER_MESSAGE, "cpu_micros_per_message_1000", cpu));
            server.figures.push(figure(BYTES_PER_MESSAGE, BYTES_PER_MESSAGE.name, bytes));
        }
        scenario
    }

    fn page(scenario: &Scenario) -> String {
        let primary = Primary::of(scenario);
        let pair = of(scenario).expect("it has both figures");
        let mut page = Vec::new();
        write(&mut page, &groups(scenario, &primary), &pair, 3).expect("memory takes everything");
        String::from_utf8(page).expect("it is text")
    }

    #[test]
    fn each_server_has_both_values_and_their_ratios() {
        let page = page(&scenario());
        for text in [
            "<b>347 B</b> <span></span>",
            "<b>39.7 B</b> <span>1/8.7</span>",
            "<b>0.0300 µs</b> <span>1/3.0</span>",
            "<b>1 µs</b> <span>11 times</span>",
            "&lt;ws&gt;",
            "<b>Bytes on the wire per message</b> and <b>CPU per message</b>, medians of 3 runs",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        assert!(!page.contains("77"), "of the fewer watchers");
    }

    #[test]
    fn a_server_without_one_figure_says_so_and_a_scenario_without_them_has_no_pair() {
        let mut scenario = scenario();
        scenario.servers[2].figures.pop();
        scenario.servers[1].error = Some("lost 3".into());
        let page = page(&scenario);
        assert_eq!(page.matches("no result").count(), 1);
        assert_eq!(page.matches("with errors").count(), 2);
        assert!(of(&sample::scenario("fanout")).is_none());
    }
}
