//! Handshakes, as fast as they are answered.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::crowd::{Crowd, PATIENCE};
use crate::lab::{CPU_PER_HANDSHAKE, Contestant, Findings, HANDSHAKES_PER_SECOND, Lab};
use crate::layout::Transport;
use crate::result::{Role, Scenario};
use crate::scenario::Options;
use crate::scenario::setting::{peers, scenario, shape, target_times};
use crate::server::{Server, Which};

const ABOUT: &str = "After a restart, everybody comes back at once. Watchers connect, are let in, and are cut off \
    again, a bounded number at a time. The floor accepts, parses the request, computes the answer, sends it and \
    a greeting, and closes.";

/// Handshakes in progress at once.
const AT_ONCE: usize = 64;
const FLOOR: &str = "floor, parse and answer";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let handshakes = options.events.unwrap_or(20_000);
    let floor = Contestant {
        name: FLOOR.to_owned(),
        role: Role::Floor,
        which: Which::DoorFloor,
        transport: Transport::WebSocket,
        events: handshakes,
    };
    let mut contestants = vec![lab.luxcast("luxcast", handshakes, &[]), floor];
    let others = peers(lab, 0, 0).into_iter();
    contestants.extend(others.map(|peer| Contestant { events: (handshakes / 10).max(1_000), ..peer }));
    let results =
        lab.compare("storm", &contestants, |contestant, watch| measure(contestant, options, lab, watch));
    let target = target_times(CPU_PER_HANDSHAKE, &results, "luxcast", FLOOR, 1.25);
    let parameters = vec![
        ("handshakes of luxcast".to_owned(), crate::format::number(handshakes as f64)),
        ("at once".to_owned(), AT_ONCE.to_string()),
    ];
    let mut found = scenario("storm", "Handshakes", ABOUT, parameters, CPU_PER_HANDSHAKE, results);
    found.targets.extend(target);
    Ok(found)
}

fn measure(
    contestant: &Contestant,
    options: &Options,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let server = Server::start(&contestant.which, &lab.pinning)?;
    let mut crowd = Crowd::of(&server, shape(options)?, lab.spins())?;
    let (cpu, seconds) = storm(&mut crowd, &server, contestant.events, watch)?;
    let figures = vec![(CPU_PER_HANDSHAKE, cpu), (HANDSHAKES_PER_SECOND, contestant.events as f64 / seconds)];
    Ok(Findings { figures, latency: None, complaint: None })
}

/// Makes this many handshakes; returns the server's CPU microseconds for each, and how many seconds they took.
pub fn storm(
    crowd: &mut Crowd,
    server: &Server,
    count: u64,
    watch: &mut dyn FnMut(f64),
) -> Outcome<(f64, f64)> {
    // The first ones find cold caches.
    shake_hands(crowd, server, (count / 10).max(AT_ONCE as u64), &mut |_| {})?;
    let (before, begin) = (server.usage()?, Instant::now());
    shake_hands(crowd, server, count, watch)?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = server.usage()?.cpu_nanos - before.cpu_nanos;
    Ok((cpu as f64 / 1e3 / count as f64, seconds))
}

/// Connects, is accepted and is cut off, `count` times.
fn shake_hands(crowd: &mut Crowd, server: &Server, count: u64, watch: &mut dyn FnMut(f64)) -> Outcome<()> {
    let request = || server.request(0, "");
    let mut under_way: Vec<usize> = Vec::new();
    let (mut begun, mut done) = (0, 0);
    let mut patience = Instant::now();
    while done < count {
        while begun < count && under_way.len() < AT_ONCE {
            let spare = (0..crowd.len()).find(|key| !under_way.contains(key));
            let key = match spare {
                Some(key) => {
                    crowd.reopen(key, server.address, request())?;
                    key
                }
                None => crowd.open(server.address, request(), 0)?,
            };
            under_way.push(key);
            begun += 1;
        }
        crowd.turn(Duration::from_millis(1))?;
        let before = under_way.len();
        under_way.retain(|&key| {
            let is_in = crowd.is_open(key);
            if is_in {
                crowd.cut(key);
            }
            !is_in
        });
        done += (before - under_way.len()) as u64;
        if before > under_way.len() {
            patience = Instant::now();
            watch(done as f64 / count as f64);
        } else if patience.elapsed() > PATIENCE {
            return Err(format!("{done} of {count} handshakes were answered").into());
        }
    }
    Ok(())
}
