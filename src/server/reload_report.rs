//! Describes for the log what a reload found in the files that the settings name.

use crate::access::keyring::{Auth, Keyring};
use crate::config::Config;
use crate::net::shard::live_config::LiveConfig;

/// One item for each file: whether its content has changed, and a few facts; never the content itself.
pub fn describe(config: &Config, before: &LiveConfig, after: &LiveConfig) -> Vec<String> {
    let mut items = Vec::new();
    if let Auth::On(keyring) = &after.auth {
        let none = Keyring::new(Vec::new(), None);
        let old = match &before.auth {
            Auth::On(old) => old,
            Auth::Off => &none,
        };
        if config.token_file.is_some() {
            items.push(format!("token_file ({})", tokens(old, keyring)));
        }
        if config.jwt_key_file.is_some() {
            let same = if keyring.has_key_of(old) { "the same key" } else { "another key" };
            items.push(format!("jwt_key_file ({same})"));
        }
    }
    if let Some(certificate) = &after.certificate {
        let same = if before.certificate == after.certificate { "the same" } else { "another" };
        let until = certificate.good_until;
        items.push(format!("tls_certificate_file ({same} certificate, good until {until}), tls_key_file"));
    }
    items
}

fn tokens(old: &Keyring, new: &Keyring) -> String {
    let (come, gone, all) = (new.tokens_beyond(old), old.tokens_beyond(new), new.tokens());
    match (come, gone) {
        (0, 0) => format!("the same {all} tokens"),
        _ => format!("{all} tokens: {come} new or changed, {gone} gone or changed"),
    }
}
