//! Reads the three sources of settings, the weakest first: TOML file, environment, flags.
//! It remembers where each value came from, so that an error can name the place.

use std::ffi::OsString;
use std::fmt::{self, Write};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;
use toml::de::{DeTable, DeValue};

use crate::config::bus_rules;
use crate::config::fields::{Config, HttpPublish, LINE_SHARE_OF_HISTORY};
use crate::config::setting::{Change, Kind, Setting};
use crate::config::table::SETTINGS;

const PREFIX: &str = "LUXCAST_";

/// In less time even a small state may not reach the disk.
const SAVING_MIN: Duration = Duration::from_secs(1);

/// A client's token: no setting of the daemon, but a known variable.
pub const TOKEN_VARIABLE: &str = "LUXCAST_TOKEN";

/// The daemon's address, for clients.
pub const URL_VARIABLE: &str = "LUXCAST_URL";

/// Known variables that are no settings of the daemon: those of clients, and the switch of the Python package.
const OTHER_VARIABLES: [&str; 3] = [TOKEN_VARIABLE, URL_VARIABLE, "LUXCAST_DISABLED"];

/// The settings in force.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// For people; a warning stops nothing.
    pub warnings: Vec<String>,
    /// In the order of [`SETTINGS`].
    sources: Vec<Source>,
    /// What `line_bytes_max` was set to, if `history_bytes` has lowered it.
    line_bytes_asked: Option<usize>,
}

impl Loaded {
    /// Each setting with the value in force and where that came from, in the order of the table.
    pub fn effective(&self) -> impl Iterator<Item = (&'static Setting, String, &Source)> {
        let rows = SETTINGS.iter().zip(&self.sources);
        rows.map(|(setting, source)| (setting, setting.show(&self.config), source))
    }

    /// Applies `fresh` settings to a running daemon: those that can change do, those that need a restart keep their
    /// values.
    ///
    /// # Errors
    /// Fresh values that do not fit those that stay.
    pub fn renew(&self, mut fresh: Loaded) -> Result<Renewed, ConfigError> {
        let (mut changed, mut needs_restart) = (Vec::new(), Vec::new());
        for (index, setting) in SETTINGS.iter().enumerate() {
            // A value that only follows from another setting was not changed by anybody.
            let is_followed = setting.name == "line_bytes_max" && fresh.line_bytes() == self.line_bytes();
            let differs = !is_followed && setting.show(&fresh.config) != setting.show(&self.config);
            match setting.change {
                Change::OnReload if differs => changed.push(setting.name),
                Change::OnReload => {}
                Change::AtStart => {
                    if differs {
                        needs_restart.push(setting.name);
                    }
                    setting.copy(&mut fresh.config, &self.config);
                    fresh.sources[index] = self.sources[index].clone();
                }
            }
        }
        fresh.line_bytes_asked = self.line_bytes_asked;
        settle(&mut fresh)?;
        Ok(Renewed { loaded: fresh, changed, needs_restart })
    }

    /// `line_bytes_max` as it was set.
    fn line_bytes(&self) -> usize {
        self.line_bytes_asked.unwrap_or(self.config.line_bytes_max)
    }

    /// Adds a warning once, however often the values are checked.
    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// An error about the value in force.
    fn error(&self, name: &str, problem: &str) -> ConfigError {
        let mut rows = SETTINGS.iter().zip(&self.sources);
        let row = rows.find(|(setting, _)| setting.name == name);
        let (setting, source) = row.expect("names come from the table");
        source.error(setting, problem)
    }
}

/// The result of a reload; names in the order of [`SETTINGS`].
#[derive(Debug)]
pub struct Renewed {
    pub loaded: Loaded,
    /// Settings whose values have changed.
    pub changed: Vec<&'static str>,
    /// Settings with new values that need a restart; until then they keep the old ones.
    pub needs_restart: Vec<&'static str>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    File { path: PathBuf, line: usize },
    Environment,
    Flag,
}

/// One sentence that names the place (file and line, variable, or flag), the key and what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl std::error::Error for ConfigError {}

/// In one line, whatever it quotes.
impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter.is_control() {
                true => write!(formatter, "{}", letter.escape_default())?,
                false => formatter.write_char(letter)?,
            }
        }
        Ok(())
    }
}

impl Source {
    /// Where a person finds the value of this setting.
    pub fn place(&self, setting: &Setting) -> String {
        match self {
            Source::Default => "default".to_string(),
            Source::File { path, line } => format!("{}:{line}", path.display()),
            Source::Environment => setting.variable(),
            Source::Flag => setting.flag(),
        }
    }

    fn error(&self, setting: &Setting, problem: &str) -> ConfigError {
        let place = self.place(setting);
        ConfigError(match self {
            Source::Default => format!("{}: {problem}", setting.name),
            Source::File { .. } => format!("{place}: {}: {problem}", setting.name),
            Source::Environment | Source::Flag => format!("{place}: {problem}"),
        })
    }
}

/// Reads the settings from the flags of a command made by `add_flags`, these environment variables, and the
/// TOML file that one of them names. A variable with an empty value counts as absent.
///
/// # Errors
/// The first fault found: an unreadable file, an unknown key of it, or a value that is not allowed, even if a
/// stronger source overrides it. Or values that do not fit together.
pub fn load(
    flags: &ArgMatches,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded {
        config: Config::default(),
        warnings: Vec::new(),
        sources: vec![Source::Default; SETTINGS.len()],
        line_bytes_asked: None,
    };
    let variables = read_environment(environment, &mut loaded.warnings)?;
    let flags = read_flags(flags);

    let named = variables.iter().chain(&flags).rfind(|given| given.setting().name == "config");
    if let Some(named) = named {
        let path = PathBuf::from(&named.texts[0]);
        let text = fs::read_to_string(&path).map_err(|error| {
            let problem = format!("cannot read {}: {error}", path.display());
            named.source.error(named.setting(), &problem)
        })?;
        for given in read_file(&path, &text)? {
            apply(&mut loaded, given)?;
        }
    }
    for given in variables.into_iter().chain(flags) {
        apply(&mut loaded, given)?;
    }
    settle(&mut loaded)?;
    Ok(loaded)
}

/// The value that one source gives to one setting.
struct Given {
    /// In [`SETTINGS`].
    index: usize,
    source: Source,
    texts: Vec<String>,
}

impl Given {
    fn setting(&self) -> &'static Setting {
        &SETTINGS[self.index]
    }
}

fn apply(loaded: &mut Loaded, given: Given) -> Result<(), ConfigError> {
    let stored = given.setting().store(&mut loaded.config, &given.texts);
    stored.map_err(|problem| given.source.error(given.setting(), &problem))?;
    loaded.sources[given.index] = given.source;
    Ok(())
}

fn read_flags(flags: &ArgMatches) -> Vec<Given> {
    let mut all = Vec::new();
    // Some commands have the flags of some settings only.
    let is_there = |setting: &Setting| matches!(flags.try_contains_id(setting.name), Ok(true));
    for (index, setting) in SETTINGS.iter().enumerate().filter(|(_, setting)| is_there(setting)) {
        let texts = match setting.kind {
            Kind::Switch(_) if flags.get_flag(setting.name) => vec!["true".to_string()],
            Kind::Switch(_) => continue,
            _ => match flags.get_many::<String>(setting.name) {
                Some(texts) => texts.cloned().collect(),
                None => continue,
            },
        };
        all.push(Given { index, source: Source::Flag, texts });
    }
    all
}

/// A warning for each of these variables that has luxcast's prefix and is unknown.
pub fn unknown_variables(variables: &[(OsString, OsString)]) -> Vec<String> {
    let is_known = |name: &OsString| {
        SETTINGS.iter().any(|setting| **name == *setting.variable())
            || OTHER_VARIABLES.iter().any(|known| **name == **known)
    };
    let is_strange =
        |name: &OsString| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) && !is_known(name);
    // An empty variable counts as absent.
    let set = variables.iter().filter(|(_, value)| !value.is_empty());
    let strange = set.map(|(name, _)| name).filter(|name| is_strange(name));
    strange.map(|name| format!("the variable {} is not a setting of luxcast", name.display())).collect()
}

fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Given>, ConfigError> {
    let is_ours = |name: &OsString| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    let mut variables: Vec<(OsString, OsString)> =
        environment.into_iter().filter(|(name, _)| is_ours(name)).collect();
    variables.sort();

    warnings.extend(unknown_variables(&variables));

    let mut all = Vec::new();
    for (name, value) in variables {
        let index = SETTINGS.iter().position(|setting| *name == *setting.variable());
        let Some(index) = index else { continue };
        if value.is_empty() {
            continue;
        }
        let setting = &SETTINGS[index];
        let Ok(text) = value.into_string() else {
            return Err(Source::Environment.error(setting, "is not UTF-8"));
        };
        let texts = match setting.kind {
            Kind::List { .. } => text.split(',').map(|part| part.trim().to_string()).collect(),
            _ => vec![text],
        };
        all.push(Given { index, source: Source::Environment, texts });
    }
    Ok(all)
}

fn read_file(path: &Path, text: &str) -> Result<Vec<Given>, ConfigError> {
    let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let place = |offset: usize| format!("{}:{}", path.display(), line_at(offset));

    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        // The words at which the parser failed, such as a repeated key.
        let words = text.get(span.clone()).unwrap_or_default().trim();
        // They may be an address with a password.
        let is_quoted = !words.is_empty() && !words.contains("://");
        let quoted = if is_quoted { format!(": `{}`", words.escape_debug()) } else { String::new() };
        // The key that the line is about, as other errors name it.
        let line = text.get(..span.start).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        let key = if key.is_empty() { String::new() } else { format!("{}: ", key.escape_debug()) };
        ConfigError(format!("{}: {key}{}{quoted}", place(span.start), error.message().replace('\n', " ")))
    })?;
    // In the file's order, so that the first error is the first in the file.
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);

    let mut all = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let (name, start) = (key.get_ref().as_ref(), key.span().start);
        let index = SETTINGS.iter().position(|setting| setting.name == name);
        // A file cannot say which file to read.
        let Some(index) = index.filter(|index| SETTINGS[*index].name != "config") else {
            return Err(ConfigError(format!("{}: {name}: is not a setting of this file", place(start))));
        };
        let source = Source::File { path: path.to_path_buf(), line: line_at(start) };
        let texts = texts_of(&SETTINGS[index], value.get_ref())
            .map_err(|problem| source.error(&SETTINGS[index], &problem))?;
        all.push(Given { index, source, texts });
    }
    Ok(all)
}

/// A TOML value as the texts that a flag would have, if it has the right type.
fn texts_of(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let wrong = |wanted| Err(format!("must be {wanted}, but has the type {}", value.type_str()));
    let text = match (&setting.kind, value) {
        (Kind::Switch(_), DeValue::Boolean(is_on)) => is_on.to_string(),
        (Kind::Switch(_), _) => return wrong("true or false"),
        (Kind::Count { .. }, DeValue::Integer(_)) => decimal(value)?,
        (Kind::Count { .. }, _) => return wrong("a whole number"),
        (Kind::Seconds { .. }, DeValue::Integer(_)) => decimal(value)?,
        (Kind::Seconds { .. }, DeValue::Float(number)) => number.as_str().to_string(),
        (Kind::Seconds { .. }, _) => return wrong("a number"),
        (Kind::Text { .. } | Kind::List { .. }, DeValue::String(text)) => text.to_string(),
        (Kind::Text { .. }, _) => return wrong("a string"),
        (Kind::List { .. }, DeValue::Array(values)) => {
            let texts = values.iter().map(|value| value.get_ref().as_str().map(str::to_string));
            return texts.collect::<Option<_>>().ok_or("must hold strings only".to_string());
        }
        (Kind::List { .. }, _) => return wrong("a string or an array of strings"),
    };
    Ok(vec![text])
}

/// TOML integers may be hexadecimal, octal or binary.
fn decimal(value: &DeValue<'_>) -> Result<String, String> {
    let integer = value.as_integer().expect("the caller has checked the type");
    let number = i128::from_str_radix(integer.as_str(), integer.radix());
    number.map(|number| number.to_string()).map_err(|_| format!("`{integer}` is too large"))
}

/// Checks what no row can check alone: whether the values fit together.
fn settle(loaded: &mut Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    for address in &config.listen {
        check_reach(loaded, "listen", address)?;
        check_publishing(loaded, address)?;
    }
    if let Some(address) = &config.admin {
        check_reach(loaded, "admin", address)?;
        if address.port() != 0 && config.listen.contains(address) {
            return Err(loaded.error("admin", &format!("{address} is also an address of listen")));
        }
    }
    check_tokens(loaded)?;
    check_proxies(loaded)?;
    warn_of_origins(loaded);
    let config = &loaded.config;
    match (&config.tls_certificate_file, &config.tls_key_file) {
        (Some(_), None) => {
            return Err(loaded.error("tls_certificate_file", "also needs tls_key_file"));
        }
        (None, Some(_)) => return Err(loaded.error("tls_key_file", "also needs tls_certificate_file")),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if config.state_dir.is_some() && config.drain_seconds < SAVING_MIN {
        let seconds = config.drain_seconds.as_secs_f64();
        loaded.warn(format!("drain_seconds {seconds} may be too short to save the state to state_dir"));
    }
    let config = &loaded.config;
    let line_bytes_max = config.history_bytes / LINE_SHARE_OF_HISTORY;
    if config.line_bytes_max > line_bytes_max {
        loaded.warn(format!(
            "line_bytes_max is lowered from {} to {line_bytes_max}, an eighth of history_bytes",
            config.line_bytes_max
        ));
        loaded.line_bytes_asked = Some(loaded.config.line_bytes_max);
        loaded.config.line_bytes_max = line_bytes_max;
    }
    let config = &loaded.config;
    bus_rules::check(config).map_err(|(name, problem)| loaded.error(name, &problem))?;
    let warnings = bus_rules::warnings(config);
    warnings.into_iter().for_each(|warning| loaded.warn(warning));
    Ok(())
}

/// Without tokens, only `allow_anonymous` opens an address beyond this machine.
fn check_reach(loaded: &Loaded, name: &str, address: &SocketAddr) -> Result<(), ConfigError> {
    let config = &loaded.config;
    if is_loopback(address) || config.asks_for_tokens() || config.allow_anonymous {
        return Ok(());
    }
    let problem = format!(
        "{address} can be reached from other machines, and everybody there could watch everything: \
         set token_file or jwt_key_file, use a loopback address such as 127.0.0.1:{}, or set \
         allow_anonymous = true if that is what you want",
        address.port()
    );
    Err(loaded.error(name, &problem))
}

/// Whoever reaches an address could publish there.
fn check_publishing(loaded: &Loaded, address: &SocketAddr) -> Result<(), ConfigError> {
    let config = &loaded.config;
    if config.http_publish != HttpPublish::Anyone || is_loopback(address) || config.allow_anonymous {
        return Ok(());
    }
    let problem = format!(
        "anyone would publish from other machines through {address}: use scope and tokens with the scope publish, or set \
         allow_anonymous = true if that is what you want"
    );
    Err(loaded.error("http_publish", &problem))
}

fn check_tokens(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    match (&config.jwt_key_file, config.jwt_algorithm) {
        (Some(_), None) => return Err(loaded.error("jwt_key_file", "also needs jwt_algorithm")),
        (None, Some(_)) => return Err(loaded.error("jwt_algorithm", "also needs jwt_key_file")),
        _ => {}
    }
    if config.allow_anonymous && config.asks_for_tokens() {
        let problem = "lets everybody watch everything, but tokens are configured too: remove one of the two";
        return Err(loaded.error("allow_anonymous", problem));
    }
    Ok(())
}

/// A client behind a proxy may be anywhere, even if the proxy connects over loopback.
fn check_proxies(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    if config.trusted_proxies.is_empty() || config.asks_for_tokens() || config.allow_anonymous {
        return Ok(());
    }
    let problem = "everybody who reaches the proxy could watch everything: set token_file or jwt_key_file, or set \
                   allow_anonymous = true if that is what you want";
    Err(loaded.error("trusted_proxies", problem))
}

fn warn_of_origins(loaded: &mut Loaded) {
    let config = &loaded.config;
    let has = |wanted: &str| config.allowed_origins.iter().any(|origin| origin == wanted);
    let (has_null, has_all, asks) = (has("null"), has("*"), config.asks_for_tokens());
    if has_null {
        loaded.warn(
            "allowed_origins: null is as open as *, since every page can open a frame that has this origin"
                .to_owned(),
        );
    }
    if has_all && !asks {
        loaded.warn(
            "allowed_origins: * without tokens: every page that somebody here opens can read this daemon"
                .to_owned(),
        );
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    // ::ffff:127.0.0.1 is loopback as well.
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::{Loaded, Source, load};
    use crate::config::{Overrun, add_flags};
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// A TOML file for one test, gone with it.
    struct TomlFile(PathBuf);

    impl TomlFile {
        fn new(text: &str) -> TomlFile {
            static FILES: AtomicUsize = AtomicUsize::new(0);
            let number = FILES.fetch_add(1, Ordering::Relaxed);
            let name = format!("luxcast-config-{}-{number}.toml", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            TomlFile(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for TomlFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn load_from(flags: &[&str], environment: &[(&str, &str)]) -> Result<Loaded, String> {
        let command = add_flags(clap::Command::new("serve"));
        let words = std::iter::once("serve").chain(flags.iter().copied());
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        let variables = environment.iter().map(|(name, value)| (name.into(), value.into()));
        load(&matches, variables).map_err(|error| error.to_string())
    }

    /// The error about this file, without the path in front.
    fn file_error(text: &str) -> String {
        let file = TomlFile::new(text);
        let error = load_from(&["--config", file.path()], &[]).unwrap_err();
        error.strip_prefix(file.path()).expect("the error names the file").to_string()
    }

    fn source_of(loaded: &Loaded, name: &str) -> Source {
        let mut effective = loaded.effective();
        effective.find(|(setting, ..)| setting.name == name).unwrap().2.clone()
    }

    #[test]
    fn flags_override_the_environment_which_overrides_the_file() {
        let file = TomlFile::new(
            "# a comment\nheartbeat_seconds = 1\nstalled_seconds = 2.5\nhandshake_seconds = 3\n\
             topics_max = 1_000\noverrun = \"wait\"\nallow_anonymous = true\njobs_max = 0x10\n",
        );
        let environment = [
            ("LUXCAST_HEARTBEAT_SECONDS", "10"),
            ("LUXCAST_STALLED_SECONDS", "20"),
            ("LUXCAST_DEMO", "true"),
            ("LUXCAST_CONFIG", file.path()),
            ("LUXCAST_DRAIN_SECONDS", ""),
            ("HOME", "/root"),
        ];
        let loaded = load_from(&["--heartbeat-seconds", "0.5"], &environment).unwrap();
        let config = &loaded.config;
        assert_eq!(config.heartbeat_seconds, Duration::from_millis(500));
        assert_eq!(config.stalled_seconds, Duration::from_secs(20));
        assert_eq!(config.handshake_seconds, Duration::from_secs(3));
        assert_eq!(config.drain_seconds, Duration::from_secs(10));
        assert_eq!((config.topics_max, config.jobs_max), (1_000, 16));
        assert_eq!(config.overrun, Overrun::Wait);
        assert!(config.allow_anonymous && config.demo);
        assert_eq!(config.config.as_deref(), Some(file.0.as_path()));
        assert_eq!(loaded.warnings, Vec::<String>::new());

        assert_eq!(source_of(&loaded, "heartbeat_seconds"), Source::Flag);
        assert_eq!(source_of(&loaded, "stalled_seconds"), Source::Environment);
        assert_eq!(source_of(&loaded, "handshake_seconds"), Source::File { path: file.0.clone(), line: 4 });
        assert_eq!(source_of(&loaded, "drain_seconds"), Source::Default);
    }

    #[test]
    fn an_error_is_one_line_whatever_it_quotes() {
        let error = load_from(&["--overrun", "a\nb\u{1b}[2J"], &[]).unwrap_err();
        assert_eq!(error, "--overrun: `a\\nb\\u{1b}[2J` is not one of gap, wait");
        let key = file_error("\"a\\nb\" = 1\n");
        assert_eq!(key, ":1: a\\nb: is not a setting of this file");
    }

    #[test]
    fn the_flag_names_the_file_before_the_variable() {
        let file = TomlFile::new("shards = 7");
        let environment = [("LUXCAST_CONFIG", "/nonexistent/luxcast.toml")];
        let loaded = load_from(&["--config", file.path()], &environment).unwrap();
        assert_eq!(loaded.config.shards, 7);
    }

    #[test]
    fn a_proxy_needs_tokens_or_allow_anonymous() {
        let proxy = ["--trusted-proxies", "127.0.0.1"];
        let with = |more: &[&str]| load_from(&[&proxy[..], more].concat(), &[]);
        let error = with(&[]).unwrap_err();
        assert!(error.starts_with("--trusted-proxies: everybody who reaches the proxy"), "{error}");
        assert!(error.contains("token_file") && error.contains("allow_anonymous = true"), "{error}");
        assert!(with(&["--token-file", "f"]).is_ok());
        assert!(with(&["--jwt-key-file", "f", "--jwt-algorithm", "HS256"]).is_ok());
        assert!(with(&["--allow-anonymous"]).is_ok());
        // A stronger source clears the proxies.
        assert!(load_from(&[], &[("LUXCAST_TRUSTED_PROXIES", "none")]).is_ok());
        assert_eq!(file_error("\ntrusted_proxies = \"10.0.0.0/8\"\n")[..21], *":2: trusted_proxies: ");
    }

    #[test]
    fn too_little_time_to_save_the_state_is_a_warning() {
        let warnings = |flags: &[&str]| load_from(flags, &[]).unwrap().warnings.len();
        assert_eq!(warnings(&["--state-dir", "d", "--drain-seconds", "0.05"]), 1);
        assert_eq!(warnings(&["--state-dir", "d", "--drain-seconds", "1"]), 0);
        assert_eq!(warnings(&["--drain-seconds", "0.05"]), 0);
    }

    #[test]
    fn an_origin_that_every_page_can_have_is_one_warning() {
        let warnings = |flags: &[&str]| {
            let loaded = load_from(flags, &[]).unwrap();
            // As at a reload: the values are checked again.
            let renewed = loaded.renew(load_from(flags, &[]).unwrap()).unwrap();
            assert_eq!(renewed.loaded.warnings, loaded.warnings);
            loaded.warnings
        };
        let origin = |origin| ["--allowed-origins", origin];
        assert!(warnings(&origin("https://a.example")).is_empty());
        assert!(warnings(&origin("null"))[0].contains("null is as open as *"));
        assert!(warnings(&origin("*"))[0].contains("* without tokens"));
        let with_tokens = |word| [&origin(word)[..], &["--token-file", "f"]].concat();
        assert!(warnings(&with_tokens("*")).is_empty(), "a page has no token");
        assert_eq!(warnings(&with_tokens("null")).len(), 1);
    }

    #[test]
    fn listen_can_be_given_more_than_once_in_each_source() {
        let [first, second] = ["127.0.0.1:1", "[::1]:2"];
        let flags = load_from(&["--listen", first, "--listen", second], &[]).unwrap();
        let variable = load_from(&[], &[("LUXCAST_LISTEN", "127.0.0.1:1, [::1]:2")]).unwrap();
        let array = TomlFile::new(&format!("listen = [\n  \"{first}\",\n  \"{second}\",\n]\n"));
        let array = load_from(&["--config", array.path()], &[]).unwrap();
        for loaded in [flags, variable, array] {
            assert_eq!(loaded.config.listen, [first.parse().unwrap(), second.parse().unwrap()]);
        }
        let string = TomlFile::new("listen = \"127.0.0.1:1\"");
        // A stronger source replaces the whole list.
        let loaded = load_from(&["--config", string.path(), "--listen", second], &[]).unwrap();
        assert_eq!(loaded.config.listen, [second.parse().unwrap()]);
    }

    #[test]
    fn errors_of_the_file_name_file_line_and_key() {
        let error = file_error("\n\nheartbeat_second = 3\n");
        assert_eq!(error, ":3: heartbeat_second: is not a setting of this file");
        let error = file_error("shards = 1\nheartbeat_seconds = 0.05\n");
        assert_eq!(error, ":2: heartbeat_seconds: `0.05` is not a number of seconds from 0.1 to 86400");
        assert_eq!(
            file_error("shards = \"4\""),
            ":1: shards: must be a whole number, but has the type string"
        );
        assert_eq!(file_error("demo = 1"), ":1: demo: must be true or false, but has the type integer");
        assert_eq!(file_error("config = \"a\""), ":1: config: is not a setting of this file");
        assert_eq!(file_error("\n[shards]\n"), ":2: shards: must be a whole number, but has the type table");
        assert_eq!(file_error("listen = [1]"), ":1: listen: must hold strings only");
        assert_eq!(file_error("listen = []"), ":1: listen: needs at least one address");
    }

    #[test]
    fn impossible_numbers_are_errors() {
        for line in [
            "drain_seconds = nan",
            "drain_seconds = inf",
            "drain_seconds = -1",
            "drain_seconds = 1e400",
            "shards = -1",
            "shards = 65",
            "shards = 0",
            "shards = 1.0",
            "history_bytes = 65535",
            "history_bytes = 999999999999999999999999999999999999999999",
            "silent_heartbeats = 0",
            "metrics_seconds = 0.01",
        ] {
            let error = file_error(line);
            let key = line.split(' ').next().unwrap();
            assert!(error.starts_with(&format!(":1: {key}: ")), "{line}: {error}");
        }
    }

    #[test]
    fn broken_toml_names_the_line() {
        let error = file_error("shards = 1\nlisten = = 2\n");
        assert!(error.starts_with(":2: listen: "), "{error}");
        let error = file_error("log_level = info\n");
        assert!(error.starts_with(":1: log_level: "), "{error}");
        let error = file_error("shards = 1\nshards = 2\n");
        assert!(error.starts_with(":2: ") && error.contains("duplicate"), "{error}");
    }

    #[test]
    fn an_unreadable_file_is_an_error_of_the_source_that_names_it() {
        let error = load_from(&["--config", "/nonexistent/a.toml"], &[]).unwrap_err();
        assert!(error.starts_with("--config: cannot read /nonexistent/a.toml: "), "{error}");
        let error = load_from(&[], &[("LUXCAST_CONFIG", "/nonexistent/a.toml")]).unwrap_err();
        assert!(error.starts_with("LUXCAST_CONFIG: cannot read "), "{error}");
    }

    #[test]
    fn a_bad_variable_or_flag_is_named() {
        let error = load_from(&[], &[("LUXCAST_SHARDS", "many")]).unwrap_err();
        assert_eq!(error, "LUXCAST_SHARDS: `many` is not a whole number from 1 to 64");
        let error = load_from(&["--shards", "-1"], &[]).unwrap_err();
        assert_eq!(error, "--shards: `-1` is not a whole number from 1 to 64");
        let error = load_from(&["--shards", "1"], &[("LUXCAST_SHARDS", "many")]).unwrap_err();
        assert!(error.starts_with("LUXCAST_SHARDS: "), "{error}");
        assert!(load_from(&["--shards", "1", "--shards", "2"], &[]).is_err());
        assert!(load_from(&["--no-such-flag"], &[]).is_err());

        let not_utf8 = OsString::from_vec(vec![b'1', 0xff]);
        let matches = add_flags(clap::Command::new("serve")).get_matches_from(["serve"]);
        let error = load(&matches, [("LUXCAST_SHARDS".into(), not_utf8)]).unwrap_err();
        assert_eq!(error.to_string(), "LUXCAST_SHARDS: is not UTF-8");
    }

    #[test]
    fn an_unknown_variable_is_a_warning() {
        let environment = [("LUXCAST_SERVICE_HOST", "10.0.0.1"), ("LUX", "1")];
        let loaded = load_from(&[], &environment).unwrap();
        assert_eq!(loaded.warnings, ["the variable LUXCAST_SERVICE_HOST is not a setting of luxcast"]);
    }

    #[test]
    fn beyond_loopback_needs_tokens_or_allow_anonymous() {
        let error = load_from(&["--listen", "0.0.0.0:20555"], &[]).unwrap_err();
        assert!(error.starts_with("--listen: 0.0.0.0:20555 can be reached"), "{error}");
        assert!(error.contains("allow_anonymous = true"), "{error}");
        let error = load_from(&["--admin", "[2001:db8::1]:1"], &[]).unwrap_err();
        assert!(error.starts_with("--admin: "), "{error}");
        let error = file_error("shards = 1\nlisten = [\"127.0.0.1:1\", \"192.0.2.1:1\"]");
        assert!(error.starts_with(":2: listen: 192.0.2.1:1 can be reached"), "{error}");

        assert!(load_from(&["--listen", "0.0.0.0:1", "--allow-anonymous"], &[]).is_ok());
        assert!(load_from(&["--listen", "0.0.0.0:1", "--token-file", "/t"], &[]).is_ok());
        let jwt = ["--admin", "0.0.0.0:1", "--jwt-key-file", "/k", "--jwt-algorithm", "EdDSA"];
        assert!(load_from(&jwt, &[]).is_ok());
        for loopback in ["127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(load_from(&["--listen", loopback], &[]).is_ok(), "{loopback}");
        }
    }

    #[test]
    fn tokens_are_configured_whole_or_not_at_all() {
        let error = load_from(&["--jwt-key-file", "/k"], &[]).unwrap_err();
        assert_eq!(error, "--jwt-key-file: also needs jwt_algorithm");
        let error = load_from(&[], &[("LUXCAST_JWT_ALGORITHM", "RS256")]).unwrap_err();
        assert_eq!(error, "LUXCAST_JWT_ALGORITHM: also needs jwt_key_file");
        for unknown in ["HS512", "hs256", ""] {
            let error = load_from(&["--jwt-key-file", "/k", "--jwt-algorithm", unknown], &[]).unwrap_err();
            let expected = format!("--jwt-algorithm: `{unknown}` is not one of HS256, RS256, ES256, EdDSA");
            assert_eq!(error, expected);
        }
        for tokens in [&["--token-file", "/t"][..], &["--jwt-key-file", "/k", "--jwt-algorithm", "HS256"]] {
            let error = load_from(&[tokens, &["--allow-anonymous"]].concat(), &[]).unwrap_err();
            assert!(error.starts_with("--allow-anonymous: lets everybody"), "{error}");
        }
        let error = load_from(&["--jwt-key-file", "/k", "--jwt-algorithm", "none"], &[]).unwrap_err();
        assert_eq!(error, "--jwt-key-file: also needs jwt_algorithm");
        assert!(load_from(&["--token-file", ""], &[]).is_err());
        let loaded = load_from(&["--token-file", "none"], &[("LUXCAST_TOKEN_FILE", "/t")]).unwrap();
        assert!(!loaded.config.asks_for_tokens());
        let of_clients = [("LUXCAST_TOKEN", "secret"), ("LUXCAST_URL", "h:1"), ("LUXCAST_DISABLED", "1")];
        let loaded = load_from(&[], &of_clients).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_certificate_needs_its_key_and_a_key_its_certificate() {
        let error = load_from(&["--tls-certificate-file", "a.pem"], &[]).unwrap_err();
        assert_eq!(error, "--tls-certificate-file: also needs tls_key_file");
        assert_eq!(file_error("tls_key_file = \"b\""), ":1: tls_key_file: also needs tls_certificate_file");
        let both =
            load_from(&["--tls-certificate-file", "a.pem"], &[("LUXCAST_TLS_KEY_FILE", "b.pem")]).unwrap();
        let (certificate, key) = both.config.tls_files().unwrap();
        assert_eq!((certificate.to_str(), key.to_str()), (Some("a.pem"), Some("b.pem")));
    }

    #[cfg(feature = "bus")]
    #[test]
    fn the_settings_of_the_bus_fit_together() {
        const HERE: [&str; 2] = ["--bus", "nats://127.0.0.1:4222"];
        const FAR: [&str; 2] = ["--bus", "nats://nats.example"];
        const TLS: [&str; 2] = ["--bus", "tls://nats.example"];
        for good in [
            &HERE[..],
            &[&HERE[..], &["--bus-nkey-file", "f", "--bus-stream", "A_b-1", "--bus-subject", "a.b"]].concat(),
            &[&FAR[..], &["--bus-allow-plaintext", "--bus-credentials-file", "f"]].concat(),
            &[&TLS[..], &["--bus-ca-file", "c", "--bus-certificate-file", "a", "--bus-key-file", "b"]]
                .concat(),
            &[&TLS[..], &["--bus", "tls://other.example"]].concat(),
            &[
                "--bus",
                "tls://a:b@one.example",
                "--bus",
                "tls://a:b@two.example",
                "--bus",
                "tls://three.example",
            ],
            &["--bus", "none", "--bus-stream", "LUXCAST", "--bus-past-bytes", "67108864"],
            &[&HERE[..], &["--bus-replay-bytes", "0"]].concat(),
        ] {
            let loaded = load_from(good, &[]);
            assert_eq!(loaded.map(|loaded| loaded.warnings.len()), Ok(0), "{good:?}");
        }
        let with = |first: &[&'static str], more: &[&'static str]| [first, more].concat();
        for (bad, expected) in [
            (with(&FAR, &[]), "--bus: nats://nats.example:4222 is not on this machine"),
            (with(&HERE, &TLS), "--bus: mixes nats:// and tls://"),
            (with(&HERE, &HERE), "--bus: nats://127.0.0.1:4222 is given twice"),
            (
                with(&["--bus", "tls://a:b@x.example", "--bus", "tls://a:c@y.example"], &[]),
                "--bus: the addresses do not",
            ),
            (
                with(&HERE, &["--bus-nkey-file", "n", "--bus-credentials-file", "c"]),
                "--bus-nkey-file: bus_credentials",
            ),
            (
                with(&["--bus", "tls://a@x.example"], &["--bus-nkey-file", "n"]),
                "--bus-nkey-file: bus signs in already",
            ),
            (with(&HERE, &["--bus-ca-file", "c"]), "--bus-ca-file: is of no use without tls://"),
            (with(&TLS, &["--bus-certificate-file", "c"]), "--bus-certificate-file: also needs bus_key_file"),
            (with(&TLS, &["--bus-key-file", "c"]), "--bus-key-file: also needs bus_certificate_file"),
            (with(&HERE, &["--overrun", "wait"]), "--overrun: wait does not go together with bus"),
            (
                with(&HERE, &["--line-bytes-max", "4190209"]),
                "--line-bytes-max: with bus it is 4190208 at most",
            ),
            (with(&["--bus-nkey-file", "n"], &[]), "--bus-nkey-file: is of no use without bus"),
            (with(&["--bus-replay-bytes", "0"], &[]), "--bus-replay-bytes: is of no use without bus"),
            (with(&["--bus-stream", "X"], &[]), "--bus-stream: is of no use without bus"),
            (with(&HERE, &["--bus-stream", "a.b"]), "--bus-stream: `a.b` is not a name"),
            (with(&HERE, &["--bus-subject", "a.*"]), "--bus-subject: `a.*` is not one subject"),
            (with(&HERE, &["--bus-subject", "$JS.API"]), "--bus-subject: `$JS.API` is not one subject"),
            (with(&HERE, &["--bus-subject", "a..b"]), "--bus-subject: `a..b` is not one subject"),
        ] {
            let error = load_from(&bad, &[]).unwrap_err();
            assert!(error.starts_with(expected), "{bad:?}: {error}");
        }
        let warnings = load_from(&with(&HERE, &["--state-dir", "d"]), &[]).unwrap().warnings;
        assert_eq!(warnings, ["state_dir is not used: with bus a restart reads the stream"]);
        let warnings = load_from(&with(&HERE, &["--bus-replay-bytes", "268435456"]), &[]).unwrap().warnings;
        assert!(warnings[0].starts_with("bus_replay_bytes is not more than history_bytes"), "{warnings:?}");
    }

    #[cfg(feature = "bus")]
    #[test]
    fn what_signs_in_to_the_bus_is_never_shown() {
        let loaded =
            load_from(&[], &[("LUXCAST_BUS", "tls://me:secret@a.example, tls://b.example")]).unwrap();
        let shown: String = loaded.effective().map(|(_, value, _)| value + "\n").collect();
        assert!(shown.contains("tls://***@a.example:4222,tls://b.example:4222"), "{shown}");
        assert!(!format!("{shown} {loaded:?}").contains("secret"));
        for bad in [
            "bus = \"tls://me:secret@a.example/x\"",
            "bus = \"nats://secret@a.example\"",
            "bus = \"tls://me:secret@a.example",
            "bus = tls://me:secret@a.example",
            "bus = [\"tls://me:secret@a.example\" \"tls://me:secret@b.example\"]",
        ] {
            let error = file_error(bad);
            assert!(error.starts_with(":1: ") && !error.contains("secret"), "{error}");
        }
    }

    #[cfg(not(feature = "bus"))]
    #[test]
    fn a_build_without_the_bus_says_so() {
        let error = load_from(&["--bus", "nats://127.0.0.1:4222"], &[]).unwrap_err();
        assert_eq!(error, "--bus: this luxcast was built without the feature bus of its Cargo.toml");
    }

    #[test]
    fn one_address_serves_one_purpose() {
        let error = load_from(&["--admin", "127.0.0.1:20555"], &[]).unwrap_err();
        assert_eq!(error, "--admin: 127.0.0.1:20555 is also an address of listen");
        assert!(load_from(&["--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0"], &[]).is_ok());
    }

    #[test]
    fn a_line_is_at_most_an_eighth_of_the_history() {
        let loaded = load_from(&["--history-bytes", "65536"], &[]).unwrap();
        assert_eq!(loaded.config.line_bytes_max, 8_192);
        let expected = "line_bytes_max is lowered from 1000000 to 8192, an eighth of history_bytes";
        assert_eq!(loaded.warnings, [expected]);
        let flags = ["--history-bytes", "65536", "--line-bytes-max", "8192"];
        assert_eq!(load_from(&flags, &[]).unwrap().warnings, Vec::<String>::new());
    }

    #[test]
    fn a_reload_changes_what_can_change_and_names_the_rest() {
        let old = load_from(&["--shards", "2", "--messages-per-second", "5"], &[]).unwrap();
        let file = TomlFile::new("shards = 3\nline_bytes_max = 2000000\nmessage_bytes_max = 200\n");
        let fresh = load_from(&["--config", file.path()], &[]).unwrap();
        let renewed = old.renew(fresh).unwrap();
        assert_eq!(renewed.changed, ["message_bytes_max", "messages_per_second"]);
        assert_eq!(renewed.needs_restart, ["config", "shards", "line_bytes_max"]);
        let config = &renewed.loaded.config;
        assert_eq!((config.shards, config.line_bytes_max), (2, 1_000_000));
        assert_eq!((config.message_bytes_max, config.messages_per_second), (200, 50));
        assert_eq!(source_of(&renewed.loaded, "shards"), Source::Flag);
        let line = Source::File { path: file.0.clone(), line: 3 };
        assert_eq!(source_of(&renewed.loaded, "message_bytes_max"), line);
    }

    #[test]
    fn a_reload_compares_what_is_in_force() {
        let flags = ["--history-bytes", "65536"];
        let renewed = load_from(&flags, &[]).unwrap().renew(load_from(&flags, &[]).unwrap()).unwrap();
        assert_eq!((renewed.changed.len(), renewed.needs_restart.len()), (0, 0), "{renewed:?}");
        assert_eq!(renewed.loaded.config.line_bytes_max, 8_192);
        // The limit that follows from it was not changed by anybody.
        let smaller = load_from(&["--history-bytes", "65536"], &[]).unwrap();
        for (old, fresh) in [(&[][..], &flags[..]), (&flags, &["--history-bytes", "131072"])] {
            let renewed = load_from(old, &[]).unwrap().renew(load_from(fresh, &[]).unwrap()).unwrap();
            assert_eq!(renewed.needs_restart, ["history_bytes"], "{old:?} {fresh:?}");
        }
        let fresh = load_from(&["--history-bytes", "131072", "--line-bytes-max", "10000"], &[]).unwrap();
        assert_eq!(smaller.renew(fresh).unwrap().needs_restart, ["history_bytes", "line_bytes_max"]);
    }

    #[test]
    fn the_values_in_force_are_listed_with_their_places() {
        let loaded = load_from(&["--admin", "off"], &[("LUXCAST_SHARDS", "2")]).unwrap();
        let listed: Vec<String> = loaded
            .effective()
            .map(|(setting, value, source)| format!("{} = {value} ({})", setting.name, source.place(setting)))
            .collect();
        for expected in
            ["admin = off (--admin)", "shards = 2 (LUXCAST_SHARDS)", "heartbeat_seconds = 30 (default)"]
        {
            assert!(listed.iter().any(|line| line == expected), "{listed:?}");
        }
    }
}
