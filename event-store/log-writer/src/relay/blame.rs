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

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::TestLog;

    #[tokio::test]
    async fn a_long_write_transaction_is_blamed_by_its_pid_when_events_wait_for_it() {
        let log = TestLog::new().await;
        let pool = log.log.pool("weft_log").await;
        let admin = log.log.admin_pool().await;
        let mut long = admin.begin().await.unwrap();
        sqlx::query("select pg_current_xact_id()")
            .execute(&mut *long)
            .await
            .unwrap();
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut *long)
            .await
            .unwrap();
        assert!(
            stall(&pool, LogOrder::default()).await.unwrap().is_none(),
            "nothing waits yet"
        );
        sqlx::query(
            "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
             values ('tenant', 't', 1, 'E', '1', '{}', '{}')",
        )
        .execute(&pool)
        .await
        .unwrap();
        // Another database of the cluster may have an older one for a moment.
        loop {
            let stall = stall(&pool, LogOrder::default()).await.unwrap().unwrap();
            if stall.pid == pid {
                assert!(stall.seconds > 0.0);
                break;
            }
        }
    }
}
