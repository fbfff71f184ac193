//! Who publishes, and up to where: the lease and the checkpoint.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::types::Json;
use sqlx::{PgPool, Row};
use tokio::time::Instant;
use uuid::Uuid;
use weft_domain::LogOrder;

use super::RelayError;

/// The right to publish. Times are the database's, so that clocks need not agree.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pool: PgPool,
    relay: String,
    owner: Uuid,
    pub(super) owner_epoch: i64,
    time: Duration,
}

/// What Kafka has been given.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) checkpoint: LogOrder,
    /// Which publication of the log this is; one more after every `weft relay --from`.
    pub(super) publication: i64,
    /// Of this publication; `None` before its first checkpoint.
    pub(super) cluster_id: Option<String>,
    /// By topic: per partition, the offset behind the last acknowledged record.
    pub(super) next_offsets: HashMap<String, Vec<i64>>,
}

/// A lease just taken.
pub(super) struct Taken {
    pub(super) lease: Lease,
    pub(super) published: Published,
    /// Until when nobody else can have it, by our own clock.
    pub(super) valid_until: Instant,
}

impl Lease {
    /// Takes the lease if it is free, expired or ours already. The checkpoint is stamped with the new owner epoch in the
    /// same transaction, so that an owner before this one cannot move it any more.
    pub(super) async fn take(
        pool: &PgPool,
        relay: &str,
        owner: Uuid,
        time: Duration,
    ) -> Result<Option<Taken>, sqlx::Error> {
        let asked = Instant::now();
        let row = sqlx::query(
            "with leased as (
               insert into relay_leases (relay, owner, owner_epoch, expires_at)
               values ($1, $2, 1, clock_timestamp() + $3 * interval '1 millisecond')
               on conflict (relay) do update
                 set owner = excluded.owner, owner_epoch = relay_leases.owner_epoch + 1,
                     expires_at = excluded.expires_at
                 where relay_leases.expires_at <= clock_timestamp() or relay_leases.owner = excluded.owner
               returning owner_epoch),
             stamped as (
               insert into relay_checkpoints (relay, owner_epoch, epoch, transaction_id, position)
               select $1, owner_epoch, 0, '0', 0 from leased
               on conflict (relay) do update set owner_epoch = excluded.owner_epoch
                 where relay_checkpoints.owner_epoch < excluded.owner_epoch
               returning epoch, transaction_id::text::bigint as transaction_id, position, publication, cluster_id,
                         next_offsets)
             select leased.owner_epoch, stamped.* from leased cross join stamped",
        )
        .bind(relay)
        .bind(owner)
        .bind(time.as_millis() as i64)
        .fetch_optional(pool)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let lease = Self {
            pool: pool.clone(),
            relay: relay.to_owned(),
            owner,
            owner_epoch: row.try_get("owner_epoch")?,
            time,
        };
        let published = Published {
            checkpoint: LogOrder {
                epoch: row.try_get("epoch")?,
                transaction_id: row.try_get("transaction_id")?,
                position: row.try_get("position")?,
            },
            publication: row.try_get("publication")?,
            cluster_id: row.try_get("cluster_id")?,
            next_offsets: row.try_get::<Json<_>, _>("next_offsets")?.0,
        };
        Ok(Some(Taken {
            lease,
            published,
            valid_until: asked + time,
        }))
    }

    /// Renews it; `None` when somebody else has it.
    async fn renew(&self) -> Result<Option<Instant>, sqlx::Error> {
        let asked = Instant::now();
        let renewed = sqlx::query(
            "update relay_leases set expires_at = clock_timestamp() + $4 * interval '1 millisecond'
             where relay = $1 and owner = $2 and owner_epoch = $3",
        )
        .bind(&self.relay)
        .bind(self.owner)
        .bind(self.owner_epoch)
        .bind(self.time.as_millis() as i64)
        .execute(&self.pool)
        .await?
        .rows_affected();
        Ok((renewed == 1).then_some(asked + self.time))
    }

    /// Keeps the lease, telling `valid_until`; returns when it is lost, or may be because the database does not answer.
    pub(super) async fn keep(&self, valid_until: &tokio::sync::watch::Sender<Instant>) {
        let mut timer = tokio::time::interval(self.time / 3);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let deadline = *valid_until.borrow();
            match tokio::time::timeout_at(deadline, self.renew()).await {
                Ok(Ok(Some(until))) => drop(valid_until.send_replace(until)),
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(error)) => tracing::debug!(%error, "the relay's lease could not be renewed yet"),
            }
        }
    }

    /// Lets the next relay start at once.
    pub(super) async fn release(&self) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update relay_leases set expires_at = clock_timestamp()
             where relay = $1 and owner = $2 and owner_epoch = $3",
        )
        .bind(&self.relay)
        .bind(self.owner)
        .bind(self.owner_epoch)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Moves the checkpoint forward, and says where the partitions of the cluster end; an owner that was replaced fails.
    pub(super) async fn advance(
        &self,
        to: LogOrder,
        cluster_id: &str,
        next_offsets: serde_json::Value,
    ) -> Result<(), RelayError> {
        let moved = sqlx::query(
            "update relay_checkpoints
             set epoch = $3, transaction_id = $4::text::xid8, position = $5, advanced_at = clock_timestamp(),
                 cluster_id = $6, next_offsets = $7
             where relay = $1 and owner_epoch = $2 and (epoch, transaction_id, position) < ($3, $4::text::xid8, $5)",
        )
        .bind(&self.relay)
        .bind(self.owner_epoch)
        .bind(to.epoch)
        .bind(to.transaction_id.to_string())
        .bind(to.position)
        .bind(cluster_id)
        .bind(next_offsets)
        .execute(&self.pool)
        .await?
        .rows_affected();
        if moved == 1 { Ok(()) } else { Err(RelayError::LeaseLost) }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::TestLog;

    const LONG: Duration = Duration::from_mins(10);
    const OVER: Duration = Duration::ZERO;

    fn order(position: i64) -> LogOrder {
        LogOrder {
            epoch: 1,
            transaction_id: 700,
            position,
        }
    }

    async fn take(pool: &PgPool, owner: u128, time: Duration) -> Option<Taken> {
        Lease::take(pool, "test", Uuid::from_u128(owner), time)
            .await
            .expect("the lease can be asked for")
    }

    async fn advance(lease: &Lease, to: LogOrder) -> Result<(), RelayError> {
        lease.advance(to, "cluster", serde_json::json!({"topic": [5, 0]})).await
    }

    #[tokio::test]
    async fn a_lease_has_one_owner_until_it_expires() {
        let log = TestLog::new().await;
        let pool = log.log.pool("weft_log").await;
        assert_eq!(take(&pool, 1, LONG).await.unwrap().lease.owner_epoch, 1);
        assert!(take(&pool, 2, LONG).await.is_none());
        // Its own owner may take it again, and fences what it started before.
        assert_eq!(take(&pool, 1, OVER).await.unwrap().lease.owner_epoch, 2);
        assert_eq!(take(&pool, 2, LONG).await.unwrap().lease.owner_epoch, 3);
    }

    #[tokio::test]
    async fn a_replaced_owner_neither_renews_nor_moves_the_checkpoint() {
        let log = TestLog::new().await;
        let pool = log.log.pool("weft_log").await;
        let first = take(&pool, 1, OVER).await.unwrap();
        assert_eq!(first.published.checkpoint, LogOrder::default());
        advance(&first.lease, order(5)).await.unwrap();
        let second = take(&pool, 2, LONG).await.unwrap();
        assert_eq!(second.published.checkpoint, order(5));
        assert_eq!(second.published.cluster_id.as_deref(), Some("cluster"));
        assert_eq!(second.published.next_offsets["topic"], [5, 0]);
        assert!(matches!(
            advance(&first.lease, order(9)).await,
            Err(RelayError::LeaseLost)
        ));
        assert!(first.lease.renew().await.unwrap().is_none());
        first.lease.release().await.unwrap();
        assert!(
            take(&pool, 3, LONG).await.is_none(),
            "the first owner released the second one's lease"
        );
        advance(&second.lease, order(6)).await.unwrap();
    }

    #[tokio::test]
    async fn the_checkpoint_never_goes_back() {
        let log = TestLog::new().await;
        let pool = log.log.pool("weft_log").await;
        let owner = take(&pool, 1, LONG).await.unwrap().lease;
        advance(&owner, order(5)).await.unwrap();
        assert!(advance(&owner, order(4)).await.is_err());
        let earlier = LogOrder {
            transaction_id: 699,
            ..order(9)
        };
        assert!(advance(&owner, earlier).await.is_err());
        let next_epoch = LogOrder {
            epoch: 2,
            transaction_id: 1,
            position: 1,
        };
        advance(&owner, next_epoch).await.unwrap();
    }

    #[tokio::test]
    async fn a_released_lease_is_free_at_once() {
        let log = TestLog::new().await;
        let pool = log.log.pool("weft_log").await;
        take(&pool, 1, LONG).await.unwrap().lease.release().await.unwrap();
        assert!(take(&pool, 2, LONG).await.is_some());
    }
}
