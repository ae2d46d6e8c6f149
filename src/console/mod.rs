//! The live page, `/console`: its files as the program carries them, and what there is under its path.
#![doc = include_str!("README.md")]

mod assets;
pub mod page;

pub use assets::Asset;
