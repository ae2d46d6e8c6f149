//! Why a server does not serve a request: the daemon's own refusals, and what others answer in its place.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;

use crate::cli::answer::Answer;
use crate::wire::refusal;

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    ForGood(String),
    ForNow {
        reason: String,
        /// As the daemon asked.
        retry_after: Option<Duration>,
    },
    /// It may be due to the upgrade to WebSocket, and a plain request may pass. Without one it means this.
    NoUpgrade(Box<Refused>),
    /// Nobody reads the output any more.
    OutputClosed,
}

impl Refused {
    pub fn for_now(reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        Self::ForNow { reason, retry_after: None }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForGood(reason) | Self::ForNow { reason, .. } => formatter.write_str(reason),
            Self::NoUpgrade(inner) => inner.fmt(formatter),
            Self::OutputClosed => formatter.write_str("nobody reads the output any more"),
        }
    }
}

/// An answer that does not serve the request.
pub struct Refusal {
    status: u16,
    pub retry_after: Option<Duration>,
    /// Where a redirection leads.
    location: Option<String>,
    /// What the daemon says. Another server says something else, if anything.
    own: Option<Own>,
}

/// The daemon's own refusal.
#[derive(Deserialize)]
struct Own {
    error: String,
    #[serde(default)]
    message: String,
}

impl Refusal {
    pub fn read(answer: Answer, stream: &mut impl Read) -> Self {
        let status = answer.status;
        let retry_after = answer.field("retry-after").and_then(|seconds| seconds.parse().ok());
        let location = answer.field("location").map(str::to_owned);
        Self::new(status, retry_after, location, &answer.body(stream))
    }

    fn new(status: u16, retry_after_seconds: Option<u64>, location: Option<String>, body: &[u8]) -> Self {
        let is_ours = |own: &Own| refusal::Refusal::is_code(&own.error);
        let own = serde_json::from_slice(body).ok().filter(is_ours);
        Self { status, retry_after: retry_after_seconds.map(Duration::from_secs), location, own }
    }

    /// Whether lines of the request may have been taken: the daemon can end within one, and take a token back. Others do
    /// not know.
    pub fn leaves_doubt(&self) -> bool {
        self.own.as_ref().is_none_or(|own| refusal::Refusal::comes_within(&own.error))
    }

    /// Whether the same may be asked again later. Only the daemon's own refusal is final: one from a proxy may pass,
    /// whatever its status.
    pub fn may_pass(&self) -> bool {
        self.own.as_ref().is_none_or(|own| refusal::Refusal::may_pass(&own.error))
    }

    pub fn reason(&self) -> String {
        let Self { status, location, own, .. } = self;
        match (own, location) {
            (Some(Own { error, message }), _) => format!("refused: {status} {error}: {message}"),
            (None, Some(place)) => {
                format!("something other than luxcast answered: {status}, which redirects to {place}")
            }
            (None, None) => format!("something other than luxcast answered: {status}"),
        }
    }

    /// What an answer other than 101 to an upgrade means.
    pub fn of_upgrade(self) -> Refused {
        // Where a proxy has taken the upgrade out, the daemon sees a plain request, maybe of HTTP/1.0.
        let error = self.own.as_ref().map(|own| own.error.as_str());
        match error {
            None | Some("upgrade_required" | "http_version") => Refused::NoUpgrade(Box::new(self.into())),
            Some(_) => self.into(),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal.may_pass() {
            true => Self::ForNow { reason: refusal.reason(), retry_after: refusal.retry_after },
            false => Self::ForGood(refusal.reason()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Refusal, Refused};
    use crate::wire::refusal;

    fn judge(status: u16, retry_after: Option<u64>, location: Option<&str>, body: &[u8]) -> Refused {
        Refusal::new(status, retry_after, location.map(str::to_owned), body).into()
    }

    #[test]
    fn only_the_daemons_own_refusal_is_final() {
        let body = br#"{"error":"full","message":"no room"}"#;
        assert_eq!(
            judge(503, Some(2), None, body),
            Refused::ForNow {
                reason: "refused: 503 full: no room".to_owned(),
                retry_after: Some(Duration::from_secs(2)),
            }
        );
        for word in refusal::Refusal::CODES.into_iter().filter(|word| refusal::Refusal::is_code(word)) {
            let body = format!(r#"{{"error":"{word}","message":"m"}}"#);
            let refused = judge(404, None, None, body.as_bytes());
            let is_passing = ["timeout", "too_many_requests", "full", "draining"].contains(&word);
            assert_eq!(matches!(refused, Refused::ForGood(_)), !is_passing, "{word}");
        }
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"error":"Not Found"}"#,
            r#"{"error":"tls"}"#,
            r#"{"error":{"code":404}}"#,
            "[]",
        ] {
            for status in [200, 302, 400, 401, 403, 404, 500, 502, 503, 504] {
                let refused = judge(status, None, None, body.as_bytes());
                let reason = format!("something other than luxcast answered: {status}");
                assert_eq!(refused, Refused::ForNow { reason, retry_after: None });
            }
        }
        let Refused::ForNow { reason, .. } = judge(302, None, Some("https://sso/"), b"") else { panic!() };
        assert!(reason.ends_with("302, which redirects to https://sso/"));
    }

    #[test]
    fn an_upgrade_that_did_not_come_through_leaves_another_way() {
        for (body, has_another) in [
            (&br#"{"error":"upgrade_required","message":"m"}"#[..], true),
            (br#"{"error":"http_version","message":"m"}"#, true),
            (b"<html>", true),
            (br#"{"error":"unauthorized","message":"m"}"#, false),
            (br#"{"error":"draining","message":"m"}"#, false),
        ] {
            let refused = Refusal::new(426, None, None, body).of_upgrade();
            assert_eq!(matches!(&refused, Refused::NoUpgrade(_)), has_another, "{refused}");
        }
    }
}
