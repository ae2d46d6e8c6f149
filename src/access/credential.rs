//! Finds the one token that a request brings.

use std::borrow::Cow;

use crate::wire::http::{Refusal, Request};
use crate::wire::query;

/// The token of a request: `token=` or `api_key=` in the URL, `Authorization: Bearer`, or `X-API-Key`. Empty ones, and
/// other schemes of `Authorization`, count as absent.
///
/// # Errors
/// 400: a parameter is malformed or came twice, or there is more than one token. RFC 6750, 2 and 3.1, require this: a
/// proxy on the way must not see another token than the daemon.
pub fn token_of<'a>(request: &Request<'a>) -> Result<Option<Cow<'a, str>>, Refusal> {
    let [token, api_key] = query::read(request.query, ["token", "api_key"])?;
    let bearer = request.authorization.and_then(bearer).map(Cow::Borrowed);
    let sent = [token, api_key, bearer, request.api_key.map(Cow::Borrowed)];
    let mut tokens = sent.into_iter().flatten().filter(|token| !token.is_empty());
    let first = tokens.next();
    match tokens.next() {
        None => Ok(first),
        Some(_) => Err(Refusal::two_tokens()),
    }
}

/// The token behind the scheme, which is written in any case, and its blanks (RFC 9110, 11.4).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::token_of;
    use crate::wire::http::{HeadLimits, HeadResult, parse_head};

    /// The token, or status and word of the refusal.
    fn token(target: &str, fields: &str) -> Result<Option<String>, (u16, &'static str)> {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        match parse_head(text.as_bytes(), HeadLimits { head_bytes_max: 8192 }) {
            Ok(HeadResult::Complete { request, .. }) => {
                assert!(!format!("{request:?}").contains("secret"));
                match token_of(&request) {
                    Ok(token) => Ok(token.map(|token| token.into_owned())),
                    Err(refusal) => {
                        assert!(!refusal.message.contains("secret"));
                        Err((refusal.status.code(), refusal.code))
                    }
                }
            }
            Err(refusal) => Err((refusal.status.code(), refusal.code)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_may_come_in_four_places() {
        let secret = Ok(Some("secret".to_owned()));
        for (target, fields) in [
            ("/?token=secret", ""),
            ("/?a=b&api_key=secret&since=5", ""),
            ("/?%74oken=se%63ret", ""),
            ("/", "Authorization: Bearer secret\r\n"),
            ("/", "authorization: bEARER   secret\r\n"),
            ("/", "x-api-key: secret\r\n"),
            ("/?token=&api_key", "X-API-Key: secret\r\nAuthorization: Basic c2VjcmV0\r\n"),
        ] {
            assert_eq!(token(target, fields), secret, "{target} {fields}");
        }
        assert_eq!(token("/?token=a+b%2B%3d", ""), Ok(Some("a+b+=".to_owned())));
    }

    #[test]
    fn other_places_hold_no_token() {
        for (target, fields) in [
            ("/", ""),
            ("/?Token=secret&tokens=secret&%=%", ""),
            ("/", "Authorization: Basic secret\r\n"),
            ("/", "Authorization: Bearer\r\n"),
            ("/", "Authorization: Bearersecret\r\n"),
            ("/", "Authorization: secret\r\nX-API-Key:\r\n"),
        ] {
            assert_eq!(token(target, fields), Ok(None), "{target} {fields}");
        }
    }

    #[test]
    fn two_tokens_are_refused() {
        let bearer = "Authorization: Bearer secret\r\n";
        for (target, fields) in [
            ("/?token=secret&api_key=secret", ""),
            ("/?token=secret", bearer),
            ("/?api_key=other", "X-API-Key: secret\r\n"),
            ("/", "X-API-Key: secret\r\nAuthorization: Bearer other\r\n"),
            ("/", "X-API-Key: secret\r\nX-API-Key: secret\r\n"),
            ("/", "Authorization: Bearer secret\r\nAuthorization: Bearer secret\r\n"),
        ] {
            assert_eq!(token(target, fields), Err((400, "bad_request")), "{target} {fields}");
        }
        for target in [
            "/?token=secret&token=secret",
            "/?api_key=&api_key=secret",
            "/?token=secret%",
            "/?api_key=secret%ff",
        ] {
            assert_eq!(token(target, ""), Err((400, "bad_parameter")), "{target}");
        }
    }
}
