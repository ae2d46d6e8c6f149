//! Judges a request that publishes: `POST /api/v1/events`.

use std::sync::Arc;

use crate::access::rights::{Permit, Rights};
use crate::config::HttpPublish;
use crate::wire::body::BodyLength;
use crate::wire::http::{Field, Refusal, Request, Then};
use crate::wire::line::{LINE_NUMBER_MAX, is_id};
use crate::wire::text::digits;

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// Lines, as on the Unix socket.
    Lines,
    /// One JSON value, or an array of them.
    Json,
}

/// A valid request to publish.
pub struct Publish {
    pub length: BodyLength,
    pub form: BodyForm,
    /// What a publisher on the Unix socket would say first, as lines.
    pub greeting: Vec<u8>,
    pub permit: Permit,
    /// Whose jobs and flows it may publish for. None: for all.
    pub rights: Option<Arc<Rights>>,
    /// The client sends the body once it is asked for it.
    pub awaits_continue: bool,
    pub then: Then,
}

/// Judges a request whose path, host and origin are good.
///
/// # Errors
/// 401, 403, 415, 417 or 400, in this order.
pub fn judge(
    request: &Request<'_>,
    http_publish: HttpPublish,
    permit: Permit,
    then: Then,
) -> Result<Publish, Refusal> {
    let rights = match (http_publish, &permit) {
        (HttpPublish::Anyone, _) => None,
        (_, Permit::Everything) => return Err(Refusal::unauthorized(NO_TOKENS)),
        (_, Permit::Of(rights)) if rights.scopes.publish.is_empty() => {
            return Err(Refusal::forbidden_scope("publish or publish=ID"));
        }
        (_, Permit::Of(rights)) => Some(rights.clone()),
    };
    let fields = request.body.as_deref().copied().unwrap_or_default();
    let form = form(fields.content_type)?;
    match fields.content_encoding {
        Field::Absent => {}
        Field::One(coding) if coding.eq_ignore_ascii_case(b"identity") => {}
        _ => {
            return Err(Refusal::unsupported_type(
                "Content-Encoding must be absent: bodies are read as they are",
            ));
        }
    }
    let awaits_continue = match fields.expect {
        Field::Absent => false,
        Field::One(word) if word.eq_ignore_ascii_case(b"100-continue") => !request.is_http_1_0,
        _ => return Err(Refusal::unknown_expectation()),
    };
    let greeting = greeting(fields.publisher, fields.first_line)?;
    let length = BodyLength::of(request.content_length, fields.transfer_encoding, request.is_http_1_0)?;
    Ok(Publish { length, form, greeting, permit, rights, awaits_continue, then })
}

const NO_TOKENS: &str = "publishing needs a token with the scope publish, and this daemon has no tokens: set token_file or \
                         jwt_key_file, or http_publish = anyone";

/// A page of another site can send a form without being asked for its Origin first; it cannot send these types.
fn form(content_type: Field<'_>) -> Result<BodyForm, Refusal> {
    let message = "Content-Type must be application/x-ndjson or application/jsonl for lines of JSON, or application/json for \
                   an object or an array of objects";
    let Field::One(value) = content_type else { return Err(Refusal::unsupported_type(message)) };
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().unwrap_or_default();
    // JSON is UTF-8 (RFC 8259, 8.1); other parameters mean nothing here.
    let is_utf_8 = |parameter: &[u8]| match parameter.get(..8) {
        Some(start) if start.eq_ignore_ascii_case(b"charset=") => {
            let charset = parameter[8..].trim_ascii();
            let bare = charset.strip_prefix(b"\"").and_then(|charset| charset.strip_suffix(b"\""));
            bare.unwrap_or(charset).eq_ignore_ascii_case(b"utf-8")
        }
        _ => true,
    };
    if !parts.all(is_utf_8) {
        return Err(Refusal::unsupported_type("the charset of Content-Type can only be utf-8"));
    }
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match () {
        () if is("application/x-ndjson") || is("application/jsonl") => Ok(BodyForm::Lines),
        () if is("application/json") => Ok(BodyForm::Json),
        () => Err(Refusal::unsupported_type(message)),
    }
}

/// The lines `hello` and `from` that stand for the two fields.
fn greeting(publisher: Field<'_>, first_line: Field<'_>) -> Result<Vec<u8>, Refusal> {
    let publisher = publisher.text("Luxcast-Publisher")?;
    let first_line = first_line.text("Luxcast-Line")?;
    let mut greeting = String::new();
    match publisher {
        Some(name) if is_id(name) => {
            greeting =
                format!("{{\"op\":\"hello\",\"publisher\":\"{name}\",\"ack\":true,\"dedupe\":true}}\n");
        }
        Some(_) => return Err(Refusal::bad_request(BAD_PUBLISHER)),
        None if first_line.is_some() => {
            return Err(Refusal::bad_request("Luxcast-Line needs Luxcast-Publisher"));
        }
        None => {}
    }
    if let Some(text) = first_line {
        let line = digits(text).filter(|line| (1..=LINE_NUMBER_MAX).contains(line));
        let line =
            line.ok_or_else(|| Refusal::bad_request("Luxcast-Line must be the number of a line, from 1"))?;
        greeting.push_str(&format!("{{\"op\":\"from\",\"line\":{line}}}\n"));
    }
    Ok(greeting.into_bytes())
}

const BAD_PUBLISHER: &str = "Luxcast-Publisher must be 1 to 128 of the characters A-Z a-z 0-9 _ . : -";

#[cfg(test)]
mod tests {
    use super::{BodyForm, Publish, judge};
    use crate::access::keyring::{Auth, Keyring};
    use crate::access::rights::Permit;
    use crate::access::token_file;
    use crate::config::HttpPublish;
    use crate::wire::body::BodyLength;
    use crate::wire::http::{HeadLimits, HeadResult, Then, parse_head};

    fn judged(
        http_publish: HttpPublish,
        token: Option<&str>,
        fields: &str,
    ) -> Result<Publish, (u16, String)> {
        let text = format!("POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let Ok(HeadResult::Complete { request, .. }) =
            parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 })
        else {
            panic!("{text}")
        };
        let file = "every publish\nsome publish=a,b*\nwatcher all debug admin\n";
        let auth = Auth::On(Keyring::new(token_file::parse(file).unwrap(), None));
        let permit = token.map_or(Permit::Everything, |token| auth.admit(Some(token), 0).unwrap());
        judge(&request, http_publish, permit, Then::Next)
            .map_err(|refusal| (refusal.status.code(), refusal.message.into_owned()))
    }

    const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

    #[test]
    fn publishing_needs_its_own_scope() {
        let status =
            |http_publish, token| judged(http_publish, token, NDJSON).err().map(|(status, _)| status);
        assert_eq!(status(HttpPublish::Scope, None), Some(401));
        assert_eq!(status(HttpPublish::Scope, Some("watcher")), Some(403));
        assert_eq!(status(HttpPublish::Scope, Some("every")), None);
        assert_eq!(status(HttpPublish::Anyone, None), None);
        let some = judged(HttpPublish::Scope, Some("some"), NDJSON).unwrap();
        assert!(!some.rights.unwrap().scopes.publish.cover("c"));
        assert!(judged(HttpPublish::Anyone, Some("some"), NDJSON).unwrap().rights.is_none());
        // Nobody without the right learns what is wrong with the rest.
        assert_eq!(judged(HttpPublish::Scope, Some("watcher"), "").err().unwrap().0, 403);
    }

    #[test]
    fn only_json_is_taken() {
        let form =
            |fields: &str| judged(HttpPublish::Scope, Some("every"), fields).map(|publish| publish.form);
        for good in [
            "application/x-ndjson",
            "Application/JSONL; charset=utf-8",
            "application/jsonl;charset=\"UTF-8\"",
        ] {
            assert_eq!(form(&format!("Content-Type: {good}\r\n")), Ok(BodyForm::Lines), "{good}");
        }
        assert_eq!(form("Content-Type: application/json ; x=y\r\n"), Ok(BodyForm::Json));
        for bad in [
            "",
            "Content-Type: text/plain\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type: multipart/form-data; boundary=x\r\n",
            "Content-Type: application/json; charset=latin1\r\n",
            "Content-Type: application/json, text/plain\r\n",
            "Content-Type: application/json\r\nContent-Type: application/json\r\n",
            "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        ] {
            assert_eq!(form(bad).unwrap_err().0, 415, "{bad}");
        }
        assert_eq!(form(&format!("{NDJSON}Content-Encoding: identity\r\n")), Ok(BodyForm::Lines));
        assert_eq!(form(&format!("{NDJSON}Expect: miracles\r\n")).unwrap_err().0, 417);
    }

    #[test]
    fn fields_stand_for_the_lines_that_greet() {
        let publish = |fields: &str| judged(HttpPublish::Anyone, None, &format!("{NDJSON}{fields}"));
        let greeting = |fields: &str| String::from_utf8(publish(fields).unwrap().greeting).unwrap();
        assert_eq!(greeting(""), "");
        let hello = "{\"op\":\"hello\",\"publisher\":\"ci-1\",\"ack\":true,\"dedupe\":true}\n";
        assert_eq!(greeting("Luxcast-Publisher: ci-1\r\n"), hello);
        let fields = "Luxcast-Publisher: ci-1\r\nLuxcast-Line: 7\r\n";
        assert_eq!(greeting(fields), format!("{hello}{{\"op\":\"from\",\"line\":7}}\n"));
        for bad in [
            "Luxcast-Publisher: a b\r\n",
            "Luxcast-Publisher:\r\n",
            "Luxcast-Publisher: a\r\nLuxcast-Publisher: a\r\n",
            "Luxcast-Line: 1\r\n",
            "Luxcast-Publisher: a\r\nLuxcast-Line: 0\r\n",
            "Luxcast-Publisher: a\r\nLuxcast-Line: +1\r\n",
            "Luxcast-Publisher: a\r\nLuxcast-Line: 99999999999999999999\r\n",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(publish(bad).err().unwrap().0, 400, "{bad}");
        }
        let whole = publish("Content-Length: 3\r\nExpect: 100-Continue\r\n").unwrap();
        assert!(whole.length == BodyLength::Known(3) && whole.awaits_continue && whole.rights.is_none());
    }
}
