//! `account_heartbeats`: the newest sample per account. Samples are no events: they come from a topic of their own, a
//! lost one does not matter, and only the newest counts, so a repeated one changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_platform::kafka::{EventConsumer, TopicPartition};

use crate::checkpoint::{self, Advance, Checkpoint};
use crate::engine::{Backoff, Engine};
use crate::error::ProjectionError;
use crate::members::Shares;
use crate::row::column;

const NAME: &str = "account_heartbeats";
const HEALTH: &str = "projection account_heartbeats";
const MAX_BATCH: usize = 2_000;
const LINGER: Duration = Duration::from_millis(100);

/// One look at an account, as the heartbeat worker tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatSample {
    pub account_id: Uuid,
    pub tenant_id: Uuid,
    pub at: DateTime<Utc>,
    pub alive: bool,
    #[serde(default)]
    pub response_time_ms: Option<i32>,
}

/// A row of `account_heartbeats`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeartbeatRow {
    pub newest: HeartbeatSample,
    /// The newest sample that found the account alive.
    pub last_heartbeat_time: Option<DateTime<Utc>>,
}

/// Projects samples until `shutdown`.
pub async fn run(engine: &Engine, mut shares: Shares, shutdown: CancellationToken) {
    engine.health.expect(HEALTH);
    let mut backoff = Backoff::default();
    loop {
        let error = tokio::select! {
            () = shutdown.cancelled() => return,
            result = project(engine, &mut shares) => match result {
                Ok(()) => continue,
                Err(error) => error,
            },
        };
        engine.health.failing(HEALTH, error.to_string());
        tracing::warn!(projection = NAME, %error, "projection starts again");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = backoff.wait() => {}
        }
    }
}

/// Until something fails, or this process's share is another one.
async fn project(engine: &Engine, shares: &mut Shares) -> Result<(), ProjectionError> {
    let only = TopicPartition {
        topic: engine.kafka.samples_topic(),
        partition: 0,
    };
    shares.looked().await;
    let mine = shares.of(NAME, &[only])?;
    if mine.is_empty() {
        engine.health.ready(HEALTH);
        shares.changed().await;
        return Ok(());
    }
    let mut checkpoints = checkpoint::load(&engine.pool, NAME, engine.generation, &mine).await?;
    let offsets = checkpoints
        .iter()
        .map(|(partition, at)| (partition.clone(), at.next_offset))
        .collect();
    let consumer = EventConsumer::assign_at(&engine.kafka, NAME, &offsets)?;
    engine.health.ready(HEALTH);
    loop {
        let records = tokio::select! {
            records = consumer.next_raw_batch(MAX_BATCH, LINGER) => records?,
            () = shares.changed() => return Ok(()),
        };
        apply(engine, &mut checkpoints, &records).await?;
    }
}

/// Writes the newest of `records` (place and value) and moves the checkpoints behind them.
pub async fn apply(
    engine: &Engine,
    checkpoints: &mut BTreeMap<TopicPartition, Checkpoint>,
    records: &[(TopicPartition, i64, Vec<u8>)],
) -> Result<(), ProjectionError> {
    let mut steps: BTreeMap<&TopicPartition, Advance> = BTreeMap::new();
    for (partition, offset, _) in records {
        let from = checkpoints.get(partition).copied().unwrap_or_default();
        let to = Checkpoint {
            next_offset: offset + 1,
            ..from
        };
        steps.insert(
            partition,
            Advance {
                partition: partition.clone(),
                from,
                to,
            },
        );
    }
    let steps: Vec<Advance> = steps.into_values().collect();
    let rows = fold(records.iter().filter_map(|(_, _, value)| read(value)));
    let mut transaction = engine.pool.begin().await?;
    checkpoint::advance(&mut transaction, NAME, engine.generation, &steps).await?;
    store(&mut transaction, &rows).await?;
    transaction.commit().await?;
    checkpoints.extend(steps.into_iter().map(|step| (step.partition, step.to)));
    Ok(())
}

fn read(value: &[u8]) -> Option<HeartbeatSample> {
    serde_json::from_slice(value)
        .inspect_err(|error| tracing::warn!(%error, "a heartbeat sample does not decode"))
        .ok()
}

/// The newest sample, and the newest living one, of each account. Pure.
pub fn fold(samples: impl Iterator<Item = HeartbeatSample>) -> Vec<HeartbeatRow> {
    let mut rows: BTreeMap<Uuid, HeartbeatRow> = BTreeMap::new();
    for sample in samples {
        let alive_at = sample.alive.then_some(sample.at);
        match rows.get_mut(&sample.account_id) {
            Some(row) => {
                row.last_heartbeat_time = row.last_heartbeat_time.max(alive_at);
                if row.newest.at <= sample.at {
                    row.newest = sample;
                }
            }
            None => {
                rows.insert(
                    sample.account_id,
                    HeartbeatRow {
                        newest: sample,
                        last_heartbeat_time: alive_at,
                    },
                );
            }
        }
    }
    rows.into_values().collect()
}

async fn store(connection: &mut PgConnection, rows: &[HeartbeatRow]) -> Result<(), ProjectionError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into account_heartbeats as known (
           account_id, tenant_id, last_heartbeat_time, sampled_at, alive, response_time_ms)
         select * from unnest(
           $1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::boolean[], $6::integer[])
         on conflict (account_id) do update set
           last_heartbeat_time = greatest(known.last_heartbeat_time, excluded.last_heartbeat_time),
           sampled_at = greatest(known.sampled_at, excluded.sampled_at),
           alive = case when known.sampled_at <= excluded.sampled_at then excluded.alive else known.alive end,
           response_time_ms = case when known.sampled_at <= excluded.sampled_at then excluded.response_time_ms
                                   else known.response_time_ms end",
    )
    .bind(column!(rows, newest.account_id))
    .bind(column!(rows, newest.tenant_id))
    .bind(column!(rows, last_heartbeat_time))
    .bind(column!(rows, newest.at))
    .bind(column!(rows, newest.alive))
    .bind(
        rows.iter()
            .map(|row| row.newest.response_time_ms.map(|ms| ms.max(0)))
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
