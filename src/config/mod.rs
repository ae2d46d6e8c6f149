//! The settings of the daemon: their values in one [`Config`], read from flags, environment and a TOML file.
//!
//! `table` has the one table of settings, and `setting` what a row can do. `texts` makes texts from all rows; `load` reads
//! the three sources. Nothing here prints.
#![doc = include_str!("README.md")]

mod defaults;
mod fields;
mod load;
mod setting;
mod table;
mod texts;
mod value;

pub use fields::{
    Config, JwtAlgorithm, LINE_SHARE_OF_HISTORY, LogFormat, Overrun, default_ingest_path,
    default_ingest_paths,
};
pub use load::{ConfigError, Loaded, Renewed, Source, TOKEN_VARIABLE, URL_VARIABLE, load, unknown_variables};
pub use setting::{Change, Initial, Setting};
pub use table::{SETTINGS, SHARDS_MAX};
pub use texts::{add_flags, settings_markdown, settings_toml};
pub use value::JWT_ALGORITHMS;
