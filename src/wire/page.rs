//! Answers requests for the live page and its files, with fields that keep a browser strict, and sends nothing twice.

use http::StatusCode;

use crate::console::Asset;
use crate::console::page::Page;
use crate::wire::cross_origin::Readers;
use crate::wire::http::Request;
use crate::wire::http_answer::{ContentType, NO_STORE, Then, write_head};

/// Sent with every answer under `/console` and with every list. A browser then takes scripts, styles and connections
/// only from the page's own origin. `'self'` covers WebSockets to the same host and port (Content Security Policy 3,
/// 6.7.2.8).
const STRICT_FIELDS: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
     X-Content-Type-Options: nosniff\r\n\
     Referrer-Policy: no-referrer\r\n\
     Cross-Origin-Opener-Policy: same-origin\r\n\
     Cross-Origin-Resource-Policy: same-origin\r\n";

/// Appends the head of an answer that was made for one client.
pub fn write_data_head(
    out: &mut Vec<u8>,
    content_type: ContentType,
    body_length: usize,
    readers: &Readers,
    then: Then,
    unix_micros: i64,
) {
    let fields = [STRICT_FIELDS, NO_STORE, &readers.fields("")].concat();
    let content_type = content_type.as_str();
    write_head(out, StatusCode::OK, &fields, Some(content_type), Some(body_length), then, unix_micros);
}

/// An answer: its head, and the body to send behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct PageAnswer {
    pub head: Vec<u8>,
    pub body: &'static [u8],
}

/// Answers a GET or HEAD; `unix_micros` is now.
pub fn answer(
    page: Page,
    request: &Request<'_>,
    readers: &Readers,
    then: Then,
    unix_micros: i64,
) -> PageAnswer {
    match page {
        Page::Entrance => lead_in(request, readers, then, unix_micros),
        Page::Asset(asset) => send(asset, request, readers, then, unix_micros),
    }
}

/// Redirects to the page by a relative address (RFC 9110, 10.2.2), which is right behind any proxy.
fn lead_in(request: &Request<'_>, readers: &Readers, then: Then, unix_micros: i64) -> PageAnswer {
    let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut head = Vec::new();
    let readers = readers.fields("");
    let fields = format!("{STRICT_FIELDS}Cache-Control: no-cache\r\n{readers}Location: console/{query}\r\n");
    write_head(&mut head, StatusCode::PERMANENT_REDIRECT, &fields, None, Some(0), then, unix_micros);
    PageAnswer { head, body: b"" }
}

fn send(
    asset: &'static Asset,
    request: &Request<'_>,
    readers: &Readers,
    then: Then,
    unix_micros: i64,
) -> PageAnswer {
    let tag = asset.tag();
    // A weak tag, since it names both encodings (RFC 9110, 8.8.3.3).
    let readers = readers.fields("");
    let fields = format!(
        "{STRICT_FIELDS}Cache-Control: no-cache\r\nETag: W/\"{tag}\"\r\nVary: Accept-Encoding\r\n{readers}"
    );
    let mut head = Vec::new();
    if request.if_none_match.is_some_and(|tags| has_tag(tags, tag)) {
        // There is no body, and a length would be that of a 200 (RFC 9110, 8.6).
        write_head(&mut head, StatusCode::NOT_MODIFIED, &fields, None, None, then, unix_micros);
        return PageAnswer { head, body: b"" };
    }
    let (body, fields) = match request.accepts_gzip() {
        true => (asset.gzip, fields + "Content-Encoding: gzip\r\n"),
        false => (asset.plain, fields),
    };
    write_head(
        &mut head,
        StatusCode::OK,
        &fields,
        Some(asset.content_type),
        Some(body.len()),
        then,
        unix_micros,
    );
    // RFC 9110, 9.3.2: a HEAD gets the head that a GET would get.
    PageAnswer { head, body: if request.method == "HEAD" { b"" } else { body } }
}

/// Whether `If-None-Match` names this content (RFC 9110, 13.1.2, compared weakly). A comma inside another tag splits
/// that tag in two, neither of which is ours.
fn has_tag(tags: &[u8], tag: &str) -> bool {
    tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|one| {
        let opaque = one.strip_prefix(b"W/").unwrap_or(one);
        one == b"*"
            || opaque.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) == Some(tag.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::{PageAnswer, answer, has_tag};
    use crate::console::Asset;
    use crate::console::page::Page;
    use crate::wire::cross_origin::Readers;
    use crate::wire::http::{HeadLimits, HeadResult, parse_head};
    use crate::wire::http_answer::Then;

    fn answered(page: Page, method: &str, target: &str, fields: &str) -> (String, &'static [u8]) {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        match parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => {
                let PageAnswer { head, body } = answer(page, &request, &Readers::NotThisPage, Then::Close, 0);
                (String::from_utf8(head).unwrap(), body)
            }
            other => panic!("{other:?}"),
        }
    }

    fn script() -> (Page, &'static Asset) {
        let asset = Asset::find("console.js").unwrap();
        (Page::Asset(asset), asset)
    }

    #[test]
    fn a_file_is_sent_in_the_form_that_the_client_accepts() {
        let (page, asset) = script();
        let (head, body) = answered(page, "GET", "/console/console.js", "");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: text/javascript; charset=utf-8\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", asset.plain.len())), "{head}");
        assert!(!head.contains("Content-Encoding") && body == asset.plain);
        let (head, body) = answered(page, "GET", "/console/console.js", "Accept-Encoding: br, gzip\r\n");
        assert!(head.contains("\r\nContent-Encoding: gzip\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", asset.gzip.len())), "{head}");
        assert!(head.contains("\r\nVary: Accept-Encoding\r\n") && body == asset.gzip);
        let (of_head, body) = answered(page, "HEAD", "/console/console.js", "Accept-Encoding: gzip\r\n");
        assert_eq!((of_head, body), (head, &b""[..]));
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let (page, asset) = script();
        for fields in [
            format!("If-None-Match: W/\"{}\"\r\n", asset.tag()),
            format!("If-None-Match: \"x\", \"{}\"\r\nAccept-Encoding: gzip\r\n", asset.tag()),
            "If-None-Match: *\r\n".to_owned(),
        ] {
            let (head, body) = answered(page, "GET", "/console/console.js", &fields);
            assert!(head.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{head}");
            assert!(head.contains(&format!("\r\nETag: W/\"{}\"\r\n", asset.tag())), "{head}");
            assert!(
                !head.contains("Content-") || !head.contains("Content-Length") && body.is_empty(),
                "{head}"
            );
        }
        let (head, _) = answered(page, "GET", "/console/console.js", "If-None-Match: \"x\"\r\n");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }

    #[test]
    fn tags_are_compared_with_their_quotes() {
        for list in ["\"ab\"", "W/\"ab\"", "\"x\" , W/\"ab\",", "*"] {
            assert!(has_tag(list.as_bytes(), "ab"), "{list}");
        }
        for list in ["", "ab", "\"abc\"", "\"a\"", "w/\"ab\"", "\"ab", "\"x,ab\"", "W/ab"] {
            assert!(!has_tag(list.as_bytes(), "ab"), "{list}");
        }
    }

    #[test]
    fn the_entrance_leads_to_the_page_behind_any_proxy() {
        let (head, body) = answered(Page::Entrance, "GET", "/console?job=a%20b", "");
        assert!(head.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{head}");
        assert!(head.contains("\r\nLocation: console/?job=a%20b\r\n") && body.is_empty(), "{head}");
        let (head, _) = answered(Page::Entrance, "HEAD", "/console", "");
        assert!(
            head.contains("\r\nLocation: console/\r\nConnection: close\r\nContent-Length: 0\r\n"),
            "{head}"
        );
    }
}
