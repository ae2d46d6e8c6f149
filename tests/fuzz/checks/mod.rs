//! What must hold for any bytes: one function a kind of input, called by the fuzz targets and by `tests/checks.rs`.

pub mod actions;
pub mod bodies;
pub mod chunks;
pub mod deflate;
pub mod frames;
pub mod head;
pub mod lines;
pub mod offers;
pub mod random;
pub mod settings;
