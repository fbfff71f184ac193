//! `weft demo`: does by REST, GraphQL and a QR code what a user would, then compares what everybody saw, message by
//! message.

mod accounts;
mod client;
mod compare;
mod follow;
mod plan;
mod send;
mod sources;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;
use weft_platform::config::Config;

use crate::Failure;

/// What `weft demo` is asked to do.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Rows to send: a CSV file as `examples/README.md` describes it
    file: Option<PathBuf>,
    /// Generate this many messages instead of reading a file
    #[arg(long, conflicts_with = "file")]
    messages: Option<usize>,
    /// Accounts to spread the generated messages over
    #[arg(long, default_value_t = 3, requires = "messages")]
    accounts: usize,
    /// Names a run of generated messages: the same name sends nothing twice, another one sends anew
    #[arg(long, default_value = "demo")]
    run: String,
    /// Where Weft serves its APIs
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    api: Url,
    /// Where the simulator listens
    #[arg(long, default_value = "http://127.0.0.1:8090")]
    simulator: Url,
    #[arg(long, default_value = "dev-token-a", env = "WEFT_TOKEN")]
    token: String,
    /// Requests in flight at once
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// How long to wait, in all, for something that does not answer or does not come, in seconds
    #[arg(long, default_value_t = 300)]
    patience: u64,
    /// Scan and confirm the login codes on the simulator instead of waiting for somebody
    #[arg(long)]
    scan: bool,
}

/// Exit code when the four sources disagree.
const DISAGREE: u8 = 3;

pub(crate) async fn run(args: DemoArgs, config: Config) -> Result<(), Failure> {
    let patience = Duration::from_secs(args.patience);
    let plan = match (&args.file, args.messages) {
        (Some(file), _) => plan::read(file)?,
        (None, Some(messages)) => plan::generate(&args.run, messages, args.accounts.max(1)),
        (None, None) => return Err(Failure::new("name a CSV file, or say how many with --messages N")),
    };
    let api = client::Api::new(args.api.clone(), args.token.clone(), patience)?;
    let simulator = client::Simulator::new(args.simulator.clone(), patience)?;
    outln!(
        "{} rows over {} accounts ({})",
        plan.rows.len(),
        plan.account_names.len(),
        plan.name
    );

    let accounts = accounts::online(&api, args.scan.then_some(&simulator), &plan.account_names, patience).await?;
    let started = std::time::Instant::now();
    let follower = follow::Follower::start(&api, &accounts);
    let sent = send::all(&api, &plan, &accounts, args.concurrency.max(1)).await?;
    follower.until_ended(&api, &sent, patience).await?;
    let elapsed = started.elapsed();

    let verdict = compare::compare(&api, &simulator, &config, &accounts, &sent, patience).await?;
    table::print(&sent, &verdict, elapsed);
    if verdict.differences.is_empty() {
        Ok(())
    } else {
        Err(Failure::with_code(
            format!(
                "{} differences between log, GraphQL, ClickHouse and ledger",
                verdict.differences.len()
            ),
            DISAGREE,
        ))
    }
}
