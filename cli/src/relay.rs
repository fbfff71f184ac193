//! `weft relay`: the role, and publishing again.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use weft_domain::LogOrder;
use weft_log_reader::newest;
use weft_log_writer::relay;
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_platform::shutdown;

use crate::log::place::{Place, shown};
use crate::{Failure, log, roles};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);
const TELL_EVERY: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct RelayArgs {
    /// Publishes everything from this event on again (start, or a log order such as 77-9), as the next publication, to
    /// consumers that read their topics from the beginning again. Ends when the topics have what the log had when it began
    #[arg(long)]
    pub(crate) from: Option<Place>,
    /// Of which log, where there are several
    #[arg(long, requires = "from")]
    pub(crate) log: Option<String>,
}

pub(crate) async fn run(args: RelayArgs, config: Config) -> Result<(), Failure> {
    match args.from {
        None => roles::relay(config).await,
        Some(from) => publish_again(from, log::one(&config, args.log.as_deref())?).await,
    }
}

async fn publish_again(from: Place, config: Config) -> Result<(), Failure> {
    let pool = log::pool(&config).await?;
    let from = from.order(&pool).await?;
    let from = from.ok_or_else(|| Failure::new("--from takes start or a log order, no time"))?;
    let newest = newest(&pool).await.map_err(Failure::new)?;
    if from > newest {
        // The relay would take all that is appended below it for published.
        return Err(Failure::new(format!(
            "--from {} is behind the newest event of the log, {}: nothing was done",
            shown(from),
            shown(newest)
        )));
    }
    let prefix = config.kafka.topic_prefix.clone();
    let reached = relay::lag(&pool, &prefix).await.map_err(Failure::new)?.checkpoint;
    if from > reached && from.position > reached.position + 1 {
        eprintln!(
            "events behind {} and before {} were never published, and are passed over: say this again --from {0} where \
             Kafka's consumers need them",
            shown(reached),
            shown(from)
        );
    }
    let rewound = relay::rewind(&pool, &prefix, from).await.map_err(Failure::new)?;
    outln!(
        "publication {}: from {} to {}",
        rewound.publication,
        shown(from),
        shown(rewound.head)
    );
    start_over(&config, &pool).await?;
    let health = Health::default();
    // Until its end or a signal.
    let shutdown = shutdown::on_signal().map_err(Failure::new)?;
    let work = tokio::spawn(relay::run(
        Arc::new(config),
        Clock::system(),
        health.clone(),
        Arc::default(),
        shutdown.clone(),
    ));
    let published = wait(&pool, &prefix, rewound.head, &health, &shutdown).await;
    shutdown.cancel();
    work.await.map_err(Failure::new)?.map_err(Failure::new)?;
    published
}

/// Projections and workers read their topics from the beginning again: where Kafka lost its data, an offset of before is
/// another event now. They drop what they have by its log order, and read from the log what Kafka no longer brings; those at
/// work are fenced by the moved offset.
async fn start_over(config: &Config, log: &PgPool) -> Result<(), Failure> {
    let views = log::open("views.projector_url", config.views.projector_url.expose()).await?;
    let prefix = &config.kafka.topic_prefix;
    let failed = |table, error| {
        Failure::new(format!(
            "{table}: {error}; the next publication has begun, so say this command again when that is mended"
        ))
    };
    weft_projectors::checkpoint::start_over(&views, prefix)
        .await
        .map_err(|error| failed("the views' checkpoints", error))?;
    sqlx::query("update workers.checkpoints set next_offset = 0 where starts_with(topic, $1)")
        .bind(prefix)
        .execute(log)
        .await
        .map_err(|error| failed("workers.checkpoints", error))?;
    Ok(())
}

/// Until the checkpoint has reached `head`; this process need not be the one that moves it.
async fn wait(
    pool: &PgPool,
    prefix: &str,
    head: LogOrder,
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    let mut told = tokio::time::Instant::now();
    loop {
        let lag = relay::lag(pool, prefix).await.map_err(Failure::new)?;
        if lag.checkpoint >= head {
            outln!("everything up to {} is published", shown(head));
            return Ok(());
        }
        if told.elapsed() >= TELL_EVERY {
            told = tokio::time::Instant::now();
            let trouble = health.parts().into_values().next().map(|part| part.detail);
            eprintln!(
                "at {}, about {} events to go {}",
                shown(lag.checkpoint),
                lag.events,
                trouble.unwrap_or_default()
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => {
                return Err(Failure::new(format!(
                    "interrupted at {}: the relay goes on from there",
                    shown(lag.checkpoint)
                )));
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
