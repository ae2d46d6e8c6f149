//! The flows of jobs, as a chunk brings them: `{"op":"flows","flows":{"job-1":"flow-9"}}`.
//!
//! A line of a job need not name the job's flow. If each daemon went by what it remembers, daemons of different age
//! would place such a line differently. So the daemon that takes the line in puts the flow into the stream.

use std::io::Write;

use crate::stream::told::Flow;
use crate::wire::line::is_id;
use crate::wire::members::{all_members, is_control_line, is_text, members};

/// Writes the line; both are ids, which need no escaping.
pub fn write_flows(flows: &[Flow], out: &mut Vec<u8>) {
    out.extend_from_slice(BEGIN);
    for (index, Flow { job, flow }) in flows.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}\"{job}\":\"{flow}\"").expect("writing to memory");
    }
    out.extend_from_slice(END);
}

const BEGIN: &[u8] = br#"{"op":"flows","flows":{"#;
const END: &[u8] = b"}}";

/// Bytes of a line without flows.
pub const EMPTY_BYTES: usize = BEGIN.len() + END.len();

/// Bytes of one flow in it, quotes, colon and comma included.
pub fn flow_bytes(job: usize, flow: usize) -> usize {
    job + flow + r#""":"","#.len()
}

/// The flows of the line, and how many of its members are malformed. None: it is another line.
pub fn read_flows(line: &[u8]) -> Option<(Vec<Flow>, u64)> {
    if !is_control_line(line) {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?;
    let [op, flows] = members(text, &["op", "flows"])?;
    if !is_text(op?, "flows") {
        return None;
    }
    let Some(all) = all_members(flows.unwrap_or_default()) else {
        return Some((Vec::new(), 1));
    };
    let count = all.len() as u64;
    let read = |value: &str| serde_json::from_str::<Box<str>>(value).ok().filter(|id| is_id(id));
    let flows = all.into_iter().filter(|(job, _)| is_id(job));
    let flows = flows.filter_map(|(job, flow)| Some(Flow { job: job.into(), flow: read(flow)? }));
    let flows: Vec<Flow> = flows.collect();
    let refused = count - flows.len() as u64;
    Some((flows, refused))
}

#[cfg(test)]
mod tests {
    use super::{EMPTY_BYTES, flow_bytes, read_flows, write_flows};
    use crate::stream::told::Flow;

    fn flow(job: &str, flow: &str) -> Flow {
        Flow { job: job.into(), flow: flow.into() }
    }

    #[test]
    fn flows_are_read_as_they_are_written() {
        for flows in [vec![flow("job-1", "flow-9")], vec![flow("a", "x"), flow("b:c.d", "y"), flow("c", "x")]]
        {
            let mut line = Vec::new();
            write_flows(&flows, &mut line);
            let bytes: usize = flows.iter().map(|flow| flow_bytes(flow.job.len(), flow.flow.len())).sum();
            assert_eq!(line.len() + 1, EMPTY_BYTES + bytes, "all but the first have a comma");
            assert_eq!(read_flows(&line), Some((flows, 0)));
        }
    }

    #[test]
    fn anything_may_stand_there() {
        for other in [
            &b""[..],
            b"{}",
            b"{\"op\":\"hello\"}",
            b"{\"type\":\"x\",\"op\":\"flows\"}",
            b"{\"op\":\"flows\"",
            b"{\"op\":\"flows\",\"x\":\"\xff\"}",
            b"\"op\"",
        ] {
            assert_eq!(read_flows(other), None, "{}", other.escape_ascii());
        }
        for (line, taken, refused) in [
            (r#"{"op":"flows"}"#, 0, 1),
            (r#"{"op":"flows","flows":[]}"#, 0, 1),
            (r#"{"op":"flows","flows":{"a":1,"b":"x y","c d":"x","":"x","e":"x"}}"#, 1, 4),
            (r#"{"flows":{"\u0061":"\u0062"},"op":"flow\u0073","more":1}"#, 1, 0),
        ] {
            let (flows, count) = read_flows(line.as_bytes()).unwrap();
            assert_eq!((flows.len(), count), (taken, refused), "{line}");
        }
    }
}
