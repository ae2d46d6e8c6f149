//! What will happen to a job, decided when it starts.

use fastrand::Rng;

use super::flows::Flow;
use super::uuid::uuid;

/// What will happen to the job besides its work, decided when it starts.
pub struct Plan {
    /// The text in all its records.
    pub label: String,
    pub records: u64,
    /// Paused again and again, and never at an end.
    pub is_endless: bool,
    /// It fails for good at this record.
    pub fails_at_record: Option<u64>,
    /// It is paused, or cancelled, after this many events.
    pub pauses_at: Option<u64>,
    pub cancelled_at: Option<u64>,
    pub breakpoint: Option<Breakpoint>,
}

pub struct Breakpoint {
    pub id: String,
    /// An index in the flow's routines; not the source.
    pub routine: usize,
    pub is_on_slot: bool,
    pub hits_left: u32,
}

/// How many records an endless job makes; no demonstration lasts so long.
const ENDLESS_RECORDS: u64 = 1_000_000_000;

impl Plan {
    pub fn new(flow: &Flow, fails: bool, random: &mut Rng) -> Plan {
        let records = flow.source.records(random);
        Plan {
            label: flow.source.label(random),
            records,
            is_endless: false,
            fails_at_record: fails.then(|| random.u64(..records)),
            pauses_at: (random.f64() < 0.15).then(|| 5 + random.u64(..60)),
            cancelled_at: (random.f64() < 0.05).then(|| 5 + random.u64(..100)),
            breakpoint: (random.f64() < 0.15).then(|| Breakpoint::new(flow, 3, random)),
        }
    }

    /// The plan of a job made to be watched: it has everything but an end.
    pub fn endless(flow: &Flow, random: &mut Rng) -> Plan {
        Plan {
            label: flow.source.label(random),
            records: ENDLESS_RECORDS,
            is_endless: true,
            fails_at_record: None,
            pauses_at: Some(100),
            cancelled_at: None,
            breakpoint: Some(Breakpoint::new(flow, u32::MAX, random)),
        }
    }
}

impl Breakpoint {
    fn new(flow: &Flow, hits_max: u32, random: &mut Rng) -> Breakpoint {
        Breakpoint {
            id: uuid(random),
            routine: 1 + random.usize(..flow.routines.len() - 1),
            is_on_slot: random.f64() < 0.3,
            hits_left: hits_max,
        }
    }
}
