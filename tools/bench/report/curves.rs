//! Latency by percentile: one small chart for each group, all with the same axes.
//!
//! The horizontal axis is that of HdrHistogram plots: from one mark to the next, the share of slower messages falls
//! to a tenth. Servers differ by colour, dashes and the shape of their marks.

use std::io::{self, Write};

use super::lineup::{Group, Member};
use super::scale::{Scale, tick_label};
use super::text::Text;
use crate::format;
use crate::result::{Latency, Role, Scenario};

/// Shapes of marks and patterns of dashes; up to this many, no two in a chart are alike.
const STYLES: usize = 8;
const PEER_COLOURS: usize = 6;
const HEIGHT: u32 = 260;
/// Even ten million messages show no more than this.
const NINES_MAX: f64 = 7.0;

/// A peer has the same colour and, if possible, the same shape of marks everywhere.
pub struct Palette<'a> {
    peers: Vec<&'a str>,
}

impl<'a> Palette<'a> {
    pub fn of(scenarios: &'a [Scenario]) -> Palette<'a> {
        let mut peers = Vec::new();
        for server in scenarios.iter().flat_map(|scenario| &scenario.servers) {
            let name = first_part(&server.name);
            if server.role == Role::Peer && !peers.contains(&name) {
                peers.push(name);
            }
        }
        Palette { peers }
    }

    fn colour(&self, member: Member) -> String {
        match member.server.role {
            Role::Luxcast => "luxcast".to_string(),
            Role::Floor => "floor".to_string(),
            Role::Peer => format!("peer-{}", self.place(member) % PEER_COLOURS),
        }
    }

    fn place(&self, member: Member) -> usize {
        let name = first_part(&member.server.name);
        self.peers.iter().position(|peer| *peer == name).unwrap_or(0)
    }

    /// The members with a curve, each in the style it has elsewhere or the next free one.
    fn curves<'b>(&self, members: &[Member<'b>]) -> Vec<Curve<'b>> {
        let mut curves: Vec<Curve> = Vec::new();
        for member in members {
            let Some(latency) =
                member.server.latency.as_ref().filter(|latency| points(latency).next().is_some())
            else {
                continue;
            };
            let wanted = match member.server.role {
                Role::Luxcast => 0,
                Role::Floor => 1,
                // There are often two floors.
                Role::Peer => 3 + self.place(*member),
            };
            let is_free = |style: &usize| curves.iter().all(|curve| curve.style != *style);
            let style = (wanted..wanted + STYLES)
                .map(|style| style % STYLES)
                .find(is_free)
                .unwrap_or(wanted % STYLES);
            curves.push(Curve { name: member.name, latency, colour: self.colour(*member), style });
        }
        curves
    }
}

/// A curve and its style.
struct Curve<'a> {
    name: &'a str,
    latency: &'a Latency,
    colour: String,
    style: usize,
}

fn first_part(name: &str) -> &str {
    name.split(", ").next().unwrap_or(name)
}

/// What all charts of a scenario share.
struct Axes {
    /// The number of nines at the right end.
    end: f64,
    milliseconds: Scale,
}

impl Axes {
    fn of<'a>(latencies: impl Iterator<Item = &'a Latency> + Clone) -> Axes {
        let points = latencies.clone().flat_map(points);
        let end = points.clone().map(|(nines, _)| nines).fold(2.0, f64::max);
        Axes { end, milliseconds: Scale::of(points.map(|(_, milliseconds)| milliseconds)) }
    }

    fn x(&self, nines: f64) -> f64 {
        nines / self.end * 100.0
    }

    /// Distance from the top.
    fn y(&self, milliseconds: f64) -> f64 {
        100.0 - self.milliseconds.percent(milliseconds)
    }
}

/// The curve as (nines, milliseconds), without points that cannot be drawn.
fn points(latency: &Latency) -> impl Iterator<Item = (f64, f64)> + Clone + '_ {
    let last = (latency.count.max(1) as f64).log10().clamp(1.0, NINES_MAX);
    latency
        .curve
        .iter()
        .filter(|(percentile, milliseconds)| percentile.is_finite() && milliseconds.is_finite())
        .map(move |&(percentile, milliseconds)| (nines(percentile).min(last), milliseconds))
}

/// 0 for 0 %, 1 for 90 %, 2 for 99 %, ...; infinite for all.
fn nines(percentile: f64) -> f64 {
    // `+ 0.0` turns the negative zero of 0 % into a positive one.
    -(1.0 - percentile.clamp(0.0, 100.0) / 100.0).log10() + 0.0
}

/// The percentile of a number of nines: `0`, `90`, `99`, `99.9`.
fn percentile_label(nines: usize) -> String {
    match nines {
        0 => "0 %".to_string(),
        1 => "90 %".to_string(),
        2 => "99 %".to_string(),
        _ => format!("99.{} %", "9".repeat(nines - 2)),
    }
}

/// The first measured point with at least this many nines.
fn at(latency: &Latency, nines: f64) -> Option<f64> {
    points(latency).find(|(point, _)| *point >= nines - 1e-6).map(|(_, milliseconds)| milliseconds)
}

pub fn write(out: &mut impl Write, groups: &[Group], palette: &Palette) -> io::Result<()> {
    let charts = groups.iter().map(|group| (group.name, palette.curves(&group.members)));
    let charts: Vec<(&str, Vec<Curve>)> = charts.filter(|(_, curves)| !curves.is_empty()).collect();
    if charts.is_empty() {
        return Ok(());
    }
    let axes = Axes::of(charts.iter().flat_map(|(_, curves)| curves).map(|curve| curve.latency));
    writeln!(
        out,
        r#"<figure class="curves"><figcaption><b>Latency in milliseconds, from publish to receive</b>, {}; lower is better. Read it so: at 99.9 %, all but one message in a thousand had arrived within the time that the curve shows; at the right end are the slowest.</figcaption><div class="charts">"#,
        axes.milliseconds.in_words()
    )?;
    for (name, curves) in &charts {
        write_chart(out, name, curves, &axes)?;
    }
    writeln!(out, "</div></figure>")
}

fn write_chart(out: &mut impl Write, name: &str, curves: &[Curve], axes: &Axes) -> io::Result<()> {
    writeln!(out, r#"<div class="chart">"#)?;
    let comma = if name.is_empty() { "" } else { ", " };
    if !name.is_empty() {
        writeln!(out, "<h4>{}</h4>", Text(name))?;
    }
    write!(
        out,
        r#"<div class="plot"><svg width="100%" height="{HEIGHT}" role="img"><title>Latency by percentile{comma}{}</title>"#,
        Text(name)
    )?;
    write_axes(out, axes)?;
    // The curve drawn last is on top, and that should be luxcast.
    for curve in curves.iter().rev() {
        write_line(out, curve, axes)?;
        write_marks(out, curve, axes)?;
    }
    writeln!(out, "</svg></div>")?;
    write_legend(out, curves)?;
    writeln!(out, "</div>")
}

fn write_axes(out: &mut impl Write, axes: &Axes) -> io::Result<()> {
    for tick in axes.milliseconds.ticks() {
        let y = axes.y(tick);
        write!(
            out,
            r#"<line class="grid" x1="0" y1="{y:.2}%" x2="100%" y2="{y:.2}%"/><text x="-8" y="{y:.2}%" dy="4" text-anchor="end">{}</text>"#,
            tick_label(tick)
        )?;
    }
    let last = axes.end.floor() as usize;
    for nines in 0..=last {
        let x = axes.x(nines as f64);
        let anchor = match nines {
            0 => "start",
            _ if x > 95.0 => "end",
            _ => "middle",
        };
        // A phone has room only for every second one.
        let class = if nines > 0 && (last - nines) % 2 == 1 { r#" class="spare""# } else { "" };
        write!(
            out,
            r#"<line class="grid" x1="{x:.2}%" y1="0" x2="{x:.2}%" y2="100%"/><text{class} x="{x:.2}%" y="100%" dy="18" text-anchor="{anchor}">{}</text>"#,
            percentile_label(nines)
        )?;
    }
    Ok(())
}

/// The line has its own drawing, stretched to the size of the chart: a path accepts no percentages.
fn write_line(out: &mut impl Write, curve: &Curve, axes: &Axes) -> io::Result<()> {
    write!(
        out,
        r#"<svg class="line {} dash-{}" x="0" y="0" width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none"><polyline points=""#,
        curve.colour, curve.style
    )?;
    for (index, (nines, milliseconds)) in points(curve.latency).enumerate() {
        let space = if index > 0 { " " } else { "" };
        write!(out, "{space}{:.2},{:.2}", axes.x(nines), axes.y(milliseconds))?;
    }
    write!(out, r#""/></svg>"#)
}

/// At every mark of the axis, at the half and at the end.
fn write_marks(out: &mut impl Write, curve: &Curve, axes: &Axes) -> io::Result<()> {
    let end = points(curve.latency).map(|(nines, _)| nines).fold(0.0, f64::max);
    let inner = (1..=end as usize).map(|nines| (nines as f64, percentile_label(nines)));
    for (nines, label) in [(nines(50.0), "50 %".to_string())].into_iter().chain(inner) {
        if let Some(milliseconds) = at(curve.latency, nines) {
            write_mark(out, curve, axes, (nines, milliseconds), &format!("{label} within"), milliseconds)?;
        }
    }
    match points(curve.latency).last() {
        Some(point) => write_mark(out, curve, axes, point, "the slowest", curve.latency.max_ms.max(point.1)),
        None => Ok(()),
    }
}

fn write_mark(
    out: &mut impl Write,
    curve: &Curve,
    axes: &Axes,
    (nines, milliseconds): (f64, f64),
    what: &str,
    told: f64,
) -> io::Result<()> {
    write!(
        out,
        r##"<use class="mark {}" href="#mark-{}" x="{:.2}%" y="{:.2}%"><title>{}: {what} {}</title></use>"##,
        curve.colour,
        curve.style,
        axes.x(nines),
        axes.y(milliseconds),
        Text(curve.name),
        format::value(told, "ms")
    )
}

fn write_legend(out: &mut impl Write, curves: &[Curve]) -> io::Result<()> {
    write!(out, r#"<ul class="legend">"#)?;
    for Curve { name, latency, colour, style } in curves {
        let p99 =
            at(latency, 2.0).map_or(String::new(), |p99| format!("99 % within {}", format::value(p99, "ms")));
        writeln!(
            out,
            r##"<li><svg width="38" height="12" aria-hidden="true"><svg class="line {colour} dash-{style}"><polyline points="0,6 38,6"/></svg><use class="mark {colour}" href="#mark-{style}" x="19" y="6"/></svg> {} <span>{p99}</span></li>"##,
            Text(name)
        )?;
    }
    writeln!(out, "</ul>")
}

/// The shapes that marks are drawn from and the pattern of the floor's bars; once in a page.
pub const DEFINITIONS: &str = r#"<svg class="definitions" width="0" height="0" aria-hidden="true"><defs>
<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch-ground" width="6" height="6"/><line class="hatch-line" x1="1.5" y1="0" x2="1.5" y2="6"/></pattern>
<symbol id="mark-0" overflow="visible"><circle r="4"/></symbol>
<symbol id="mark-1" overflow="visible"><rect x="-3.6" y="-3.6" width="7.2" height="7.2"/></symbol>
<symbol id="mark-2" overflow="visible"><path d="M0,-4.8 4.6,3.6 -4.6,3.6Z"/></symbol>
<symbol id="mark-3" overflow="visible"><path d="M0,-5.2 5.2,0 0,5.2 -5.2,0Z"/></symbol>
<symbol id="mark-4" overflow="visible"><path d="M0,4.8 4.6,-3.6 -4.6,-3.6Z"/></symbol>
<symbol id="mark-5" overflow="visible"><path d="M-4.5,-1.5 -1.5,-1.5 -1.5,-4.5 1.5,-4.5 1.5,-1.5 4.5,-1.5 4.5,1.5 1.5,1.5 1.5,4.5 -1.5,4.5 -1.5,1.5 -4.5,1.5Z"/></symbol>
<symbol id="mark-6" overflow="visible"><path class="hollow" d="M-3.4,-3.4H3.4V3.4H-3.4Z"/></symbol>
<symbol id="mark-7" overflow="visible"><circle class="hollow" r="3.6"/></symbol>
</defs></svg>"#;

#[cfg(test)]
mod tests {
    use super::{Palette, nines, percentile_label, points, write};
    use crate::report::lineup::{Primary, groups};
    use crate::report::sample;
    use crate::result::{Latency, Role, Scenario};

    fn curves(scenario: &Scenario) -> String {
        let mut page = Vec::new();
        let scenarios = std::slice::from_ref(scenario);
        write(&mut page, &groups(scenario, &Primary::of(scenario)), &Palette::of(scenarios)).unwrap();
        String::from_utf8(page).unwrap()
    }

    #[test]
    fn the_scale_of_nines() {
        let table = [(0.0, 0.0), (90.0, 1.0), (99.0, 2.0), (99.99, 4.0), (100.0, f64::INFINITY)];
        for (percentile, expected) in table {
            assert!(
                (nines(percentile) - expected).abs() < 1e-9 || nines(percentile) == expected,
                "{percentile}"
            );
        }
        assert_eq!(
            (0..5).map(percentile_label).collect::<Vec<_>>().join(" "),
            "0 % 90 % 99 % 99.9 % 99.99 %"
        );
    }

    #[test]
    fn the_slowest_lies_where_its_count_puts_it() {
        let latency =
            Latency { count: 1_000, max_ms: 9.0, curve: vec![(0.0, 1.0), (90.0, 2.0), (100.0, 9.0)] };
        let (nines, milliseconds) = points(&latency).last().unwrap();
        assert!((nines - 3.0).abs() < 1e-9 && milliseconds == 9.0);
    }

    #[test]
    fn every_curve_has_a_line_marks_and_a_legend() {
        let mut scenario = sample::scenario("latency");
        scenario.servers = vec![
            sample::server("luxcast", Role::Luxcast, &[1.0]),
            sample::server("ws", Role::Peer, &[1.0]),
            sample::server("silent", Role::Peer, &[1.0]),
        ];
        scenario.servers[0].latency = Some(sample::latency(1.0));
        scenario.servers[1].latency = Some(sample::latency(50.0));
        let curves = curves(&scenario);
        assert!(curves.contains("logarithmic scale"));
        assert!(
            curves.contains(r#"class="line luxcast dash-0""#)
                && curves.contains(r#"class="line peer-0 dash-3""#)
        );
        assert!(curves.contains("ws: 99 % within ") && curves.contains("ws: the slowest "));
        assert!(!curves.contains("silent"));
    }

    #[test]
    fn no_two_curves_of_a_chart_are_drawn_alike() {
        let mut scenario = sample::scenario("latency");
        let roles =
            [Role::Luxcast, Role::Luxcast, Role::Floor, Role::Floor, Role::Peer, Role::Peer, Role::Peer];
        let servers = roles
            .into_iter()
            .enumerate()
            .map(|(index, role)| sample::server(&format!("{index}"), role, &[1.0]));
        scenario.servers = servers.collect();
        for server in &mut scenario.servers {
            server.latency = Some(sample::latency(1.0));
        }
        let scenarios = std::slice::from_ref(&scenario);
        let groups = groups(&scenario, &Primary::of(&scenario));
        let curves = Palette::of(scenarios).curves(&groups[0].members);
        let styles: std::collections::HashSet<usize> = curves.iter().map(|curve| curve.style).collect();
        assert_eq!(styles.len(), roles.len());
    }

    #[test]
    fn without_a_point_there_is_no_chart() {
        let mut scenario = sample::scenario("latency");
        let mut server = sample::server("luxcast", Role::Luxcast, &[1.0]);
        server.latency =
            Some(Latency { count: 0, max_ms: f64::NAN, curve: vec![(0.0, f64::NAN), (f64::NAN, 1.0)] });
        scenario.servers = vec![server];
        assert_eq!(curves(&scenario), "");
    }
}
