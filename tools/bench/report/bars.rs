//! Horizontal bars of the figure by which a scenario is compared.
//!
//! Positions within the drawing are in percent, so that it fits the width of the page and its text keeps its size.

use std::io::{self, Write};

use super::lineup::{Group, Member, Primary, Spread};
use super::scale::{Scale, tick_label};
use super::text::Text;
use crate::format;
use crate::result::{Better, Role};

/// Height of one bar's drawing, in pixels.
const ROW_HEIGHT: u32 = 26;

pub fn write(out: &mut impl Write, groups: &[Group], primary: &Primary, runs: usize) -> io::Result<()> {
    let spreads =
        || groups.iter().flat_map(|group| &group.members).filter_map(|member| primary.spread(member.server));
    if spreads().next().is_none() {
        return Ok(());
    }
    let scale = Scale::of(spreads().flat_map(|spread| [spread.low, spread.median, spread.high]));
    writeln!(out, r#"<figure class="bars">"#)?;
    writeln!(
        out,
        "<figcaption><b>{}</b>{}</figcaption>",
        Text(primary.label),
        caption(primary, runs, spreads().any(|spread| spread.high > spread.low))
    )?;
    for group in groups {
        if !group.name.is_empty() {
            writeln!(out, r#"<h4>{}</h4>"#, Text(group.name))?;
        }
        for member in &group.members {
            write_row(out, group, *member, primary, &scale)?;
        }
    }
    write_axis(out, primary, &scale)?;
    writeln!(out, "</figure>")
}

/// What follows the name of what is drawn.
pub fn caption(primary: &Primary, runs: usize, has_whiskers: bool) -> String {
    let better = match primary.better {
        Better::Lower => "; a shorter bar is better",
        Better::Higher => "; a longer bar is better",
        Better::Neither => "",
    };
    let whiskers = if has_whiskers { ", the thin line spans the lowest and the highest" } else { "" };
    match runs {
        0 | 1 => format!(", of one run{better}"),
        _ => format!(", median of {runs} runs{whiskers}{better}"),
    }
}

fn write_row(
    out: &mut impl Write,
    group: &Group,
    member: Member,
    primary: &Primary,
    scale: &Scale,
) -> io::Result<()> {
    let Some(spread) = primary.spread(member.server) else {
        return writeln!(
            out,
            r#"<div class="bar"><div class="who">{}</div><div class="none">no result</div></div>"#,
            Text(member.name)
        );
    };
    write!(
        out,
        r#"<div class="bar {}"><div class="who">{}</div>"#,
        role_class(member.server.role),
        Text(member.name),
    )?;
    write_track(out, member, spread, primary, scale)?;
    // A result of a run with losses is compared with nothing.
    let beside = match member.server.error {
        Some(_) => r#"<span class="flag">with errors</span>"#.to_string(),
        None => format!("<span>{}</span>", Text(&to_luxcast(group, member, primary))),
    };
    let median = format::value(spread.median, primary.unit);
    writeln!(out, r#"<div class="much"><b>{}</b> {beside}</div></div>"#, Text(&median))
}

/// The drawing of one bar.
pub fn write_track(
    out: &mut impl Write,
    member: Member,
    spread: Spread,
    primary: &Primary,
    scale: &Scale,
) -> io::Result<()> {
    let value = |value| Text(&format::value(value, primary.unit)).to_string();
    write!(
        out,
        r#"<div class="track"><svg width="100%" height="{ROW_HEIGHT}" role="img"><title>{}: median {}, lowest {}, highest {}</title>"#,
        Text(member.name),
        value(spread.median),
        value(spread.low),
        value(spread.high),
    )?;
    write_grid(out, scale)?;
    write!(
        out,
        r#"<rect class="fill" x="0" y="5" width="{:.2}%" height="16" rx="1.5"/>"#,
        scale.percent(spread.median)
    )?;
    if spread.high > spread.low {
        let (low, high) = (scale.percent(spread.low), scale.percent(spread.high));
        for class in ["halo", "whisker"] {
            write!(
                out,
                r#"<g class="{class}"><line x1="{low:.2}%" y1="13" x2="{high:.2}%" y2="13"/><line x1="{low:.2}%" y1="9" x2="{low:.2}%" y2="17"/><line x1="{high:.2}%" y1="9" x2="{high:.2}%" y2="17"/></g>"#
            )?;
        }
    }
    write!(out, "</svg></div>")
}

/// "62 times luxcast", "1/3.1 of luxcast".
fn to_luxcast(group: &Group, member: Member, primary: &Primary) -> String {
    let (Some(luxcast), Some(ratio)) = (group.luxcast(primary), group.ratio(member, primary)) else {
        return String::new();
    };
    if std::ptr::eq(luxcast.server, member.server) {
        return String::new();
    }
    let ratio = format::ratio(ratio);
    let of = if ratio.starts_with("1/") { " of" } else { "" };
    // There is no room for a longer name, as when several settings of luxcast are compared.
    let name = if luxcast.name == "luxcast" { "luxcast" } else { "the first" };
    format!("{ratio}{of} {name}")
}

fn write_grid(out: &mut impl Write, scale: &Scale) -> io::Result<()> {
    for place in scale.ticks().into_iter().map(|tick| scale.percent(tick)) {
        write!(out, r#"<line class="grid" x1="{place:.2}%" y1="0" x2="{place:.2}%" y2="{ROW_HEIGHT}"/>"#)?;
    }
    Ok(())
}

fn write_axis(out: &mut impl Write, primary: &Primary, scale: &Scale) -> io::Result<()> {
    write!(out, r#"<div class="bar axis">"#)?;
    write_ticks(out, scale)?;
    writeln!(out, r#"<div class="scale">{}</div></div>"#, scale_in_words(primary, scale))
}

pub fn write_ticks(out: &mut impl Write, scale: &Scale) -> io::Result<()> {
    write!(out, r#"<div class="track"><svg width="100%" height="20" aria-hidden="true">"#)?;
    for tick in scale.ticks() {
        let place = scale.percent(tick);
        let anchor = match place {
            ..3.0 => "start",
            97.0.. => "end",
            _ => "middle",
        };
        write!(out, r#"<text x="{place:.2}%" y="13" text-anchor="{anchor}">{}</text>"#, tick_label(tick))?;
    }
    write!(out, "</svg></div>")
}

pub fn scale_in_words(primary: &Primary, scale: &Scale) -> String {
    let more = match scale.ticks()[..] {
        [first, second, ..] if scale.is_log => {
            let step = format::number((second / first).round());
            format!(": each line is {step} times the one before, so compare the numbers, not the lengths")
        }
        _ => String::new(),
    };
    let unit = if primary.unit.is_empty() { String::new() } else { format!("{}, ", Text(primary.unit)) };
    format!("{unit}{}{more}", scale.in_words())
}

pub fn role_class(role: Role) -> &'static str {
    match role {
        Role::Luxcast => "luxcast",
        Role::Floor => "floor",
        Role::Peer => "peer",
    }
}

#[cfg(test)]
mod tests {
    use super::write;
    use crate::report::lineup::{Primary, groups};
    use crate::report::sample;
    use crate::result::{Role, Scenario};

    fn bars(scenario: &Scenario) -> String {
        let primary = Primary::of(scenario);
        let mut page = Vec::new();
        write(&mut page, &groups(scenario, &primary), &primary, 3).unwrap();
        String::from_utf8(page).unwrap()
    }

    #[test]
    fn each_bar_has_its_value_and_its_ratio() {
        let mut scenario = sample::scenario("fanout");
        scenario.servers = vec![
            sample::server("luxcast", Role::Luxcast, &[0.03, 0.04, 0.05]),
            sample::server("floor", Role::Floor, &[2.0]),
            sample::server("fast", Role::Peer, &[0.01]),
            sample::server("none", Role::Peer, &[f64::NAN]),
        ];
        let bars = bars(&scenario);
        for text in [
            "<b>0.0400 µs</b> <span></span>",
            "<b>2 µs</b> <span>50 times luxcast</span>",
            "<b>0.0100 µs</b> <span>1/4.0 of luxcast</span>",
            "no result",
            "logarithmic scale",
            "lowest 0.0300 µs, highest 0.0500 µs",
            "a shorter bar is better",
        ] {
            assert!(bars.contains(text), "{text}\n{bars}");
        }
        assert_eq!(bars.matches(r#"class="whisker""#).count(), 1);
    }

    #[test]
    fn nothing_to_show_is_no_chart() {
        let mut scenario = sample::scenario("fanout");
        scenario.servers = vec![sample::server("luxcast", Role::Luxcast, &[f64::NAN])];
        assert_eq!(bars(&scenario), "");
        scenario.servers = vec![sample::server("luxcast", Role::Luxcast, &[0.0, 0.0])];
        assert!(bars(&scenario).contains("<b>0 µs</b>"));
    }
}
