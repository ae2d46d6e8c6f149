//! The live page at `/console`: its files, built into the program, and the paths they are served at.
#![doc = include_str!("README.md")]

mod assets;
pub mod page;

pub use assets::Asset;
