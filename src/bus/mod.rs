//! One stream for many daemons: pure state, no socket, no clock.
#![doc = include_str!("README.md")]

pub mod accounts;
mod care;
mod careful;
pub mod chunk;
mod credit;
mod flight;
pub mod flows;
pub mod header_block;
pub mod lane;
pub mod lease;
pub mod line_ranges;
mod looks;
pub mod numbers;
pub mod pace;
mod place;
pub mod reader;
pub mod verdict;
pub mod writer;
