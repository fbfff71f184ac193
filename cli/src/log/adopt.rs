//! `weft log adopt`: a log that has lost its end, or came from elsewhere as a whole, begins a new epoch.

use clap::Args;
use weft_log_reader::newest;
use weft_platform::config::Config;

use super::place::shown;
use super::{Failure, open};

#[derive(Args)]
pub(crate) struct AdoptArgs {
    /// Really does it: what read models, queues and Kafka have from before is then known to be of another time
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(args: AdoptArgs, config: &Config) -> Result<(), Failure> {
    let pool = open("log.admin_url", config.log.admin_url.expose()).await?;
    if !args.yes {
        let epoch: i16 = sqlx::query_scalar("select epoch from log_identity")
            .fetch_one(&pool)
            .await
            .map_err(Failure::new)?;
        return Err(Failure::new(format!(
            "the log is in epoch {epoch}. Adopting it ends that epoch: every read model has to be rebuilt (weft replay \
             --all) and the workers' queues too (weft workers rebuild). Say --yes where this log was restored, failed over \
             with a loss, or came as a dump (not after weft log import, which appends)"
        )));
    }
    let epoch = weft_log_writer::adopt(&pool).await.map_err(Failure::new)?;
    let newest = newest(&pool).await.map_err(Failure::new)?;
    outln!(
        "epoch {epoch} has begun; the newest event before it is {}. Next: weft relay --from start on topics that were made \
         anew, weft replay --all, weft workers rebuild (docs/operations/restore.md)",
        shown(newest)
    );
    Ok(())
}
