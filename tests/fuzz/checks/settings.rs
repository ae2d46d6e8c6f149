//! Settings from a TOML file and from variables: what is accepted says the same when it is written down again, and what
//! is not names its place in one line.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process;
use std::sync::{LazyLock, Mutex};

use clap::{ArgMatches, Command};
use luxcast::config::{Config, Loaded, SETTINGS, Setting, Source, add_flags, load};

/// What an error says beside the text that it quotes.
const ERROR_BYTES_MAX: usize = 4096;

/// Panics where something does not hold for these settings: a TOML file and, behind each byte 0xff, a variable
/// (`HISTORY_BYTES=1` is `LUXCAST_HISTORY_BYTES`).
pub fn check(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0xff);
    let file = File::write(parts.next().unwrap_or_default());
    let variables: Vec<(OsString, OsString)> = parts
        .filter_map(|part| {
            let place = part.iter().position(|byte| *byte == b'=')?;
            let name = [b"LUXCAST_", &part[..place]].concat();
            Some((OsString::from_vec(name), OsString::from_vec(part[place + 1..].to_vec())))
        })
        .filter(|(name, _)| name != "LUXCAST_CONFIG")
        .collect();
    match load(&file.flags(), variables) {
        Ok(loaded) => check_again(loaded),
        Err(error) => {
            let text = error.to_string();
            let path = file.path.display().to_string();
            let is_default = |setting: &Setting| text.starts_with(&format!("{}: ", setting.name));
            let has_place = ["LUXCAST_", "--config", &path].iter().any(|place| text.starts_with(place));
            assert!(has_place || SETTINGS.iter().any(is_default), "{text}");
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.len() <= 8 * bytes.len() + ERROR_BYTES_MAX, "{} bytes of error", text.len());
        }
    }
}

/// What was given, given as variables, is the same.
fn check_again(loaded: Loaded) {
    let given = loaded.effective().filter(|(setting, value, source)| {
        // A list in a variable is split at commas; an empty one counts as absent.
        let is_one = setting.name == "listen" || !value.contains(',');
        // What signs in is not shown.
        let is_whole = !value.contains("***@");
        **source != Source::Default && is_one && is_whole && !value.is_empty() && setting.name != "config"
    });
    let mut variables: Vec<(OsString, OsString)> =
        given.map(|(setting, value, _)| (setting.variable().into(), value.into())).collect();
    let count = loaded
        .effective()
        .filter(|(setting, _, source)| **source != Source::Default && setting.name != "config");
    if count.count() != variables.len() {
        return;
    }
    // What is lowered is shown as it is then.
    variables.sort();
    let again = load(&flags(&[]), variables).expect("what was accepted is accepted again");
    assert_eq!(without_file(again.config), without_file(loaded.config));
}

fn without_file(config: Config) -> Config {
    Config { config: None, ..config }
}

fn flags(given: &[&str]) -> ArgMatches {
    static COMMAND: LazyLock<Mutex<Command>> =
        LazyLock::new(|| Mutex::new(add_flags(Command::new("luxcast")).no_binary_name(true)));
    let mut command = COMMAND.lock().expect("no panic while it is held");
    command.try_get_matches_from_mut(given).expect("the flags are right")
}

/// A file of this thread's own, gone with it.
struct File {
    path: PathBuf,
}

impl File {
    fn write(text: &[u8]) -> Self {
        let name = format!("luxcast-settings-{}-{:?}.toml", process::id(), std::thread::current().id());
        let path = env::temp_dir().join(name);
        fs::write(&path, text).expect("the directory for temporary files can be written");
        Self { path }
    }

    fn flags(&self) -> ArgMatches {
        flags(&["--config", self.path.to_str().expect("the path is UTF-8")])
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
