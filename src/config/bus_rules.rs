//! What the settings of the bus ask of each other, and of the others.

use crate::config::bus_table::BUS_SETTINGS;
use crate::config::bus_url::BusUrl;
use crate::config::fields::{Config, Overrun};

/// Half of what the daemon lets the stream send at once must hold the longest line, with its headers.
pub const BUS_LINE_BYTES_MAX: usize = (4 << 20) - (4 << 10);

/// Where plain text may go: nowhere beyond this machine, unless somebody wants that.
const PLAIN: &str = "is not on this machine, and everybody on the way could read and change events: use tls://, or set \
                     bus_allow_plaintext = true if that is what you want";

/// Whether the values fit together.
///
/// # Errors
/// The name of a setting, and what is wrong with its value.
pub(super) fn check(config: &Config) -> Result<(), (&'static str, String)> {
    if config.bus.is_empty() {
        return check_without(config);
    }
    let wrong = |name, problem: &str| Err((name, problem.to_owned()));
    if cfg!(not(feature = "bus")) {
        return wrong("bus", "this luxcast was built without the feature bus of its Cargo.toml");
    }
    let is_mixed = config.bus.iter().any(|url| url.is_tls != config.bus[0].is_tls);
    if is_mixed {
        return wrong("bus", "mixes nats:// and tls://");
    }
    let is_far = |url: &&BusUrl| !url.is_loopback();
    if let Some(url) = config.bus.iter().find(is_far)
        && !url.is_tls
        && !config.bus_allow_plaintext
    {
        return Err(("bus", format!("{url} {PLAIN}")));
    }
    check_credentials(config)?;
    if config.overrun == Overrun::Wait {
        return wrong("overrun", "wait does not go together with bus: publishers may be on other machines");
    }
    if config.line_bytes_max > BUS_LINE_BYTES_MAX {
        return Err(("line_bytes_max", format!("with bus it is {BUS_LINE_BYTES_MAX} at most")));
    }
    Ok(())
}

fn check_credentials(config: &Config) -> Result<(), (&'static str, String)> {
    let wrong = |name, problem: &str| Err((name, problem.to_owned()));
    let mut logins = config.bus.iter().filter_map(|url| url.login.as_ref());
    let first = logins.next();
    if logins.any(|login| Some(login) != first) {
        return wrong("bus", "the addresses do not all sign in with the same words");
    }
    match (first.is_some(), &config.bus_credentials_file, &config.bus_nkey_file) {
        (_, Some(_), Some(_)) => {
            return wrong("bus_nkey_file", "bus_credentials_file is set too: remove one");
        }
        (true, Some(_), _) => return wrong("bus_credentials_file", "bus signs in already: remove one"),
        (true, _, Some(_)) => return wrong("bus_nkey_file", "bus signs in already: remove one"),
        _ => {}
    }
    let tls_files = [
        ("bus_ca_file", &config.bus_ca_file),
        ("bus_certificate_file", &config.bus_certificate_file),
        ("bus_key_file", &config.bus_key_file),
    ];
    if let Some((name, _)) = tls_files.iter().find(|(_, file)| file.is_some() && !config.bus[0].is_tls) {
        return wrong(name, "is of no use without tls:// in bus");
    }
    match (&config.bus_certificate_file, &config.bus_key_file) {
        (Some(_), None) => wrong("bus_certificate_file", "also needs bus_key_file"),
        (None, Some(_)) => wrong("bus_key_file", "also needs bus_certificate_file"),
        _ => Ok(()),
    }
}

/// Whoever sets one of them wants a bus, and would have none.
fn check_without(config: &Config) -> Result<(), (&'static str, String)> {
    let default = Config::default();
    let set = BUS_SETTINGS.iter().find(|setting| setting.show(config) != setting.show(&default));
    set.map_or(Ok(()), |setting| Err((setting.name, "is of no use without bus".to_owned())))
}

/// What is not as somebody may expect.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.bus.is_empty() && config.state_dir.is_some() {
        warnings.push("state_dir is not used: with bus a restart reads the stream".to_owned());
    }
    if !config.bus.is_empty() && (1..=config.history_bytes).contains(&config.bus_replay_bytes) {
        warnings.push(
            "bus_replay_bytes is not more than history_bytes: there is nothing to read again that memory does not have"
                .to_owned(),
        );
    }
    warnings
}
