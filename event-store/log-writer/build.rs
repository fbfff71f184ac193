//! The migrations are embedded: a change of theirs is a change of this crate. So is what folds events: snapshots carry
//! its fingerprint.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=../../schemas/postgres/log");
    println!("cargo:rerun-if-changed=../../schemas/postgres/keys");
    let mut sources = vec![PathBuf::from("../log-reader/src/upcast.rs")];
    collect(Path::new("../../domain/src"), &mut sources)?;
    sources.sort();
    let mut fingerprint = DefaultHasher::new();
    for source in sources {
        println!("cargo:rerun-if-changed={}", source.display());
        std::fs::read(&source)?.hash(&mut fingerprint);
    }
    println!("cargo:rustc-env=WEFT_FOLD_FINGERPRINT={:016x}", fingerprint.finish());
    Ok(())
}

/// Every source below `folder` but the tests.
fn collect(folder: &Path, sources: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, sources)?;
        } else {
            sources.push(path);
        }
    }
    Ok(())
}
