//! The feed: Kafka's account and message events become rows of the queues, a batch per transaction together with the
//! offsets. Reading everything again, from an empty checkpoint even, changes nothing that has been done.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::{PgConnection, Row};
use weft_log_reader::typed::DecodeError;
use weft_platform::kafka::{EventConsumer, EventRecord, TopicPartition};

use crate::backoff;
use crate::context::Context;
use crate::error::WorkerError;
use crate::queue::{Applied, Fact, REBUILD_LOCK, Source, apply, apply_what_fits};
use crate::rebuild::rebuild_queues;

pub(crate) const PART: &str = "worker feed";
const BATCH: usize = 2_000;
/// A batch costs some ten round trips, whatever its size.
const LINGER: Duration = Duration::from_millis(20);
/// How often a rebuild is waited for.
const REBUILD_WAIT: Duration = Duration::from_millis(500);

mod metric {
    pub(super) const EVENTS: &str = "weft_worker_feed_events_total";
    pub(super) const SKIPPED: &str = "weft_worker_feed_left_out_total";
}

/// Feeds the queues until something fails; the leader's loop starts it again.
pub(crate) async fn run(ctx: &Context) -> Result<(), WorkerError> {
    let mut offsets = checkpoints(ctx).await?;
    if offsets.is_empty() {
        // Kafka may have forgotten what the log has: begin with the log.
        rebuild_queues(&ctx.pool, &ctx.executor, &ctx.config, &ctx.clock).await?;
    }
    let kafka = &ctx.config.kafka;
    let partitions = kafka.own_partitions(&["account", "message"]);
    let log_id = ctx.executor.log_id().await?;
    let consumer = EventConsumer::assign(kafka, "workers", &partitions, &offsets)?;
    ctx.health.ready(PART);
    loop {
        let records = tokio::select! {
            () = ctx.stop.cancelled() => return Ok(()),
            records = consumer.next_batch(BATCH, LINGER) => records?,
        };
        if let Some(foreign) = records.iter().find(|record| record.log_id != log_id) {
            return Err(WorkerError::Protocol(format!(
                "topic {} carries events of log {}, not of {log_id}",
                foreign.topic, foreign.log_id
            )));
        }
        if let Some(gap) = gap(&offsets, &records) {
            // Kafka has dropped what was not read yet; the log has it.
            tracing::warn!(topic = %gap.topic, partition = gap.partition, "events are missing in Kafka");
            rebuild_queues(&ctx.pool, &ctx.executor, &ctx.config, &ctx.clock).await?;
        }
        let facts = decode(&records)?;
        let next = next_offsets(&records);
        let mut what_fits = false;
        let applied = loop {
            match store(ctx, &facts, what_fits, &offsets, &next).await {
                Ok(Some(applied)) => break applied,
                Ok(None) => {
                    if !ctx.pause(REBUILD_WAIT).await {
                        return Ok(());
                    }
                }
                // The lanes' owners write the same rows, each in its own order.
                Err(error) if is_deadlock(&error) => {}
                Err(error) if error.is_lasting() && !what_fits => what_fits = true,
                Err(error) => return Err(error),
            }
        };
        offsets.extend(next);
        metrics::counter!(metric::EVENTS).increment(records.len() as u64);
        wake(ctx, &applied);
        ctx.health.ready(PART);
    }
}

/// Tells this process's workers what there is to do.
pub(crate) fn wake(ctx: &Context, applied: &Applied) {
    for account in &applied.accounts {
        ctx.lanes.account_changed(*account);
    }
    for (account, priority) in &applied.ready {
        ctx.lanes.message_arrived(*account, *priority);
    }
    if !applied.accounts.is_empty() {
        ctx.signals.session.notify_one();
    }
    if !applied.accounts.is_empty() || !applied.ready.is_empty() {
        ctx.signals.dispatch.notify_one();
    }
    if applied.unknown {
        ctx.signals.settle.notify_one();
    }
}

async fn checkpoints(ctx: &Context) -> Result<HashMap<TopicPartition, i64>, WorkerError> {
    let rows = sqlx::query("select topic, partition, next_offset from workers.checkpoints")
        .fetch_all(&ctx.pool)
        .await?;
    let mut offsets = HashMap::new();
    for row in rows {
        let place = TopicPartition {
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
        };
        offsets.insert(place, row.try_get("next_offset")?);
    }
    Ok(offsets)
}

/// A partition whose first record is not the one that was expected.
fn gap(offsets: &HashMap<TopicPartition, i64>, records: &[EventRecord]) -> Option<TopicPartition> {
    let mut seen: HashSet<(&str, i32)> = HashSet::new();
    for record in records {
        if !seen.insert((&record.topic, record.partition)) {
            continue;
        }
        let place = TopicPartition {
            topic: record.topic.clone(),
            partition: record.partition,
        };
        if offsets.get(&place).is_some_and(|next| record.offset > *next) {
            return Some(place);
        }
    }
    None
}

/// An event of a newer program stops the feed; a known one that does not decode is left out, or nothing would be sent
/// any more for anybody.
fn decode(records: &[EventRecord]) -> Result<Vec<Fact>, WorkerError> {
    let mut facts = Vec::with_capacity(records.len());
    for record in records {
        match Fact::from_record(record) {
            Ok(fact) => facts.extend(fact),
            Err(error @ DecodeError::UnknownEvent { .. }) => return Err(error.into()),
            Err(error) => {
                metrics::counter!(metric::SKIPPED).increment(1);
                tracing::error!(event.id = %record.id(), %error, "the workers leave an event out");
            }
        }
    }
    Ok(facts)
}

fn next_offsets(records: &[EventRecord]) -> HashMap<TopicPartition, i64> {
    records
        .iter()
        .map(|record| {
            (
                TopicPartition {
                    topic: record.topic.clone(),
                    partition: record.partition,
                },
                record.offset + 1,
            )
        })
        .collect()
}

/// Applies a batch and advances the checkpoint in one transaction; `None`: a rebuild is running.
async fn store(
    ctx: &Context,
    facts: &[Fact],
    what_fits: bool,
    from: &HashMap<TopicPartition, i64>,
    next: &HashMap<TopicPartition, i64>,
) -> Result<Option<Applied>, WorkerError> {
    let mut transaction = ctx.pool.begin().await?;
    let allowed: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock_shared($1)")
        .bind(REBUILD_LOCK)
        .fetch_one(&mut *transaction)
        .await?;
    if !allowed {
        return Ok(None);
    }
    let interval = Duration::from_secs(ctx.config.heartbeat.interval_seconds);
    let now = ctx.clock.now();
    let heartbeat_at = || now + backoff::delta(backoff::around(interval));
    let applied = if what_fits {
        let (applied, left_out) = apply_what_fits(&mut transaction, facts, Source::Feed, now, heartbeat_at).await?;
        metrics::counter!(metric::SKIPPED).increment(left_out);
        applied
    } else {
        apply(&mut transaction, facts, Source::Feed, now, heartbeat_at).await?
    };
    advance(&mut transaction, from, next).await?;
    transaction.commit().await?;
    Ok(Some(applied))
}

fn is_deadlock(error: &WorkerError) -> bool {
    let WorkerError::Database(error) = error else {
        return false;
    };
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .as_deref()
        == Some("40P01")
}

/// By compare-and-set: a feed that another process has overtaken writes nothing.
async fn advance(
    connection: &mut PgConnection,
    from: &HashMap<TopicPartition, i64>,
    next: &HashMap<TopicPartition, i64>,
) -> Result<(), WorkerError> {
    let places: Vec<(&TopicPartition, &i64)> = next.iter().collect();
    let advanced = sqlx::query(
        "insert into workers.checkpoints as c (topic, partition, next_offset)
         select topic, partition, next_offset
         from unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) as v (topic, partition, next_offset, seen)
         where seen is null or exists (
           select from workers.checkpoints o where o.topic = v.topic and o.partition = v.partition)
         on conflict (topic, partition) do update
         set next_offset = excluded.next_offset, updated_at = clock_timestamp()
         where c.next_offset = (
           select v.seen from unnest($1::text[], $2::integer[], $4::bigint[]) as v (topic, partition, seen)
           where v.topic = c.topic and v.partition = c.partition)",
    )
    .bind(places.iter().map(|(place, _)| place.topic.clone()).collect::<Vec<_>>())
    .bind(places.iter().map(|(place, _)| place.partition).collect::<Vec<_>>())
    .bind(places.iter().map(|(_, next)| **next).collect::<Vec<_>>())
    .bind(
        places
            .iter()
            .map(|(place, _)| from.get(*place).copied())
            .collect::<Vec<Option<i64>>>(),
    )
    .execute(connection)
    .await?
    .rows_affected();
    if advanced == places.len() as u64 {
        Ok(())
    } else {
        Err(WorkerError::LeadershipLost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_goes_on_where_it_stopped_has_no_gap() {
        let place = TopicPartition {
            topic: "t".to_owned(),
            partition: 0,
        };
        let offsets = HashMap::from([(place, 5)]);
        assert_eq!(gap(&offsets, &[record(5), record(6)]), None);
        assert_eq!(
            gap(&offsets, &[record(3)]),
            None,
            "a topic that was made anew is read again"
        );
        assert!(gap(&offsets, &[record(7), record(8)]).is_some());
        assert_eq!(gap(&HashMap::new(), &[record(7)]), None, "nothing was expected");
    }

    fn record(offset: i64) -> EventRecord {
        EventRecord {
            topic: "t".to_owned(),
            partition: 0,
            offset,
            log_id: uuid::Uuid::nil(),
            aggregate_type: "message".to_owned(),
            aggregate_id: String::new(),
            sequence: 1,
            event_type: String::new(),
            event_version: String::new(),
            tenant_id: uuid::Uuid::nil(),
            epoch: 1,
            transaction_id: 1,
            position: 1,
            publication: 1,
            recorded_at: chrono::DateTime::UNIX_EPOCH,
            actor: String::new(),
            actor_type: String::new(),
            correlation_id: String::new(),
            traceparent: String::new(),
            payload: Vec::new(),
        }
    }
}
