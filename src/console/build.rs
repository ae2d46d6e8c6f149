//! Compresses the files of the live page, so that the daemon only has to send them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// `src/console/assets.rs` embeds the files in it.
const PAGE: &str = "src/console/page";

fn main() {
    println!("cargo::rerun-if-changed=src/console/build.rs");
    println!("cargo::rerun-if-changed={PAGE}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for entry in fs::read_dir(PAGE).expect("the page's directory can be read") {
        compress(&entry.expect("the page's directory can be read").path(), &out);
    }
}

fn compress(file: &Path, out: &Path) {
    let name = file.file_name().and_then(|name| name.to_str()).expect("the page's files have plain names");
    // The file itself, if it is behind a link.
    let file = file.canonicalize().expect("the page's files are there");
    println!("cargo::rerun-if-changed={}", file.display());
    let bytes = fs::read(file).expect("the page's files can be read");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&bytes).expect("a Vec takes every byte");
    let compressed = encoder.finish().expect("a Vec takes every byte");
    fs::write(out.join(format!("{name}.gz")), compressed).expect("OUT_DIR can be written");
}
