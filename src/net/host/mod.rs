//! What the daemon uses of its machine: the state directory, token and key files, the service manager.
#![doc = include_str!("README.md")]

pub mod auth_files;
pub mod making;
pub mod service_manager;
pub mod state_dir;
