//! TLS from the client's side: certificates made for one test, and clients that trust them.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::client::{Client, Refused};
use super::daemon::Setup;
use super::{PATIENCE, Scratch};

pub const PATH: &str = "/api/ws/events";

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate authority for one test, and the files that it has signed.
pub struct Certificates {
    scratch: Scratch,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// `ca.pem`, and `certificate.pem` and `key.pem` for `localhost` and the loopback addresses.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(rcgen::DnType::CommonName, "luxcast test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key can be made");
        let authority = params.self_signed(&key).expect("it can sign itself");
        let certificates = Self { scratch: Scratch::new(), issuer: Issuer::new(params, key) };
        certificates.write("ca.pem", &authority.pem());
        certificates.sign("certificate.pem", "key.pem", |_| {});
        certificates
    }

    /// Another certificate with its own key.
    pub fn sign(&self, certificate: &str, key: &str, change: impl FnOnce(&mut CertificateParams)) {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("they are names");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let own = KeyPair::generate().expect("a key can be made");
        let signed = params.signed_by(&own, &self.issuer).expect("the authority signs");
        self.write(certificate, &signed.pem());
        self.write(key, &own.serialize_pem());
    }

    /// A certificate that is its own authority, with its own key.
    pub fn sign_itself(&self, certificate: &str, key: &str) {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("they are names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = KeyPair::generate().expect("a key can be made");
        let signed = params.self_signed(&own).expect("it can sign itself");
        self.write(certificate, &signed.pem());
        self.write(key, &own.serialize_pem());
    }

    pub fn write(&self, name: &str, text: &str) {
        let mut file = fs::File::create(self.path(name)).expect("the test's own directory");
        file.write_all(text.as_bytes()).expect("the disk has room");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn text_path(&self, name: &str) -> String {
        self.path(name).to_str().expect("the path is UTF-8").to_owned()
    }

    /// A daemon that presents `certificate.pem`.
    pub fn setup(&self) -> Setup {
        let (certificate, key) = (self.text_path("certificate.pem"), self.text_path("key.pem"));
        Setup::default().flags(&["--tls-certificate-file", &certificate, "--tls-key-file", &key])
    }

    /// A client that trusts only this authority, and speaks `versions`.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.path("ca.pem")).expect("it was written");
        roots.add(authority).expect("it is an authority's");
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("the provider knows both")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    pub fn both_versions(&self) -> Arc<ClientConfig> {
        Arc::new(self.client(rustls::ALL_VERSIONS))
    }
}

/// A TLS connection before its handshake.
pub fn dial(address: SocketAddr, config: &Arc<ClientConfig>) -> Stream {
    let socket = TcpStream::connect(address).expect("the daemon listens");
    over(socket, config)
}

pub fn over(socket: TcpStream, config: &Arc<ClientConfig>) -> Stream {
    socket.set_nodelay(true).expect("a TCP socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
    socket.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(config.clone(), name).expect("a good configuration");
    StreamOwned::new(session, socket)
}

/// Makes the whole handshake.
pub fn shake_hands(stream: &mut Stream) -> std::io::Result<()> {
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(())
}

pub fn try_watch(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    path: &str,
) -> Result<Client<Stream>, Refused> {
    Client::upgrade(dial(address, config), format!("wss://localhost{path}"))
}

pub fn watch(address: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> Client<Stream> {
    try_watch(address, config, path).unwrap_or_else(|refused| panic!("{path}: {refused:?}"))
}
