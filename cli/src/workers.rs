//! `weft workers`: the process managers, and the rebuilding of their queues.

use std::sync::Arc;

use clap::{Args, Subcommand};
use weft_log_writer::Logs;
use weft_platform::clock::Clock;
use weft_platform::config::Config;

use crate::{Failure, database, roles};

#[derive(Args)]
pub(crate) struct WorkersArgs {
    #[command(subcommand)]
    pub(crate) command: Option<WorkersCommand>,
}

#[derive(Subcommand)]
pub(crate) enum WorkersCommand {
    /// Rebuilds the durable queues from the log; run it while no worker runs
    Rebuild,
}

pub(crate) async fn run(args: WorkersArgs, config: Config) -> Result<(), Failure> {
    match args.command {
        None => roles::workers(config).await,
        Some(WorkersCommand::Rebuild) => {
            for log in config.by_log() {
                database::reach("log.url", log.log.url.expose()).await?;
            }
            let config = Arc::new(config);
            let logs = Logs::connect(Arc::clone(&config), Clock::system()).await;
            let logs = logs.map_err(Failure::new)?;
            for (config, executor) in config.by_log().iter().zip(logs.all()) {
                let rebuilt = weft_workers::rebuild(config, executor).await.map_err(Failure::new)?;
                outln!("log {}: {rebuilt}", config.log.name);
            }
            Ok(())
        }
    }
}
