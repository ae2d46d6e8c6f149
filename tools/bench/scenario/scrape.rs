//! What an operator's requests cost the watchers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::lab::{Contestant, Findings, Lab, P99, latency_figures};
use crate::load::Pace;
use crate::result::Scenario;
use crate::scenario::Options;
use crate::scenario::setting::{Size, begin, scenario, target_times};
use crate::server::{Server, free_port};

const ABOUT: &str = "Events come at a steady rate while nobody asks the admin listener, or somebody asks each second \
    for /metrics and for /connections, sorted by lag, which looks at every connection.";

const RATE: u64 = 100;
const PAUSE: Duration = Duration::from_secs(1);
const QUESTIONS: [&str; 2] = ["/metrics", "/connections?sort=lag"];
const UNASKED: &str = "luxcast";
const ASKED: &str = "luxcast, asked each second";

pub fn run(lab: &Lab, options: &Options) -> Outcome<Scenario> {
    let size = Size::new(options, 10_000, 10, 1)?.check(lab)?;
    let seconds = options.seconds.unwrap_or(10);
    let rate = options.rates.as_ref().and_then(|rates| rates.first().copied()).unwrap_or(RATE);
    let contestants = [UNASKED, ASKED].map(|name| lab.luxcast(name, rate * seconds, &[]));
    let results = lab.compare("scrape", &contestants, |contestant, watch| {
        measure(contestant, rate as f64, size, lab, watch)
    });
    let target = target_times(P99, &results, ASKED, UNASKED, 1.2);
    let mut parameters = size.parameters();
    parameters.pop();
    parameters.push(("events a second".to_owned(), crate::format::number(rate as f64)));
    parameters.push(("seconds".to_owned(), seconds.to_string()));
    let mut found = scenario("scrape", "Watchers beside an operator", ABOUT, parameters, P99, results);
    found.targets.extend(target);
    Ok(found)
}

fn measure(
    contestant: &Contestant,
    rate: f64,
    size: Size,
    lab: &Lab,
    watch: &mut dyn FnMut(f64),
) -> Outcome<Findings> {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let server = Server::start(&contestant.which.with_flags(&["--admin", &admin.to_string()]), &lab.pinning)?;
    let mut load = begin(&server, size, lab)?;
    load.pace = Pace::PerSecond(rate);
    load.time_messages(0, 0);
    let asker = (contestant.name == ASKED).then(|| Asker::start(admin));
    load.run(&server, contestant.events, watch)?;
    let mut complaint = load.crowd.tally.complaint();
    if let Some(asker) = asker {
        complaint = complaint.or(asker.stop());
    }
    let histogram = load.latency()?;
    Ok(Findings { figures: latency_figures(&histogram), latency: Some(histogram), complaint })
}

/// Sends requests until it is stopped.
struct Asker {
    is_stopping: Arc<AtomicBool>,
    thread: thread::JoinHandle<Option<String>>,
}

impl Asker {
    fn start(admin: SocketAddr) -> Self {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stopping = is_stopping.clone();
        let thread = thread::spawn(move || {
            let mut next = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                for question in QUESTIONS {
                    match ask(admin, question) {
                        Ok(answer) if answer.starts_with(b"HTTP/1.1 200 ") => {}
                        Ok(answer) => return Some(String::from_utf8_lossy(&answer).into_owned()),
                        Err(error) => return Some(format!("{question}: {error}")),
                    }
                }
                next += PAUSE;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            None
        });
        Self { is_stopping, thread }
    }

    /// What went wrong, if anything did.
    fn stop(self) -> Option<String> {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Some("the asker has panicked".to_owned()))
    }
}

/// The whole answer of the admin listener.
pub(super) fn ask(admin: SocketAddr, question: &str) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(admin)?;
    socket.write_all(
        format!("GET {question} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(answer)
}
