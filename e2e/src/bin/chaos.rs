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

/// However long things take, this ends.
const LONGEST: Duration = Duration::from_mins(29);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = Reporter(Instant::now());
    report.say(&format!(
        "seed {}; --seed {} repeats these choices",
        arguments.seed, arguments.seed
    ));
    match tokio::time::timeout(LONGEST, run(&arguments, &report)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) => {
            report.say("not done after 29 minutes: see above what it was at, and give it a machine with less to do");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether every promise held and every planted defect was found.
async fn run(arguments: &Arguments, report: &Reporter) -> bool {
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
        let (mut killed, mut longest) = (Vec::new(), Duration::ZERO);
        chaos
            .rounds(block, |role, took| {
                killed.push(role.to_string());
                longest = longest.max(took);
            })
            .await;
        left -= block;
        report.say(&format!("killed {}", killed.join(", ")));
        report
            .check(
                &mut chaos,
                &format!("{block} kills, the longest round {:.1} s", longest.as_secs_f64()),
            )
            .await;
    }
    chaos.rebalances(20).await;
    report.check(&mut chaos, "20 rebalances").await;
    chaos.paused_relay().await;
    report
        .check(&mut chaos, "two relays, each paused, passed over and woken")
        .await;
    chaos.clock_back().await;
    report.check(&mut chaos, "the clocks an hour back").await;
    let parked = chaos.failing_projection().await;
    report
        .check(
            &mut chaos,
            &format!("a projection that fails on one event in 1,000, {parked} streams parked and retried"),
        )
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
    report.say(&format!("planted defects that a checker missed: {}", undetected.len()));
    for name in &undetected {
        report.say(&format!("    {name}"));
    }
    report.say(&format!(
        "{} commands asked, {} refused by a quota, {} promises broken",
        chaos.asked(),
        chaos.refused("quota.exceeded"),
        problems.len()
    ));
    for problem in problems.iter().take(50) {
        report.say(&format!("    {problem}"));
    }
    let held = problems.is_empty() && undetected.is_empty();
    if !held {
        report.say(&format!("the processes' logs are in {}", chaos.keep_logs().display()));
    }
    held
}
