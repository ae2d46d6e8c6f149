//! The summary for a hurried reader: a few big numbers, and one row for each measurement.

use std::io::{self, Write};

use super::anchor;
use super::lineup::{Group, Member, Primary, groups};
use super::text::Text;
use crate::format;
use crate::result::{Better, Report, Scenario, Target};

/// The scenarios that get a big number if they were run.
const SCENARIOS: [&str; 4] = ["fanout", "latency", "idle", "ingest"];
/// If none of them was run, this many others get one.
const OTHERS_MAX: usize = 3;
/// Two figures this close count as equal.
const EQUAL_PERCENT: f64 = 2.0;

pub fn write_cards(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let numbered = || report.scenarios.iter().enumerate();
    let mut chosen: Vec<_> =
        SCENARIOS.iter().filter_map(|name| numbered().find(|(_, one)| one.name == *name)).collect();
    if chosen.is_empty() {
        chosen = numbered().take(OTHERS_MAX).collect();
    }
    writeln!(out, r#"<div class="cards">"#)?;
    for (index, scenario) in chosen {
        write_card(out, index, scenario)?;
    }
    writeln!(out, "</div>")
}

fn write_card(out: &mut impl Write, index: usize, scenario: &Scenario) -> io::Result<()> {
    let primary = Primary::of(scenario);
    let groups = groups(scenario, &primary);
    let mut measured: Vec<&Group> = groups.iter().filter(|group| group.luxcast(&primary).is_some()).collect();
    // The member without a further name is the scenario itself; the others are variants.
    if measured.first().is_some_and(|first| first.name.is_empty()) {
        measured.truncate(1);
    }
    let (Some(first), Some(last)) = (measured.first(), measured.last()) else { return Ok(()) };
    let median = |group: &Group| group.luxcast(&primary).and_then(|luxcast| primary.median(luxcast.server));
    let (Some(low), Some(high)) = (median(first), median(last)) else { return Ok(()) };
    let (big, range) = match measured.len() {
        1 => (format::number(low), String::new()),
        _ => (
            format!("{} – {}", format::number(low), format::number(high)),
            format!(", {} to {}", first.name, last.name),
        ),
    };
    writeln!(
        out,
        r##"<a class="card" href="#{}"><span class="big{}">{big}<span class="unit">{}</span></span><span class="label">{}</span><span class="what">{}: {}{}</span>"##,
        anchor(index, scenario),
        if big.chars().count() > 9 { " long" } else { "" },
        Text(primary.unit),
        Text(primary.label),
        Text(&scenario.name),
        Text(&scenario.title),
        Text(&range)
    )?;
    let ends = if measured.len() == 1 { vec![*first] } else { vec![*first, *last] };
    for group in ends {
        let prefix = if measured.len() == 1 { String::new() } else { format!("{}: ", group.name) };
        for (member, what) in [(group.floor(&primary), ""), (group.best_peer(&primary), ", the best peer")] {
            let Some((member, words)) =
                member.and_then(|member| Some((member, beside(group, member, &primary)?)))
            else {
                continue;
            };
            writeln!(
                out,
                r#"<span class="beside">{}{words} {}{what}</span>"#,
                Text(&prefix),
                Text(member.name)
            )?;
        }
    }
    let is_faulty =
        |group: &&Group| group.luxcast(&primary).is_some_and(|luxcast| luxcast.server.error.is_some());
    let flag = if measured.iter().any(is_faulty) { r#"<span class="flag">with errors</span>"# } else { "" };
    writeln!(out, "{flag}</a>")
}

/// How luxcast compares to a member whose name follows: "<b>62 times</b> less than", "<b>18 %</b> more than".
fn beside(group: &Group, member: Member, primary: &Primary) -> Option<String> {
    if member.server.error.is_some() {
        return None;
    }
    let ratio = group.ratio(member, primary)?.recip();
    let percent = ((ratio - 1.0).abs() * 100.0).round();
    Some(match ratio {
        _ if percent <= EQUAL_PERCENT => "as much as".to_string(),
        2.0.. => format!("<b>{}</b> as much as", format::ratio(ratio)),
        1.0.. => format!("<b>{percent} %</b> more than"),
        0.5.. => format!("<b>{percent} %</b> less than"),
        _ if primary.better == Better::Lower => format!("<b>{}</b> less than", format::ratio(ratio.recip())),
        _ => format!("<b>{}</b> of", format::ratio(ratio)),
    })
}

/// How many targets were met, and which were not.
pub fn write_targets(out: &mut impl Write, scenarios: &[Scenario]) -> io::Result<()> {
    let targets = || scenarios.iter().flat_map(|scenario| &scenario.targets);
    let (met, all) = (targets().filter(|target| target.is_met).count(), targets().count());
    if all == 0 {
        return Ok(());
    }
    let class = if met == all { "met" } else { "missed" };
    writeln!(out, r#"<div class="verdict"><b class="{class}">{met} of {all} targets met</b><ul>"#)?;
    for (index, scenario) in scenarios.iter().enumerate() {
        for missed in scenario.targets.iter().filter(|target| !target.is_met) {
            let (name, text, measured) = (Text(&scenario.name), Text(&missed.text), Text(&missed.measured));
            writeln!(
                out,
                r##"<li>Missed in <a href="#{}">{name}</a>: {text}; measured: {measured}</li>"##,
                anchor(index, scenario)
            )?;
        }
    }
    writeln!(out, "</ul></div>")
}

pub fn write_overview(out: &mut impl Write, scenarios: &[Scenario]) -> io::Result<()> {
    if scenarios.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        r#"<h2 class="overview-head">At a glance</h2><p class="hint">In brackets: how many times luxcast’s figure it is.</p>
<div class="wide"><table class="overview"><thead><tr><th scope="col">Scenario</th><th scope="col">luxcast</th><th scope="col">Floor</th><th scope="col">Best peer</th><th scope="col">Targets</th></tr></thead>"#
    )?;
    for (index, scenario) in scenarios.iter().enumerate() {
        writeln!(out, "<tbody>")?;
        write_rows(out, index, scenario)?;
        writeln!(out, "</tbody>")?;
    }
    writeln!(out, "</table></div>")
}

fn write_rows(out: &mut impl Write, index: usize, scenario: &Scenario) -> io::Result<()> {
    let primary = Primary::of(scenario);
    for (row, group) in groups(scenario, &primary).iter().enumerate() {
        let work = if group.name.is_empty() { &scenario.title } else { group.name };
        let luxcast = group.luxcast(&primary);
        let median = luxcast.and_then(|luxcast| primary.median(luxcast.server));
        write!(
            out,
            r##"<tr><th scope="row"><a href="#{}">{}</a><small>{}</small></th><td class="luxcast"><b>{}</b>{}<small>{}</small></td>"##,
            anchor(index, scenario),
            Text(&scenario.name),
            Text(work),
            Text(&median.map_or(format::NOTHING.to_string(), |median| format::value(median, primary.unit))),
            flag(luxcast),
            Text(primary.label)
        )?;
        write_other(out, "Floor", group, group.floor(&primary), &primary)?;
        write_other(out, "Best peer", group, group.best_peer(&primary), &primary)?;
        let verdict = if row == 0 { verdict(&scenario.targets) } else { String::new() };
        writeln!(out, "<td>{verdict}</td></tr>")?;
    }
    Ok(())
}

fn write_other(
    out: &mut impl Write,
    column: &str,
    group: &Group,
    member: Option<Member>,
    primary: &Primary,
) -> io::Result<()> {
    let Some((member, median)) = member.and_then(|member| Some((member, primary.median(member.server)?)))
    else {
        return write!(out, r#"<td class="nothing" data-column="{column}">{}</td>"#, format::NOTHING);
    };
    let ratio =
        group.ratio(member, primary).map_or(String::new(), |ratio| format!(" ({})", format::ratio(ratio)));
    let value = format::value(median, primary.unit);
    write!(
        out,
        r#"<td data-column="{column}">{}{ratio}{}<small>{}</small></td>"#,
        Text(&value),
        flag(Some(member)),
        Text(member.name)
    )
}

fn flag(member: Option<Member>) -> &'static str {
    match member {
        Some(member) if member.server.error.is_some() => r#" <span class="flag">with errors</span>"#,
        _ => "",
    }
}

fn verdict(targets: &[Target]) -> String {
    let met = targets.iter().filter(|target| target.is_met).count();
    match (met, targets.len()) {
        (_, 0) => format::NOTHING.to_string(),
        (met, all) if met == all => format!(r#"<span class="met">✓ {met} of {all} met</span>"#),
        (met, all) => format!(r#"<span class="missed">✗ {} of {all} missed</span>"#, all - met),
    }
}

#[cfg(test)]
mod tests {
    use super::{write_cards, write_overview};
    use crate::report::sample;
    use crate::result::{Better, Role};

    fn cards(report: &crate::result::Report) -> String {
        let mut page = Vec::new();
        write_cards(&mut page, report).unwrap();
        String::from_utf8(page).unwrap()
    }

    #[test]
    fn a_card_says_how_much_less_or_more() {
        let mut report = sample::report();
        report.scenarios = vec![sample::scenario("fanout")];
        report.scenarios[0].servers = vec![
            sample::server("luxcast", Role::Luxcast, &[2.0]),
            sample::server("floor", Role::Floor, &[100.0]),
            sample::server("ws", Role::Peer, &[2.01]),
        ];
        let page = cards(&report);
        assert!(page.contains("<b>50 times</b> less than floor"), "{page}");
        assert!(page.contains("as much as ws, the best peer"), "{page}");
        for server in &mut report.scenarios[0].servers {
            server.figures[0].better = Better::Higher;
        }
        assert!(cards(&report).contains("<b>1/50</b> of floor"));
        report.scenarios[0].servers[1].figures[0].values = vec![2.5];
        assert!(cards(&report).contains("<b>20 %</b> less than floor"));
        report.scenarios[0].servers[1].figures[0].values = vec![1.6];
        assert!(cards(&report).contains("<b>25 %</b> more than floor"));
        report.scenarios[0].servers[1].figures[0].values = vec![0.1];
        assert!(cards(&report).contains("<b>20 times</b> as much as floor"));
    }

    #[test]
    fn a_peer_that_lost_messages_is_not_the_best() {
        let mut report = sample::report();
        report.scenarios = vec![sample::scenario("other")];
        report.scenarios[0].servers =
            vec![sample::server("luxcast", Role::Luxcast, &[2.0]), sample::server("ws", Role::Peer, &[3.0])];
        report.scenarios[0].servers[1].error = Some("lost 3".to_string());
        assert!(!cards(&report).contains("best peer"));
        let mut page = Vec::new();
        write_overview(&mut page, &report.scenarios).unwrap();
        assert!(!String::from_utf8(page).unwrap().contains("ws"));
    }
}
