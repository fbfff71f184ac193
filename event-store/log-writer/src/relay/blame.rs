//! Who holds the tail back: the oldest write transaction of the whole cluster.

use sqlx::{PgPool, Row};
use weft_domain::LogOrder;

/// Committed events wait for a transaction to end.
#[derive(Debug)]
pub(super) struct Stall {
    /// `None` when it is no session that this server knows of.
    pub(super) pid: Option<i32>,
    pub(super) application: Option<String>,
    pub(super) database: Option<String>,
    pub(super) state: Option<String>,
    /// How long the transaction has been running.
    pub(super) running_seconds: Option<f64>,
    /// How long the oldest event has been waiting.
    pub(super) waited_seconds: f64,
}

/// `None` when the first event behind `after` does not wait for a transaction: it can be read, or there is none.
pub(super) async fn stall(pool: &PgPool, after: LogOrder) -> Result<Option<Stall>, sqlx::Error> {
    let row = sqlx::query(
        "select oldest.*, extract(epoch from clock_timestamp() - waiting.recorded_at)::float8 as waited
         from (
           select epoch, transaction_id, recorded_at from events
           where (epoch, transaction_id, position) > ($1, $2::text::xid8, $3)
           order by epoch, transaction_id, position limit 1) waiting
         left join lateral (
           select pid, application_name as application, datname::text as database, state,
                  extract(epoch from clock_timestamp() - xact_start)::float8 as running
           from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
           order by age(backend_xid) desc limit 1) oldest on true
         where waiting.epoch = (select identity.epoch from log_identity identity)
           and waiting.transaction_id >= pg_snapshot_xmin(pg_current_snapshot())",
    )
    .bind(after.epoch)
    .bind(after.transaction_id.to_string())
    .bind(after.position)
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        Ok(Stall {
            pid: row.try_get("pid")?,
            application: row.try_get("application")?,
            database: row.try_get("database")?,
            state: row.try_get("state")?,
            running_seconds: row.try_get("running")?,
            waited_seconds: row.try_get("waited")?,
        })
    })
    .transpose()
}
