//! The live page, `/console`: its files as the program carries them, and what there is under its path. It has no
//! rights of its own and holds no data; that comes from the endpoints, for whoever may see it.

mod assets;
pub mod page;

pub use assets::Asset;
