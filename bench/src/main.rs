//! `make bench`: ours and a peer alternate in one run; figures count as ratios only.

mod append;
mod report;

use std::process::ExitCode;

use clap::Parser;
use weft_platform::config::Config;

/// Runs the benchmarks, prints a table and writes a report.
#[derive(Parser)]
struct Arguments {
    /// Rounds of each side; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Commands a round
    #[arg(long, default_value_t = 5_000)]
    commands: usize,
    /// Commands in flight at once
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    #[arg(long, default_value = "bench/report.json")]
    report: std::path::PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load(None)?;
    let benchmarks =
        vec![append::accepting_messages(&config, arguments.rounds, arguments.commands, arguments.in_flight).await?];
    report::print(&benchmarks);
    report::write(&arguments.report, &benchmarks)?;
    println!("written to {}", arguments.report.display());
    Ok(())
}
