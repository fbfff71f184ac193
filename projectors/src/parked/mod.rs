//! Dead letters: streams whose events are put aside, because one of them fails in the same way for ever.

mod fault;
mod retry;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{FromRow, Row};
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_platform::kafka::{AGGREGATES, TopicPartition};

use crate::error::ProjectionError;
use crate::event::{EventPlace, Stream};
use crate::row::{column, log_order};

pub use fault::Fault;
pub use retry::{Retried, retry};

/// The streams of one projection whose events are put aside.
pub type Parked = BTreeSet<Stream>;

/// A stream to park.
#[derive(Clone, Debug)]
pub struct Park {
    pub partition: TopicPartition,
    pub place: EventPlace,
    pub fault: Fault,
    /// Rows of a Fold view that lack the stream's events from here on.
    pub incomplete_rows: Vec<Uuid>,
}

/// A dead letter as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub projection: String,
    pub aggregate_type: String,
    pub aggregate_id: Uuid,
    pub tenant_id: Uuid,
    pub partition: TopicPartition,
    /// The event that fails, and the newest one put aside.
    pub sequence: i64,
    pub last_sequence: i64,
    pub event_type: String,
    pub order: LogOrder,
    pub fingerprint: String,
    pub error: String,
    pub is_discarded: bool,
    pub incomplete_rows: Vec<Uuid>,
    pub attempts: i32,
    pub parked_at: DateTime<Utc>,
    pub tried_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for DeadLetter {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            projection: row.try_get("projection")?,
            aggregate_type: row.try_get("aggregate_type")?,
            aggregate_id: row.try_get("aggregate_id")?,
            tenant_id: row.try_get("tenant_id")?,
            partition: TopicPartition {
                topic: row.try_get("topic")?,
                partition: row.try_get("partition")?,
            },
            sequence: row.try_get("sequence")?,
            last_sequence: row.try_get("last_sequence")?,
            event_type: row.try_get("event_type")?,
            order: log_order(row)?,
            fingerprint: row.try_get("fingerprint")?,
            error: row.try_get("error")?,
            is_discarded: row.try_get::<&str, _>("state")? == "discarded",
            incomplete_rows: row.try_get("incomplete_rows")?,
            attempts: row.try_get("attempts")?,
            parked_at: row.try_get("parked_at")?,
            tried_at: row.try_get("tried_at")?,
        })
    }
}

/// All dead letters of a projection in the pool's generation, oldest first.
pub async fn list(pool: &PgPool, projection: &str) -> Result<Vec<DeadLetter>, sqlx::Error> {
    sqlx::query_as("select * from dead_letters where projection = $1 order by parked_at, aggregate_type, aggregate_id")
        .bind(projection)
        .fetch_all(pool)
        .await
}

/// The parked streams of a projection.
pub(crate) async fn streams(pool: &PgPool, projection: &str) -> Result<Parked, sqlx::Error> {
    let texts: Vec<String> =
        sqlx::query_scalar("select aggregate_type || ':' || aggregate_id from dead_letters where projection = $1")
            .bind(projection)
            .fetch_all(pool)
            .await?;
    Ok(read(&texts))
}

/// Reads texts `<aggregate>:<id>`.
pub(crate) fn read(texts: &[impl AsRef<str>]) -> Parked {
    let streams = texts.iter().filter_map(|text| {
        let (aggregate, id) = text.as_ref().split_once(':')?;
        let known = AGGREGATES.into_iter().find(|known| *known == aggregate)?;
        Some((known, id.parse().ok()?))
    });
    streams.collect()
}

/// Gives up the events of a parked stream from the one that fails on; answers whether the stream was parked.
pub async fn discard(pool: &PgPool, projection: &str, stream: (&str, Uuid)) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query(
        "update dead_letters set state = 'discarded'
         where projection = $1 and aggregate_type = $2 and aggregate_id = $3 and state = 'parked'",
    )
    .bind(projection)
    .bind(stream.0)
    .bind(stream.1)
    .execute(pool)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Stores what is parked, in the transaction that moves the checkpoint behind it.
pub(crate) async fn park(
    connection: &mut PgConnection,
    projection: &str,
    parks: &[Park],
) -> Result<(), ProjectionError> {
    for park in parks {
        let Park {
            partition,
            place,
            fault,
            incomplete_rows,
        } = park;
        sqlx::query(
            "insert into dead_letters (
               projection, aggregate_type, aggregate_id, tenant_id, topic, partition, sequence, last_sequence,
               event_type, epoch, transaction_id, position, fingerprint, error, incomplete_rows)
             values ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(projection)
        .bind(place.stream.0)
        .bind(place.stream.1)
        .bind(place.tenant_id)
        .bind(&partition.topic)
        .bind(partition.partition)
        .bind(place.sequence)
        .bind(&place.event_type)
        .bind(place.order.epoch)
        .bind(place.order.transaction_id)
        .bind(place.order.position)
        .bind(&fault.fingerprint)
        .bind(&fault.error)
        .bind(incomplete_rows)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Puts events aside, up to the given sequence of each stream. Answers whether every one of the streams is parked still.
pub(crate) async fn put_aside(
    connection: &mut PgConnection,
    projection: &str,
    aside: &BTreeMap<Stream, i64>,
) -> Result<bool, ProjectionError> {
    if aside.is_empty() {
        return Ok(true);
    }
    let aside: Vec<(&str, Uuid, i64)> = aside.iter().map(|((kind, id), last)| (*kind, *id, *last)).collect();
    let found = sqlx::query(
        "update dead_letters letter set last_sequence = greatest(letter.last_sequence, aside.sequence)
         from unnest($2::text[], $3::uuid[], $4::bigint[]) as aside (aggregate_type, aggregate_id, sequence)
         where letter.projection = $1 and letter.aggregate_type = aside.aggregate_type
           and letter.aggregate_id = aside.aggregate_id",
    )
    .bind(projection)
    .bind(column!(aside, 0))
    .bind(column!(aside, 1))
    .bind(column!(aside, 2))
    .execute(connection)
    .await?;
    Ok(found.rows_affected() == aside.len() as u64)
}
