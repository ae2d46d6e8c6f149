//! The answer to lines that were published over HTTP.

use std::borrow::Cow;

use http::StatusCode;

use crate::wire::http_answer::{ContentType, NO_STORE, Then, write_head};
use crate::wire::publisher_answer::LineError;

/// What became of a body's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Lines that are events now, and those that were before under the publisher's name.
    pub accepted: u64,
    /// The first refused lines: their numbers, and why.
    pub refused: Vec<(u64, LineError)>,
    pub refused_total: u64,
    /// All of the accepted lines have this number or a lower one.
    pub stream_seq: u64,
    /// The last line accepted under the publisher's name, if it gave one.
    pub accepted_line: Option<u64>,
    /// The lines look like an array of objects.
    pub is_array: bool,
}

/// The members of the answer, in this order.
#[derive(serde::Serialize)]
pub struct ReceiptBody<'a> {
    accepted: u64,
    refused: Vec<RefusedLine<'a>>,
    refused_total: u64,
    stream_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_line: Option<u64>,
}

#[derive(serde::Serialize)]
struct RefusedLine<'a> {
    line: u64,
    code: &'a str,
    message: Cow<'a, str>,
}

/// For whoever sends an array as lines.
const ARRAY: &str = "; an array is read with Content-Type: application/json";

impl Receipt {
    /// 422 if nothing was accepted and something refused, else 200.
    pub fn status(&self) -> StatusCode {
        match self.accepted == 0 && self.refused_total > 0 {
            true => StatusCode::UNPROCESSABLE_ENTITY,
            false => StatusCode::OK,
        }
    }

    pub fn body(&self) -> ReceiptBody<'_> {
        let refused = self.refused.iter().map(|&(line, error)| {
            let is_of_array = self.is_array && matches!(error, LineError::BadJson | LineError::NotAnObject);
            let message = match is_of_array {
                true => [error.message(), ARRAY].concat().into(),
                false => error.message().into(),
            };
            RefusedLine { line, code: error.code(), message }
        });
        let &Receipt { accepted, refused_total, stream_seq, accepted_line, .. } = self;
        ReceiptBody { accepted, refused: refused.collect(), refused_total, stream_seq, accepted_line }
    }

    /// Appends the whole answer. `fields` are further lines of its head, each with its CR LF; `unix_micros` is now.
    pub fn write(&self, out: &mut Vec<u8>, fields: &str, then: Then, unix_micros: i64) {
        let mut body = serde_json::to_vec(&self.body()).expect("numbers and strings are JSON");
        body.push(b'\n');
        let (fields, content_type) = ([NO_STORE, fields].concat(), Some(ContentType::Json.as_str()));
        write_head(out, self.status(), &fields, content_type, Some(body.len()), then, unix_micros);
        out.extend_from_slice(&body);
    }
}

#[cfg(test)]
mod tests {
    use super::Receipt;
    use crate::wire::http_answer::Then;
    use crate::wire::publisher_answer::LineError;

    fn written(receipt: &Receipt) -> (String, String) {
        let mut out = Vec::new();
        receipt.write(&mut out, "", Then::Next, 0);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())));
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    #[test]
    fn a_receipt_says_what_became_of_each_line() {
        let good = Receipt { accepted: 2, stream_seq: 9, ..Receipt::default() };
        let expected = "{\"accepted\":2,\"refused\":[],\"refused_total\":0,\"stream_seq\":9}\n";
        assert_eq!(written(&good), ("HTTP/1.1 200 OK".to_owned(), expected.to_owned()));
        assert_eq!(written(&Receipt::default()).0, "HTTP/1.1 200 OK", "an empty body");
        let refused = vec![(7, LineError::NoType)];
        let bad = Receipt { refused, refused_total: 1, accepted_line: Some(6), ..Receipt::default() };
        let expected = "{\"accepted\":0,\"refused\":[{\"line\":7,\"code\":\"no_type\",\"message\":\"the event has no type\"}],\
                        \"refused_total\":1,\"stream_seq\":0,\"accepted_line\":6}\n";
        assert_eq!(written(&bad), ("HTTP/1.1 422 Unprocessable Entity".to_owned(), expected.to_owned()));
        assert_eq!(written(&Receipt { accepted: 1, ..bad }).0, "HTTP/1.1 200 OK");
    }
}
