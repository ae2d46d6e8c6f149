//! The tokens that the daemon knows, and the rights that each gives.
//!
//! Only a token's SHA-256 is kept. Nothing here shows a token, neither an error nor `Debug`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::access::jwt::{JwtFault, JwtKey};
use crate::access::rights::{Fingerprint, Issuer, Permit, Rights, fingerprint};
use crate::wire::http::Refusal;

/// Whether clients need a token, and which tokens are valid.
#[derive(Debug)]
pub enum Auth {
    /// Every client may do everything.
    Off,
    On(Keyring),
}

/// Everything that a client's token is compared with.
pub struct Keyring {
    /// Those of the token file.
    tokens: Vec<Arc<Rights>>,
    /// The index of each in `tokens`, for clients that are already in. A new client's token is compared with all of
    /// them.
    places: HashMap<Fingerprint, usize>,
    jwt: Option<Box<JwtKey>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keyring({} tokens, JWT: {})", self.tokens.len(), self.jwt.is_some())
    }
}

impl Keyring {
    pub fn new(tokens: Vec<Arc<Rights>>, jwt: Option<JwtKey>) -> Self {
        let places = tokens.iter().enumerate().filter_map(|(place, rights)| match rights.issuer {
            Issuer::File(token) => Some((token, place)),
            Issuer::Key(_) => None,
        });
        Self { places: places.collect(), tokens, jwt: jwt.map(Box::new) }
    }

    /// Those of the token file.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether this token is there and gives exactly these rights.
    fn gives(&self, token: &Fingerprint, rights: &Arc<Rights>) -> bool {
        self.places.get(token).is_some_and(|place| self.tokens[*place] == *rights)
    }

    /// How many tokens have rights here that `other` does not give them.
    pub fn tokens_beyond(&self, other: &Keyring) -> usize {
        let is_beyond = |token: &&Arc<Rights>| match &token.issuer {
            Issuer::File(fingerprint) => !other.gives(fingerprint, token),
            Issuer::Key(_) => false,
        };
        self.tokens.iter().filter(is_beyond).count()
    }

    /// Whether both verify JSON Web Tokens in the same way, or neither does.
    pub fn has_key_of(&self, other: &Keyring) -> bool {
        let fingerprint = |keyring: &Keyring| keyring.jwt.as_ref().map(|jwt| jwt.fingerprint());
        fingerprint(self) == fingerprint(other)
    }

    /// Looks at every token, so that the time taken shows neither which one it is nor how much of it was right.
    fn find(&self, token: &str) -> Option<&Arc<Rights>> {
        let wanted = fingerprint(token.as_bytes());
        let mut found = 0_u32;
        for (place, rights) in (1_u32..).zip(&self.tokens) {
            if let Issuer::File(known) = &rights.issuer {
                found.conditional_assign(&place, known.ct_eq(&wanted));
            }
        }
        found.checked_sub(1).map(|place| &self.tokens[place as usize])
    }
}

impl Auth {
    /// What the sender of this token may do, at `unix_micros`.
    ///
    /// # Errors
    /// 401: there is no token, or it is invalid.
    pub fn admit(&self, token: Option<&str>, unix_micros: i64) -> Result<Permit, Refusal> {
        let Auth::On(keyring) = self else {
            return Ok(Permit::Everything);
        };
        let token = token.ok_or_else(|| Refusal::unauthorized("a token is needed here"))?;
        if let Some(rights) = keyring.find(token) {
            return Ok(Permit::Of(rights.clone()));
        }
        let Some(jwt) = &keyring.jwt else {
            return Err(Refusal::bad_token("the token is unknown"));
        };
        match jwt.read(token, unix_micros) {
            Ok(rights) => Ok(Permit::Of(Arc::new(rights))),
            Err(JwtFault::Bad) => Err(Refusal::bad_token("the token is invalid")),
            Err(JwtFault::Expired) => Err(Refusal::bad_token("the token has expired")),
            Err(JwtFault::NotYet) => Err(Refusal::bad_token("the token is not valid yet")),
        }
    }

    /// Whether a permit that was given earlier, perhaps with other tokens, still holds unchanged. One whose scopes
    /// have changed does not: its holder reconnects for the new ones.
    pub fn upholds(&self, permit: &Permit) -> bool {
        match (self, permit) {
            (Auth::Off, _) => true,
            (Auth::On(_), Permit::Everything) => false,
            (Auth::On(keyring), Permit::Of(rights)) => match rights.issuer {
                Issuer::File(token) => keyring.gives(&token, rights),
                Issuer::Key(key) => keyring.jwt.as_ref().is_some_and(|jwt| jwt.fingerprint() == key),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Auth, Keyring};
    use crate::access::rights::{Issuer, Permit, Rights, Scopes, fingerprint};
    use crate::access::token_file::{self, TOKENS_MAX};

    fn keyring(text: &str) -> Auth {
        Auth::On(Keyring::new(token_file::parse(text).unwrap(), None))
    }

    fn permit(auth: &Auth, token: &str) -> Permit {
        auth.admit(Some(token), 0).unwrap()
    }

    #[test]
    fn without_tokens_every_client_may_do_everything() {
        let permit = Auth::Off.admit(None, 0).unwrap();
        assert_eq!(permit, Auth::Off.admit(Some("whatever"), 0).unwrap());
        assert!(permit.may_watch_job("a") && permit.may_watch_flow("a") && permit.may_watch_all());
        assert!(permit.may_debug() && permit.is_admin() && !permit.is_expired(i64::MAX));
    }

    #[test]
    fn only_a_known_token_is_admitted() {
        let auth = keyring("one all\ntwo jobs=a\nthree\n");
        let refusal = auth.admit(None, 0).unwrap_err();
        assert_eq!((refusal.status.code(), refusal.code), (401, "unauthorized"));
        for wrong in ["", "on", "onee", "One", "four"] {
            let refusal = auth.admit(Some(wrong), 0).unwrap_err();
            assert_eq!((refusal.status.code(), refusal.code), (401, "unauthorized"), "{wrong}");
            assert!(wrong.is_empty() || !refusal.message.contains(wrong));
        }
        assert!(permit(&auth, "one").may_watch_all());
        assert!(permit(&auth, "two").may_watch_job("a"));
        assert!(!permit(&auth, "three").may_watch_some_job());
    }

    #[test]
    fn scopes_give_what_they_say_and_nothing_else() {
        let auth = keyring("j jobs=a,b*\nf flows=f\nd jobs=a debug\nevery all\nadm admin\n");
        let rights = |token| {
            let permit = permit(&auth, token);
            [
                permit.may_watch_some_job(),
                permit.may_watch_job("a"),
                permit.may_watch_job("bcd"),
                permit.may_watch_job("ab"),
                permit.may_watch_some_flow(),
                permit.may_watch_flow("f"),
                permit.may_watch_flow("ff"),
                permit.may_watch_all(),
                permit.may_debug(),
                permit.is_admin(),
            ]
            .map(u8::from)
        };
        assert_eq!(rights("j"), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rights("f"), [0, 0, 0, 0, 1, 1, 0, 0, 0, 0]);
        assert_eq!(rights("d"), [1, 1, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(rights("every"), [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(rights("adm"), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_permit_ends_with_its_token_its_scopes_or_its_key() {
        let before = keyring("stays jobs=a\ngoes all\nshrinks all debug\n");
        let after = keyring("# new\nshrinks all\nstays jobs=a\nnew all\n");
        let holds = |token| after.upholds(&permit(&before, token));
        assert!(holds("stays"));
        assert!(!holds("goes"));
        assert!(!holds("shrinks"));
        assert!(!after.upholds(&Permit::Everything), "tokens are needed now");
        assert!(Auth::Off.upholds(&permit(&before, "goes")), "tokens are no longer needed");
        let signed = Rights {
            issuer: Issuer::Key(fingerprint(b"key")),
            scopes: Scopes::default(),
            expires_at: Some(7),
        };
        assert!(!after.upholds(&Permit::Of(Arc::new(signed))), "its key is gone");
    }

    /// A reload asks this for each connection in one turn.
    #[test]
    fn permits_are_looked_up_without_a_search() {
        let text = |scope: &str| (0..TOKENS_MAX).map(|n| format!("t{n} {scope}\n")).collect::<String>();
        let (before, same, other) = (keyring(&text("all")), keyring(&text("all")), keyring(&text("jobs=a")));
        let permits: Vec<Permit> =
            (0..TOKENS_MAX).step_by(100).map(|n| permit(&before, &format!("t{n}"))).collect();
        for _ in 0..1_000 {
            assert!(permits.iter().all(|permit| same.upholds(permit)));
            assert!(!permits.iter().any(|permit| other.upholds(permit)));
        }
    }

    #[test]
    fn keyrings_count_the_rights_that_the_other_lacks() {
        let parts = |text: &str| Keyring::new(token_file::parse(text).unwrap(), None);
        let (before, after) = (parts("a all\nb all\nc all\n"), parts("a all\nb jobs=x\nd all\n"));
        assert_eq!((after.tokens_beyond(&before), before.tokens_beyond(&after)), (2, 2));
        assert_eq!((after.tokens_beyond(&after), after.tokens()), (0, 3));
        assert!(after.has_key_of(&before));
    }

    #[test]
    fn nothing_shows_a_token() {
        let auth = keyring("very-secret jobs=a\n");
        let shown = format!("{auth:?} {:?}", permit(&auth, "very-secret"));
        assert!(shown.contains("\"a\""), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("[1") && shown.len() < 250, "{shown}");
    }
}
