//! Reads the listeners' certificate and its key from two PEM files, and makes the TLS configuration from them.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use crate::access::rights::{Fingerprint, fingerprint};
use crate::net::host::auth_files;

/// The protocols inside TLS, the better one first. A client that offers only others is refused (RFC 7301, 3.2).
const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", b"http/1.0"];

/// A file that cannot be used, and why.
#[derive(Debug)]
pub struct CertificateError {
    file: PathBuf,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Unreadable(io::Error),
    NotPem(pem::Error),
    NoCertificate,
    BadCertificate,
    Expired(Timestamp),
    NoKey,
    EncryptedKey,
    BadKey,
    Mismatch { certificate: PathBuf },
}

impl fmt::Display for CertificateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.fault {
            Fault::Unreadable(error) => write!(formatter, "cannot read {file}: {error}"),
            Fault::NotPem(error) => write!(formatter, "{file} is not a good PEM file: {}", pem_words(error)),
            Fault::NoCertificate => {
                write!(formatter, "{file} has no certificate in it (-----BEGIN CERTIFICATE)")
            }
            Fault::BadCertificate => write!(formatter, "the certificate in {file} cannot be understood"),
            Fault::Expired(at) => {
                write!(formatter, "the certificate in {file} has expired: it was good until {at}")
            }
            Fault::NoKey => write!(formatter, "{file} has no private key in it (-----BEGIN PRIVATE KEY)"),
            Fault::EncryptedKey => {
                write!(formatter, "the key in {file} is encrypted: the daemon cannot ask for its passphrase")
            }
            Fault::BadKey => {
                write!(formatter, "the key in {file} cannot be used: TLS takes RSA, ECDSA and Ed25519")
            }
            Fault::Mismatch { certificate } => {
                let certificate = certificate.display();
                write!(formatter, "the key in {file} is not that of the certificate in {certificate}")
            }
        }
    }
}

impl std::error::Error for CertificateError {}

/// What is wrong with a PEM file.
pub fn pem_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a -----BEGIN line in it has no -----END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line in it is not whole".to_owned(),
        pem::Error::Base64Decode(_) => "what is between two of its lines is no base64".to_owned(),
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// Facts about the certificate in use, for the log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub good_until: Timestamp,
    /// Of all certificates in the file.
    fingerprint: Fingerprint,
}

/// Reads both files.
///
/// # Errors
/// Which file cannot be used, and why. A certificate that has expired by `now` is an error too.
pub fn load(
    certificate: &Path,
    key: &Path,
    now: Timestamp,
) -> Result<(Arc<ServerConfig>, Certificate), CertificateError> {
    let of = |file: &Path, fault| CertificateError { file: file.to_owned(), fault };
    let (certified, facts) = read_pair(certificate, key, now)?;
    auth_files::warn_if_open(key).map_err(|error| of(key, Fault::Unreadable(error)))?;
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    // A client resumes a session with a ticket, which is sealed with a key that lasts as long as this configuration. The
    // daemon keeps no sessions.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().map_err(|_| of(key, Fault::BadKey))?;
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok((Arc::new(config), facts))
}

/// Reads both files, of a server or of a client, and sees that they belong together.
///
/// # Errors
/// As [`load`].
pub fn read_pair(
    certificate: &Path,
    key: &Path,
    now: Timestamp,
) -> Result<(CertifiedKey, Certificate), CertificateError> {
    let of = |file: &Path, fault| CertificateError { file: file.to_owned(), fault };
    let (chain, facts) = read_chain(certificate, now).map_err(|fault| of(certificate, fault))?;
    let key_der = read_key(key).map_err(|fault| of(key, fault))?;
    let certified =
        CertifiedKey::from_der(chain, key_der, &default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                of(key, Fault::Mismatch { certificate: certificate.to_owned() })
            }
            rustls::Error::InvalidCertificate(_) => of(certificate, Fault::BadCertificate),
            _ => of(key, Fault::BadKey),
        })?;
    Ok((certified, facts))
}

/// Reads the certificate and the intermediate ones behind it.
fn read_chain(file: &Path, now: Timestamp) -> Result<(Vec<CertificateDer<'static>>, Certificate), Fault> {
    let text = fs::read(file).map_err(Fault::Unreadable)?;
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(Fault::NotPem)?;
    let own = chain.first().ok_or(Fault::NoCertificate)?;
    let parsed = CertificateInner::<Raw>::from_der(own).map_err(|_| Fault::BadCertificate)?;
    let validity = parsed.tbs_certificate().validity();
    let at = |seconds: u64| Timestamp::from_second(seconds as i64).unwrap_or(Timestamp::MAX);
    let end = at(validity.not_after.to_unix_duration().as_secs());
    if end < now {
        return Err(Fault::Expired(end));
    }
    let begin = at(validity.not_before.to_unix_duration().as_secs());
    if now < begin {
        // Only a warning: this machine's clock may be wrong, and clients have their own.
        tracing::warn!("the certificate in {} is not valid before {begin}", file.display());
    }
    let bytes: Vec<u8> = chain.iter().flat_map(|certificate| certificate.iter().copied()).collect();
    let facts = Certificate { good_until: end, fingerprint: fingerprint(&bytes) };
    Ok((chain, facts))
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let text = fs::read(file).map(Zeroizing::new).map_err(Fault::Unreadable)?;
    // PKCS #8 has it in the label (RFC 5958); the older form has a header (RFC 1421, 4.6.1.1).
    let is_encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| memchr::memmem::find(&text, mark).is_some());
    if is_encrypted {
        return Err(Fault::EncryptedKey);
    }
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(Fault::NoKey),
        Err(error) => Err(Fault::NotPem(error)),
    }
}
