//! `make bench`: ours and a peer alternate in one run; figures count as ratios only.

mod append;
mod database;
mod load;
mod pgbench;
mod report;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use weft_platform::config::Config;

use database::Databases;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the benchmarks, prints a table and writes a report.
#[derive(Parser)]
struct Arguments {
    /// Rounds of each side; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a round
    #[arg(long, default_value_t = 10)]
    seconds: u64,
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

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(None)?;
    let databases = Databases::create(&config).await?;
    let benchmarks = append::run(arguments, &databases).await;
    databases.drop().await?;
    let benchmarks = benchmarks?;
    report::print(&benchmarks);
    report::write(&arguments.report, &benchmarks)?;
    println!("written to {}", arguments.report.display());
    Ok(())
}
