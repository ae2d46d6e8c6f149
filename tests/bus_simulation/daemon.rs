//! One daemon: its real reader, writer and accounts, and what its watchers would see.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use luxcast::bus::accounts::Accounts;
use luxcast::bus::chunk::{Chunk, Headers};
use luxcast::bus::numbers::PLACES;
use luxcast::bus::reader::Reader;
use luxcast::bus::verdict::{Arrival, Hole, HoleReason, Verdict};
use luxcast::bus::writer::{Passed, Writer};

use crate::core::{Core, Placed};
use crate::judge::{Judge, flow_of, job_of};
use crate::plan::Plan;
use crate::server::Stored;

const LINE_BYTES_MAX: usize = 10_000;

pub struct Daemon {
    pub index: usize,
    /// Counts its runs.
    pub life: u64,
    /// Counts its connections.
    pub link: u64,
    pub is_connected: bool,
    /// Once it is disconnected, it is so for long.
    pub is_cut_off: bool,
    /// Its server has lost the others: consumers seem to live, and nobody answers.
    pub is_astray: bool,
    /// Since then its server tells it what was.
    pub lags_since: Option<u64>,
    pub reader: Reader,
    pub writer: Writer,
    pub accounts: Accounts,
    /// The flow of each job, as far as it has read.
    pub flows: HashMap<String, String>,
    /// What its watchers would have seen, by number.
    pub delivered: BTreeMap<u64, String>,
    pub holes: Vec<Hole>,
    /// It has a sequencer and watchers, once it knows where its numbers begin.
    is_real: bool,
    /// With more jobs, the sequencer forgets some, and their flows.
    jobs_max: usize,
    pub core: Option<Core>,
    /// The first message that it has served, in which epoch of the world's count.
    pub served_from: u64,
    /// Publishers that wait for their welcome, and since when.
    pub greeting: VecDeque<(u64, usize)>,
    /// Bytes that those who take the messages have not released.
    pub held: u64,
    pub wakes_at: u64,
    /// How many consumers it had, and which of them passed over a message last.
    pub consumers: u64,
    pub skipper: u64,
    pub skipped: HashSet<u64>,
    /// When the last request arrives at the server, and the last answer here.
    pub sent_until: u64,
    pub heard_until: u64,
}

impl Daemon {
    pub fn new(index: usize, life: u64, plan: &Plan, from: u64, served_from: u64) -> Self {
        Self {
            index,
            life,
            link: 0,
            is_connected: false,
            is_cut_off: false,
            is_astray: false,
            lags_since: None,
            reader: Reader::new(from, served_from, plan.history_millis),
            writer: Writer::new(plan.window_millis, plan.chunk_bytes_max),
            accounts: Accounts::new(plan.history_millis),
            flows: HashMap::new(),
            delivered: BTreeMap::new(),
            holes: Vec::new(),
            is_real: plan.is_real,
            jobs_max: plan.jobs_max(index, life),
            core: None,
            served_from,
            greeting: VecDeque::new(),
            held: 0,
            wakes_at: u64::MAX,
            consumers: 0,
            skipper: 0,
            skipped: HashSet::new(),
            sent_until: 0,
            heard_until: 0,
        }
    }

    /// The greatest number that it has told anybody.
    pub fn newest(&self) -> u64 {
        let hole = self.holes.iter().map(|hole| hole.to).max().unwrap_or(0);
        self.delivered.keys().last().copied().unwrap_or(0).max(hole)
    }

    /// It serves from the number `first` on.
    pub fn begin(&mut self, first: u64) {
        if self.is_real {
            self.core.get_or_insert_with(|| Core::new(first - 1, self.jobs_max));
        }
    }

    /// The flow of a job, as far as it knows.
    pub fn flow_of<'a>(
        flows: &'a HashMap<String, String>,
        core: &'a mut Option<Core>,
    ) -> impl FnMut(&str) -> Option<Box<str>> {
        |job| match core {
            Some(core) => core.flow_of(job),
            None => flows.get(job).map(|flow| flow.as_str().into()),
        }
    }

    /// Its watchers get what they can take.
    pub fn serve(&mut self) {
        let newest_possible = self.reader.newest_possible();
        if let Some(core) = &mut self.core {
            core.serve(newest_possible);
        }
    }

    /// The newest number that its watchers can see; 0: it has none.
    pub fn published(&self) -> u64 {
        self.core.as_ref().map_or(0, Core::published)
    }

    /// What has the numbers up to this one is not there.
    pub fn run_start(&self) -> u64 {
        self.core.as_ref().map_or(0, Core::run_start)
    }

    /// What its sequencer has made is what was shown.
    pub fn check(&self) {
        if let Some(core) = &self.core {
            core.check(&self.delivered);
        }
    }

    /// `is_alone`: it came without a consumer.
    pub fn handle_message(
        &mut self,
        now: u64,
        (arrival, stored, is_alone): (Arrival, &Stored, bool),
        judge: &mut Judge,
    ) {
        let verdict = match is_alone {
            true => self.reader.handle_read_alone(now, arrival, stored.message.is_odd),
            false => self.reader.handle_message(now, arrival),
        };
        let hole = match verdict {
            Verdict::Drop => return,
            Verdict::Take(hole) => hole,
            Verdict::Fold => None,
        };
        if let Some(hole) = hole {
            self.tell(hole, judge);
        }
        self.held += arrival.bytes;
        let message = &stored.message;
        let headers = Headers {
            message_id: message.id.as_deref(),
            lines: message.lines.as_deref(),
            from: message.from.as_deref(),
        };
        judge.tally.odd += u64::from(message.is_odd);
        let headers = if message.is_odd { Headers::default() } else { headers };
        let chunk = Chunk::read(headers, &message.payload, LINE_BYTES_MAX);
        let folded = self.accounts.fold(chunk.source.as_ref(), stored.time_nanos / 1_000_000);
        let epochs = self.reader.epochs().expect("it reads").clone();
        let number = |place| epochs.number(stored.seq, place).expect("it is in range");
        if verdict != Verdict::Fold {
            judge.handle_message(self, stored, number(0));
            self.begin(number(0));
            let said: HashMap<&str, &str> =
                chunk.flows.iter().map(|flow| (&*flow.job, &*flow.flow)).collect();
            let (mut taken, mut expected) = (Vec::new(), Placed::new());
            for (place, line) in chunk.lines(folded.repeated).filter(|(_, line)| !line.is_empty()) {
                let line = String::from_utf8_lossy(line).into_owned();
                if let Some(job) = job_of(&line) {
                    // All daemons place it alike: by what it names, and by what its message says.
                    let (own, said) = (flow_of(&line), said.get(job).copied());
                    for flow in [own, said].into_iter().flatten() {
                        expected.entry(number(place)).or_default().insert(flow.to_owned());
                    }
                    if let Some(flow) = said.or(own) {
                        self.flows.entry(job.to_owned()).or_insert(flow.to_owned());
                    }
                    judge.check_flow(job, said.or(own));
                }
                judge.handle_event(self, stored, number(place), &line);
                taken.push((number(place), line.clone()));
                self.delivered.insert(number(place), line);
            }
            if let Some(core) = &mut self.core {
                let placed = core.take(now, chunk.flows.clone(), &taken);
                assert_eq!(placed, expected, "daemon {}: flows in message {}", self.index, stored.seq);
            }
            if chunk.is_cut {
                self.lose_last(number(PLACES - 1));
            }
        }
        let source = chunk.source.as_ref().map(|source| (source.token, folded.accepted));
        let stream_seq = number(if chunk.is_cut { PLACES } else { chunk.len().max(1) } - 1);
        self.writer.handle_passed(now, Passed { message: stored.seq, stream_seq, source });
    }

    /// A message had too many lines: its last number is lost.
    fn lose_last(&mut self, number: u64) {
        self.holes.push(Hole { from: number, to: number, why: HoleReason::Expired });
        if let Some(core) = &mut self.core {
            core.lose_to(number);
        }
    }

    /// Its watchers are told that numbers are lost.
    pub fn tell(&mut self, hole: Hole, judge: &mut Judge) {
        judge.handle_hole(self, hole);
        self.holes.push(hole);
        if let Some(core) = &mut self.core {
            core.lose_to(hole.to);
        }
    }
}
