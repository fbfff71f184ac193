//! Rebuilds projections: a new generation is filled from the log beside the live one, compared with it, and takes over.

mod diff;
mod fill;
mod hand_over;

use std::sync::Arc;

use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{Connection, Row};
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_platform::kafka::TopicPartition;

use crate::RunError;
use crate::checkpoint::{Checkpoint, LogIdentity};
use crate::engine::Tables;
use crate::error::ProjectionError;
use crate::generation::Generation;
use crate::migrate::{self, MigrateError};
use crate::world::{AnyProjection, World};

pub use diff::{Difference, TableDiff};
pub(crate) use fill::fill;
pub use fill::{Fill, FillProgress, Page, PageItem};

/// Held while a generation is made or takes over: one such work at a time per views' database.
const LOCK: i64 = 0x7765_6674_7270_6c79;

/// Why a rebuild did not come to its end. What was filled stays; the same call goes on with it.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Stores(#[from] RunError),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    #[error("the views' database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("another replay, check or roll-back works on this views' database: wait until it has ended")]
    Busy,
    #[error("{0} has no generation to go back to: it was not replayed yet, or that one was dropped")]
    NothingBefore(&'static str),
    #[error("generation {generation} is what {projections} show: it cannot be dropped")]
    IsLive { generation: i32, projections: String },
    #[error("there is no generation {0} that could be dropped: `weft projections list` shows those that are there")]
    NoGeneration(i32),
    #[error("a filling task ended early: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// What a generation is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To take over.
    HandOver,
    /// To be compared with the live generation, and dropped.
    Check,
    /// To be looked at: the projections as they were at a place of the log.
    Until(LogOrder),
}

/// A generation in the making.
pub struct Replay {
    world: Arc<World>,
    pub generation: Generation,
    projections: Vec<Box<dyn AnyProjection>>,
    purpose: Purpose,
    /// What it is made from, by share.
    logs: Vec<LogIdentity>,
    /// It was begun before, and is gone on with.
    pub resumed: bool,
    /// Keeps others away until it is closed.
    _lock: PgConnection,
}

impl Replay {
    /// Makes a new generation of some projections, or goes on with one that was begun for the same and not ended.
    pub async fn begin(
        world: Arc<World>,
        projections: Vec<Box<dyn AnyProjection>>,
        purpose: Purpose,
    ) -> Result<Self, ReplayError> {
        let lock = lock(&world).await?;
        let pool = world.engine(Generation::FIRST)?.pool;
        let names: Vec<&str> = projections.iter().map(|projection| projection.name()).collect();
        let logs = identities(&world).await?;
        let mut begun = unended(&pool, &names, purpose).await?;
        if let Some(generation) = begun
            && foreign(&world, generation, &names, &logs).await?.is_some()
        {
            tracing::warn!(
                generation = generation.number(),
                "begun in another epoch of the log: begins anew"
            );
            drop_generation(&world, generation).await?;
            begun = None;
        }
        let generation = match begun {
            Some(generation) => generation,
            None => insert(&pool, &names, purpose).await?,
        };
        if projections
            .iter()
            .any(|projection| matches!(projection.tables(), Tables::Facts(_)))
        {
            // A process before may have ended between the two stores' hand-over.
            migrate::clickhouse(&world.config).await?;
        }
        // Also for one that was begun: the process may have ended before its tables were made.
        migrate::generation(&world.config, generation).await?;
        Ok(Self {
            world,
            generation,
            projections,
            purpose,
            logs,
            resumed: begun.is_some(),
            _lock: lock,
        })
    }

    /// The generation before the live one, to be caught up and made live again; of one projection.
    pub async fn back(world: Arc<World>, projection: Box<dyn AnyProjection>) -> Result<Self, ReplayError> {
        let lock = lock(&world).await?;
        let pool = world.engine(Generation::FIRST)?.pool;
        let name = projection.name();
        let previous: Option<i32> = sqlx::query_scalar("select previous from views.generations where projection = $1")
            .bind(name)
            .fetch_optional(&pool)
            .await?
            .flatten();
        let generation = Generation::new(previous.ok_or(ReplayError::NothingBefore(name))?);
        migrate::generation(&world.config, generation).await?;
        let logs = identities(&world).await?;
        if let Some(error) = foreign(&world, generation, &[name], &logs).await? {
            return Err(error.into());
        }
        // It was fenced when the other took over. Nobody else writes it: the name shows the other one.
        sqlx::query("update checkpoints set generation = $2 where projection = $1")
            .bind(name)
            .bind(generation.number())
            .execute(&world.engine(generation)?.pool)
            .await?;
        Ok(Self {
            world,
            generation,
            projections: vec![projection],
            purpose: Purpose::HandOver,
            logs,
            resumed: true,
            _lock: lock,
        })
    }

    /// The generation is complete up to the place it was made for, and stays to be looked at.
    pub async fn keep(self) -> Result<(), ReplayError> {
        sqlx::query("update views.replays set state = 'filled' where generation = $1")
            .bind(self.generation.number())
            .execute(&self.world.engine(Generation::FIRST)?.pool)
            .await?;
        Ok(())
    }

    /// Drops the generation.
    pub async fn abandon(self) -> Result<(), ReplayError> {
        drop_generation(&self.world, self.generation).await
    }
}

/// Drops a generation that is not live: one filled to be looked at, one that was begun and is not wanted any more, or one
/// kept to be gone back to.
pub async fn drop_beside(world: &World, generation: Generation) -> Result<(), ReplayError> {
    let _lock = lock(world).await?;
    let pool = world.engine(Generation::FIRST)?.pool;
    let number = generation.number();
    let live: Option<String> =
        sqlx::query_scalar("select string_agg(projection, ', ') from views.generations where generation = $1")
            .bind(number)
            .fetch_one(&pool)
            .await?;
    if let Some(projections) = live {
        return Err(ReplayError::IsLive {
            generation: number,
            projections,
        });
    }
    let known: bool = sqlx::query_scalar("select exists (select from views.replays where generation = $1)")
        .bind(number)
        .fetch_one(&pool)
        .await?;
    if !known {
        return Err(ReplayError::NoGeneration(number));
    }
    sqlx::query("update views.generations set previous = null where previous = $1")
        .bind(number)
        .execute(&pool)
        .await?;
    drop_generation(world, generation).await
}

async fn lock(world: &World) -> Result<PgConnection, ReplayError> {
    let mut connection = PgConnection::connect(world.config.views.projector_url.expose()).await?;
    let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut connection)
        .await?;
    if locked { Ok(connection) } else { Err(ReplayError::Busy) }
}

async fn unended(pool: &PgPool, names: &[&str], purpose: Purpose) -> Result<Option<Generation>, sqlx::Error> {
    let until = until_of(purpose);
    let number: Option<i32> = sqlx::query_scalar(
        "select generation from views.replays
         where state = 'filling' and projections = $1 and is_check = $2
           and (until_epoch, until_transaction_id, until_position) is not distinct from ($3, $4, $5)
         order by generation desc limit 1",
    )
    .bind(names)
    .bind(purpose == Purpose::Check)
    .bind(until.map(|until| until.epoch))
    .bind(until.map(|until| until.transaction_id))
    .bind(until.map(|until| until.position))
    .fetch_optional(pool)
    .await?;
    Ok(number.map(Generation::new))
}

async fn identities(world: &World) -> Result<Vec<LogIdentity>, ReplayError> {
    let mut identities = Vec::new();
    for log in world.engine(Generation::FIRST)?.logs.iter() {
        identities.push(LogIdentity::read(log).await.map_err(ProjectionError::from)?);
    }
    Ok(identities)
}

/// Why a generation cannot be gone on with: it was made from another log, or in another epoch of it.
async fn foreign(
    world: &World,
    generation: Generation,
    names: &[&str],
    logs: &[LogIdentity],
) -> Result<Option<ProjectionError>, ReplayError> {
    let there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(format!("{}.checkpoints", generation.schema()))
        .fetch_one(&world.engine(Generation::FIRST)?.pool)
        .await?;
    if !there {
        return Ok(None);
    }
    let engine = world.engine(generation)?;
    let rows: Vec<(String, i32, Option<Uuid>, Option<i16>)> = sqlx::query_as(
        "select distinct topic, partition, log_id, log_epoch from checkpoints where projection = any($1)",
    )
    .bind(names)
    .fetch_all(&engine.pool)
    .await?;
    let mut errors = rows.into_iter().filter_map(|(topic, partition, log_id, log_epoch)| {
        let log = logs.get(engine.kafka.share_of(&TopicPartition { topic, partition }))?;
        let at = Checkpoint {
            log_id,
            log_epoch,
            ..Checkpoint::default()
        };
        log.check(&at).err()
    });
    Ok(errors.next())
}

async fn insert(pool: &PgPool, names: &[&str], purpose: Purpose) -> Result<Generation, sqlx::Error> {
    let until = until_of(purpose);
    let number: i32 = sqlx::query_scalar(
        "insert into views.replays (
           generation, projections, is_check, until_epoch, until_transaction_id, until_position)
         values ((select 1 + greatest(
                    1, (select max(generation) from views.replays), (select max(generation) from views.generations))),
                 $1, $2, $3, $4, $5)
         returning generation",
    )
    .bind(names)
    .bind(purpose == Purpose::Check)
    .bind(until.map(|until| until.epoch))
    .bind(until.map(|until| until.transaction_id))
    .bind(until.map(|until| until.position))
    .fetch_one(pool)
    .await?;
    Ok(Generation::new(number))
}

const fn until_of(purpose: Purpose) -> Option<LogOrder> {
    match purpose {
        Purpose::Until(until) => Some(until),
        Purpose::HandOver | Purpose::Check => None,
    }
}

/// Drops what a generation has in both stores, and forgets it.
async fn drop_generation(world: &World, generation: Generation) -> Result<(), ReplayError> {
    migrate::drop_generation(&world.config, generation).await?;
    sqlx::query("delete from views.replays where generation = $1")
        .bind(generation.number())
        .execute(&world.engine(Generation::FIRST)?.pool)
        .await?;
    Ok(())
}

/// Reads the order of a row.
fn order(row: &PgRow) -> Result<LogOrder, sqlx::Error> {
    Ok(LogOrder {
        epoch: row.try_get("epoch")?,
        transaction_id: row.try_get("transaction_id")?,
        position: row.try_get("position")?,
    })
}

/// The last event of the longest prefix of the log whose events were all recorded at or before `time`; the beginning
/// where there is none.
pub async fn prefix_until(log: &PgPool, time: chrono::DateTime<chrono::Utc>) -> Result<LogOrder, sqlx::Error> {
    let columns = "epoch, transaction_id::text::bigint as transaction_id, position";
    let first_after = sqlx::query(&format!(
        "select {columns} from events where recorded_at > $1 order by events.epoch, events.transaction_id, position
         limit 1"
    ))
    .bind(time)
    .fetch_optional(log)
    .await?;
    let bound = match &first_after {
        Some(row) => order(row)?,
        None => LogOrder {
            epoch: i16::MAX,
            ..LogOrder::default()
        },
    };
    let last = sqlx::query(&format!(
        "select {columns} from events
         where (epoch, transaction_id, position) < ($1, $2::text::xid8, $3)
         order by events.epoch desc, events.transaction_id desc, position desc limit 1"
    ))
    .bind(bound.epoch)
    .bind(bound.transaction_id.to_string())
    .bind(bound.position)
    .fetch_optional(log)
    .await?;
    last.as_ref().map_or(Ok(LogOrder::default()), order)
}
