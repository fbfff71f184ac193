//! Embeds the landed event schemas, so that `weft log verify` needs no checkout.

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?)
        .join("../schemas/events")
        .canonicalize()?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for aggregate in fs::read_dir(&folder)? {
        let aggregate = aggregate?;
        for file in fs::read_dir(aggregate.path())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if let Some((event, version)) = name.strip_suffix(".json").and_then(|name| name.split_once(".v"))
                && !version.contains('.')
            {
                files.push((
                    aggregate.file_name().to_string_lossy().into_owned(),
                    event.to_owned(),
                    version.to_owned(),
                    file.path()
                        .to_str()
                        .ok_or("the checkout's path is no UTF-8")?
                        .to_owned(),
                ));
            }
        }
    }
    files.sort();
    let mut code = String::from("&[\n");
    for (aggregate, event, version, path) in files {
        writeln!(code, "({aggregate:?}, {event:?}, {version:?}, include_str!({path:?})),")?;
    }
    code.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("event_schemas.rs"), code)?;
    Ok(())
}
