//! Decides whether to trust a server's certificate, and says in words what is wrong with it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;

/// Trusts servers whose certificate comes from an authority in `file` (PEM), or is in it itself. Without a file,
/// trusts the authorities of this system (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
///
/// # Errors
/// What is wrong with the file, or that the system trusts no authority.
pub fn trust(file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let mut own = Vec::new();
    match file {
        Some(file) => {
            let wrong = |problem: &dyn fmt::Display| format!("--ca {}: {problem}", file.display());
            let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                let added = roots.add(certificate.clone());
                added.map_err(|_| wrong(&"one of its certificates cannot be read"))?;
                own.push(certificate);
            }
            if roots.is_empty() {
                return Err(wrong(&"no certificate in it"));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(
                    "this system trusts no certificate authority: name a file with one by --ca".to_owned()
                );
            }
        }
    }
    let provider = Arc::new(default_provider());
    let by_authority = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .expect("there is a root, and nothing is revoked");
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { by_authority, own }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Verifies by an authority, as usual, or because the certificate itself was named. `openssl req -x509` makes one
/// that calls itself an authority, which the usual rules forbid for a server.
#[derive(Debug)]
struct Verifier {
    by_authority: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.own.iter().any(|own| own == end_entity) {
            return verify_own(end_entity, server_name, now);
        }
        let verdict =
            self.by_authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verdict.map_err(|error| match signs_itself(end_entity) && is_about_authority(&error) {
            true => CertificateError::Other(OtherError(Arc::new(SignsItself))).into(),
            false => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// The fault of a certificate that no authority has signed but its own key, as far as its names say.
#[derive(Debug)]
struct SignsItself;

impl fmt::Display for SignsItself {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the certificate signs itself")
    }
}

impl std::error::Error for SignsItself {}

fn signs_itself(certificate: &CertificateDer<'_>) -> bool {
    CertificateInner::<Raw>::from_der(certificate).is_ok_and(|parsed| {
        let content = parsed.tbs_certificate();
        content.subject() == content.issuer()
    })
}

/// webpki has an error of its own for an authority's certificate that a server shows.
fn is_about_authority(error: &Error) -> bool {
    use CertificateError::{Other, UnknownIssuer};
    matches!(error, Error::InvalidCertificate(UnknownIssuer | Other(_)))
}

/// A certificate that is trusted itself must still match name and time.
fn verify_own(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let unreadable = |_| Error::from(CertificateError::BadEncoding);
    let parsed = CertificateInner::<Raw>::from_der(certificate).map_err(unreadable)?;
    let validity = parsed.tbs_certificate().validity();
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    match verify_server_name(&ParsedCertificate::try_from(certificate)?, name) {
        // Without alternative names, the name in the subject counts, as for curl.
        Err(error) if is_without_names(&error) => {
            let common_name = parsed.tbs_certificate().subject().common_name().ok().flatten();
            let is_it = common_name.is_some_and(|own| own.value().eq_ignore_ascii_case(&name.to_str()));
            is_it.then_some(()).ok_or(error)?;
        }
        outcome => outcome?,
    }
    Ok(ServerCertVerified::assertion())
}

fn is_without_names(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) = error else {
        return false;
    };
    presented.is_empty()
}

/// Says why there is no TLS with this host.
pub fn words(error: &Error, host: &str) -> String {
    use CertificateError as Bad;
    let bad = match error {
        Error::InvalidCertificate(bad) => bad,
        Error::InvalidMessage(_) => {
            return "the server does not speak TLS: without TLS the URL begins with ws:// or http://"
                .to_owned();
        }
        Error::AlertReceived(alert) => return format!("the other side ended TLS: {}", spaced(alert)),
        _ => return "the two sides share no way to speak TLS".to_owned(),
    };
    match bad {
        Bad::Expired | Bad::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is the clock here right?".to_owned()
        }
        Bad::UnknownIssuer => {
            "its certificate comes from no authority that is trusted here: name a file with the authority by --ca, or \
             with the certificate itself"
                .to_owned()
        }
        Bad::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
            match names.is_empty() {
                true => format!("its certificate is not for {host}: it names no host at all"),
                false => format!("its certificate is not for {host}, but for {}", names.join(", ")),
            }
        }
        Bad::NotValidForName => format!("its certificate is not for {host}"),
        Bad::Other(other) if other.0.is::<SignsItself>() => {
            "its certificate signs itself, so no authority vouches for it: to trust it, name a file with it by --ca"
                .to_owned()
        }
        // See `is_about_authority`.
        Bad::Other(_) => {
            "its certificate is that of an authority, not of a server: to trust it, name a file with it by --ca"
                .to_owned()
        }
        _ => "its certificate cannot be used".to_owned(),
    }
}

/// The bare name in `DnsName("localhost")` or `IpAddress(127.0.0.1)`.
fn bare_name(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest);
    inner.trim_end_matches(')').trim_matches('"')
}

/// `HandshakeFailure` as `handshake failure`.
fn spaced(name: &impl fmt::Debug) -> String {
    let mut words = String::new();
    for letter in format!("{name:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

    use super::{verify_own, words};

    /// A certificate as `openssl req -x509` makes it, with these alternative names.
    fn certificate(common_name: &str, names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn verify(certificate: &CertificateDer<'_>, name: &str, year: u64) -> Result<(), String> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_556_952));
        let verified = verify_own(certificate, &ServerName::try_from(name).unwrap(), now);
        verified.map(drop).map_err(|error| words(&error, name))
    }

    #[test]
    fn a_certificate_that_was_named_has_a_name_and_a_time() {
        let with_names = certificate("other", &["localhost", "127.0.0.1"]);
        assert_eq!(verify(&with_names, "localhost", 2025), Ok(()));
        assert_eq!(verify(&with_names, "127.0.0.1", 2025), Ok(()));
        let not_for = verify(&with_names, "other", 2025).unwrap_err();
        assert_eq!(not_for, "its certificate is not for other, but for localhost, 127.0.0.1");
        assert_eq!(verify(&with_names, "localhost", 2031).unwrap_err(), "its certificate has expired");
        assert!(verify(&with_names, "localhost", 2019).unwrap_err().contains("not valid yet"));
        let by_subject = certificate("LocalHost", &[]);
        assert_eq!(verify(&by_subject, "localhost", 2025), Ok(()));
        assert!(verify(&by_subject, "elsewhere", 2025).unwrap_err().contains("no host at all"));
    }

    #[test]
    fn no_name_of_a_type_is_shown() {
        let other = std::io::Error::other("CaUsedAsEndEntity");
        for error in [
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            Error::AlertReceived(AlertDescription::HandshakeFailure),
            CertificateError::UnknownIssuer.into(),
            CertificateError::BadSignature.into(),
            CertificateError::Other(OtherError(Arc::new(other))).into(),
            Error::PeerMisbehaved(rustls::PeerMisbehaved::TooMuchEarlyDataReceived),
        ] {
            let said = words(&error, "host.example");
            let pairs = said.chars().zip(said.chars().skip(1));
            assert!(pairs.into_iter().all(|(a, b)| !(a.is_lowercase() && b.is_uppercase())), "{said}");
        }
    }
}
