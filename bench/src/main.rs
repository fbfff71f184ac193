//! `make bench`: ours and a peer alternate in one run; figures count as ratios only.

mod append;
mod copy;
mod database;
mod growth;
mod history;
mod http;
mod import;
mod load;
mod open_loop;
mod overload;
mod peers;
mod pgbench;
mod pipeline;
mod report;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use weft_platform::config::Config;

use database::Databases;
use report::Benchmark;

/// As in `weft`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Only these, by their ids
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Events of P11's large log; beyond ten million without the read models (P4)
    #[arg(long, default_value_t = 10_000_000)]
    log_events: usize,
    #[arg(long, default_value = "bench/report.json")]
    report: std::path::PathBuf,
}

impl Arguments {
    /// Whether one of `ids` is to be measured.
    fn wants(&self, ids: &[&str]) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| ids.contains(&only.as_str()))
    }
}

const P11: &[&str] = &["P11", "P11_P1", "P11_P3", "P11_P4"];

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
    if arguments.wants(P11) {
        growth::check_space(&config, arguments.log_events).await?;
    }
    let benchmarks = all(arguments, &config).await?;
    report::print(&benchmarks);
    report::write(&arguments.report, &benchmarks)?;
    println!("written to {}", arguments.report.display());
    Ok(())
}

async fn all(arguments: &Arguments, config: &Config) -> Result<Vec<Benchmark>, Failure> {
    let mut benchmarks = Vec::new();
    if arguments.wants(&["P1", "P1_32", "P1_full", "P1_stock"]) {
        benchmarks.extend(apart(config, async |databases| append::run(arguments, databases).await).await?);
    }
    if arguments.wants(&["P1_http"]) {
        benchmarks.push(apart(config, async |databases| http::run(arguments, databases).await).await?);
    }
    if arguments.wants(&["overload"]) {
        benchmarks.push(apart(config, async |databases| overload::run(arguments, databases).await).await?);
    }
    if arguments.wants(&["P2"]) {
        benchmarks.push(apart(config, async |databases| import::run(arguments, databases).await).await?);
    }
    if arguments.wants(&["P3", "P4", "P5", "P9"]) {
        benchmarks.extend(apart(config, async |databases| pipeline::run(arguments, databases).await).await?);
    }
    if arguments.wants(P11) {
        benchmarks.extend(apart(config, async |databases| growth::run(arguments, databases).await).await?);
    }
    Ok(benchmarks)
}

/// Measures in databases of its own: what one group wrote is not what the next reads.
async fn apart<T>(config: &Config, measure: impl AsyncFnOnce(&Databases) -> Result<T, Failure>) -> Result<T, Failure> {
    let databases = Databases::create(config).await?;
    let measured = Box::pin(measure(&databases)).await;
    databases.drop().await?;
    measured
}
