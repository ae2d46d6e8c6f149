//! JSON Web Tokens (RFC 7519) in compact form, signed by one algorithm with one key.
//!
//! The library checks form and signature, with ring. The claims are checked here, since `now` is an argument.

use std::fmt;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::errors::Error;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;

use crate::access::patterns::Patterns;
use crate::access::rights::{Fingerprint, Issuer, Rights, Scopes, fingerprint};
use crate::access::ring_provider;
use crate::config::JwtAlgorithm;

/// `nbf` may be this far ahead: the issuer's clock may differ from ours. `exp` has no leeway.
pub const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(5);

/// A token with `aud` is valid only if that names this audience (RFC 7519, 4.1.3).
pub const AUDIENCE: &str = "luxcast";

/// RFC 7518, 3.2: a key for HS256 has at least as many bytes as its hash.
pub const SECRET_BYTES_MIN: usize = 32;

/// Bytes of the DER form (RFC 8017, A.1.1) of the shortest accepted RSA key: 2,048 bits.
const RSA_KEY_BYTES_MIN: usize = 256;

/// Why a token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtFault {
    /// Form, algorithm, signature, or a claim of a wrong type.
    Bad,
    Expired,
    NotYet,
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// A secret of less than [`SECRET_BYTES_MIN`] bytes.
    ShortSecret,
    /// A PEM file in place of a secret.
    SecretIsPem,
    /// Not a public key in PEM for this algorithm.
    NotPublic(JwtAlgorithm),
    /// Not a private key in PEM (PKCS #8) for this algorithm.
    NotPrivate(JwtAlgorithm),
}

impl fmt::Display for KeyFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |algorithm: &JwtAlgorithm| match algorithm {
            JwtAlgorithm::Hs256 => "HMAC",
            JwtAlgorithm::Rs256 => "RSA key of at least 2048 bits",
            JwtAlgorithm::Es256 => "EC key on the curve P-256",
            JwtAlgorithm::EdDsa => "Ed25519 key",
        };
        match self {
            KeyFault::ShortSecret => {
                write!(formatter, "HS256 needs a secret of at least {SECRET_BYTES_MIN} bytes")
            }
            KeyFault::SecretIsPem => {
                formatter.write_str("HS256 needs a secret, but this is a PEM file: is jwt_algorithm right?")
            }
            KeyFault::NotPublic(algorithm) => write!(
                formatter,
                "this is not the public part of an {} in PEM (-----BEGIN PUBLIC KEY-----)",
                kind(algorithm)
            ),
            KeyFault::NotPrivate(algorithm) => write!(
                formatter,
                "this is not the private part of an {} in PEM (-----BEGIN PRIVATE KEY-----)",
                kind(algorithm)
            ),
        }
    }
}

/// A key that verifies tokens.
pub struct JwtKey {
    key: DecodingKey,
    validation: Validation,
    fingerprint: Fingerprint,
}

/// For which jobs and flows the holder may publish: for all or none, or for those that a list names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Publish {
    All(bool),
    Ids(Vec<String>),
}

impl Default for Publish {
    fn default() -> Self {
        Publish::All(false)
    }
}

impl Publish {
    fn is_none(&self) -> bool {
        match self {
            Publish::All(is_on) => !is_on,
            Publish::Ids(ids) => ids.is_empty(),
        }
    }
}

/// The claims that the daemon uses, and the others of RFC 7519, 4.1. A claim of a wrong type makes the whole token
/// invalid, and null is a wrong type for every claim.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<String>,
    #[serde(skip_serializing_if = "is_off")]
    pub debug: bool,
    #[serde(skip_serializing_if = "is_off")]
    pub all: bool,
    #[serde(skip_serializing_if = "is_off")]
    pub admin: bool,
    #[serde(skip_serializing_if = "Publish::is_none")]
    pub publish: Publish,
    /// Unix time in seconds.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub exp: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub nbf: Option<Number>,
    #[serde(skip_serializing, deserialize_with = "given")]
    pub aud: Option<Audience>,
    /// Of this claim and the next ones only the type is checked.
    #[serde(skip_serializing, deserialize_with = "given")]
    pub iat: Option<Number>,
    #[serde(skip_serializing, deserialize_with = "given")]
    pub iss: Option<String>,
    #[serde(skip_serializing, deserialize_with = "given")]
    pub sub: Option<String>,
    #[serde(skip_serializing, deserialize_with = "given")]
    pub jti: Option<String>,
}

/// The part of a token's header that the library treats as absent if it is null.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Critical {
    #[serde(deserialize_with = "given")]
    crit: Option<IgnoredAny>,
}

/// A member that is there must have a value of its type: null does not count as absent.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

fn is_off(flag: &bool) -> bool {
    !flag
}

/// RFC 7519, 4.1.3: one, or a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Many(Vec<String>),
}

impl JwtKey {
    /// Reads a key: for HS256 the secret, without the line end behind it, else a public key in PEM.
    ///
    /// # Errors
    /// What the file is not.
    pub fn new(algorithm: JwtAlgorithm, file: &[u8]) -> Result<Self, KeyFault> {
        ring_provider::install();
        let key = match algorithm {
            JwtAlgorithm::Hs256 => DecodingKey::from_secret(secret(file)?),
            _ => public_key(algorithm, file).ok_or(KeyFault::NotPublic(algorithm))?,
        };
        let mut validation = Validation::new(name(algorithm));
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let mut named = format!("{algorithm:?} ").into_bytes();
        named.extend_from_slice(file);
        Ok(Self { key, validation, fingerprint: fingerprint(&named) })
    }

    /// The same for the same key and algorithm.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The rights that a token gives at `unix_micros`.
    ///
    /// # Errors
    /// It is invalid, or not valid at this time.
    pub fn read(&self, token: &str, unix_micros: i64) -> Result<Rights, JwtFault> {
        let claims = decode::<Claims>(token, &self.key, &self.validation).map_err(|_| JwtFault::Bad)?.claims;
        if has_critical_extension(token).unwrap_or(true) {
            return Err(JwtFault::Bad);
        }
        let is_for_us = match &claims.aud {
            None => true,
            Some(Audience::One(audience)) => audience == AUDIENCE,
            Some(Audience::Many(audiences)) => audiences.iter().any(|audience| audience == AUDIENCE),
        };
        if !is_for_us {
            return Err(JwtFault::Bad);
        }
        let expires_at = claims.exp.as_ref().map(micros);
        if expires_at.is_some_and(|expires_at| expires_at <= unix_micros) {
            return Err(JwtFault::Expired);
        }
        let latest = unix_micros.saturating_add(NOT_BEFORE_LEEWAY.as_micros() as i64);
        if claims.nbf.as_ref().is_some_and(|seconds| micros(seconds) > latest) {
            return Err(JwtFault::NotYet);
        }
        let patterns =
            |ids: &[String]| Patterns::new(ids.iter().map(String::as_str)).map_err(|_| JwtFault::Bad);
        let scopes = Scopes {
            jobs: patterns(&claims.jobs)?,
            flows: patterns(&claims.flows)?,
            debug: claims.debug,
            all: claims.all,
            admin: claims.admin,
            publish: match &claims.publish {
                Publish::All(true) => patterns(&["*".to_owned()])?,
                Publish::All(false) => Patterns::default(),
                Publish::Ids(ids) => patterns(ids)?,
            },
        };
        Ok(Rights { issuer: Issuer::Key(self.fingerprint), scopes, expires_at })
    }
}

/// Whether the header has `crit`, with any value: it lists extensions that must be understood, and we understand none
/// (RFC 7515, 4.1.11). None: there is no valid header.
fn has_critical_extension(token: &str) -> Option<bool> {
    let header = BASE64URL_NOPAD.decode(token.split('.').next()?.as_bytes()).ok()?;
    Some(serde_json::from_slice::<Critical>(&header).ok()?.crit.is_some())
}

/// Unix time, from seconds to microseconds; a value out of range becomes the nearest bound.
fn micros(seconds: &Number) -> i64 {
    (seconds.as_f64().expect("every JSON number is an f64 here") * 1e6) as i64
}

fn name(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// The secret in a file, to which an editor may have added a line end.
fn secret(file: &[u8]) -> Result<&[u8], KeyFault> {
    // If a public key were the secret, everybody could sign.
    if has_label(file, "") {
        return Err(KeyFault::SecretIsPem);
    }
    let secret = file.strip_suffix(b"\n").map_or(file, |line| line.strip_suffix(b"\r").unwrap_or(line));
    if secret.len() < SECRET_BYTES_MIN { Err(KeyFault::ShortSecret) } else { Ok(secret) }
}

/// Whether a block with this label begins in the file (RFC 7468, 2).
fn has_label(file: &[u8], label: &str) -> bool {
    let begin = format!("-----BEGIN {label}");
    file.windows(begin.len()).any(|window| window == begin.as_bytes())
}

fn public_key(algorithm: JwtAlgorithm, file: &[u8]) -> Option<DecodingKey> {
    // The library accepts private keys and certificates too, and then no signature matches.
    if !has_label(file, "PUBLIC KEY-----") && !has_label(file, "RSA PUBLIC KEY-----") {
        return None;
    }
    let key = match algorithm {
        JwtAlgorithm::Hs256 => panic!("a secret is no public key"),
        JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem(file),
        JwtAlgorithm::Es256 => DecodingKey::from_ec_pem(file),
        JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem(file),
    };
    key.ok().filter(|key| {
        let bytes = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        match algorithm {
            JwtAlgorithm::Hs256 | JwtAlgorithm::Rs256 => bytes >= RSA_KEY_BYTES_MIN,
            // An uncompressed point (SEC 1, 2.3.3).
            JwtAlgorithm::Es256 => bytes == 65,
            JwtAlgorithm::EdDsa => bytes == 32,
        }
    })
}

/// Signs a token with a key: for HS256 the secret, else a private key in PEM.
///
/// # Errors
/// What the file is not.
pub fn sign(algorithm: JwtAlgorithm, file: &[u8], claims: &Claims) -> Result<String, KeyFault> {
    ring_provider::install();
    let not_private = |_: Error| KeyFault::NotPrivate(algorithm);
    let key = match algorithm {
        JwtAlgorithm::Hs256 => EncodingKey::from_secret(secret(file)?),
        JwtAlgorithm::Rs256 => EncodingKey::from_rsa_pem(file).map_err(not_private)?,
        JwtAlgorithm::Es256 => EncodingKey::from_ec_pem(file).map_err(not_private)?,
        JwtAlgorithm::EdDsa => EncodingKey::from_ed_pem(file).map_err(not_private)?,
    };
    encode(&Header::new(name(algorithm)), claims, &key).map_err(not_private)
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, BASE64URL_NOPAD};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    use super::{Claims, JwtFault, JwtKey, KeyFault, SECRET_BYTES_MIN, sign};
    use crate::access::rights::Rights;
    use crate::config::JwtAlgorithm;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef\n";
    /// In seconds; any value would do.
    const NOW: i64 = 1_800_000_000;

    /// A token of these claims, signed with [`SECRET`] whatever its header says.
    fn token_of(header: &str, claims: &str) -> String {
        let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
        let message = format!("{header}.{claims}");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.trim_ascii_end());
        let signature = BASE64URL_NOPAD.encode(ring::hmac::sign(&key, message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }

    fn read(claims: &str) -> Result<Rights, JwtFault> {
        read_token(&token_of(r#"{"alg":"HS256"}"#, claims))
    }

    fn read_token(token: &str) -> Result<Rights, JwtFault> {
        JwtKey::new(JwtAlgorithm::Hs256, SECRET).unwrap().read(token, NOW * 1_000_000)
    }

    fn pem(label: &str, der: &[u8]) -> Vec<u8> {
        let text = BASE64.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into_bytes()
    }

    /// Private and public key in PEM. RFC 8410, 4, and RFC 5480, 2, give the first bytes of the public ones.
    fn keys(algorithm: JwtAlgorithm) -> (Vec<u8>, Vec<u8>) {
        let random = SystemRandom::new();
        let (private, public) = match algorithm {
            JwtAlgorithm::EdDsa => {
                let private = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
                let head = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
                (private, [head, pair.public_key().as_ref()].concat())
            }
            _ => {
                let scheme = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let private = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
                let pair = EcdsaKeyPair::from_pkcs8(scheme, private.as_ref(), &random).unwrap();
                let head = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
                (private, [head, pair.public_key().as_ref()].concat())
            }
        };
        (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", &public))
    }

    #[test]
    fn what_is_signed_here_is_read_here() {
        let secret = || (SECRET.to_vec(), SECRET.to_vec());
        for (algorithm, (private, public)) in [
            (JwtAlgorithm::Hs256, secret()),
            (JwtAlgorithm::Es256, keys(JwtAlgorithm::Es256)),
            (JwtAlgorithm::EdDsa, keys(JwtAlgorithm::EdDsa)),
        ] {
            let exp = Some((NOW as u64 + 60).into());
            let claims =
                Claims { jobs: vec!["a".to_owned(), "b*".to_owned()], debug: true, exp, ..Claims::default() };
            let token = sign(algorithm, &private, &claims).unwrap();
            let key = JwtKey::new(algorithm, &public).unwrap();
            let rights = key.read(&token, NOW * 1_000_000).unwrap();
            assert!(rights.scopes.jobs.cover("bb") && !rights.scopes.jobs.cover("aa"), "{algorithm:?}");
            assert!(rights.scopes.debug && !rights.scopes.all && !rights.scopes.admin);
            assert!(rights.scopes.publish.is_empty());
            assert_eq!(rights.expires_at, Some((NOW + 60) * 1_000_000));
            // Another key, and each byte changed.
            if algorithm != JwtAlgorithm::Hs256 {
                let other = JwtKey::new(algorithm, &keys(algorithm).1).unwrap();
                assert_eq!(other.read(&token, NOW), Err(JwtFault::Bad));
                assert_ne!(other.fingerprint(), key.fingerprint());
            }
            for place in 0..token.len() {
                let mut bytes = token.clone().into_bytes();
                bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(bytes).unwrap();
                // The last character of a part may have unused bits: base64 must be canonical.
                assert_eq!(key.read(&changed, NOW), Err(JwtFault::Bad), "{algorithm:?} at {place}");
            }
        }
    }

    #[test]
    fn times_are_honoured() {
        assert!(read("{}").is_ok_and(|rights| rights.expires_at.is_none()));
        let at = |claim: &str, offset: i64| format!("{{\"{claim}\":{}}}", NOW + offset);
        assert_eq!(read(&at("exp", 0)), Err(JwtFault::Expired), "no leeway");
        assert_eq!(read(&at("exp", -1000)), Err(JwtFault::Expired));
        assert!(read(&at("exp", 1)).is_ok());
        assert_eq!(
            read(&format!("{{\"exp\":{NOW}.5}}")).unwrap().expires_at,
            Some(NOW * 1_000_000 + 500_000)
        );
        assert_eq!(read("{\"exp\":-5}"), Err(JwtFault::Expired));
        assert_eq!(read("{\"exp\":1e300}").unwrap().expires_at, Some(i64::MAX));
        assert!(read(&at("nbf", 5)).is_ok(), "clocks differ");
        assert_eq!(read(&at("nbf", 6)), Err(JwtFault::NotYet));
        assert!(read(&at("nbf", -1)).is_ok());
    }

    #[test]
    fn a_claim_of_a_wrong_type_makes_the_token_bad() {
        for claims in [
            r#"{"exp":"1900000000"}"#,
            r#"{"exp":[1900000000]}"#,
            r#"{"exp":1e400}"#,
            r#"{"nbf":"0"}"#,
            r#"{"jobs":"a"}"#,
            r#"{"jobs":["a",1]}"#,
            r#"{"jobs":["a*b"]}"#,
            r#"{"flows":[""]}"#,
            r#"{"debug":"true"}"#,
            r#"{"all":1}"#,
            r#"{"publish":1}"#,
            r#"{"publish":"a"}"#,
            r#"{"publish":null}"#,
            r#"{"publish":["a b"]}"#,
            r#"{"all":null}"#,
            r#"{"exp":1900000000,"exp":1900000001}"#,
            r#"{"all":false,"all":true}"#,
            r#"{"aud":"other"}"#,
            r#"{"aud":["other"]}"#,
            r#"{"aud":5}"#,
            r#"{"aud":null}"#,
            r#"{"aud":[null]}"#,
            r#"{"aud":["luxcast",5]}"#,
            r#"{"aud":{"luxcast":1}}"#,
            r#"{"exp":null}"#,
            r#"{"exp":true}"#,
            r#"{"exp":{}}"#,
            r#"{"exp":""}"#,
            r#"{"nbf":null}"#,
            r#"{"nbf":false}"#,
            r#"{"iat":null}"#,
            r#"{"iat":"1"}"#,
            r#"{"iss":null}"#,
            r#"{"iss":["a"]}"#,
            r#"{"sub":null}"#,
            r#"{"sub":7}"#,
            r#"{"jti":7}"#,
            r#"{"jobs":null}"#,
            r#"{"jobs":[null]}"#,
            r#"{"jobs":{}}"#,
            r#"{"flows":null}"#,
            r#"{"flows":"*"}"#,
            r#"{"debug":null}"#,
            r#"{"admin":null}"#,
            r#"{"admin":[]}"#,
            r#"{"nbf":1,"nbf":null}"#,
            r#"{"iss":"a","iss":"b"}"#,
            r#"null"#,
            r#"[["*"],["*"],true,true,true]"#,
            r#"[]"#,
            "",
        ] {
            assert_eq!(read(claims), Err(JwtFault::Bad), "{claims}");
        }
        let good = r#"{"sub":"x","iat":1.5,"iss":"me","jti":"1","scope":null,"aud":["other","luxcast"],"all":true,"jobs":[]}"#;
        assert!(read(good).unwrap().scopes.all);
        assert!(read(r#"{"aud":"luxcast"}"#).is_ok());
    }

    #[test]
    fn the_setting_chooses_the_algorithm() {
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"typ":"JWT"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","crit":null}"#,
            r#"{"alg":"HS256","crit":"b64"}"#,
            r#"{"alg":"HS256","crit":false}"#,
            r#"{"alg":"HS256","crit":{}}"#,
            r#"{"alg":"HS256","\u0063rit":null}"#,
            r#"{"alg":null}"#,
            r#"["JWT","HS256"]"#,
            r#"{"alg":"HS256","alg":"none"}"#,
        ] {
            assert_eq!(read_token(&token_of(header, "{}")), Err(JwtFault::Bad), "{header}");
        }
        let good = token_of(r#"{"alg":"HS256"}"#, "{}");
        let (message, _) = good.rsplit_once('.').unwrap();
        for token in [
            message.to_owned(),
            format!("{message}."),
            format!("{good}."),
            format!(".{good}"),
            good.replace('.', ".."),
        ] {
            assert_eq!(read_token(&token), Err(JwtFault::Bad), "{token}");
        }
        // The public key must not work as a secret: everybody who knows it could sign.
        let (_, public) = keys(JwtAlgorithm::Es256);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &public);
        let signature = BASE64URL_NOPAD.encode(ring::hmac::sign(&key, message.as_bytes()).as_ref());
        let key = JwtKey::new(JwtAlgorithm::Es256, &public).unwrap();
        assert_eq!(key.read(&format!("{message}.{signature}"), 0), Err(JwtFault::Bad));
    }

    #[test]
    fn a_key_must_fit_its_algorithm() {
        let fault = |algorithm, file: &[u8]| JwtKey::new(algorithm, file).err();
        let (private, public) = keys(JwtAlgorithm::Es256);
        let short = &SECRET[..SECRET_BYTES_MIN - 1];
        assert_eq!(fault(JwtAlgorithm::Hs256, short), Some(KeyFault::ShortSecret));
        assert_eq!(fault(JwtAlgorithm::Hs256, b""), Some(KeyFault::ShortSecret));
        assert_eq!(fault(JwtAlgorithm::Hs256, &public), Some(KeyFault::SecretIsPem));
        let not_public = |algorithm| Some(KeyFault::NotPublic(algorithm));
        for algorithm in [JwtAlgorithm::Rs256, JwtAlgorithm::EdDsa] {
            assert_eq!(fault(algorithm, &public), not_public(algorithm));
            assert_eq!(fault(algorithm, SECRET), not_public(algorithm));
        }
        assert_eq!(fault(JwtAlgorithm::Es256, &private), not_public(JwtAlgorithm::Es256));
        assert_eq!(fault(JwtAlgorithm::Es256, &keys(JwtAlgorithm::EdDsa).1), not_public(JwtAlgorithm::Es256));
        let claims = Claims::default();
        let not_private = KeyFault::NotPrivate(JwtAlgorithm::EdDsa);
        assert_eq!(sign(JwtAlgorithm::EdDsa, &private, &claims), Err(not_private));
        assert_eq!(sign(JwtAlgorithm::EdDsa, &public, &claims), Err(not_private));
    }
}
