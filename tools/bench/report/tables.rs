//! The tables of a scenario: every figure of every server, and the targets.

use std::io::{self, Write};

use super::bars::role_class;
use super::lineup::{Group, Member, Spread};
use super::text::Text;
use crate::format;
use crate::result::{Figure, Target};

/// A row for each server: if groups are compared, there are more servers than figures.
pub fn write_figures(out: &mut impl Write, groups: &[Group], runs: usize) -> io::Result<()> {
    let columns = columns(groups);
    if columns.is_empty() {
        return Ok(());
    }
    let heading = if runs > 1 {
        "<h3>All figures <small>median, and below it the lowest and the highest run</small></h3>"
    } else {
        "<h3>All figures</h3>"
    };
    writeln!(
        out,
        r#"{heading}<div class="wide"><table class="figures"><thead><tr><th scope="col">Server</th>"#
    )?;
    for column in &columns {
        let unit = if column.unit.is_empty() {
            String::new()
        } else {
            format!(r#" <span class="unit">{}</span>"#, Text(&column.unit))
        };
        writeln!(out, r#"<th scope="col">{}{unit}</th>"#, Text(&column.label))?;
    }
    writeln!(out, "</tr></thead>")?;
    for group in groups {
        writeln!(out, "<tbody>")?;
        if !group.name.is_empty() {
            writeln!(
                out,
                r#"<tr class="group"><th scope="rowgroup" colspan="{}">{}</th></tr>"#,
                columns.len() + 1,
                Text(group.name)
            )?;
        }
        for member in &group.members {
            write_row(out, *member, &columns)?;
        }
        writeln!(out, "</tbody>")?;
    }
    writeln!(out, "</table></div>")
}

/// One figure of each name, in the order in which servers first have them.
fn columns<'a>(groups: &[Group<'a>]) -> Vec<&'a Figure> {
    let mut columns: Vec<&Figure> = Vec::new();
    for figure in groups.iter().flat_map(|group| &group.members).flat_map(|member| &member.server.figures) {
        if !columns.iter().any(|column| column.name == figure.name) {
            columns.push(figure);
        }
    }
    columns
}

fn write_row(out: &mut impl Write, member: Member, columns: &[&Figure]) -> io::Result<()> {
    write!(
        out,
        r#"<tr class="{}"><th scope="row">{}</th>"#,
        role_class(member.server.role),
        Text(member.name)
    )?;
    for column in columns {
        let figure = member.server.figure(&column.name);
        match figure.and_then(Spread::of) {
            Some(spread) => write!(out, "<td>{}{}</td>", format::number(spread.median), range(spread))?,
            None => write!(out, r#"<td class="nothing">{}</td>"#, format::NOTHING)?,
        }
    }
    writeln!(out, "</tr>")
}

/// Empty if all runs show the same.
fn range(spread: Spread) -> String {
    let (low, high) = (format::number(spread.low), format::number(spread.high));
    if low == high { String::new() } else { format!("<small>{low} – {high}</small>") }
}

pub fn write_targets(out: &mut impl Write, targets: &[Target]) -> io::Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        r#"<h3>Targets</h3><div class="wide"><table class="targets"><thead><tr><th scope="col">Verdict</th><th scope="col">Target</th><th scope="col">Measured</th></tr></thead><tbody>"#
    )?;
    for target in targets {
        let verdict = if target.is_met {
            r#"<td class="met">✓ met</td>"#
        } else {
            r#"<td class="missed">✗ missed</td>"#
        };
        writeln!(
            out,
            "<tr>{verdict}<td>{}</td><td>{}</td></tr>",
            Text(&target.text),
            Text(&target.measured)
        )?;
    }
    writeln!(out, "</tbody></table></div>")
}

#[cfg(test)]
mod tests {
    use super::{write_figures, write_targets};
    use crate::report::lineup::{Primary, groups};
    use crate::report::sample;
    use crate::result::{Role, Target};

    #[test]
    fn a_figure_has_its_median_and_its_range_if_it_varies() {
        let mut scenario = sample::scenario("fanout");
        scenario.servers = vec![
            sample::server("luxcast", Role::Luxcast, &[2.0, 1.0, 3.0]),
            sample::server("floor", Role::Floor, &[7.0, 7.0]),
            sample::server("ws", Role::Peer, &[f64::NAN]),
        ];
        let mut page = Vec::new();
        write_figures(&mut page, &groups(&scenario, &Primary::of(&scenario)), 3).unwrap();
        let page = String::from_utf8(page).unwrap();
        for text in ["<td>2<small>1 – 3</small></td>", "<td>7</td>", r#"<td class="nothing">—</td>"#] {
            assert!(page.contains(text), "{text}\n{page}");
        }
    }

    #[test]
    fn a_verdict_is_a_word() {
        let target = |is_met| Target { text: "at most <2".into(), measured: "1".into(), is_met };
        let mut page = Vec::new();
        write_targets(&mut page, &[target(true), target(false)]).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("✓ met") && page.contains("✗ missed") && page.contains("at most &lt;2"));
    }
}
