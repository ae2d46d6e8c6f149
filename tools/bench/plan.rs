//! Estimates what a machine needs for a load: measures it on a small scale, multiplies, and shows the reasoning.

use clap::Args;

use crate::Outcome;
use crate::format::{self, number};
use crate::lab::{Contestant, Lab, progress_bar};
use crate::layout::Transport;
use crate::load::Pace;
use crate::machine::{self, Pinning};
use crate::result::Role;
use crate::scenario::setting::{Size, begin};
use crate::server::{Server, Which};
use crate::wire::Shape;

/// Headers of TCP, IP and Ethernet for each segment, and what a segment carries.
const SEGMENT_OVERHEAD_BYTES: f64 = 78.0;
const SEGMENT_BYTES: f64 = 1448.0;
/// A core planned to be busier than this has no reserve for a burst.
const CORE_SHARE_MAX: f64 = 0.6;
/// The daemon's default for its history, and what the kernel may hold unsent for each connection.
const HISTORY_BYTES: f64 = (256 << 20) as f64;
const SEND_BUFFER_BYTES: f64 = (512 << 10) as f64;
/// The kernel's own memory for an idle TCP connection: socket, timers, file.
const KERNEL_BYTES_PER_CONNECTION: f64 = 4_000.0;
/// Most watchers measured here: the rest is multiplied.
const WATCHERS_MEASURED_MAX: usize = 5_000;
const MESSAGES_MEASURED_PER_SECOND_MAX: f64 = 4_000_000.0;
const SECONDS: f64 = 3.0;

#[derive(Args)]
pub struct PlanArgs {
    /// Number of watchers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    watchers: u64,
    /// Events a second, all jobs together
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    events_per_second: u64,
    /// Bytes of a delivered event
    #[arg(long, value_name = "B", default_value_t = 260, value_parser = clap::value_parser!(u64).range(200..=65_000))]
    bytes: u64,
    /// Jobs among which events and watchers are spread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    jobs: u64,
}

pub fn run(arguments: &PlanArgs) -> Outcome<()> {
    let room = machine::raise_file_limit()?;
    let pinning = Pinning::apply();
    let (peers, bar) = (Vec::new(), progress_bar());
    let lab = Lab { pinning, runs: 1, peers, running: None, nats_server: None, room, bar };
    let watchers_per_job = arguments.watchers.div_ceil(arguments.jobs) as f64;
    let messages_per_second = arguments.events_per_second as f64 * watchers_per_job;
    // The same messages a second, for fewer watchers of fewer jobs: the cost of a message depends on how much one
    // send carries, and so on how busy the daemon is.
    let watchers = (arguments.watchers as usize).min(WATCHERS_MEASURED_MAX).min(room);
    let jobs = (watchers as f64 / watchers_per_job).max(1.0) as usize;
    let each = (watchers / jobs).max(1) as f64;
    let rate = messages_per_second.min(MESSAGES_MEASURED_PER_SECOND_MAX) / each;
    lab.bar.set_message("measuring the load on a small scale");
    let shape = Shape::new(arguments.bytes as usize)?;
    let size = Size { watchers, topics: jobs.min(watchers), window: 1, shape };
    let measured = measure(&lab, size, rate)?;
    lab.bar.finish_and_clear();
    print(arguments, measured, size, rate);
    Ok(())
}

/// Prints the reasoning, one line for each resource.
fn print(arguments: &PlanArgs, measured: Measured, size: Size, rate: f64) {
    let watchers_per_job = arguments.watchers.div_ceil(arguments.jobs) as f64;
    let messages_per_second = arguments.events_per_second as f64 * watchers_per_job;
    let delivery = messages_per_second * measured.micros_per_message / 1e6;
    let cores = (delivery / CORE_SHARE_MAX).ceil().max(1.0);
    let wire = arguments.bytes as f64 * (1.0 + SEGMENT_OVERHEAD_BYTES / SEGMENT_BYTES);
    let bits = messages_per_second * wire * 8.0;
    let own = arguments.watchers as f64 * measured.bytes_per_connection + HISTORY_BYTES;
    let kernel = arguments.watchers as f64 * KERNEL_BYTES_PER_CONNECTION;
    let worst = arguments.watchers as f64 * SEND_BUFFER_BYTES;
    println!(
        "For {} watchers of {} jobs, {} events a second in all, {} bytes each:\n",
        number(arguments.watchers as f64),
        number(arguments.jobs as f64),
        number(arguments.events_per_second as f64),
        arguments.bytes
    );
    println!(
        "messages   {} a second: {} events a second, each to {} watchers",
        number(messages_per_second.round()),
        number(arguments.events_per_second as f64),
        number(watchers_per_job)
    );
    println!(
        "measured   {} CPU µs a message, feed included: {} watchers of {} jobs, {} events a second, on this machine now",
        number(measured.micros_per_message),
        number(size.watchers as f64),
        number(size.topics as f64),
        number(rate.round())
    );
    println!(
        "cores      {} for the daemon: {} of a core is busy, planned with at most {} % so that bursts fit; --shards should be that many",
        number(cores),
        number(delivery),
        CORE_SHARE_MAX * 100.0
    );
    println!(
        "bandwidth  {}bit/s: {} bytes on the wire a message, headers of full segments included",
        metric(bits),
        number(wire.round())
    );
    println!(
        "memory     {} of the daemon: {} bytes a connection measured, and history_bytes of {}",
        format::bytes(own as u64),
        number(measured.bytes_per_connection.round()),
        format::bytes(HISTORY_BYTES as u64)
    );
    println!(
        "           {} of the kernel for idle sockets (about {} bytes each, assumed), up to {} while all are slow",
        format::bytes(kernel as u64),
        number(KERNEL_BYTES_PER_CONNECTION),
        format::bytes(worst as u64)
    );
    println!(
        "files      {} open at once: set the hard limit (ulimit -Hn) above that",
        number(arguments.watchers as f64 + 128.0)
    );
    if delivery > 1.0 {
        println!(
            "\nMore than one core has been computed from one: shards share nothing but the feed, so that deliveries \
             should scale with them until the network or the memory's bandwidth is full. This was not measured here."
        );
    }
}

struct Measured {
    micros_per_message: f64,
    bytes_per_connection: f64,
}

fn measure(lab: &Lab, size: Size, rate: f64) -> Outcome<Measured> {
    let flags = ["--shards", "1", "--overrun", "wait"].map(str::to_owned).to_vec();
    let contestant = Contestant {
        name: "luxcast".to_owned(),
        role: Role::Luxcast,
        which: Which::Luxcast(flags),
        transport: Transport::WebSocket,
        events: 0,
    };
    let server = Server::start(&contestant.which, &lab.pinning)?;
    let before = server.usage()?.resident_bytes;
    let mut load = begin(&server, size, lab)?;
    let grown = server.usage()?.resident_bytes.saturating_sub(before);
    load.pace = Pace::PerSecond(rate);
    let events = (rate * SECONDS).ceil().max(1.0) as u64;
    let sample = load.run(&server, events, &mut |part| lab.bar.set_position((part * 1000.0) as u64))?;
    if let Some(complaint) = load.crowd.tally.complaint() {
        return Err(complaint.into());
    }
    Ok(Measured {
        micros_per_message: sample.cpu_micros_per_message(),
        bytes_per_connection: grown as f64 / size.watchers as f64,
    })
}

/// With the SI prefix.
fn metric(value: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (size, unit) = units.into_iter().find(|(size, _)| value >= *size).unwrap_or((1.0, ""));
    format!("{} {unit}", number(value / size))
}
