//! Who holds the tail back: the oldest write transaction of the whole cluster.

use sqlx::{PgPool, Row};
use weft_domain::LogOrder;

/// Committed events wait for a transaction to end.
#[derive(Debug)]
pub(super) struct Stall {
    pub(super) pid: i32,
    pub(super) application: String,
    /// How long the transaction has been running.
    pub(super) seconds: f64,
}

/// `None` when nothing waits behind `after`.
pub(super) async fn stall(pool: &PgPool, after: LogOrder) -> Result<Option<Stall>, sqlx::Error> {
    let row = sqlx::query(
        "select pid, coalesce(application_name, '') as application,
                coalesce(extract(epoch from clock_timestamp() - xact_start), 0)::float8 as seconds
         from pg_stat_activity
         where backend_xid is not null and pid <> pg_backend_pid()
           and exists (
             select from events where (epoch, transaction_id, position) > ($1, $2::text::xid8, $3))
         order by age(backend_xid) desc limit 1",
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
            seconds: row.try_get("seconds")?,
        })
    })
    .transpose()
}
