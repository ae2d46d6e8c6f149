//! What tests sign in with: certificates, and the tokens of an operator of NATS.

use std::fs;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// `ca.pem` with `ca.key`, and what it has signed: `server.pem` with `server.key` for loopback, `client.pem` with
/// `client.key`, and `both.pem` with `both.key`.
pub struct Certificates(TempDir);

impl Certificates {
    pub fn new() -> Self {
        let made = Self(tempfile::tempdir().expect("the directory for temporary files can be written"));
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        authority.distinguished_name.push(DnType::CommonName, "luxcast test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = rcgen::KeyPair::generate().expect("a key can be made");
        made.write("ca.pem", &authority.self_signed(&key).expect("it can sign itself").pem());
        made.write("ca.key", &key.serialize_pem());
        let issuer = Issuer::new(authority, key);
        let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        for (name, usages) in [
            ("server", vec![server.clone()]),
            ("client", vec![client.clone()]),
            ("both", vec![server.clone(), client.clone()]),
        ] {
            let names = ["localhost", "127.0.0.1"].map(str::to_owned);
            let mut params = CertificateParams::new(names).expect("they are names");
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = usages;
            let key = rcgen::KeyPair::generate().expect("a key can be made");
            made.write(&format!("{name}.pem"), &params.signed_by(&key, &issuer).expect("it signs").pem());
            made.write(&format!("{name}.key"), &key.serialize_pem());
        }
        made
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the test's own directory");
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }
}

/// An operator with an account that has JetStream, and a user of it.
pub struct Operator {
    operator: KeyPair,
    system: KeyPair,
    account: KeyPair,
    user: KeyPair,
}

impl Operator {
    pub fn new() -> Self {
        let [system, account] = [(); 2].map(|()| KeyPair::new_account());
        Self { operator: KeyPair::new_operator(), system, account, user: KeyPair::new_user() }
    }

    /// For the server's configuration file.
    pub fn server_config(&self) -> String {
        let own = token(&self.operator, &self.operator, json!({"type": "operator", "version": 2}));
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let account = json!({"type": "account", "version": 2, "limits": limits});
        let mut system = account.clone();
        for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
            system["limits"][name] = json!(0);
        }
        format!(
            "operator: {own}\nsystem_account: {0}\nresolver: MEMORY\nresolver_preload {{\n {0}: {1}\n {2}: {3}\n}}",
            self.system.public_key(),
            token(&self.operator, &self.system, system),
            self.account.public_key(),
            token(&self.operator, &self.account, account)
        )
    }

    /// What `nsc generate creds` writes.
    pub fn credentials(&self) -> String {
        let rights = json!({
            "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
        });
        let (token, seed) = (token(&self.account, &self.user, rights), self.user.seed().expect("it is new"));
        format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

fn token(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let claims = json!({
        "jti": "luxcast", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": "luxcast", "nats": nats,
    });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).expect("it has its seed");
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}
