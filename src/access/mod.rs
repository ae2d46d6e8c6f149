//! Who may connect and what they may watch: it counts connections, judges a request's claims, and returns a permit or a
//! refusal. It knows no topics.
#![doc = include_str!("README.md")]

pub mod address_limits;
pub mod admission;
pub mod allowed_hosts;
pub mod allowed_origins;
pub mod client_address;
pub mod credential;
pub mod jwt;
pub mod keyring;
pub mod patterns;
pub mod redaction;
pub mod refusal_log;
pub mod rights;
pub mod ring_provider;
pub mod token_bucket;
pub mod token_file;
