//! The loop of one projection.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::postgres::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_platform::config::KafkaSection;
use weft_platform::health::Health;
use weft_platform::kafka::{EventConsumer, EventRecord, InvalidRecord};

use super::{Backoff, Progress, Projection};
use crate::checkpoint;
use crate::error::{ProjectionError, Stopped};
use crate::generation::Generation;
use crate::metric;

/// A write transaction of this length holds back the log's tail, where both are on one cluster.
const LONG_TRANSACTION: Duration = Duration::from_millis(200);

/// What all projections of one process share.
#[derive(Clone, Debug)]
pub struct Engine {
    pub kafka: KafkaSection,
    pub pool: PgPool,
    pub generation: Generation,
    pub health: Health,
}

impl Engine {
    /// Projects until `shutdown`. Whatever fails is tried again from the stored checkpoint, for ever; what waiting cannot
    /// heal is reported and left alone.
    pub async fn run<P: Projection>(&self, projection: P, shutdown: CancellationToken) {
        self.health.expect(P::HEALTH);
        let mut backoff = Backoff::default();
        loop {
            let error = tokio::select! {
                () = shutdown.cancelled() => return,
                result = self.project(&projection) => match result {
                    Ok(never) => match never {},
                    Err(error) => error,
                },
            };
            self.health.failing(P::HEALTH, error.to_string());
            if error.is_final() {
                tracing::error!(projection = P::NAME, %error, "projection stopped");
                shutdown.cancelled().await;
                return;
            }
            tracing::warn!(projection = P::NAME, %error, "projection starts again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }

    /// One session: from the stored checkpoints until something fails.
    async fn project<P: Projection>(&self, projection: &P) -> Result<Infallible, ProjectionError> {
        let mut session = Session::open(self, projection).await?;
        let offsets = session.progress.checkpoints.iter();
        let offsets = offsets
            .map(|(partition, at)| (partition.clone(), at.next_offset))
            .collect();
        let consumer = EventConsumer::assign(&self.kafka, P::NAME, &topics::<P>(&self.kafka), &offsets)?;
        self.health.ready(P::HEALTH);
        let mut stopped = Vec::new();
        loop {
            let records = consumer.next_records(P::MAX_BATCH, P::LINGER).await?;
            for stop in session.apply(records).await? {
                tracing::error!(projection = P::NAME, %stop, "partition stopped");
                consumer.pause(&stop.partition)?;
                stopped.push(stop.to_string());
                self.health.failing(P::HEALTH, stopped.join("; "));
            }
        }
    }
}

fn topics<P: Projection>(kafka: &KafkaSection) -> Vec<(String, i32)> {
    P::AGGREGATES
        .iter()
        .map(|name| (kafka.topic(name), kafka.partition_count(name)))
        .collect()
}

/// A projection at work from its stored checkpoints on.
pub struct Session<'s, P> {
    engine: &'s Engine,
    projection: &'s P,
    progress: Progress,
}

impl<'s, P: Projection> Session<'s, P> {
    pub async fn open(engine: &'s Engine, projection: &'s P) -> Result<Self, ProjectionError> {
        let topics = topics::<P>(&engine.kafka);
        let checkpoints = checkpoint::load(&engine.pool, P::NAME, engine.generation, &topics).await?;
        Ok(Self {
            engine,
            projection,
            progress: Progress::new(checkpoints),
        })
    }

    /// Applies what is new of `records` and moves the checkpoints behind them, all or nothing. After an error the
    /// session is over: where the store stands is then known only to the store.
    pub async fn apply(
        &mut self,
        records: Vec<Result<EventRecord, InvalidRecord>>,
    ) -> Result<Vec<Stopped>, ProjectionError> {
        let batch = self.progress.take(records)?;
        if batch.steps.is_empty() {
            return Ok(batch.stopped);
        }
        let prepared = self.projection.prepare(&batch.events).await?;
        let began = Instant::now();
        let mut transaction = self.engine.pool.begin().await?;
        // First, so that a fenced consumer waits here and writes nothing.
        checkpoint::advance(&mut transaction, P::NAME, self.engine.generation, &batch.steps).await?;
        if !batch.events.is_empty() {
            self.projection.write(&mut transaction, &batch.events, prepared).await?;
        }
        transaction.commit().await?;
        let took = began.elapsed();
        if took > LONG_TRANSACTION {
            tracing::warn!(
                projection = P::NAME,
                events = batch.events.len(),
                ?took,
                "long transaction"
            );
        }
        metrics::histogram!(metric::TRANSACTION_SECONDS, "projection" => P::NAME).record(took.as_secs_f64());
        metrics::counter!(metric::EVENTS, "projection" => P::NAME).increment(batch.events.len() as u64);
        metrics::counter!(metric::REPEATED, "projection" => P::NAME).increment(batch.repeated as u64);
        if let Some(last) = batch.events.last() {
            let newest = last.recorded_at.timestamp_millis() as f64 / 1_000.0;
            metrics::gauge!(metric::NEWEST_EVENT_SECONDS, "projection" => P::NAME).set(newest);
        }
        self.progress.advance(batch.steps);
        Ok(batch.stopped)
    }
}
