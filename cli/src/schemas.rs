//! `weft schemas`: the contracts that are generated from code.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{Failure, roles};

#[derive(Args)]
pub(crate) struct SchemasArgs {
    /// Write nothing; fail where a file differs from the code
    #[arg(long)]
    check: bool,
    /// The folder of the contracts
    #[arg(long, default_value = "schemas")]
    directory: PathBuf,
}

pub(crate) fn run(args: &SchemasArgs) -> Result<(), Failure> {
    let openapi = roles::openapi().to_pretty_json().map_err(Failure::new)? + "\n";
    let generated = [
        ("openapi/weft.json", openapi),
        ("graphql/schema.graphql", weft_query_api::sdl()),
    ];
    let mut stale = Vec::new();
    for (name, text) in generated {
        let path = args.directory.join(name);
        if args.check {
            if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
                stale.push(name);
            }
        } else {
            write(&path, &text)?;
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} differ from the code: run `weft schemas` and commit",
        stale.join(", ")
    )))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}
