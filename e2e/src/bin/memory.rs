//! `make memory`: every role under steady load for minutes; ends non-zero when one's memory grew.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use weft_e2e::memory::{Course, run};

/// Starts every role, drives them for minutes and prints the memory of each
#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Accounts, each with a subscription
    #[arg(long, default_value_t = 10)]
    accounts: usize,
    /// Clients, each with a pause of up to 200 ms between two commands
    #[arg(long, default_value_t = 8)]
    clients: u64,
}

/// A machine needs this to reach its steady state.
const WARM_UP_MINUTES: u64 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.minutes <= WARM_UP_MINUTES {
        eprintln!("memory: the first {WARM_UP_MINUTES} minutes do not count: give it more with --minutes");
        return ExitCode::FAILURE;
    }
    let course = Course {
        accounts: arguments.accounts,
        clients: arguments.clients,
        pause: Duration::from_millis(200),
        length: Duration::from_mins(arguments.minutes),
        warm_up: Duration::from_mins(WARM_UP_MINUTES),
    };
    let outcome = run(course, |after, sizes| {
        let sizes: Vec<String> = sizes
            .iter()
            .map(|(process, mib)| format!("{process} {mib:.0}"))
            .collect();
        println!("{:>4} s  {}", after.as_secs(), sizes.join(", "));
    })
    .await;
    println!(
        "{} commands ({:.0}/s), {} changes told to {} subscriptions",
        outcome.commands,
        outcome.commands as f64 / course.length.as_secs_f64(),
        outcome.told,
        arguments.accounts,
    );
    println!(
        "{:<16} {:>10} {:>10} {:>10} {:>10}",
        "MiB", "at 2 min", "at the end", "peak", "per minute"
    );
    for memory in &outcome.memory {
        println!(
            "{:<16} {:>10.1} {:>10.1} {:>10.1} {:>+10.2}  {}",
            memory.process,
            memory.after_warm_up,
            memory.end,
            memory.peak,
            memory.slope_per_minute,
            if memory.is_flat() { "flat" } else { "GREW" },
        );
    }
    if outcome.memory.iter().all(weft_e2e::memory::Memory::is_flat) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
