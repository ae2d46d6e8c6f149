//! The machine around the daemon: files of the state directory, files that say who may watch, the service manager.
#![doc = include_str!("README.md")]

pub mod auth_files;
pub mod making;
pub mod service_manager;
pub mod state_dir;
