//! `make chaos`: Weft under load while everything under it fails, bounded and seeded; ends non-zero when a promise was broken.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use weft_e2e::chaos::{Chaos, Server, Size};

/// Kills, stops and pauses the parts of a Weft under load and checks what it promised
#[derive(Parser)]
struct Arguments {
    /// Decides who is killed when and what clients ask
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes killed, one a round
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// How long each server stays away, in seconds
    #[arg(long, default_value_t = 60)]
    outage: u64,
    /// The folder of the stack's scripts; without it no server is stopped
    #[arg(long)]
    stack: Option<PathBuf>,
}

struct Reporter(Instant);

impl Reporter {
    fn say(&self, text: &str) {
        println!("{:>5} s  {text}", self.0.elapsed().as_secs());
    }

    async fn check(&self, chaos: &mut Chaos, what: &str) {
        let before = chaos.problems.len();
        chaos.check().await;
        let found = &chaos.problems[before..];
        let verdict = if found.is_empty() {
            "all promises held"
        } else {
            "BROKEN"
        };
        self.say(&format!("{what}: {verdict} ({} commands asked so far)", chaos.asked()));
        for problem in found.iter().take(20) {
            self.say(&format!("    {problem}"));
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = Reporter(Instant::now());
    report.say(&format!(
        "seed {}; --seed {} repeats these choices",
        arguments.seed, arguments.seed
    ));
    let size = Size {
        accounts: 6,
        clients: 6,
        pause: Duration::from_millis(400),
    };
    let mut chaos = Chaos::start(arguments.seed, size).await;
    report.say(&format!("{} processes are ready", chaos.cluster.size()));

    let mut left = arguments.rounds;
    while left > 0 {
        let block = left.min(10);
        chaos.rounds(block, |line| report.say(line)).await;
        left -= block;
        report.check(&mut chaos, &format!("{block} kills")).await;
    }
    chaos.rebalances(20).await;
    report.check(&mut chaos, "20 rebalances").await;
    chaos.paused_relay().await;
    report.check(&mut chaos, "each relay paused and woken").await;
    chaos.clock_back().await;
    report.check(&mut chaos, "the clock an hour back").await;
    chaos.failing_projection(1).await;
    report
        .check(&mut chaos, "a projection that fails on one stream in 1,000")
        .await;
    if let Some(stack) = &arguments.stack {
        for server in Server::ALL {
            chaos.outage(server, Duration::from_secs(arguments.outage), stack).await;
            report
                .check(&mut chaos, &format!("{server} away for {} s", arguments.outage))
                .await;
        }
    }
    chaos.check_topics().await;
    let problems = std::mem::take(&mut chaos.problems);
    let undetected = chaos.undetected_defects().await;
    report.say(&format!("planted defects that no checker found: {}", undetected.len()));
    for name in &undetected {
        report.say(&format!("    {name}"));
    }
    report.say(&format!(
        "{} commands asked, {} promises broken",
        chaos.asked(),
        problems.len()
    ));
    for problem in problems.iter().take(50) {
        report.say(&format!("    {problem}"));
    }
    if problems.is_empty() && undetected.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
