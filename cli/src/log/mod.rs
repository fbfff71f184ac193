//! `weft log`: what auditors and operators do with the log itself. Sealed fields stay sealed in everything it prints.

mod adopt;
mod archive;
mod export;
mod import;
mod line;
pub(crate) mod place;
mod progress;
mod schemas;
mod show;
mod tail;
mod verify;

use clap::{Args, Subcommand};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use weft_platform::config::Config;

use crate::{Failure, database};

/// Events read at once; together at most `Tail::PAGE_BYTES`.
const PAGE: i64 = 5_000;

#[derive(Args)]
pub(crate) struct LogArgs {
    /// Which log, where there are several; show and verify look into all of them by default
    #[arg(long, global = true)]
    log: Option<String>,
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Subcommand)]
enum LogCommand {
    /// Prints the newest events, and with --follow those to come
    Tail(tail::TailArgs),
    /// Prints one stream, upcast to today's versions
    Show(show::ShowArgs),
    /// Writes events as they are stored, one JSON object a line
    Export(export::ExportArgs),
    /// Appends what export wrote, as history: all of it or nothing; exit code 3 where it does not fit this log
    Import(import::ImportArgs),
    /// Reads the whole log with today's code and says what is wrong with it; exit code 3 when something is
    Verify(verify::VerifyArgs),
    /// Moves a closed month of messages out of the way, with a verified export beside; a call that was killed is said again
    Archive(archive::ArchiveArgs),
    /// Begins a new epoch, after a restore, a failover with loss or the load of a dump
    Adopt(adopt::AdoptArgs),
}

pub(crate) async fn run(args: LogArgs, config: Config) -> Result<(), Failure> {
    let named = args.log.as_deref();
    match args.command {
        LogCommand::Tail(args) => tail::run(args, &pool(&one(&config, named)?).await?).await,
        LogCommand::Show(args) => show::run(args, &chosen(&config, named)?).await,
        LogCommand::Export(args) => export::run(args, &pool(&one(&config, named)?).await?).await,
        LogCommand::Import(args) => import::run(args, &one(&config, named)?, config).await,
        LogCommand::Verify(args) => verify::run(args, &chosen(&config, named)?).await,
        LogCommand::Archive(args) => archive::run(args, &one(&config, named)?).await,
        LogCommand::Adopt(args) => adopt::run(args, &one(&config, named)?).await,
    }
}

/// The configuration seen from the log that was named, or from each log.
fn chosen(config: &Config, named: Option<&str>) -> Result<Vec<Config>, Failure> {
    let logs = config.by_log();
    let Some(name) = named else { return Ok(logs) };
    let names: Vec<String> = logs.iter().map(|log| log.log.name.clone()).collect();
    let found: Vec<Config> = logs.into_iter().filter(|log| log.log.name == name).collect();
    if found.is_empty() {
        let known = names.join(", ");
        return Err(Failure::new(format!("there is no log {name}: there are {known}")));
    }
    Ok(found)
}

/// The configuration seen from the log that was named, or from the only one.
pub(crate) fn one(config: &Config, named: Option<&str>) -> Result<Config, Failure> {
    let mut logs = chosen(config, named)?;
    match (logs.pop(), logs.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            let names = logs.iter().chain(&last).map(|log| log.log.name.as_str());
            let names = names.collect::<Vec<_>>().join(" or ");
            Err(Failure::new(format!("there are several logs: say --log {names}")))
        }
    }
}

/// Few connections to the log.
pub(crate) async fn pool(config: &Config) -> Result<PgPool, Failure> {
    open("log.url", config.log.url.expose()).await
}

pub(crate) async fn open(key: &str, url: &str) -> Result<PgPool, Failure> {
    let options = database::reach(key, url).await?;
    Ok(PgPoolOptions::new()
        .max_connections(2)
        .connect_lazy_with(options.application_name("weft log")))
}
