//! Texts made from the whole table of settings: the flags, a Markdown table, a TOML file.

use std::ffi::OsStr;
use std::fmt::Write;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, Command, ValueHint};

use crate::config::setting::{Change, Initial, Kind, Setting};
use crate::config::table::SETTINGS;

/// Accepts every text, since our own parser names the flag in its error. It lists the words for completions.
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

/// Adds one flag for each setting.
pub fn add_flags(command: Command) -> Command {
    let sources = "Each setting may also be given as a variable (LUXCAST_HISTORY_BYTES) or as a key of the TOML \
                   file that --config names (history_bytes). A flag overrides a variable, a variable the file.";
    command.after_help(sources).args(SETTINGS.iter().map(flag_of))
}

/// Those that say which stream a command is about, and what it is for; the others come from variables and the file.
pub fn add_bus_flags(command: Command) -> Command {
    let sources = "Each setting may also be given as a variable (LUXCAST_BUS) or as a key of the TOML file that \
                   --config names (bus). A flag overrides a variable, a variable the file.";
    let is_wanted = |setting: &&Setting| {
        let only_of_daemons = ["bus_past_bytes", "bus_replay_bytes", "bus_start_seconds"];
        ["config", "line_bytes_max", "depth_max"].contains(&setting.name)
            || (setting.name.starts_with("bus") && !only_of_daemons.contains(&setting.name))
    };
    command.after_help(sources).args(SETTINGS.iter().filter(is_wanted).map(flag_of))
}

fn flag_of(setting: &Setting) -> Arg {
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
    // A negative number must reach our own parser, whose error names the flag and the bounds.
    flag.help(help)
        .value_name(setting.unit.to_ascii_uppercase())
        .value_hint(hint)
        .value_parser(Words(setting.words()))
        .hide_possible_values(true)
        .allow_negative_numbers(true)
        .action(if is_list { ArgAction::Append } else { ArgAction::Set })
}

/// The table of settings in this room's README.md.
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

/// A TOML file with every setting as a comment, with its help and its default.
pub fn settings_toml() -> String {
    let mut file = String::from(
        "# Settings of luxcast, each with its default. Remove the `#` before a setting to change it. If nothing follows\n\
         # the `=`, the default is computed at start. Variables (LUXCAST_HISTORY_BYTES) override this\n\
         # file, flags override both. `luxcast check-config --config FILE` shows what is in force. Settings with\n\
         # \"SIGHUP\" can be changed while the daemon runs: systemctl reload luxcast.\n",
    );
    // A file cannot name another one.
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
                ("bus", _) => "nats://127.0.0.1:1".to_string(),
                ("bus_stream", _) => "OTHER".to_string(),
                ("overrun", _) => "wait".to_string(),
                ("http_publish" | "compression", _) => "off".to_string(),
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
    fn the_help_shows_default_and_bounds() {
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
    fn the_file_of_defaults_changes_nothing_when_its_settings_are_uncommented() {
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
