//! The settings of the daemon: their values in one [`Config`], read from flags, environment and a TOML file.
//!
//! `table` has the one table of settings, and `setting` what a row can do. `texts` makes texts from all rows; `load` reads
//! the three sources. Nothing here prints.
#![doc = include_str!("README.md")]

mod bus_rules;
mod bus_table;
mod bus_url;
mod defaults;
mod fields;
mod host;
mod load;
mod setting;
mod table;
mod texts;
mod value;

pub use bus_rules::BUS_LINE_BYTES_MAX;
pub use bus_url::{BusLogin, BusUrl};
pub use fields::{
    Compression, Config, HttpPublish, JwtAlgorithm, LINE_SHARE_OF_HISTORY, LogFormat, Overrun,
    default_ingest_path, default_ingest_paths,
};
pub use load::{ConfigError, Loaded, Renewed, Source, TOKEN_VARIABLE, URL_VARIABLE, load, unknown_variables};
pub use setting::{Change, Initial, Setting};
pub use table::{SETTINGS, SHARDS_MAX};
pub use texts::{add_bus_flags, add_flags, settings_markdown, settings_toml};
pub use value::JWT_ALGORITHMS;
