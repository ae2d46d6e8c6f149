//! The rights that a token gives, and the permit of a connection.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};

use crate::access::patterns::Patterns;

/// The SHA-256 of a token, or of a key and its algorithm.
pub type Fingerprint = [u8; 32];

pub fn fingerprint(bytes: &[u8]) -> Fingerprint {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Where rights come from. A reload looks there to learn whether they still hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// A line of the token file, by its token's fingerprint.
    File(Fingerprint),
    /// The signature of a key, by its fingerprint.
    Key(Fingerprint),
}

/// What the holder of one token may do. Shared by all connections that one token of the file has opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Rights {
    pub issuer: Issuer,
    pub scopes: Scopes,
    /// Unix time in microseconds at which they end.
    pub expires_at: Option<i64>,
}

impl Rights {
    /// The account under which lines of a publisher are taken once. Who may publish for some ids alone shares names with
    /// nobody but those who may for the same: it must not touch the lines of others.
    pub fn account_of(&self, name: &str) -> Box<str> {
        let publish = &self.scopes.publish;
        match publish.are_all() {
            true => name.into(),
            false => {
                let ids = BASE64URL_NOPAD.encode(&fingerprint(format!("{publish:?}").as_bytes()));
                format!("of-token:{ids}{SPACE_END}{name}").into()
            }
        }
    }
}

/// Behind the name space of an account, before the name. No name has it, so nobody can say another's account.
const SPACE_END: char = '/';

/// Whose names an account is among; empty for all who may publish for every job and flow.
pub fn space_of(account: &str) -> &str {
    account.split_once(SPACE_END).map_or("", |(space, _)| space)
}

/// What a token allows its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    pub jobs: Patterns,
    pub flows: Patterns,
    /// `/debug`, and events of the types that begin with `breakpoint_`.
    pub debug: bool,
    /// Every job, every flow, and `/events`.
    pub all: bool,
    /// The daemon's own figures.
    pub admin: bool,
    /// Jobs and flows for which events may be published over HTTP.
    pub publish: Patterns,
}

impl fmt::Debug for Rights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rights { scopes, expires_at, .. } = self;
        formatter.debug_struct("Rights").field("scopes", scopes).field("expires_at", expires_at).finish()
    }
}

/// What a connection may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// The daemon asks for no token.
    Everything,
    Of(Arc<Rights>),
}

impl Permit {
    fn has(&self, is_granted: impl FnOnce(&Scopes) -> bool) -> bool {
        match self {
            Permit::Everything => true,
            Permit::Of(rights) => is_granted(&rights.scopes),
        }
    }

    pub fn may_watch_job(&self, job_id: &str) -> bool {
        self.has(|scopes| scopes.all || scopes.jobs.cover(job_id))
    }

    pub fn may_watch_some_job(&self) -> bool {
        self.has(|scopes| scopes.all || !scopes.jobs.is_empty())
    }

    pub fn may_watch_flow(&self, flow_id: &str) -> bool {
        self.has(|scopes| scopes.all || scopes.flows.cover(flow_id))
    }

    pub fn may_watch_some_flow(&self) -> bool {
        self.has(|scopes| scopes.all || !scopes.flows.is_empty())
    }

    pub fn may_watch_all(&self) -> bool {
        self.has(|scopes| scopes.all)
    }

    /// Needed in addition to the right to the job or flow itself.
    pub fn may_debug(&self) -> bool {
        self.has(|scopes| scopes.debug)
    }

    /// The jobs and flows for which events may be published. None: the daemon asks for no token, so there is no scope.
    pub fn publish(&self) -> Option<&Patterns> {
        match self {
            Permit::Everything => None,
            Permit::Of(rights) => Some(&rights.scopes.publish),
        }
    }

    pub fn is_admin(&self) -> bool {
        self.has(|scopes| scopes.admin)
    }

    /// Unix time in microseconds at which the permit ends.
    pub fn expires_at(&self) -> Option<i64> {
        match self {
            Permit::Everything => None,
            Permit::Of(rights) => rights.expires_at,
        }
    }

    pub fn is_expired(&self, unix_micros: i64) -> bool {
        self.expires_at().is_some_and(|expires_at| expires_at <= unix_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::{Issuer, Rights, Scopes, space_of};
    use crate::access::patterns::Patterns;
    use crate::wire::line::is_id;

    fn account(publish: &[&str], name: &str) -> Box<str> {
        let publish = Patterns::new(publish.iter().copied()).unwrap();
        let scopes = Scopes { publish, ..Scopes::default() };
        Rights { issuer: Issuer::File([7; 32]), scopes, expires_at: None }.account_of(name)
    }

    #[test]
    fn names_are_shared_by_those_who_may_publish_for_the_same() {
        let lists: [&[&str]; 4] = [&["a", "b*"], &["b*", "a"], &["b*", "a", "b*"], &["a", "b*", "b1"]];
        let accounts = lists.map(|list| account(list, "run-7"));
        assert!(accounts.iter().all(|other| *other == accounts[0]), "{accounts:?}");
        assert_eq!(space_of(&accounts[0]), space_of(&account(lists[1], "run-8")));
        let others: [&[&str]; 4] = [&["a"], &["a", "b"], &["a*", "b*"], &["a", "b*", "c"]];
        for other in others {
            assert_ne!(space_of(&account(other, "run-7")), space_of(&accounts[0]), "{other:?}");
        }
        assert_ne!(account(&["a"], "run-7"), account(&["a"], "run-8"));
        assert_eq!((&*account(&["a", "*"], "run-7"), space_of("run-7")), ("run-7", ""));
        assert!(!is_id(&accounts[0]), "nobody can say it");
    }
}
