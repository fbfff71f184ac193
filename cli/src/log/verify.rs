//! `weft log verify`: gaps, schemas, upcasters, checkpoints.

use clap::Args;
use sqlx::{PgPool, Row};
use weft_domain::LogOrder;
use weft_log_reader::verify::Verification;
use weft_platform::config::{Config, KafkaSection};
use weft_platform::kafka::TopicPartition;

use super::place::shown;
use super::progress::Progress;
use super::schemas::Schemas;
use super::{Failure, open, pool};

/// Exit code where something is wrong with the log. (1: it could not be read.)
const UNSOUND: u8 = 3;
/// Problems that are printed; all are counted.
const PRINTED: u64 = 100;

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Leaves out the read models' checkpoints, for a log without its views
    #[arg(long)]
    log_only: bool,
}

pub(crate) async fn run(args: VerifyArgs, logs: &[Config]) -> Result<(), Failure> {
    let schemas = Schemas::load()?;
    let mut unsound = Vec::new();
    for config in logs {
        let name = if logs.len() > 1 {
            format!("log {}: ", config.log.name)
        } else {
            String::new()
        };
        let (problems, said) = verify(&args, config, &schemas, &name).await?;
        if problems == 0 {
            outln!("{name}{said}");
        } else {
            unsound.push(format!("{name}{said}"));
        }
    }
    if unsound.is_empty() {
        return Ok(());
    }
    Err(Failure::with_code(unsound.join("; "), UNSOUND))
}

/// Prints what is wrong with one log; answers how much it is, and what there is to say in the end.
async fn verify(args: &VerifyArgs, config: &Config, schemas: &Schemas, name: &str) -> Result<(u64, String), Failure> {
    let log = pool(config).await?;
    let views = if args.log_only {
        None
    } else {
        let views = open("views.url", config.views.url.expose()).await;
        Some(views.map_err(|error| Failure::new(format!("{error}; --log-only leaves the read models out")))?)
    };
    let mut verification = Verification::begin(log.clone()).await.map_err(Failure::new)?;
    let head = verification.head();
    let mut progress = Progress::new("verified", head.position);
    let mut problems = 0;
    let mut report = |problem: &str| {
        problems += 1;
        if problems <= PRINTED {
            outln!("{name}{problem}");
        }
    };
    let fits =
        |aggregate: &str, event: &str, version: &str, payload: &str| schemas.check(aggregate, event, version, payload);
    while let Some(found) = verification.next_page(fits).await.map_err(Failure::new)? {
        progress.at(verification.events);
        for problem in found {
            report(&format!("{}: {}", problem.event, problem.what));
        }
    }
    for problem in relay_checkpoints(&log, head).await.map_err(Failure::new)? {
        report(&problem);
    }
    if let Some(views) = views {
        let found = view_checkpoints(&views, &log, &config.kafka, head).await;
        let found =
            found.map_err(|error| Failure::new(format!("views.url: {error}; --log-only leaves the views out")))?;
        for problem in found {
            report(&problem);
        }
    }
    let Verification {
        events,
        streams,
        upcast,
        ..
    } = verification;
    let counts = format!(
        "{events} events of {streams} streams up to {}, {upcast} of older versions",
        shown(head)
    );
    if problems == 0 {
        return Ok((0, format!("{counts}: sound")));
    }
    let more = problems.saturating_sub(PRINTED);
    let unprinted = if more > 0 {
        format!(" ({more} not printed)")
    } else {
        String::new()
    };
    Ok((problems, format!("{counts}: {problems} problems{unprinted}")))
}

/// A checkpoint beyond the log's head was made from events that the log has lost.
async fn relay_checkpoints(log: &PgPool, head: LogOrder) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query(
        "select c.relay, c.epoch, c.transaction_id::text::bigint as transaction_id, c.position,
                c.owner_epoch > l.owner_epoch as unowned
         from relay_checkpoints c left join relay_leases l on l.relay = c.relay",
    )
    .fetch_all(log)
    .await?;
    let mut problems = Vec::new();
    for row in rows {
        let relay: String = row.try_get("relay")?;
        let at = LogOrder {
            epoch: row.try_get("epoch")?,
            transaction_id: row.try_get("transaction_id")?,
            position: row.try_get("position")?,
        };
        if at > head && beyond(log, at).await? {
            problems.push(format!(
                "relay {relay}: its checkpoint {} is beyond the log: was an older copy restored? weft log adopt",
                shown(at)
            ));
        }
        if row.try_get::<Option<bool>, _>("unowned")? != Some(false) {
            problems.push(format!(
                "relay {relay}: its checkpoint was written by an owner that no lease knows"
            ));
        }
    }
    Ok(problems)
}

/// No event stands at or behind `order`, also not one that came meanwhile.
async fn beyond(log: &PgPool, order: LogOrder) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select not exists (
           select from events where (epoch, transaction_id, position) >= ($1, $2::text::xid8, $3))",
    )
    .bind(order.epoch)
    .bind(order.transaction_id.to_string())
    .bind(order.position)
    .fetch_one(log)
    .await
}

/// Every checkpoint of a read model on this log's partitions names an event of it, or the beginning of an epoch of it.
async fn view_checkpoints(
    views: &PgPool,
    log: &PgPool,
    kafka: &KafkaSection,
    head: LogOrder,
) -> Result<Vec<String>, sqlx::Error> {
    let log_id: uuid::Uuid = sqlx::query_scalar("select log_id from log_identity")
        .fetch_one(log)
        .await?;
    let rows = sqlx::query(
        "select projection, topic, partition, epoch, transaction_id, position, log_id
         from views.checkpoints where log_id is not null order by projection, topic, partition",
    )
    .fetch_all(views)
    .await?;
    let mut problems = Vec::new();
    for row in rows {
        let projection: String = row.try_get("projection")?;
        let place = TopicPartition {
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
        };
        if kafka.share_of(&place) != kafka.share.index {
            continue;
        }
        let name = format!("projection {projection}, {}/{}", place.topic, place.partition);
        let known: uuid::Uuid = row.try_get("log_id")?;
        let at = LogOrder {
            epoch: row.try_get("epoch")?,
            transaction_id: row.try_get("transaction_id")?,
            position: row.try_get("position")?,
        };
        if known != log_id {
            problems.push(format!(
                "{name}: made from the log {known}, this is {log_id}: rebuild it"
            ));
        } else if at.position != 0 && !stands(log, at).await? {
            let place = if at > head {
                "beyond the log: was an older copy restored? weft log adopt"
            } else {
                "no event of the log: rebuild it"
            };
            problems.push(format!("{name}: its high-water {} is {place}", shown(at)));
        }
    }
    Ok(problems)
}

/// Whether an event stands at `order`.
async fn stands(log: &PgPool, order: LogOrder) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (
           select from events where epoch = $1 and transaction_id = $2::text::xid8 and position = $3)",
    )
    .bind(order.epoch)
    .bind(order.transaction_id.to_string())
    .bind(order.position)
    .fetch_one(log)
    .await
}
