//! Where streams stand, without loading them.

use sqlx::{PgPool, Row};
use weft_domain::LogOrder;

use crate::load::LoadError;
use crate::stored::order;

/// The newest event that is settled: nothing can appear before it any more. `LogOrder::default()` for an empty log.
pub async fn newest(pool: &PgPool) -> Result<LogOrder, LoadError> {
    let row = sqlx::query(
        "select epoch, transaction_id::text::bigint as transaction_id, position from events
         where epoch < (select identity.epoch from log_identity identity)
            or transaction_id < pg_snapshot_xmin(pg_current_snapshot())
         order by events.epoch desc, events.transaction_id desc, events.position desc limit 1",
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.as_ref().map(order).transpose()?.unwrap_or_default())
}

/// One event of a stream: its order in the log, and the stream's partition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHead {
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub version: i64,
    pub order: LogOrder,
    pub partition_key: String,
}

/// The order of the named events (`aggregate_type`, `aggregate_id`, `sequence`), in one round trip. Events that do not
/// exist are left out.
pub async fn heads(pool: &PgPool, streams: &[(String, String, i64)]) -> Result<Vec<StreamHead>, LoadError> {
    let types: Vec<&str> = streams.iter().map(|(kind, _, _)| kind.as_str()).collect();
    let ids: Vec<&str> = streams.iter().map(|(_, id, _)| id.as_str()).collect();
    let versions: Vec<i64> = streams.iter().map(|(_, _, version)| *version).collect();
    let rows = sqlx::query(
        "select wanted.aggregate_type, wanted.aggregate_id, wanted.sequence, head.*
         from unnest($1::text[], $2::text[], $3::bigint[]) as wanted (aggregate_type, aggregate_id, sequence)
         cross join lateral (
           select epoch, transaction_id::text::bigint as transaction_id, position,
                  coalesce(
                    metadata ->> 'partition_key',
                    (select first.metadata ->> 'partition_key' from events first
                     where first.aggregate_type = wanted.aggregate_type and first.aggregate_id = wanted.aggregate_id
                     order by first.sequence limit 1),
                    events.aggregate_id) as partition_key
           from events
           where events.aggregate_type = wanted.aggregate_type and events.aggregate_id = wanted.aggregate_id
             and events.sequence = wanted.sequence) head",
    )
    .bind(types)
    .bind(ids)
    .bind(versions)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(StreamHead {
                aggregate_type: row.try_get("aggregate_type")?,
                aggregate_id: row.try_get("aggregate_id")?,
                version: row.try_get("sequence")?,
                order: order(row)?,
                partition_key: row.try_get("partition_key")?,
            })
        })
        .collect()
}
