//! What TLS costs: a handshake, a connection, a message, each compared with the same without TLS.

use crate::Outcome;
use crate::crowd::Crowd;
use crate::lab::{
    BYTES_PER_CONNECTION, BYTES_PER_MESSAGE, CPU_PER_HANDSHAKE, Contestant, Findings, Kind, Lab,
};
use crate::layout::Transport;
use crate::load::Sample;
use crate::result::{Better, Scenario};
use crate::scenario::Options;
use crate::scenario::idle::bytes_per_connection;
use crate::scenario::setting::{
    Size, begin, bytes_of, deflating, luxcasts, note_checks, scenario, shape, target_part, target_times,
};
use crate::scenario::storm::storm;
use crate::server::Which;

const ABOUT: &str = "Each watcher's bytes are encrypted with keys of its own, so that what is shared without TLS is \
    not shared any more. The certificate's key is ECDSA on P-256, the clients speak TLS 1.3. A session that is \
    resumed spares the daemon a signature, not the exchange of keys. Handshakes include connecting and the upgrade.";

const SEALED: &str = "luxcast, TLS";
const HANDSHAKES: u64 = 5_000;
const FEW: usize = 100;
const MANY: usize = 1_000;
const CPU_FEW: Kind = Kind {
    name: "cpu_micros_per_message_100",
    label: "CPU per message, 100 watchers",
    unit: "µs",
    better: Better::Lower,
};
const CPU_MANY: Kind = Kind {
    name: "cpu_micros_per_message_1000",
    label: "CPU per message, 1,000 watchers",
    unit: "µs",
    better: Better::Lower,
};
/// The share of the events without TLS: then a run with TLS takes no longer.
const SHARE: u64 = 8;
const WINDOW: u64 = 1_024;

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let events = options.events.unwrap_or(20_000);
    let connections = options.watchers.unwrap_or(4_000) as usize;
    let plain = &luxcasts(lab, options, "luxcast", events, &[])[0];
    let Which::Luxcast(flags) = &plain.which else {
        return Err("tls is measured with a daemon of its own, without --url".into());
    };
    let sealed = |name: &str, resumes| Contestant {
        name: name.to_owned(),
        which: Which::LuxcastTls { flags: flags.clone(), resumes },
        events: (events / SHARE).max(100),
        ..plain.clone()
    };
    let mut contestants = vec![plain.clone(), sealed(SEALED, false), sealed("luxcast, TLS resumed", true)];
    if options.deflate {
        contestants.insert(1, plain.clone().over(Transport::Deflate));
        contestants.push(sealed(SEALED, false).over(Transport::Deflate));
    }
    let results = lab.compare("tls", &contestants, |contestant, watch| {
        let handshakes = handshakes(contestant, options, lab)?;
        let mut figures = vec![(CPU_PER_HANDSHAKE, handshakes)];
        if !matches!(contestant.which, Which::LuxcastTls { resumes: true, .. }) {
            figures.push((BYTES_PER_CONNECTION, memory(contestant, options, connections, lab)?));
            figures.push((CPU_FEW, delivery(contestant, options, FEW, lab, watch)?.cpu_micros_per_message()));
            let sample = delivery(contestant, options, MANY, lab, watch)?;
            figures.push((CPU_MANY, sample.cpu_micros_per_message()));
            figures.extend(bytes_of(&sample, shape(options)?));
        }
        Ok(Findings { figures, latency: None, complaint: None })
    });
    let parameters = vec![
        ("connections at rest".to_owned(), crate::format::number(connections as f64)),
        ("bytes a frame".to_owned(), shape(options)?.frame_bytes.to_string()),
    ];
    let targets = [
        target_part(BYTES_PER_MESSAGE, &results, &deflating(SEALED), SEALED, 6.0),
        target_times(CPU_MANY, &results, &deflating(SEALED), SEALED, 0.5),
    ];
    let mut found = scenario("tls", "What TLS costs", ABOUT, parameters, CPU_PER_HANDSHAKE, results);
    found.targets.extend(targets.into_iter().flatten());
    note_checks(&mut found, options);
    Ok(found)
}

fn handshakes(contestant: &Contestant, options: &Options, lab: &Lab) -> Outcome<f64> {
    let server = contestant.start(&lab.pinning)?;
    let mut crowd = Crowd::of(&server, shape(options)?, lab.spins())?;
    let (cpu, _) = storm(&mut crowd, &server, HANDSHAKES.min(contestant.events), &mut |_| {})?;
    Ok(cpu)
}

fn memory(contestant: &Contestant, options: &Options, connections: usize, lab: &Lab) -> Outcome<f64> {
    let server = contestant.start(&lab.pinning)?;
    let mut crowd = Crowd::of(&server, shape(options)?, lab.spins())?;
    bytes_per_connection(&mut crowd, &server, connections)
}

fn delivery(
    contestant: &Contestant,
    options: &Options,
    watchers: usize,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Sample> {
    let size = Size { watchers, topics: 1, window: WINDOW, shape: shape(options)? }.check(lab)?;
    let server = contestant.start(&lab.pinning)?;
    let mut load = begin(&server, size, lab)?;
    // As many messages for few watchers as for many.
    let sample = load.run(&server, contestant.events * (MANY / watchers) as u64, watch)?;
    match load.crowd.tally.complaint() {
        Some(complaint) => Err(complaint.into()),
        None => Ok(sample),
    }
}
