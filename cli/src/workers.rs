//! `weft workers`: the process managers, and the rebuilding of their queues.

use clap::{Args, Subcommand};
use weft_log_writer::Executor;
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
            database::reach("log.url", config.log.url.expose()).await?;
            let executor = Executor::connect(&config, Clock::system())
                .await
                .map_err(Failure::new)?;
            let rebuilt = weft_workers::rebuild(&config, &executor).await.map_err(Failure::new)?;
            outln!("{rebuilt}");
            Ok(())
        }
    }
}
