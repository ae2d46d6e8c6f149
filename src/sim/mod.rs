//! A simulated workflow engine: it makes the lines that a real one writes to the ingest socket, one event per call.
#![doc = include_str!("README.md")]

mod flows;
mod job;
mod moment;
pub mod pacer;
mod plan;
mod shapes;
mod uuid;

use fastrand::Rng;
use flows::{FLOWS, Flow};
use job::{Job, World};
use moment::Moment;
use plan::Plan;
use uuid::uuid;

/// The kind of work that the engine does.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Jobs running at the same time; at least 1.
    pub jobs: usize,
    /// The share of jobs that fail, from 0 to 1. Each call of a routine fails once and is repeated with a quarter of
    /// this probability.
    pub failure_rate: f64,
    /// The id of one more job that never ends.
    pub endless_job: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options { jobs: 8, failure_rate: 0.1, endless_job: None }
    }
}

/// The flow of the endless job, and of most others.
pub const MAIN_FLOW: &str = FLOWS[0].id;

/// The engine with all its running jobs.
pub struct Engine {
    options: Options,
    jobs: Vec<Job>,
    world: World,
}

impl Engine {
    pub fn new(seed: u64, options: Options) -> Engine {
        let world = World {
            random: Rng::with_seed(seed),
            now: Moment::from_unix_micros(0),
            tick: 0,
            executions: 0,
            repeat_chance: options.failure_rate / 4.0,
        };
        let mut engine = Engine { jobs: Vec::with_capacity(options.jobs + 1), options, world };
        if let Some(id) = engine.options.endless_job.clone() {
            let plan = Plan::endless(&FLOWS[0], &mut engine.world.random);
            engine.jobs.push(Job::new(id, &FLOWS[0], plan));
        }
        engine
    }

    /// Appends the next event to `out` as one whole line. `now` is in Unix microseconds.
    pub fn next(&mut self, now: i64, out: &mut String) {
        self.world.now = Moment::from_unix_micros(now);
        self.world.tick += 1;
        let wanted = self.options.jobs.max(1) + usize::from(self.options.endless_job.is_some());
        while self.jobs.len() < wanted {
            let job = self.start_job();
            self.jobs.push(job);
        }
        let index = self.choose();
        self.jobs[index].next(&mut self.world, out);
        if self.jobs[index].is_over() {
            self.jobs.swap_remove(index);
        }
    }

    fn start_job(&mut self) -> Job {
        let random = &mut self.world.random;
        let id = uuid(random);
        let fails = random.f64() < self.options.failure_rate;
        let flow = choose_flow(random);
        Job::new(id, flow, Plan::new(flow, fails, random))
    }

    /// A job that can continue; if all are held, the one to be released first.
    fn choose(&mut self) -> usize {
        let count = self.jobs.len();
        let first = self.world.random.usize(..count);
        let mut order = (first..count).chain(0..first);
        let is_ready = |index: &usize| self.jobs[*index].held_until() <= self.world.tick;
        order.find(is_ready).unwrap_or_else(|| {
            let indices = 0..count;
            let soonest = indices.min_by_key(|index| self.jobs[*index].held_until());
            soonest.expect("at least one job is running")
        })
    }
}

/// Most jobs run the first few flows, as in the recorded runs.
fn choose_flow(random: &mut Rng) -> &'static Flow {
    if random.f64() < 0.5 {
        return &FLOWS[random.usize(..4)];
    }
    &FLOWS[random.usize(..FLOWS.len())]
}

#[cfg(test)]
mod tests {
    use super::{Engine, MAIN_FLOW, Options};
    use serde::Deserialize;
    use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt;

    /// The members of a JSON value in their order, and the kinds of their values.
    struct Shape(String);

    struct ShapeVisitor;

    impl<'de> Deserialize<'de> for Shape {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
            deserializer.deserialize_any(ShapeVisitor)
        }
    }

    impl<'de> Visitor<'de> for ShapeVisitor {
        type Value = Shape;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("any JSON value")
        }
        fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
            Ok(Shape("bool".to_string()))
        }
        fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
            Ok(Shape("int".to_string()))
        }
        fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
            Ok(Shape("float".to_string()))
        }
        fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
            Ok(Shape("str".to_string()))
        }
        fn visit_unit<E>(self) -> Result<Shape, E> {
            Ok(Shape("null".to_string()))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
            while seq.next_element::<Shape>()?.is_some() {}
            Ok(Shape("list".to_string()))
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
            let mut members = Vec::new();
            while let Some((key, Shape(value))) = map.next_entry::<String, Shape>()? {
                members.push(format!("{key}:{value}"));
            }
            Ok(Shape(format!("{{{}}}", members.join(","))))
        }
    }

    /// What stands for any object that routines pass on.
    const RECORDS: [&str; 13] = [
        "{data:str,index:int,meta:{user:str,tags:list,ratio:float}}",
        "{data:str,index:int,timestamp:str,metadata:{source:str,counter:int}}",
        "{data:str,index:int,validation_details:{timestamp:str,validator:str,data_length:int}}",
        "{data:str,index:int}",
        "{error:str,index:int,original_data:str}",
        "{result:str,index:int,transformation_type:str}",
        "{result:str,index:int,multiplier:int}",
        "{result:str,index:int}",
        "{result:str,count:int}",
        "{result:str}",
        "{count:int,message:str}",
        "{data:str,n:int,delay:float}",
        "{n:int,boom:int}",
    ];

    /// Taken from the recorded runs of Routilux; RECORD is one of `RECORDS`.
    const SHAPES: [&str; 18] = [
        "job_started {type:str,job_id:str,flow_id:str,timestamp:str,data:{entry_routine:str,params:RECORD}}",
        "job_completed {type:str,job_id:str,flow_id:str,timestamp:str,data:{duration:float,total_events:int}}",
        "job_failed {type:str,job_id:str,flow_id:str,timestamp:str,data:{error:str,error_type:str,routine_id:str}}",
        "job_paused {type:str,job_id:str,timestamp:str,data:{reason:str}}",
        "job_resumed {type:str,job_id:str,timestamp:str}",
        "job_cancelled {type:str,job_id:str,timestamp:str,data:{reason:str}}",
        "routine_started {type:str,job_id:str,routine_id:str,timestamp:str,data:{slot_name:str,event_data:RECORD}}",
        "routine_completed {type:str,job_id:str,routine_id:str,timestamp:str,data:{duration:float,events_emitted:int}}",
        "routine_failed {type:str,job_id:str,routine_id:str,timestamp:str,data:{error:str,error_type:str,slot_name:str}}",
        "slot_call {type:str,job_id:str,timestamp:str,event:{event_id:str,routine_id:str,event_type:str,timestamp:str,data:{slot_name:str,arguments:RECORD}}}",
        "event_emit {type:str,job_id:str,timestamp:str,event:{event_id:str,routine_id:str,event_type:str,timestamp:str,data:{event_name:str,data:RECORD}}}",
        "error {type:str,job_id:str,timestamp:str,event:{event_id:str,routine_id:str,event_type:str,timestamp:str,data:{error:str,error_type:str}}}",
        "breakpoint_hit {type:str,job_id:str,timestamp:str,breakpoint:{breakpoint_id:str,type:str,routine_id:str,slot_name:null,event_name:str},context:{routine_id:str,variables:RECORD}}",
        "breakpoint_hit {type:str,job_id:str,timestamp:str,breakpoint:{breakpoint_id:str,type:str,routine_id:str,slot_name:str,event_name:null},context:{routine_id:str,variables:RECORD}}",
        "breakpoint_resumed {type:str,job_id:str,breakpoint_id:str,timestamp:str,data:{step_mode:str}}",
        "metrics {type:str,job_id:str,timestamp:str,metrics:{start_time:str,end_time:null,duration:null,total_events:int,total_slot_calls:int,total_event_emits:int}}",
        "metrics {type:str,job_id:str,timestamp:str,metrics:{start_time:str,end_time:str,duration:float,total_events:int,total_slot_calls:int,total_event_emits:int}}",
        "job_started {type:str,job_id:str,flow_id:str,timestamp:str,data:{entry_routine:str,params:{data:str,index:int}}}",
    ];

    const START: i64 = 1_795_419_332_390_686;

    /// The lines of this many calls, a millisecond apart.
    fn run(seed: u64, options: Options, events: i64) -> Vec<String> {
        let mut engine = Engine::new(seed, options);
        let mut lines = Vec::new();
        for call in 0..events {
            let mut out = String::new();
            engine.next(START + call * 1_000, &mut out);
            let line = out.strip_suffix('\n').expect("a line has an end");
            assert!(!line.contains('\n'), "{line}");
            lines.push(line.to_string());
        }
        lines
    }

    fn parse(lines: &[String]) -> Vec<Value> {
        lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    fn kind(event: &Value) -> &str {
        event["event"]["event_type"].as_str().unwrap_or_else(|| event["type"].as_str().unwrap())
    }

    #[test]
    fn every_event_has_the_recorded_shape_and_every_shape_comes() {
        let lines = run(7, Options { failure_rate: 0.3, ..Options::default() }, 20_000);
        let mut seen = BTreeSet::new();
        for (line, event) in lines.iter().zip(parse(&lines)) {
            let Shape(mut shape) = serde_json::from_str(line).unwrap();
            // The longer ones come first, so that none is mistaken for a part of another.
            let is_tracked_start = shape.contains("params:{data:str,index:int}");
            for record in RECORDS.iter().filter(|_| !is_tracked_start) {
                for place in ["params", "event_data", "arguments", "variables", "event_name:str,data"] {
                    shape = shape.replace(&format!("{place}:{record}"), &format!("{place}:RECORD"));
                }
            }
            seen.insert(format!("{} {shape}", kind(&event)));
        }
        let expected: BTreeSet<String> = SHAPES.iter().map(|shape| shape.to_string()).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_seed_decides_everything() {
        let lines = run(1, Options::default(), 2_000);
        assert_eq!(lines, run(1, Options::default(), 2_000));
        assert_ne!(lines, run(2, Options::default(), 2_000));
    }

    #[test]
    fn a_job_starts_once_and_ends_once() {
        let events = parse(&run(3, Options { failure_rate: 0.3, ..Options::default() }, 30_000));
        let mut jobs: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for event in &events {
            jobs.entry(event["job_id"].as_str().unwrap()).or_default().push(event);
        }
        let mut ends = BTreeMap::new();
        for (job, events) in jobs {
            let is_uuid = job.len() == 36 && job.as_bytes()[14] == b'4';
            assert!(is_uuid && "89ab".contains(&job[19..20]), "{job}");
            let kinds: Vec<&str> = events.iter().map(|event| kind(event)).collect();
            assert_eq!(kinds[0], "job_started");
            assert_eq!(kinds.iter().filter(|kind| **kind == "job_started").count(), 1);
            let is_end = |kind: &&str| ["job_completed", "job_failed", "job_cancelled"].contains(kind);
            let Some(end) = kinds.iter().position(is_end) else {
                continue;
            };
            *ends.entry(kinds[end]).or_insert(0) += 1;
            // After a cancellation, unfinished work may still make events.
            let after = &kinds[end + 1..];
            assert!(after.is_empty() || (kinds[end] == "job_cancelled" && after.len() < 5));
            assert!(!after.iter().any(|kind| kind.starts_with("job_") || kind.starts_with("break")));

            let count = |wanted: &str| kinds.iter().filter(|kind| **kind == wanted).count();
            assert!(count("job_paused") >= count("job_resumed"));
            assert_eq!(count("error"), count("routine_failed") + unfinished(after, "error"));
            if kinds[end] == "job_completed" {
                assert_eq!(count("breakpoint_hit"), count("breakpoint_resumed"));
                assert_eq!(count("slot_call"), count("routine_started"));
                let total = events[end]["data"]["total_events"].as_u64().unwrap();
                assert_eq!(total as usize, kinds.len() - count("metrics"));
                let metrics = &events[end - 1]["metrics"];
                assert_eq!(metrics["total_slot_calls"], count("slot_call"));
                assert_eq!(metrics["total_event_emits"], count("event_emit"));
            }
        }
        assert_eq!(ends.len(), 3, "{ends:?}");
        assert!(ends["job_completed"] > ends["job_failed"], "{ends:?}");
        assert!(ends["job_failed"] > ends["job_cancelled"], "{ends:?}");
    }

    /// 1 if the job's last event is of this kind: what should follow was cut off.
    fn unfinished(after: &[&str], wanted: &str) -> usize {
        usize::from(after.last() == Some(&wanted))
    }

    #[test]
    fn nothing_fails_at_a_rate_of_zero_and_everything_at_one() {
        let events = parse(&run(5, Options { failure_rate: 0.0, ..Options::default() }, 10_000));
        let failures = ["error", "routine_failed", "job_failed"];
        assert!(!events.iter().any(|event| failures.contains(&kind(event))));
        let events = parse(&run(5, Options { failure_rate: 1.0, ..Options::default() }, 10_000));
        assert!(!events.iter().any(|event| kind(event) == "job_completed"));
        assert!(events.iter().any(|event| kind(event) == "job_failed"));
    }

    #[test]
    fn so_many_jobs_are_at_work_and_the_endless_one_never_ends() {
        let endless_job = Some("demo-job".to_string());
        let options = Options { jobs: 5, failure_rate: 0.5, endless_job };
        let events = parse(&run(11, options, 30_000));
        let (mut running, mut most, mut of_the_endless) = (BTreeSet::new(), 0, 0);
        for event in &events {
            let job = event["job_id"].as_str().unwrap();
            running.insert(job);
            most = most.max(running.len());
            of_the_endless += usize::from(job == "demo-job");
            if ["job_completed", "job_failed", "job_cancelled"].contains(&kind(event)) {
                assert_ne!(job, "demo-job");
                running.remove(job);
            }
        }
        // A cancelled job may make events after its end.
        assert!((6..40).contains(&most), "{most}");
        assert!(of_the_endless > 2_000, "{of_the_endless}");
        let start = events.iter().find(|event| event["job_id"] == "demo-job").unwrap();
        assert_eq!((kind(start), &start["flow_id"]), ("job_started", &Value::from(MAIN_FLOW)));
    }

    #[test]
    fn one_job_alone_is_never_held_for_good() {
        let events = parse(&run(13, Options { jobs: 1, ..Options::default() }, 20_000));
        assert!(events.iter().filter(|event| kind(event) == "job_resumed").count() > 5);
    }

    #[test]
    fn event_ids_count_up() {
        let events = parse(&run(17, Options::default(), 5_000));
        let ids = events.iter().filter_map(|event| event["event"]["event_id"].as_str());
        for (number, id) in ids.enumerate() {
            assert_eq!(id, format!("evt_{:06x}", number + 1));
        }
    }
}
