//! The loop of one projection.

use std::sync::Arc;

use rdkafka::error::KafkaError;
use sqlx::postgres::PgPool;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_platform::config::KafkaSection;
use weft_platform::health::Health;
use weft_platform::kafka::{EventConsumer, EventRecord, InvalidRecord, TopicPartition};

use super::{Backoff, Gap, Projection, Session};
use crate::checkpoint::{self, Checkpoint};
use crate::error::ProjectionError;
use crate::generation::Generation;
use crate::members::Shares;

/// What a projection works with.
#[derive(Clone, Debug)]
pub struct Engine {
    pub kafka: KafkaSection,
    /// The generation's tables, by its search path.
    pub pool: PgPool,
    /// By share.
    pub logs: Arc<[PgPool]>,
    pub generation: Generation,
    pub health: Health,
}

/// Why a projection ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Shutdown,
    /// Another generation took over.
    HandedOver,
}

/// Why a session ended.
enum Interrupted {
    /// Its share of the partitions is another one now.
    Shares,
}

impl Engine {
    /// Every partition of the topics of some aggregates, in their order.
    pub fn partitions(&self, aggregates: &[&str]) -> Vec<TopicPartition> {
        let mut all = self.kafka.topic_partitions(aggregates);
        all.sort();
        all
    }

    /// The log that writes a partition.
    pub(crate) fn log_of(&self, partition: &TopicPartition) -> Result<&PgPool, ProjectionError> {
        let log = self.logs.get(self.kafka.share_of(partition));
        log.ok_or_else(|| ProjectionError::NoLog(partition.clone()))
    }

    /// Projects this process's share until `shutdown`, or until another generation takes over. Whatever fails is tried
    /// again from the stored checkpoint, for ever; what waiting cannot heal is reported and left alone.
    pub async fn run<P: Projection>(&self, projection: &P, mut shares: Shares, shutdown: CancellationToken) -> Ended {
        self.health.expect(P::HEALTH);
        let mut backoff = Backoff::default();
        loop {
            let error = tokio::select! {
                () = shutdown.cancelled() => return Ended::Shutdown,
                result = self.project(projection, &mut shares) => match result {
                    Ok(Interrupted::Shares) => continue,
                    Err(error) => error,
                },
            };
            if matches!(error, ProjectionError::HandedOver { .. }) {
                tracing::info!(projection = P::NAME, %error, "projection ended");
                return Ended::HandedOver;
            }
            self.health.failing(P::HEALTH, error.to_string());
            if error.is_final() {
                tracing::error!(projection = P::NAME, %error, "projection stopped");
                backoff.rest();
            } else {
                tracing::warn!(projection = P::NAME, %error, "projection starts again");
                if matches!(error, ProjectionError::Fenced) {
                    // Somebody else works at it: nothing is wrong.
                    backoff = Backoff::default();
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ended::Shutdown,
                is_replaced = async {
                    backoff.wait().await;
                    self.is_replaced::<P>().await
                } => if is_replaced {
                    return Ended::HandedOver;
                },
            }
        }
    }

    /// Whether another generation is live. One that meets no event for long is dropped under its reader once two others
    /// took over, and no checkpoint is left to tell.
    async fn is_replaced<P: Projection>(&self) -> bool {
        let live = Generation::live(&self.pool, P::NAME).await;
        live.is_ok_and(|live| live != self.generation)
    }

    /// One session: from the stored checkpoints until something fails or the shares change.
    async fn project<P: Projection>(
        &self,
        projection: &P,
        shares: &mut Shares,
    ) -> Result<Interrupted, ProjectionError> {
        shares.looked().await;
        let partitions = shares.of(P::NAME, &self.partitions(P::AGGREGATES))?;
        let mut session = Session::open_on(self, projection, &partitions).await?;
        if partitions.is_empty() {
            self.health.ready(P::HEALTH);
            shares.changed().await;
            return Ok(Interrupted::Shares);
        }
        let checkpoints = session.progress().checkpoints.clone();
        let offsets = checkpoints
            .iter()
            .map(|(partition, at)| (partition.clone(), at.next_offset))
            .collect();
        let consumer = Arc::new(EventConsumer::assign_at(&self.kafka, P::NAME, &offsets)?);
        let mut cluster = None;
        self.stay_with::<P>(&consumer, &partitions, &mut cluster).await?;
        let mut stopped = Vec::new();
        for gap in lost(&consumer, &checkpoints).await {
            stopped.extend(session.close(&gap).await?);
        }
        self.health.ready(P::HEALTH);
        let (sender, mut batches) = mpsc::channel(1);
        let mut reader = JoinSet::new();
        reader.spawn(read_ahead::<P>(Arc::clone(&consumer), sender));
        let mut told = Vec::new();
        loop {
            for stop in std::mem::take(&mut stopped) {
                tracing::error!(projection = P::NAME, %stop, "partition stopped");
                consumer.pause(&stop.partition)?;
                told.push(stop.to_string());
                self.health.failing(P::HEALTH, told.join("; "));
            }
            let records = tokio::select! {
                records = batches.recv() => records.ok_or(KafkaError::Canceled)??,
                () = shares.changed() => return Ok(Interrupted::Shares),
            };
            self.stay_with::<P>(&consumer, &partitions, &mut cluster).await?;
            stopped = session.apply(records).await?;
        }
    }

    /// Offsets mean something in one Kafka cluster only. One that does not tell its name yet is asked again.
    async fn stay_with<P: Projection>(
        &self,
        consumer: &EventConsumer,
        partitions: &[TopicPartition],
        met: &mut Option<String>,
    ) -> Result<(), ProjectionError> {
        let Some(found) = consumer.cluster_id().await else {
            return Ok(());
        };
        if met.as_ref() != Some(&found) {
            checkpoint::meet_cluster(&self.pool, P::NAME, partitions, &found).await?;
            *met = Some(found);
        }
        Ok(())
    }
}

/// Reads batches ahead of the one that is being applied, until the receiver is gone; an error is the last thing it sends.
async fn read_ahead<P: Projection>(
    consumer: Arc<EventConsumer>,
    batches: mpsc::Sender<Result<Vec<Result<EventRecord, InvalidRecord>>, KafkaError>>,
) {
    loop {
        let records = consumer.next_records(P::MAX_BATCH, P::LINGER).await;
        let failed = records.is_err();
        if batches.send(records).await.is_err() || failed {
            return;
        }
    }
}

/// What Kafka has dropped by retention since the checkpoints were stored, also where no record follows that would tell.
async fn lost(
    consumer: &EventConsumer,
    checkpoints: &std::collections::BTreeMap<TopicPartition, Checkpoint>,
) -> Vec<Gap> {
    let first = consumer.first_offsets().await;
    let gaps = first.into_iter().filter_map(|(partition, first)| {
        let at = checkpoints.get(&partition)?;
        (first > at.next_offset).then_some(Gap {
            partition,
            before: None,
            next_offset: first,
        })
    });
    gaps.collect()
}
