//! The moment in which a generation takes over: the live one stands still, the new one is brought to the same place, and
//! the names, offsets and fences change in one transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use weft_platform::kafka::TopicPartition;

use super::fill::FillProgress;
use super::{Replay, ReplayError, drop_generation, order};
use crate::checkpoint::{Checkpoint, MOVED};
use crate::engine::Tables;
use crate::generation::Generation;
use crate::migrate;

/// A view that somebody reads cannot be re-pointed: whoever waits for it blocks new readers, so not for long.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '300ms'";
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(200);

impl Replay {
    /// Locks the checkpoints of the live generations, in the caller's transaction, and brings this generation to exactly
    /// where they stand. Whoever writes the live ones waits meanwhile.
    pub(super) async fn meet(&self, locking: &mut PgConnection) -> Result<Vec<Generation>, ReplayError> {
        sqlx::query(LOCK_TIMEOUT).execute(&mut *locking).await?;
        let (mut limits, mut live) = (Vec::new(), Vec::new());
        for projection in &self.projections {
            let engine = self.world.live(projection.name()).await?;
            let rows = sqlx::query(&format!(
                "select topic, partition, epoch, transaction_id, position, log_id, log_epoch from {}.checkpoints
                 where projection = $1 and generation = $2 order by topic, partition for update",
                engine.generation.schema()
            ))
            .bind(projection.name())
            .bind(engine.generation.number())
            .fetch_all(&mut *locking)
            .await?;
            let mut places = BTreeMap::new();
            for row in &rows {
                let partition = TopicPartition {
                    topic: row.try_get("topic")?,
                    partition: row.try_get("partition")?,
                };
                let at = Checkpoint {
                    next_offset: 0,
                    high_water: order(row)?,
                    log_id: row.try_get("log_id")?,
                    log_epoch: row.try_get("log_epoch")?,
                };
                let limit = self.limit(&engine, &partition, &at).await?;
                places.insert(partition, limit);
            }
            limits.push(places);
            live.push(engine.generation);
        }
        self.round(limits, &mut FillProgress::default(), &mut |_| {}).await?;
        Ok(live)
    }

    /// Makes the generation the live one. The one before stays as it is, for `--roll-back`; older ones are dropped.
    pub async fn hand_over(self) -> Result<(), ReplayError> {
        let mut tried = 0;
        loop {
            match self.try_hand_over().await {
                Ok(()) => break,
                Err(ReplayError::Database(error)) if is_busy(&error) && tried < TRIES => {
                    tried += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        if self
            .projections
            .iter()
            .any(|projection| matches!(projection.tables(), Tables::Facts(_)))
        {
            // Until here the names showed the other generation's facts, which are the same.
            migrate::clickhouse(&self.world.config).await?;
        }
        self.drop_unused().await
    }

    async fn try_hand_over(&self) -> Result<(), ReplayError> {
        let mut connection = PgConnection::connect(self.world.config.views.projector_url.expose()).await?;
        let mut transaction = connection.begin().await?;
        let live = self.meet(&mut transaction).await?;
        self.compute_statistics().await?;
        let ours = self.generation;
        for (projection, before) in self.projections.iter().zip(live) {
            let name = projection.name();
            sqlx::query(&format!(
                "update {}.checkpoints ours
                 set next_offset = case when live.log_id <> ours.log_id or live.log_epoch < ours.log_epoch then 0
                                   else live.next_offset end,
                     cluster_id = live.cluster_id, updated_at = clock_timestamp()
                 from {}.checkpoints live
                 where ours.projection = $1 and live.projection = $1 and ours.topic = live.topic
                   and ours.partition = live.partition",
                ours.schema(),
                before.schema()
            ))
            .bind(name)
            .execute(&mut *transaction)
            .await?;
            // Fences whoever still writes the one before.
            sqlx::query(&format!(
                "update {}.checkpoints set generation = $2 where projection = $1",
                before.schema()
            ))
            .bind(name)
            .bind(ours.number())
            .execute(&mut *transaction)
            .await?;
            sqlx::query(
                "insert into views.generations (projection, generation, previous) values ($1, $2, $3)
                 on conflict (projection) do update set generation = excluded.generation,
                   previous = excluded.previous, handed_over_at = clock_timestamp()",
            )
            .bind(name)
            .bind(ours.number())
            .bind(before.number())
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query("update views.replays set state = 'handed_over' where generation = $1")
            .bind(ours.number())
            .execute(&mut *transaction)
            .await?;
        migrate::publish(&mut transaction).await?;
        sqlx::query("select pg_notify($1, 'generation')")
            .bind(MOVED)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        connection.close().await?;
        Ok(())
    }

    /// Generations that no projection shows or can go back to.
    async fn drop_unused(&self) -> Result<(), ReplayError> {
        let unused: Vec<i32> = sqlx::query_scalar(
            "select generation from views.replays r
             where state = 'handed_over' and not exists (
               select from views.generations g where r.generation in (g.generation, g.previous))",
        )
        .fetch_all(&self.world.engine(Generation::FIRST)?.pool)
        .await?;
        for number in unused {
            drop_generation(&self.world, Generation::new(number)).await?;
        }
        Ok(())
    }
}

/// A lock was not to be had in time.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40001" || code == "40P01")
}
