//! Signs in at a NATS server with a file: credentials (`.creds`), or the seed of an nkey. The file is read for each
//! connection, so that a new one is used without a restart.

use std::fs;
use std::path::{Path, PathBuf};

use async_nats::{Auth, AuthError};
use nkeys::{KeyPair, KeyPairType};
use zeroize::Zeroizing;

/// Where the words and keys come from.
#[derive(Clone, Debug)]
pub(super) enum SignIn {
    Credentials(PathBuf),
    Nkey(PathBuf),
}

impl SignIn {
    /// What the server wants to see: a signature of its `nonce`.
    ///
    /// # Errors
    /// What is wrong with the file; never what is in it.
    pub(super) fn auth(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let signer = self.read().map_err(AuthError::new)?;
        let signature = signer.key.sign(nonce).map_err(|_| AuthError::new("the seed cannot sign"))?;
        let mut auth = Auth::new();
        auth.signature = Some(signature);
        match signer.token {
            Some(token) => auth.jwt = Some(token),
            None => auth.nkey = Some(signer.key.public_key()),
        }
        Ok(auth)
    }

    /// # Errors
    /// As [`SignIn::auth`].
    pub(super) fn check(&self) -> Result<(), String> {
        self.read().map(drop)
    }

    fn read(&self) -> Result<Signer, String> {
        match self {
            Self::Credentials(path) => {
                let text = read(path)?;
                let wrong = |what: &str| format!("{}: {what}", path.display());
                let token = block(&text, "NATS USER JWT").ok_or_else(|| wrong("no NATS USER JWT in it"))?;
                let seed = block(&text, "USER NKEY SEED").ok_or_else(|| wrong("no USER NKEY SEED in it"))?;
                let key = KeyPair::from_seed(seed).map_err(|_| wrong("its seed is not one of an nkey"))?;
                if !is_of_user(&key) {
                    return Err(wrong("its seed is not one of a user"));
                }
                if !is_jwt(token) {
                    return Err(wrong("its NATS USER JWT is none"));
                }
                Ok(Signer { key, token: Some(token.to_owned()) })
            }
            Self::Nkey(path) => {
                let text = read(path)?;
                let lines = text.lines().map(str::trim);
                let seed = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with(['#', '-']));
                let key = seed.and_then(|seed| KeyPair::from_seed(seed).ok());
                let key = key.ok_or_else(|| format!("{}: no seed of an nkey in it", path.display()))?;
                if !is_of_user(&key) {
                    return Err(format!("{}: its seed is not one of a user", path.display()));
                }
                Ok(Signer { key, token: None })
            }
        }
    }
}

struct Signer {
    key: KeyPair,
    token: Option<String>,
}

/// Keys of accounts, operators and servers sign nobody in.
fn is_of_user(key: &KeyPair) -> bool {
    matches!(key.key_pair_type(), KeyPairType::User)
}

/// Whether it has the shape of a JSON Web Token: what is in it is the server's to judge.
fn is_jwt(token: &str) -> bool {
    let is_base64 = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let parts = token.split('.');
    parts.clone().count() == 3
        && parts.into_iter().all(|part| !part.is_empty() && part.chars().all(is_base64))
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let text = fs::read_to_string(path).map(Zeroizing::new);
    text.map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The line between `-----BEGIN NAME-----` and `------END NAME------`, where NATS's own tools write six hyphens.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let is_edge = |line: &str, word: &str| {
        line.starts_with("---")
            && line.trim_matches('-').strip_prefix(word).is_some_and(|rest| rest.trim() == name)
    };
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| is_edge(line, "BEGIN"))?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nkeys::KeyPair;

    use super::SignIn;

    fn auth(text: &str, make: fn(std::path::PathBuf) -> SignIn) -> Result<async_nats::Auth, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, text).unwrap();
        make(path).auth(b"nonce").map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_signs_and_its_faults_do_not_show_it() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        let good = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.e30.c2ln\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\nkeep it\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let signed = auth(&good, SignIn::Credentials).unwrap();
        assert!(signed.jwt.as_deref() == Some("eyJ0.e30.c2ln") && signed.nkey.is_none());
        key.verify(b"nonce", &signed.signature.unwrap()).unwrap();
        for text in [
            seed.clone(),
            format!("# mine\n\n  {seed}\r\n"),
            format!("-----BEGIN USER NKEY SEED-----\n{seed}\n"),
        ] {
            let signed = auth(&text, SignIn::Nkey).unwrap();
            assert!(signed.nkey == Some(key.public_key()) && signed.jwt.is_none());
            key.verify(b"nonce", &signed.signature.unwrap()).unwrap();
        }
        let half = &seed[..40];
        for (text, word) in [
            (String::new(), "no NATS USER JWT"),
            (good.replace("NKEY", "KEY"), "no USER NKEY SEED"),
            (good.replace(&seed, half), "not one of an nkey"),
            (good.replace(&seed, &KeyPair::new_account().seed().unwrap()), "not one of a user"),
            (good.replace("eyJ0.e30.c2ln", "eyJ0.e30"), "NATS USER JWT is none"),
            (good.replace("eyJ0.e30.c2ln", "eyJ0.e 30.c2ln"), "NATS USER JWT is none"),
        ] {
            let problem = auth(&text, SignIn::Credentials).err().unwrap();
            assert!(problem.contains(word) && !problem.contains(half), "{problem}");
        }
        for text in ["", half] {
            let problem = auth(text, SignIn::Nkey).err().unwrap();
            assert!(problem.contains("no seed of an nkey") && !problem.contains(half), "{problem}");
        }
        let problem = auth(&KeyPair::new_account().seed().unwrap(), SignIn::Nkey).err().unwrap();
        assert!(problem.contains("not one of a user"), "{problem}");
    }
}
