//! What the daemon sends to publishers: errors for refused lines, welcomes and acks.

use std::io::Write;

/// Why a line is refused. `TooLong`, `Truncated`, `TooManyJobs`, `TooManyTopics`, `Forbidden` and `BadLineNumber` come from
/// the callers, who split and count the lines and know the jobs and the rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineError {
    BadUtf8,
    BadJson,
    TooDeep,
    NotAnObject,
    NoType,
    BadType,
    NoId,
    BadId,
    DuplicateKey,
    Reserved,
    TooLong,
    Truncated,
    BadOp,
    TooManyJobs,
    TooManyTopics,
    Forbidden,
    BadLineNumber,
}

impl LineError {
    pub const ALL: [LineError; 17] = [
        LineError::BadUtf8,
        LineError::BadJson,
        LineError::TooDeep,
        LineError::NotAnObject,
        LineError::NoType,
        LineError::BadType,
        LineError::NoId,
        LineError::BadId,
        LineError::DuplicateKey,
        LineError::Reserved,
        LineError::TooLong,
        LineError::Truncated,
        LineError::BadOp,
        LineError::TooManyJobs,
        LineError::TooManyTopics,
        LineError::Forbidden,
        LineError::BadLineNumber,
    ];

    /// The stable word: `code` in answers, the label in counters.
    pub fn code(self) -> &'static str {
        self.words().0
    }

    /// A sentence for people. Needs no escaping in JSON.
    pub fn message(self) -> &'static str {
        self.words().1
    }

    #[rustfmt::skip]
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::BadUtf8 => ("bad_utf8", "the line is not valid UTF-8"),
            Self::BadJson => ("bad_json", "the line is not one valid JSON value"),
            Self::TooDeep => ("too_deep", "objects and arrays are nested deeper than depth_max"),
            Self::NotAnObject => ("not_an_object", "the line is JSON but not an object"),
            Self::NoType => ("no_type", "the event has no type"),
            Self::BadType => ("bad_type", "type must be a string of 1 to 64 characters out of A-Z a-z 0-9 _ . : -"),
            Self::NoId => ("no_id", "the event has neither job_id nor flow_id"),
            Self::BadId => ("bad_id", "job_id and flow_id must be strings of 1 to 128 characters out of A-Z a-z 0-9 _ . : -"),
            Self::DuplicateKey => ("duplicate_key", "type, job_id or flow_id comes twice in the event"),
            Self::Reserved => ("reserved", "stream_seq and the types of the daemon's own messages are reserved"),
            Self::TooLong => ("too_long", "the line is longer than line_bytes_max"),
            Self::Truncated => ("truncated", "the publisher closed before the end of the line"),
            Self::BadOp => ("bad_op", "not a valid control line: hello (once, as the first line) or from (after hello with dedupe, before any line), with valid members"),
            Self::TooManyJobs => ("too_many_jobs", "no room for a new job: jobs_max jobs are known and all are watched"),
            Self::TooManyTopics => ("too_many_topics", "no room for a new job or flow: topics_max topics are known and all are watched"),
            Self::Forbidden => ("forbidden", "the token is not for this job or flow: it needs the scope publish with its id"),
            Self::BadLineNumber => ("bad_line_number", "the line's number would be over 9007199254740991: begin anew under another name"),
        }
    }
}

/// Appends `{"op":"error",…}` and a newline.
pub fn write_error(out: &mut Vec<u8>, line: u64, error: LineError) {
    let (code, message) = error.words();
    write_line(out, format_args!(r#"{{"op":"error","line":{line},"code":"{code}","message":"{message}"}}"#));
}

/// Appends `{"op":"welcome",…}` and a newline; `accepted` is for a publisher that asked for `dedupe`.
pub fn write_welcome(out: &mut Vec<u8>, stream_seq: u64, accepted: Option<u64>) {
    match accepted {
        Some(accepted) => write_line(
            out,
            format_args!(r#"{{"op":"welcome","stream_seq":{stream_seq},"accepted":{accepted}}}"#),
        ),
        None => write_line(out, format_args!(r#"{{"op":"welcome","stream_seq":{stream_seq}}}"#)),
    }
}

/// Appends `{"op":"ack",…}` and a newline; `refused` lines up to `line` were refused.
pub fn write_ack(out: &mut Vec<u8>, line: u64, stream_seq: u64, refused: u64) {
    write_line(
        out,
        format_args!(r#"{{"op":"ack","line":{line},"stream_seq":{stream_seq},"refused":{refused}}}"#),
    );
}

/// Appends the answer to a publisher beyond `publishers_max`, and a newline. It is about no line, so `line` is 0.
pub fn write_full(out: &mut Vec<u8>) {
    write_line(
        out,
        format_args!(
            r#"{{"op":"error","line":0,"code":"too_many_publishers","message":"publishers_max publishers are connected: try again later"}}"#
        ),
    );
}

fn write_line(out: &mut Vec<u8>, line: std::fmt::Arguments<'_>) {
    out.write_fmt(line).expect("a Vec takes all");
    out.push(b'\n');
}
