//! The WebSocket handshake (RFC 6455, 4.2): checks an HTTP request that has been read, and writes the 101.

use tungstenite::handshake::derive_accept_key;

use crate::wire::http::{Field, Methods, PROTOCOL, Refusal, Request};
use crate::wire::permessage_deflate::Agreement;

/// The value of `Sec-WebSocket-Accept` for a correct upgrade request.
///
/// # Errors
/// 405 for a method other than GET; 505 for HTTP/1.0; 426 if no upgrade to version 13 is asked for; 400 if it is
/// asked for wrongly. 426 comes before 400: a client of another version may have other rules for its key.
pub fn accept_key(request: &Request<'_>) -> Result<String, Refusal> {
    // RFC 6455, 4.2.1, item 1.
    if request.method != "GET" {
        return Err(Refusal::method_not_allowed(Methods::OfStream));
    }
    if request.is_http_1_0 {
        return Err(Refusal::too_old_for_streams());
    }
    if !request.upgrade.is_requested {
        let message = "this path speaks WebSocket: send Connection: Upgrade and Upgrade: websocket; a proxy in \
                       front must pass both on over HTTP/1.1 (in nginx: proxy_http_version 1.1). All but the \
                       multi-job endpoint also speak plain HTTP: send Accept: text/event-stream (format=sse) or \
                       Accept: application/x-ndjson (format=ndjson)";
        return Err(Refusal::upgrade_required(message));
    }
    match request.upgrade.version {
        Field::One(b"13") => {}
        // RFC 6455, 11.3.5: it is sent once in a request. A list in one line is the same thing (RFC 9110, 5.3).
        Field::Repeated => {
            return Err(Refusal::bad_request("Sec-WebSocket-Version was sent twice"));
        }
        Field::One(value) if value.contains(&b',') => {
            return Err(Refusal::bad_request("Sec-WebSocket-Version must be one number"));
        }
        Field::One(_) | Field::Absent => {
            return Err(Refusal::upgrade_required("Sec-WebSocket-Version must be 13"));
        }
    }
    match request.upgrade.key {
        Field::One(key) if is_key(key) => Ok(derive_accept_key(key)),
        Field::One(_) => Err(Refusal::bad_request("Sec-WebSocket-Key is not 16 bytes in base64")),
        Field::Absent => Err(Refusal::bad_request("Sec-WebSocket-Key is missing")),
        // RFC 6455, 11.3.1.
        Field::Repeated => Err(Refusal::bad_request("Sec-WebSocket-Key was sent twice")),
    }
}

/// Whether this is base64 of 16 bytes: 22 characters and `==` (RFC 6455, 4.2.1, item 5). The last
/// character's four unused bits may be anything: in the RFC's own example of 4.1 they are not zero.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}

/// Appends the 101 (RFC 6455, 4.2.2). It names a subprotocol or an extension only if the client offered it: otherwise the
/// client must end the connection (4.1).
pub fn write_switching(out: &mut Vec<u8>, accept: &str, offers_protocol: bool, deflate: Option<&Agreement>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept.as_bytes());
    if offers_protocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(PROTOCOL.as_bytes());
    }
    if let Some(deflate) = deflate {
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        deflate.write(out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::{accept_key, write_switching};
    use crate::wire::http::{HeadLimits, HeadResult, parse_head};
    use crate::wire::permessage_deflate::agree;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

    /// The accept key, or the status of the refusal.
    fn judge(method: &str, fields: &[&str]) -> Result<String, u16> {
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields.concat());
        match parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => {
                accept_key(&request).map_err(|refusal| refusal.status.code())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_rfc_example_is_accepted() {
        // RFC 6455, 1.3.
        assert_eq!(judge("GET", &[UPGRADE, KEY, VERSION]), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()));
    }

    #[test]
    fn lists_repetition_and_offers_do_no_harm() {
        let fields = [
            "connection: keep-alive\r\n",
            "CONNECTION: foo, upgrade\r\nUpgrade: h2c, websocket\r\nUPGRADE: WebSocket\r\n",
            "Sec-WebSocket-Protocol: chat, ,\r\nSec-WebSocket-Extensions: ;;;\r\n",
            KEY,
            VERSION,
        ];
        assert!(judge("GET", &fields).is_ok());
        // RFC 6455, 4.1: bits left over in the last character.
        let other_key = "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n";
        assert!(judge("GET", &[UPGRADE, other_key, VERSION]).is_ok());
    }

    #[test]
    fn bad_keys_and_repeated_fields_are_400() {
        let keys = [
            "",
            "Sec-WebSocket-Key:\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSEh\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ*==\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==a\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQQQ==\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2==\r\n",
        ];
        for key in keys {
            assert_eq!(judge("GET", &[UPGRADE, key, VERSION]), Err(400), "{key:?}");
        }
        assert_eq!(judge("GET", &[UPGRADE, KEY, KEY, VERSION]), Err(400));
        assert_eq!(judge("GET", &[UPGRADE, KEY, VERSION, VERSION]), Err(400));
        assert_eq!(judge("GET", &[UPGRADE, KEY, "Sec-WebSocket-Version: 13, 8\r\n"]), Err(400));
    }

    #[test]
    fn no_or_another_upgrade_is_426() {
        let cases: [&[&str]; 8] = [
            &[],
            &[KEY, VERSION],
            &["Connection: Upgrade\r\n", KEY, VERSION],
            &["Upgrade: websocket\r\n", KEY, VERSION],
            &["Connection: Upgrade\r\nUpgrade: h2c\r\n", KEY, VERSION],
            &["Connection: xupgrade\r\nUpgrade: websocket\r\n", KEY, VERSION],
            &[UPGRADE, KEY],
            &[UPGRADE, KEY, "Sec-WebSocket-Version: 8\r\n"],
        ];
        for fields in cases {
            assert_eq!(judge("GET", fields), Err(426), "{fields:?}");
        }
        assert_eq!(judge("GET", &[UPGRADE, "Sec-WebSocket-Version: 0\r\n"]), Err(426));
        assert_eq!(judge("POST", &[UPGRADE, KEY, VERSION]), Err(405));
    }

    #[test]
    fn http_1_0_is_too_old_and_later_minor_versions_are_not() {
        for (minor, expected) in [(0, 505), (1, 0), (2, 0), (9, 0)] {
            let text = format!("GET / HTTP/1.{minor}\r\nHost: a\r\n{UPGRADE}{KEY}{VERSION}\r\n");
            match parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 }) {
                Ok(HeadResult::Complete { request, .. }) => {
                    let refusal = accept_key(&request).err();
                    let status = refusal.as_ref().map_or(0, |refusal| refusal.status.code());
                    assert_eq!(status, expected, "HTTP/1.{minor}");
                    assert!(refusal.is_none_or(|refusal| refusal.message.contains("proxy_http_version")));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_switch_is_written_whole() {
        let mut out = Vec::new();
        write_switching(&mut out, "abc=", false, None);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: abc=\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        write_switching(&mut out, "abc=", true, None);
        let expected = expected.replace("abc=\r\n", "abc=\r\nSec-WebSocket-Protocol: luxcast.v1\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        write_switching(&mut out, "abc=", true, agree(b"permessage-deflate").as_ref());
        let expected = expected.replace(
            "luxcast.v1\r\n",
            "luxcast.v1\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n",
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
