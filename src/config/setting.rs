//! What a setting is: its names, how it reads a value and shows one, and the texts made from the whole table.

use std::ffi::OsStr;
use std::fmt::Write;
use std::time::Duration;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, Command, ValueHint};

use super::Config;
use super::table::SETTINGS;
use super::value::{read_count, read_seconds, read_switch};

/// One setting.
pub struct Setting {
    /// The TOML key; flag and variable are made from it.
    pub name: &'static str,
    pub default: Initial,
    /// What the value is, in one word; empty for a switch.
    pub unit: &'static str,
    pub change: Change,
    pub(super) kind: Kind,
    pub help: &'static str,
}

/// The value of a setting that nobody gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// Read like any other value of this setting.
    Text(&'static str),
    /// Found out when the program starts; the words are for people.
    Computed(&'static str),
}

/// When a running daemon obeys another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// After a restart.
    AtStart,
    /// After SIGHUP.
    OnReload,
}

/// How a setting's text is read, its bounds (both included), and where it goes.
pub(super) enum Kind {
    /// A bare flag; `true` or `false` elsewhere.
    Switch(Field<bool>),
    Count {
        field: Field<usize>,
        min: u64,
        max: u64,
    },
    /// With `or_zero`, 0 is allowed below `min`, and the help says what it means.
    Seconds {
        field: Field<Duration>,
        min: f64,
        max: f64,
        or_zero: bool,
    },
    Text {
        store: fn(&mut Config, &str) -> Result<(), String>,
        show: fn(&Config) -> String,
        /// From the second to the first.
        copy: fn(&mut Config, &Config),
    },
    /// May be given more than once.
    List {
        store: fn(&mut Config, &[String]) -> Result<(), String>,
        show: fn(&Config) -> String,
        copy: fn(&mut Config, &Config),
    },
}

type Field<T> = fn(&mut Config) -> &mut T;

impl Setting {
    /// `--kebab-case`
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// `LUXCAST_UPPER_CASE`
    pub fn variable(&self) -> String {
        format!("LUXCAST_{}", self.name.to_ascii_uppercase())
    }

    /// The default as a person reads it.
    pub fn default_words(&self) -> &'static str {
        match self.default {
            Initial::Text(words) | Initial::Computed(words) => words,
        }
    }

    /// The allowed values in words; `None` where the unit and the help say it all.
    pub fn bounds(&self) -> Option<String> {
        match self.kind {
            Kind::Count { min, max, .. } => Some(format!("{min} to {max}")),
            Kind::Seconds { min, max, or_zero: true, .. } if min > 0.0 => {
                Some(format!("0, or {min} to {max}"))
            }
            Kind::Seconds { min, max, .. } => Some(format!("{min} to {max}")),
            Kind::Switch(_) => Some("true or false".to_string()),
            Kind::Text { .. } | Kind::List { .. } => None,
        }
    }

    /// What it may be, if that is one of a few words: its own reading names them to whoever says another.
    fn words(&self) -> Vec<String> {
        let refused = match self.kind {
            Kind::Text { .. } => self.store(&mut Config::default(), &["?".to_string()]).err(),
            _ => None,
        };
        let words = refused.as_ref().and_then(|problem| problem.split_once(" is none of "));
        words.map_or_else(Vec::new, |(_, words)| words.split(", ").map(str::to_string).collect())
    }

    /// Reads the value and puts it into its place. Only a `List` takes other than one text.
    /// The error says what is wrong with the value; the caller knows where it stood.
    pub(super) fn store(&self, config: &mut Config, texts: &[String]) -> Result<(), String> {
        if let Kind::List { store, .. } = self.kind {
            return store(config, texts);
        }
        let [text] = texts else {
            return Err("must be given once".to_string());
        };
        match self.kind {
            Kind::Switch(field) => *field(config) = read_switch(text)?,
            Kind::Count { field, min, max } => *field(config) = read_count(text, min, max)?,
            Kind::Seconds { field, min, max, or_zero } => {
                *field(config) = read_seconds(text, min, max, or_zero)?;
            }
            Kind::Text { store, .. } => store(config, text)?,
            Kind::List { .. } => unreachable!("lists are stored above"),
        }
        Ok(())
    }

    /// Takes the value over from another configuration.
    pub(super) fn copy(&self, to: &mut Config, from: &Config) {
        // As in `show`: the rows name a place to write to.
        let mut from = from.clone();
        match self.kind {
            Kind::Switch(field) => *field(to) = *field(&mut from),
            Kind::Count { field, .. } => *field(to) = *field(&mut from),
            Kind::Seconds { field, .. } => *field(to) = *field(&mut from),
            Kind::Text { copy, .. } | Kind::List { copy, .. } => copy(to, &from),
        }
    }

    /// The value in force, as it would be written.
    pub fn show(&self, config: &Config) -> String {
        // The rows name a place to write to; a copy spares them a second one to read from.
        let mut copy = config.clone();
        match self.kind {
            Kind::Switch(field) => field(&mut copy).to_string(),
            Kind::Count { field, .. } => field(&mut copy).to_string(),
            Kind::Seconds { field, .. } => field(&mut copy).as_secs_f64().to_string(),
            Kind::Text { show, .. } | Kind::List { show, .. } => show(config),
        }
    }
}

/// Takes every text, since our own reading names the flag in its error; for completions it knows the words.
#[derive(Clone)]
struct Words(Vec<String>);

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(&self, command: &Command, flag: Option<&Arg>, text: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, flag, text)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let words = self.0.iter().map(|word| PossibleValue::new(word.clone()));
        (!self.0.is_empty()).then(|| Box::new(words) as Box<dyn Iterator<Item = PossibleValue>>)
    }
}

/// The same command with one flag a setting.
pub fn add_flags(command: Command) -> Command {
    let sources = "Each setting may also be given as a variable (LUXCAST_HISTORY_BYTES) or as a key of the TOML \
                   file that --config names (history_bytes). A flag overrides a variable, a variable the file.";
    command.after_help(sources).args(SETTINGS.iter().map(|setting| {
        let flag = Arg::new(setting.name).long(setting.name.replace('_', "-"));
        if let Kind::Switch(_) = setting.kind {
            return flag.help(setting.help).action(ArgAction::SetTrue);
        }
        let mut help = format!("{} [default: {}]", setting.help, setting.default_words());
        if let Some(bounds) = setting.bounds() {
            write!(help, " [{bounds}]").expect("a String takes everything");
        }
        let is_list = matches!(setting.kind, Kind::List { .. });
        let hint = match (setting.unit, setting.name) {
            ("path", "state_dir") => ValueHint::DirPath,
            ("path", _) => ValueHint::FilePath,
            _ => ValueHint::Other,
        };
        // A negative number must reach our own reading, whose error names the flag and the bounds.
        flag.help(help)
            .value_name(setting.unit.to_ascii_uppercase())
            .value_hint(hint)
            .value_parser(Words(setting.words()))
            .hide_possible_values(true)
            .allow_negative_numbers(true)
            .action(if is_list { ArgAction::Append } else { ArgAction::Set })
    }))
}

/// The README's table of settings.
pub fn settings_markdown() -> String {
    let mut table = String::from("| setting | default | unit | allowed | SIGHUP | meaning |\n");
    table.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for setting in &SETTINGS {
        let Setting { name, unit, help, .. } = setting;
        let default = match setting.default {
            Initial::Text(text) => format!("`{text}`"),
            Initial::Computed(words) => words.to_string(),
        };
        let bounds = setting.bounds().unwrap_or_default();
        let change = match setting.change {
            Change::AtStart => "",
            Change::OnReload => "yes",
        };
        writeln!(table, "| `{name}` | {default} | {unit} | {bounds} | {change} | {help} |")
            .expect("a String takes everything");
    }
    table
}

/// A TOML file in which every setting stands as a comment, with its help and its default.
pub fn settings_toml() -> String {
    let mut file = String::from(
        "# Settings of luxcast, each with its default; take away the `#` before the ones to change. Where nothing\n\
         # stands behind the `=`, the default is found out at start. Variables (LUXCAST_HISTORY_BYTES) override this\n\
         # file, flags override both. `luxcast check-config --config FILE` shows what is in force. Settings with\n\
         # \"SIGHUP\" can be changed while the daemon runs: systemctl reload luxcast.\n",
    );
    // The file cannot name another one.
    for setting in SETTINGS.iter().filter(|setting| setting.name != "config") {
        let mut notes = vec![format!("default: {}", setting.default_words())];
        notes.extend(setting.bounds());
        if setting.change == Change::OnReload {
            notes.push("SIGHUP".to_string());
        }
        let value = match (&setting.kind, setting.default) {
            (Kind::Text { .. }, Initial::Text(text)) => format!(" \"{text}\""),
            (Kind::List { .. }, Initial::Text(text)) => format!(" [\"{text}\"]"),
            (_, Initial::Text(text)) => format!(" {text}"),
            (Kind::List { .. }, Initial::Computed("none")) => " []".to_string(),
            (_, Initial::Computed("none")) => " \"none\"".to_string(),
            (_, Initial::Computed(_)) => String::new(),
        };
        let Setting { name, help, .. } = setting;
        write!(file, "\n# {help}\n# ({})\n#{name} ={value}\n", notes.join("; "))
            .expect("a String takes everything");
    }
    file
}

#[cfg(test)]
mod tests {
    use super::{Initial, Kind, add_flags, settings_markdown, settings_toml};
    use crate::config::Config;
    use crate::config::table::SETTINGS;
    use clap::Command;

    #[test]
    fn the_words_of_a_setting_are_known_to_completions() {
        let words = |name: &str| SETTINGS.iter().find(|setting| setting.name == name).unwrap().words();
        assert_eq!(words("overrun"), ["gap", "wait"]);
        assert_eq!(words("log_format"), ["human", "json"]);
        assert!(words("jwt_algorithm").contains(&"ES256".to_string()));
        assert!(words("token_file").is_empty() && words("shards").is_empty());
    }

    #[test]
    fn each_row_can_be_used_as_it_is_shown() {
        for setting in &SETTINGS {
            let shown = setting.show(&Config::default());
            let mut config = Config::default();
            if let Initial::Text(text) = setting.default {
                assert_eq!(shown, text, "{}", setting.name);
            }
            let stored = setting.store(&mut config, std::slice::from_ref(&shown));
            assert_eq!(stored, Ok(()), "{}", setting.name);
            assert_eq!(setting.show(&config), shown, "{}", setting.name);
        }
    }

    #[test]
    fn each_row_has_a_place_of_its_own() {
        for written in &SETTINGS {
            let other = match (written.name, &written.kind) {
                ("config" | "ingest" | "token_file" | "jwt_key_file", _) => "/elsewhere".to_string(),
                ("overrun", _) => "wait".to_string(),
                ("jwt_algorithm", _) => "ES256".to_string(),
                ("log_level", _) => "off".to_string(),
                ("log_format", _) => "json".to_string(),
                ("allowed_origins", _) => "null".to_string(),
                ("allowed_hosts", _) => "workflows.example".to_string(),
                ("trusted_proxies", _) => "10.0.0.0/8".to_string(),
                (_, Kind::Switch(_)) => "true".to_string(),
                (_, Kind::List { .. } | Kind::Text { .. }) => "127.0.0.1:1".to_string(),
                (_, Kind::Count { max, .. }) => max.to_string(),
                (_, Kind::Seconds { max, .. }) => max.to_string(),
            };
            let mut config = Config::default();
            written.store(&mut config, std::slice::from_ref(&other)).unwrap();
            let mut copied = Config::default();
            written.copy(&mut copied, &config);
            assert_eq!(copied, config, "{}", written.name);
            for setting in &SETTINGS {
                let changed = setting.show(&config) != setting.show(&Config::default());
                assert_eq!(changed, setting.name == written.name, "{}", setting.name);
            }
        }
    }

    #[test]
    fn names_are_made_from_one_name() {
        let setting = &SETTINGS[5];
        assert_eq!(setting.name, "heartbeat_seconds");
        assert_eq!(setting.flag(), "--heartbeat-seconds");
        assert_eq!(setting.variable(), "LUXCAST_HEARTBEAT_SECONDS");
    }

    #[test]
    fn a_value_is_given_once_unless_it_is_a_list() {
        let mut config = Config::default();
        let two = ["1".to_string(), "2".to_string()];
        assert_eq!(SETTINGS[4].name, "shards");
        assert_eq!(SETTINGS[4].store(&mut config, &two), Err("must be given once".to_string()));
        assert_eq!(SETTINGS[4].store(&mut config, &[]), Err("must be given once".to_string()));
    }

    #[test]
    fn the_help_tells_default_and_bounds() {
        let mut command = add_flags(Command::new("serve")).term_width(0);
        command.build();
        let help = command.render_help().to_string();
        assert!(help.contains("--heartbeat-seconds <SECONDS>"), "{help}");
        assert!(help.contains("[default: 30] [0.1 to 86400]"), "{help}");
        assert!(help.contains("[default: number of cores] [1 to 64]"), "{help}");
        assert!(help.contains("--demo "), "{help}");
        assert!(help.contains("A flag overrides a variable, a variable the file."), "{help}");
    }

    #[test]
    fn the_markdown_table_has_one_row_a_setting() {
        let markdown = settings_markdown();
        let rows: Vec<&str> = markdown.lines().skip(2).collect();
        assert_eq!(rows.len(), SETTINGS.len());
        assert_eq!(
            rows[5],
            "| `heartbeat_seconds` | `30` | seconds | 0.1 to 86400 | yes | Time between two pings on a connection |"
        );
        for row in rows {
            assert_eq!(row.matches('|').count(), 7, "{row}");
        }
    }

    #[test]
    fn the_file_of_defaults_changes_nothing_when_its_settings_are_put_in_force() {
        let file = settings_toml();
        let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
        let rows: Vec<&str> = file.lines().filter(is_setting).map(|line| &line[1..]).collect();
        assert_eq!(rows.len(), SETTINGS.len() - 1);
        assert!(rows.contains(&"heartbeat_seconds = 30") && rows.contains(&"shards ="), "{file}");
        let given: Vec<&str> = rows.into_iter().filter(|row| !row.ends_with('=')).collect();
        assert!(given.len() + 3 > SETTINGS.len() - 1, "{given:?}");
        let directory = tempfile::tempdir().unwrap();
        for text in [file.clone(), given.join("\n")] {
            let path = directory.path().join("luxcast.toml");
            std::fs::write(&path, text).unwrap();
            let flags = add_flags(Command::new("serve"))
                .try_get_matches_from(["serve", "--config", path.to_str().unwrap()])
                .unwrap();
            let mut config = crate::config::load(&flags, Vec::new()).unwrap().config;
            config.config = None;
            assert_eq!(config, Config::default());
        }
    }
}
