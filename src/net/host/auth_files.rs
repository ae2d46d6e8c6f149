//! Reads the token file and the JWT key file.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::access::jwt::JwtKey;
use crate::access::keyring::{Auth, Keyring};
use crate::access::rights::Rights;
use crate::access::token_file;
use crate::config::{Config, JwtAlgorithm};

/// Mode bits for users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// Reads the tokens and the key that these settings name.
///
/// # Errors
/// A file cannot be read or is malformed: its name and the line, never its content.
pub fn read(config: &Config) -> io::Result<Auth> {
    if !config.asks_for_tokens() {
        return Ok(Auth::Off);
    }
    let tokens = config.token_file.as_deref().map(read_tokens).transpose()?.unwrap_or_default();
    let jwt = match (&config.jwt_key_file, config.jwt_algorithm) {
        (Some(path), Some(algorithm)) => Some(read_key(path, algorithm)?),
        _ => None,
    };
    if let (true, None, Some(path)) = (tokens.is_empty(), &jwt, &config.token_file) {
        return Err(bad(format!("{}: has no token, so no client could watch", path.display())));
    }
    Ok(Auth::On(Keyring::new(tokens, jwt)))
}

fn read_tokens(path: &Path) -> io::Result<Vec<Arc<Rights>>> {
    let bytes = read_secret(path, "token_file")?;
    let shown = path.display();
    let text = str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        bad(format!("{shown}:{line}: is not UTF-8"))
    })?;
    let tokens = token_file::parse(text).map_err(|error| bad(format!("{shown}:{}: {error}", error.line)))?;
    let mut useless = token_file::lines_without_scope(text);
    if let Some(line) = useless.next() {
        let more = match useless.count() {
            0 => String::new(),
            count => format!(" (and {count} more such)"),
        };
        tracing::warn!(
            "{shown}:{line}: the token has none of the scopes jobs=, flows=, all and admin, so it lets nobody in{more}"
        );
    }
    Ok(tokens)
}

fn read_key(path: &Path, algorithm: JwtAlgorithm) -> io::Result<JwtKey> {
    let bytes = match algorithm {
        JwtAlgorithm::Hs256 => read_secret(path, "jwt_key_file")?,
        _ => read_bytes(path, "jwt_key_file")?,
    };
    JwtKey::new(algorithm, &bytes).map_err(|fault| bad(format!("{}: {fault}", path.display())))
}

/// Reads a file that only the daemon should be able to read.
fn read_secret(path: &Path, setting: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let bytes = read_bytes(path, setting)?;
    warn_if_open(path)?;
    Ok(bytes)
}

/// Warns of a secret that users other than its owner and group may use.
///
/// # Errors
/// The mode of the file cannot be read.
pub fn warn_if_open(path: &Path) -> io::Result<()> {
    if let Some(words) = open_to_others(path)? {
        tracing::warn!("{words}");
    }
    Ok(())
}

/// The words of [`warn_if_open`], if it is so.
///
/// # Errors
/// The mode of the file cannot be read.
pub fn open_to_others(path: &Path) -> io::Result<Option<String>> {
    let mode = fs::metadata(path)?.permissions().mode();
    let words =
        || format!("{}: everybody on this machine may use it (mode {:04o})", path.display(), mode & 0o7777);
    Ok((mode & OTHERS != 0).then(words))
}

/// Reads a file. Its content is erased from memory when it is dropped.
fn read_bytes(path: &Path, setting: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    fs::read(path).map(Zeroizing::new).map_err(|error| {
        io::Error::new(error.kind(), format!("{setting}: cannot read {}: {error}", path.display()))
    })
}

fn bad(problem: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}
