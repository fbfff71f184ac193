//! Snapshots of long streams: a short cut for loading, never the truth.

use sqlx::{PgPool, Row};
use weft_domain::{LogAggregate, LogOrder};
use weft_log_reader::Loaded;

/// How a snapshot is written, and by which code it was folded: every other one is passed over.
const FOLD: &str = concat!("1-", env!("WEFT_FOLD_FINGERPRINT"));

/// The stream's snapshot, if this code can use it.
pub(crate) async fn find<A: LogAggregate>(pool: &PgPool, id: &str) -> Result<Option<Loaded<A>>, sqlx::Error> {
    let row = sqlx::query(
        "select version, state::text as state, partition_key, epoch, transaction_id, position
         from snapshots where aggregate_type = $1 and aggregate_id = $2 and fold = $3",
    )
    .bind(A::TYPE)
    .bind(id)
    .bind(FOLD)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let state: &str = row.try_get("state")?;
    let Ok(state) = serde_json::from_str(state) else {
        tracing::warn!(aggregate = A::TYPE, %id, "a snapshot cannot be read; its stream is folded from the first event");
        return Ok(None);
    };
    Ok(Some(Loaded {
        state,
        version: row.try_get("version")?,
        partition_key: row.try_get("partition_key")?,
        head: Some(LogOrder {
            epoch: row.try_get("epoch")?,
            transaction_id: row.try_get("transaction_id")?,
            position: row.try_get("position")?,
        }),
    }))
}

/// Stores `loaded` in place of what is older or of other code.
pub(crate) async fn store<A: LogAggregate>(pool: &PgPool, id: &str, loaded: &Loaded<A>) -> Result<(), sqlx::Error> {
    let (Some(head), Some(partition_key)) = (loaded.head, &loaded.partition_key) else {
        return Ok(());
    };
    let state = serde_json::to_string(&loaded.state).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(
        "insert into snapshots as s
           (aggregate_type, aggregate_id, version, fold, state, partition_key, epoch, transaction_id, position)
         values ($1, $2, $3, $4, $5::json, $6, $7, $8, $9)
         on conflict (aggregate_type, aggregate_id) do update
         set version = excluded.version, fold = excluded.fold, state = excluded.state,
             partition_key = excluded.partition_key, epoch = excluded.epoch,
             transaction_id = excluded.transaction_id, position = excluded.position
         where s.fold <> excluded.fold or s.version < excluded.version",
    )
    .bind(A::TYPE)
    .bind(id)
    .bind(loaded.version)
    .bind(FOLD)
    .bind(state)
    .bind(partition_key)
    .bind(head.epoch)
    .bind(head.transaction_id)
    .bind(head.position)
    .execute(pool)
    .await?;
    Ok(())
}
