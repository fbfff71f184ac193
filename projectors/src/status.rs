//! Where the projections stand, for operators.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use weft_domain::LogOrder;
use weft_platform::kafka::{EventConsumer, TopicPartition};

use crate::RunError;
use crate::checkpoint;
use crate::engine::{Engine, Tables};
use crate::error::ProjectionError;
use crate::generation::Generation;
use crate::parked;
use crate::world::World;

/// One projection as it is live.
#[derive(Clone, Debug)]
pub struct Status {
    pub projection: &'static str,
    pub generation: Generation,
    /// What `--roll-back` goes back to.
    pub previous: Option<i32>,
    /// The newest event applied of each log, by share.
    pub positions: Vec<LogOrder>,
    /// Records in Kafka that are not applied yet; `None` where Kafka does not tell.
    pub lag: Option<i64>,
    /// When a checkpoint moved last.
    pub moved_at: Option<DateTime<Utc>>,
    /// Rows of each of its tables; `None` where ClickHouse does not tell.
    pub rows: Vec<(&'static str, Option<i64>)>,
    /// Streams that wait for somebody, and streams that were given up.
    pub parked: usize,
    pub discarded: usize,
    /// Rows of a Fold view that lack the events of these streams.
    pub incomplete_rows: usize,
}

/// A generation that is not live.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Beside {
    pub generation: i32,
    pub projections: Vec<String>,
    /// `filling`, `filled` (up to a chosen place) or `handed_over`.
    pub state: String,
    pub is_check: bool,
    pub started_at: DateTime<Utc>,
}

/// Every projection.
pub async fn projections(world: &World) -> Result<Vec<Status>, RunError> {
    let mut all = Vec::new();
    for projection in crate::projections() {
        let name = projection.name();
        let engine = world.live(name).await?;
        let partitions = engine.partitions(projection.aggregates());
        let at = checkpoint::load(&engine.pool, name, engine.generation, &partitions).await?;
        let letters = parked::list(&engine.pool, name).await.map_err(RunError::Views)?;
        let discarded = letters.iter().filter(|letter| letter.is_discarded).count();
        let incomplete: BTreeSet<_> = letters.iter().flat_map(|letter| &letter.incomplete_rows).collect();
        let incomplete_rows = incomplete.len();
        let moved_at: Option<DateTime<Utc>> =
            sqlx::query_scalar("select max(updated_at) from checkpoints where projection = $1 and position > 0")
                .bind(name)
                .fetch_one(&engine.pool)
                .await
                .map_err(RunError::Views)?;
        let previous: Option<Option<i32>> =
            sqlx::query_scalar("select previous from views.generations where projection = $1")
                .bind(name)
                .fetch_optional(&engine.pool)
                .await
                .map_err(RunError::Views)?;
        let offsets = at
            .iter()
            .map(|(partition, at)| (partition.clone(), at.next_offset))
            .collect();
        let ends = match EventConsumer::assign_at(&engine.kafka, name, &offsets) {
            Ok(consumer) => consumer.end_offsets().await,
            Err(error) => return Err(ProjectionError::from(error).into()),
        };
        let lag = at
            .iter()
            .map(|(partition, at)| Some((ends.get(partition)? - at.next_offset).max(0)));
        let mut rows = Vec::new();
        match projection.tables() {
            Tables::Postgres(tables) => {
                for table in tables {
                    let statement = format!("select count(*) from {table}");
                    let count = sqlx::query_scalar(&statement).fetch_one(&engine.pool).await;
                    rows.push((*table, Some(count.map_err(RunError::Views)?)));
                }
            }
            Tables::Facts(tables) => {
                for table in tables {
                    rows.push((*table, world.facts(engine.generation).count(table).await.ok()));
                }
            }
        }
        all.push(Status {
            projection: name,
            generation: engine.generation,
            previous: previous.flatten(),
            positions: newest(&engine, &at),
            lag: lag.sum(),
            moved_at,
            rows,
            parked: letters.len() - discarded,
            discarded,
            incomplete_rows,
        });
    }
    Ok(all)
}

fn newest(engine: &Engine, at: &BTreeMap<TopicPartition, checkpoint::Checkpoint>) -> Vec<LogOrder> {
    let mut newest = vec![LogOrder::default(); engine.logs.len()];
    for (partition, at) in at {
        if let Some(newest) = newest.get_mut(engine.kafka.share_of(partition)) {
            *newest = at.high_water.max(*newest);
        }
    }
    newest
}

/// Processes that project.
pub async fn members(world: &World) -> Result<i64, RunError> {
    let pool = world.engine(Generation::FIRST)?.pool;
    sqlx::query_scalar(
        "select count(*) from views.members m
         where seen_at > clock_timestamp() - interval '3 seconds' and exists (
           select from pg_stat_activity a where a.pid = m.pid and a.backend_start = m.backend_start)",
    )
    .fetch_one(&pool)
    .await
    .map_err(RunError::Views)
}

/// Generations beside those that are live.
pub async fn beside(world: &World) -> Result<Vec<Beside>, RunError> {
    let pool = world.engine(Generation::FIRST)?.pool;
    sqlx::query_as(
        "select generation, projections, state, is_check, started_at from views.replays r
         where not exists (select from views.generations g where g.generation = r.generation)
         order by generation",
    )
    .fetch_all(&pool)
    .await
    .map_err(RunError::Views)
}
