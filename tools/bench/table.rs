//! Prints the result on the terminal.

use std::io::{self, Write};

use crate::format;
use crate::result::{Figure, Report, Scenario, ServerResult};

/// Most figures in a row of the table; the page has all.
const COLUMNS_MAX: usize = 4;

pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let machine = &report.machine;
    writeln!(out, "luxcast {}, {} runs each, medians", report.version, report.runs)?;
    writeln!(out, "{}, {} cores, Linux {}", machine.processor, machine.cores, machine.kernel)?;
    writeln!(out, "{}", machine.pinning)?;
    report.scenarios.iter().try_for_each(|scenario| write_scenario(scenario, out))
}

fn write_scenario(scenario: &Scenario, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}: {}", scenario.name, scenario.title)?;
    let parameters: Vec<String> =
        scenario.parameters.iter().map(|(name, value)| format!("{value} {name}")).collect();
    writeln!(out, "{}", parameters.join(", "))?;
    let columns = columns(scenario);
    let mut rows = vec![
        std::iter::once(String::new()).chain(columns.iter().map(|figure| figure.label.clone())).collect(),
    ];
    rows.extend(scenario.servers.iter().map(|server| row(server, &columns)));
    write_rows(&rows, out)?;
    for server in &scenario.servers {
        if let Some(error) = &server.error {
            writeln!(out, "  {}: {error}", server.name)?;
        }
    }
    for target in &scenario.targets {
        let verdict = if target.is_met { "met   " } else { "missed" };
        writeln!(out, "  {verdict}  {}: {}", target.text, target.measured)?;
    }
    scenario.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))
}

/// The primary figure first, then the others in the order in which servers have them.
fn columns(scenario: &Scenario) -> Vec<&Figure> {
    let mut columns: Vec<&Figure> = Vec::new();
    for figure in scenario.servers.iter().flat_map(|server| &server.figures) {
        if columns.iter().all(|column| column.name != figure.name) {
            columns.push(figure);
        }
    }
    columns.sort_by_key(|figure| figure.name != scenario.primary);
    columns.truncate(COLUMNS_MAX);
    columns
}

fn row(server: &ServerResult, columns: &[&Figure]) -> Vec<String> {
    let mut row = vec![server.name.clone()];
    for column in columns {
        let value = server.median(&column.name);
        row.push(value.map_or(format::NOTHING.to_owned(), |value| format::value(value, &column.unit)));
    }
    row
}

/// The first column is aligned left, the others right.
fn write_rows(rows: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in rows {
        write!(out, "  {:<1$}", row[0], widths[0])?;
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            write!(out, "  {cell:>width$}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::write;
    use crate::result::{Better, Figure, Machine, Report, Role, Scenario, ServerResult, Target};

    #[test]
    fn a_table_has_each_server_its_median_and_its_error() {
        let figure = Figure {
            name: "cpu".into(),
            label: "CPU".into(),
            unit: "µs".into(),
            better: Better::Lower,
            values: vec![3.0, 1.0, 2.0],
        };
        let server = |name: &str, figures: Vec<Figure>, error: Option<&str>| ServerResult {
            name: name.into(),
            role: Role::Peer,
            figures,
            latency: None,
            error: error.map(Into::into),
        };
        let scenario = Scenario {
            name: "fanout".into(),
            title: "a title".into(),
            about: String::new(),
            parameters: vec![("watchers".into(), "7".into())],
            primary: "cpu".into(),
            servers: vec![server("one", vec![figure], None), server("two", vec![], Some("it broke"))],
            targets: vec![Target { text: "fast".into(), measured: "slow".into(), is_met: false }],
            notes: vec![],
        };
        let machine = Machine {
            processor: "p".into(),
            cores: 2,
            memory_bytes: 1,
            kernel: "k".into(),
            pinning: String::new(),
        };
        let report = Report {
            version: "0".into(),
            begun: String::new(),
            command: String::new(),
            machine,
            runs: 3,
            scenarios: vec![scenario],
        };
        let mut out = Vec::new();
        write(&report, &mut out).expect("memory takes everything");
        let text = String::from_utf8(out).expect("a table is text");
        assert!(text.contains("  one  2 µs\n"), "{text}");
        assert!(text.contains("two: it broke") && text.contains("missed  fast: slow"), "{text}");
    }
}
