//! One stream for many daemons: pure state, no socket, no clock.
#![doc = include_str!("README.md")]

pub mod accounts;
pub mod chunk;
mod credit;
mod flight;
pub mod flows;
pub mod lane;
pub mod lease;
pub mod line_ranges;
pub mod numbers;
pub mod pace;
mod place;
pub mod reader;
pub mod verdict;
pub mod writer;
