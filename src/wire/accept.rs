//! What a client accepts: the forms of a stream (`Accept`), and gzip (`Accept-Encoding`).

use crate::wire::framing::Framing;

/// What the lines of `Accept` say of streams in an HTTP answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamTypes {
    /// The form with the greatest weight, and that weight in thousandths; of equals the first. 0: none.
    best: (Framing, u16),
}

impl StreamTypes {
    /// Adds a line. Other types, and `*/*`, mean no stream.
    pub fn add(&mut self, list: &[u8]) {
        for item in list.split(|byte| *byte == b',') {
            let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let framing = if is(Framing::Sse.content_type()) {
                Framing::Sse
            } else if is(Framing::Ndjson.content_type()) || is("application/jsonl") {
                Framing::Ndjson
            } else {
                continue;
            };
            let weight = parts.find_map(weight).unwrap_or(1_000);
            if weight > self.best.1 {
                self.best = (framing, weight);
            }
        }
    }

    /// [`Framing::WebSocket`] if none is accepted.
    pub fn best(&self) -> Framing {
        self.best.0
    }
}

/// A weight `q=` in thousandths (RFC 9110, 12.4.2). A malformed one counts as none.
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or(parameter.strip_prefix(b"Q="))?;
    let number: f32 = str::from_utf8(value).ok()?.parse().ok()?;
    (0.0..=1.0).contains(&number).then_some((number * 1_000.0) as u16)
}

/// Whether a client accepts gzip, by its name or by `*` (RFC 9110, 12.5.3).
pub fn accepts_gzip(list: &[u8]) -> bool {
    let (mut gzip, mut any) = (None, None);
    for item in list.split(|byte| *byte == b',') {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let coding = parts.next().unwrap_or_default();
        let is_refused = parts.any(|parameter| {
            let weight = parameter.strip_prefix(b"q=").or(parameter.strip_prefix(b"Q="));
            weight.is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
        });
        if coding.eq_ignore_ascii_case(b"gzip") {
            gzip = Some(!is_refused);
        } else if coding == b"*" {
            any = Some(!is_refused);
        }
    }
    gzip.or(any).unwrap_or(false)
}
