//! One request that publishes, while its body comes in or ingest has not dealt with it.

use std::sync::Arc;
use std::time::Instant;

use crate::access::rights::Permit;
use crate::net::ingest::handle::IngestWaker;
use crate::net::ingest::posted::{BodyEnd, Posted};
use crate::tick::Tick;
use crate::wire::body::BodyReader;
use crate::wire::cross_origin::Readers;
use crate::wire::http::{Refusal, Then};
use crate::wire::json_lines::{JsonLines, TooLong};
use crate::wire::request_for_log::AskedBefore;

/// A request whose body comes in, or waits for ingest's word.
pub struct Publishing {
    pub posted: Arc<Posted>,
    pub ingest: Arc<IngestWaker>,
    pub body: BodyReader,
    /// Of a body that is JSON rather than lines.
    pub json: Option<JsonLines>,
    /// The first byte of the body that is no blank.
    pub first: Option<u8>,
    pub permit: Permit,
    pub readers: Readers,
    pub then: Then,
    /// What has come behind the body: the beginning of the next request.
    pub rest: Vec<u8>,
    /// When the last bytes of the body came.
    pub heard_at: Tick,
    /// For the log.
    pub asked: AskedBefore,
    /// It is refused once ingest has said what became of the lines before that.
    pub refusal: Option<Box<Refusal>>,
}

/// Whoever drops it in the middle of its body has cut that off.
impl Drop for Publishing {
    fn drop(&mut self) {
        self.end(BodyEnd::Cut);
    }
}

impl Publishing {
    /// Nothing more of its body is to come.
    pub fn is_whole(&self) -> bool {
        self.body.is_done() || self.refusal.is_some()
    }

    /// Its token had the scope.
    pub fn has_scope(&self) -> bool {
        self.posted.from.rights.is_some()
    }

    /// Its lines look like an array of objects, whose type is another.
    pub fn is_array_as_lines(&self) -> bool {
        self.json.is_none() && self.first == Some(b'[')
    }

    pub fn end(&self, end: BodyEnd) {
        if self.posted.end(end) {
            self.ingest.wake();
        }
    }

    /// Takes what has come. Returns how many bytes are of the body.
    pub fn take(&mut self, bytes: &[u8], line_bytes_max: usize, now: Instant) -> Result<usize, Refusal> {
        let Self { body, json, first, .. } = self;
        let (mut used, mut cut) = (Ok(0), Ok(()));
        let is_news = self.posted.add(now, |out| {
            used = body.read(bytes, |run| {
                *first = first.or_else(|| run.trim_ascii_start().first().copied());
                match json {
                    Some(json) if cut.is_ok() => cut = json.cut(run, out),
                    Some(_) => {}
                    None => out.extend_from_slice(run),
                }
            });
            if let (true, Some(json)) = (body.is_done(), json) {
                json.finish(out);
            }
        });
        if is_news {
            self.ingest.wake();
        }
        let used = used.map_err(|fault| fault.refusal())?;
        cut.map_err(|TooLong| Refusal::line_too_large(line_bytes_max))?;
        Ok(used)
    }
}
