//! Reports for tests, made by hand.

use crate::result::{Better, Figure, Latency, Machine, Report, Role, Scenario, ServerResult, Target};

pub fn report() -> Report {
    Report {
        version: "0.0.0".into(),
        begun: "2001-02-03T04:05:06Z".into(),
        command: "luxcast-bench all --report <page>.html".into(),
        machine: Machine {
            processor: "Sample & Sons".into(),
            cores: 2,
            memory_bytes: 1 << 32,
            kernel: "6.0".into(),
            pinning: "server on core 0, load on core 1".into(),
        },
        runs: 3,
        scenarios: vec![scenario("fanout"), scenario("latency")],
    }
}

pub fn scenario(name: &str) -> Scenario {
    Scenario {
        name: name.into(),
        title: format!("the title of {name}"),
        about: format!("What happens in {name}."),
        parameters: vec![("watchers".into(), "1,000".into())],
        primary: "cpu".into(),
        servers: vec![
            server("luxcast", Role::Luxcast, &[1.0, 2.0, 3.0]),
            server("floor, 1 event a send", Role::Floor, &[50.0]),
            server("<ws> & \"co\"", Role::Peer, &[60.0]),
        ],
        targets: vec![Target { text: "at most 1/20 of floor".into(), measured: "1/25".into(), is_met: true }],
        notes: vec!["A note.".into()],
    }
}

pub fn server(name: &str, role: Role, values: &[f64]) -> ServerResult {
    let figure = Figure {
        name: "cpu".into(),
        label: "CPU per message".into(),
        unit: "µs".into(),
        better: Better::Lower,
        values: values.to_vec(),
    };
    ServerResult { name: name.into(), role, figures: vec![figure], latency: None, error: None }
}

pub fn latency(median_ms: f64) -> Latency {
    let curve = [(0.0, 0.5), (50.0, 1.0), (90.0, 1.5), (99.0, 2.0), (99.9, 4.0), (100.0, 8.0)];
    let curve = curve.map(|(percentile, times)| (percentile, times * median_ms)).to_vec();
    Latency { count: 10_000, max_ms: 8.0 * median_ms, curve }
}
