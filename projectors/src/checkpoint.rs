//! How far a projection has come: advanced by compare-and-set in the transaction that writes the rows, which makes the
//! pair exact and fences a paused old consumer.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_platform::kafka::TopicPartition;

use crate::error::ProjectionError;
use crate::generation::Generation;
use crate::parked::{self, Parked};
use crate::row::log_order;

/// Where one partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub next_offset: i64,
    /// The newest event applied.
    pub high_water: LogOrder,
    pub log_id: Option<Uuid>,
    /// The log's epoch when the projection was made; its events may be of earlier ones.
    pub log_epoch: Option<i16>,
}

/// Which log this is, and how often it was adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    pub log_id: Uuid,
    pub epoch: i16,
}

impl LogIdentity {
    pub async fn read(log: &PgPool) -> Result<Self, weft_log_reader::LoadError> {
        let (log_id, epoch) = sqlx::query_as("select log_id, epoch from log_identity")
            .fetch_one(log)
            .await?;
        Ok(Self { log_id, epoch })
    }

    /// Why a projection that stands at `at` cannot go on with this log.
    pub fn check(self, at: &Checkpoint) -> Result<(), ProjectionError> {
        match (at.log_id, at.log_epoch) {
            (Some(known), _) if known != self.log_id => Err(ProjectionError::LogReplaced {
                known,
                found: self.log_id,
            }),
            (_, Some(known)) if known < self.epoch => Err(ProjectionError::LogAdopted {
                known,
                found: self.epoch,
            }),
            _ => Ok(()),
        }
    }
}

/// One partition's step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    pub partition: TopicPartition,
    pub from: Checkpoint,
    pub to: Checkpoint,
}

/// The checkpoints of `projection` on some partitions; missing ones are made.
pub async fn load(
    pool: &PgPool,
    projection: &str,
    generation: Generation,
    wanted: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Checkpoint>, ProjectionError> {
    let topics: Vec<&str> = wanted.iter().map(|partition| partition.topic.as_str()).collect();
    let partitions: Vec<i32> = wanted.iter().map(|partition| partition.partition).collect();
    sqlx::query(
        "insert into checkpoints (projection, topic, partition, next_offset, generation)
         select $1, topic, partition, 0, $4 from unnest($2::text[], $3::integer[]) as wanted (topic, partition)
         on conflict do nothing",
    )
    .bind(projection)
    .bind(&topics)
    .bind(&partitions)
    .bind(generation.number())
    .execute(pool)
    .await?;
    let rows = sqlx::query(
        "select topic, partition, next_offset, epoch, transaction_id, position, generation, log_id, log_epoch
         from checkpoints join unnest($2::text[], $3::integer[]) as wanted (topic, partition) using (topic, partition)
         where projection = $1",
    )
    .bind(projection)
    .bind(&topics)
    .bind(&partitions)
    .fetch_all(pool)
    .await?;
    let mut checkpoints = BTreeMap::new();
    for row in rows {
        let found = row.try_get("generation")?;
        if found != generation.number() {
            let ours = generation.number();
            return Err(ProjectionError::HandedOver { ours, found });
        }
        let partition = TopicPartition {
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
        };
        let checkpoint = Checkpoint {
            next_offset: row.try_get("next_offset")?,
            high_water: log_order(&row)?,
            log_id: row.try_get("log_id")?,
            log_epoch: row.try_get("log_epoch")?,
        };
        checkpoints.insert(partition, checkpoint);
    }
    Ok(checkpoints)
}

/// The channel on which the views' database tells that a checkpoint moved, with the projection's name.
pub const MOVED: &str = "weft_checkpoints";

/// Moves every partition of `steps`, or says that somebody else did. The rows stay locked until the transaction ends,
/// whose commit is told on `MOVED`. Answers the streams that are parked.
pub async fn advance(
    connection: &mut PgConnection,
    projection: &str,
    generation: Generation,
    steps: &[Advance],
) -> Result<Parked, ProjectionError> {
    let row = sqlx::query(
        "with moved as (
           update checkpoints c
           set next_offset = step.next_offset, epoch = step.epoch, transaction_id = step.transaction_id,
               position = step.position, log_id = step.log_id, log_epoch = step.log_epoch, updated_at = clock_timestamp()
           from unnest($3::text[], $4::integer[], $5::bigint[], $6::bigint[], $7::smallint[], $8::bigint[],
                       $9::bigint[], $10::uuid[], $11::smallint[], $12::bigint[], $13::bigint[], $15::smallint[])
                as step (topic, partition, expected, next_offset, epoch, transaction_id, position, log_id,
                         known_epoch, known_transaction_id, known_position, log_epoch)
           where c.projection = $1 and c.topic = step.topic and c.partition = step.partition
             and c.next_offset = step.expected and c.generation = $2
             and (c.epoch, c.transaction_id, c.position)
                 = (step.known_epoch, step.known_transaction_id, step.known_position)
           returning 1)
         select (select count(*) from moved) as moved, pg_notify($14, $1)::text,
                array(select aggregate_type || ':' || aggregate_id from dead_letters where projection = $1) as parked",
    )
    .bind(projection)
    .bind(generation.number())
    .bind(column(steps, |step| step.partition.topic.clone()))
    .bind(column(steps, |step| step.partition.partition))
    .bind(column(steps, |step| step.from.next_offset))
    .bind(column(steps, |step| step.to.next_offset))
    .bind(column(steps, |step| step.to.high_water.epoch))
    .bind(column(steps, |step| step.to.high_water.transaction_id))
    .bind(column(steps, |step| step.to.high_water.position))
    .bind(column(steps, |step| step.to.log_id))
    .bind(column(steps, |step| step.from.high_water.epoch))
    .bind(column(steps, |step| step.from.high_water.transaction_id))
    .bind(column(steps, |step| step.from.high_water.position))
    .bind(MOVED)
    .bind(column(steps, |step| step.to.log_epoch))
    .fetch_one(connection)
    .await?;
    if row.try_get::<i64, _>("moved")? != steps.len() as i64 {
        return Err(ProjectionError::Fenced);
    }
    let parked: Vec<String> = row.try_get("parked")?;
    Ok(parked::read(&parked))
}

/// Waits until nobody else writes any partition of `projection`, and keeps it so until the transaction ends: rows that
/// are made from several partitions are read, changed and written by one at a time.
pub async fn lock_all(connection: &mut PgConnection, projection: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select from checkpoints where projection = $1 order by topic, partition for update")
        .bind(projection)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes `cluster_id` for what the offsets of some partitions are of, or says which other one they are of.
pub async fn meet_cluster(
    pool: &PgPool,
    projection: &str,
    partitions: &[TopicPartition],
    cluster_id: &str,
) -> Result<(), ProjectionError> {
    let known: Vec<String> = sqlx::query_scalar(
        "with wanted as (select * from unnest($2::text[], $3::integer[]) as wanted (topic, partition)),
         met as (
           update checkpoints c set cluster_id = $4 from wanted
           where c.projection = $1 and c.topic = wanted.topic and c.partition = wanted.partition
             and c.cluster_id is null)
         select distinct cluster_id from checkpoints join wanted using (topic, partition)
         where projection = $1 and cluster_id <> $4",
    )
    .bind(projection)
    .bind(
        partitions
            .iter()
            .map(|partition| partition.topic.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        partitions
            .iter()
            .map(|partition| partition.partition)
            .collect::<Vec<_>>(),
    )
    .bind(cluster_id)
    .fetch_all(pool)
    .await?;
    match known.into_iter().next() {
        None => Ok(()),
        Some(known) => Err(ProjectionError::KafkaReplaced {
            known,
            found: cluster_id.to_owned(),
        }),
    }
}

/// Every live projection reads its topics from the beginning again, of whatever cluster they are then: what it has, it
/// drops by its log order. Those at work are fenced by the moved offset. `pool` as the projector.
pub async fn start_over(pool: &PgPool, topic_prefix: &str) -> Result<(), sqlx::Error> {
    let generations: Vec<i32> = sqlx::query_scalar("select 1 union select generation from views.generations")
        .fetch_all(pool)
        .await?;
    for number in generations {
        sqlx::query(&format!(
            "update {}.checkpoints set next_offset = 0, cluster_id = null
             where generation = $1 and starts_with(topic, $2)",
            Generation::new(number).schema()
        ))
        .bind(number)
        .bind(topic_prefix)
        .execute(pool)
        .await?;
    }
    Ok(())
}

fn column<T>(steps: &[Advance], field: impl Fn(&Advance) -> T) -> Vec<T> {
    steps.iter().map(field).collect()
}
