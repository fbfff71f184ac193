//! One tenure: from taking the lease to an error, a loss of the lease or the shutdown.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_log_reader::{RawEvent, Tail};
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;

use super::lease::{Lease, Taken};
use super::publisher::{PageEnd, Publisher, acknowledged};
use super::{PART, RelayError, metric, reader};
use crate::idempotency;
use crate::pool::Probe;

/// Pages on their way to Kafka at once.
const PAGES_IN_FLIGHT: usize = 4;
/// Pages read ahead of that.
const PAGES_READ_AHEAD: usize = 2;
/// How often the checkpoint is written, at most: a crash publishes this much again.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(200);
/// Kafka is reported as failing when it acknowledges nothing for this long.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a shutdown waits for acknowledgements.
const DRAIN_FOR: Duration = Duration::from_secs(3);
const PURGE_EVERY: Duration = Duration::from_mins(1);

/// What every tenure of this relay shares.
pub(super) struct Session {
    pub(super) owner: Uuid,
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) health: Health,
    pub(super) pool: PgPool,
    pub(super) probe: Probe,
    pub(super) wake: Arc<Notify>,
}

/// How a tenure ended without an error.
pub(super) enum Ended {
    Shutdown,
    /// Another relay holds the lease.
    StandBy,
}

impl Session {
    pub(super) fn lease_time(&self) -> Duration {
        Duration::from_millis(self.config.log.relay_lease_ms.into())
    }

    /// Fails with the error and whether anything was published before it.
    pub(super) async fn run(&self, shutdown: &CancellationToken) -> Result<Ended, (RelayError, bool)> {
        // A topic generation is published from the log's beginning, so it has a checkpoint of its own.
        let relay = &self.config.kafka.topic_prefix;
        // Given up half-way, it is taken again by the same owner.
        let taken = self
            .probe
            .guard(Lease::take(&self.pool, relay, self.owner, self.lease_time()))
            .await;
        let Some(taken) = taken.map_err(|error| (error.into(), false))? else {
            return Ok(Ended::StandBy);
        };
        tracing::info!(owner_epoch = taken.lease.owner_epoch, checkpoint = %taken.checkpoint, "this relay publishes");
        let mut tenure = self.begin(taken, shutdown).await.map_err(|error| (error, false))?;
        let ended = tenure.publish(self).await;
        let published = tenure.published;
        // The next tenure, here or elsewhere, should not meet this one's records.
        tenure.publisher.close().await;
        ended.map_err(|error| (error, published))?;
        Ok(Ended::Shutdown)
    }

    async fn begin(&self, taken: Taken, shutdown: &CancellationToken) -> Result<Tenure, RelayError> {
        let Taken {
            lease,
            checkpoint,
            valid_until,
        } = taken;
        let log_id: Uuid = sqlx::query_scalar("select log_id from log_identity")
            .fetch_one(&self.pool)
            .await?;
        let publisher = Publisher::new(&self.config.kafka, log_id)?;
        let mut tasks = JoinSet::new();

        let (sender, valid_until) = watch::channel(valid_until);
        let lost = CancellationToken::new();
        let stop = shutdown.child_token();
        let (keeper, lost_later, stop_later) = (lease.clone(), lost.clone(), stop.clone());
        tasks.spawn(async move {
            keeper.keep(&sender).await;
            lost_later.cancel();
            stop_later.cancel();
        });

        let (pages_sender, pages) = mpsc::channel(PAGES_READ_AHEAD);
        let tail = Tail::new(self.pool.clone(), checkpoint);
        let poll = Duration::from_millis(self.config.log.relay_poll_ms.max(1).into());
        tasks.spawn(reader::read(
            tail,
            self.pool.clone(),
            Arc::clone(&self.wake),
            poll,
            pages_sender,
        ));

        let (pool, clock) = (self.pool.clone(), self.clock.clone());
        tasks.spawn(async move {
            let mut timer = interval(PURGE_EVERY);
            loop {
                timer.tick().await;
                match idempotency::purge(&pool, clock.now()).await {
                    Ok(0) => {}
                    Ok(purged) => tracing::debug!(purged, "expired idempotency keys are gone"),
                    Err(error) => tracing::warn!(%error, "expired idempotency keys could not be deleted"),
                }
            }
        });

        Ok(Tenure {
            lease,
            publisher,
            pages,
            valid_until,
            lost,
            stop,
            in_flight: FuturesOrdered::new(),
            acknowledged: checkpoint,
            saved: checkpoint,
            last_sign: Instant::now(),
            published: false,
            _tasks: tasks,
        })
    }
}

type Acknowledgement = std::pin::Pin<Box<dyn Future<Output = Result<PageEnd, rdkafka::error::KafkaError>> + Send>>;

struct Tenure {
    lease: Lease,
    publisher: Publisher,
    pages: mpsc::Receiver<Result<Vec<RawEvent>, weft_log_reader::LoadError>>,
    valid_until: watch::Receiver<Instant>,
    lost: CancellationToken,
    /// The lease was lost, or the process stops.
    stop: CancellationToken,
    in_flight: FuturesOrdered<Acknowledgement>,
    /// Everything up to here is in Kafka.
    acknowledged: LogOrder,
    /// What the checkpoint says.
    saved: LogOrder,
    /// When Kafka last acknowledged something, or had nothing to.
    last_sign: Instant,
    published: bool,
    /// Reader, lease keeper, housekeeping: end with the tenure.
    _tasks: JoinSet<()>,
}

impl Tenure {
    /// Publishes until the shutdown or an error.
    async fn publish(&mut self, session: &Session) -> Result<(), RelayError> {
        let mut checkpoint = interval(CHECKPOINT_EVERY);
        checkpoint.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(Duration::from_secs(1));
        session.health.ready(PART);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(page) = self.in_flight.next(), if !self.in_flight.is_empty() => self.record(session, page?),
                _ = checkpoint.tick(), if self.saved < self.acknowledged => self.save().await?,
                _ = look.tick() => self.report(session),
                page = self.pages.recv(), if self.in_flight.len() < PAGES_IN_FLIGHT => match page {
                    Some(page) => self.send(page?).await?,
                    None => return Err(RelayError::Log("the tail's reader ended".to_owned())),
                },
            }
        }
        if self.lost.is_cancelled() {
            return Err(RelayError::LeaseLost);
        }
        self.drain(session).await
    }

    async fn send(&mut self, page: Vec<RawEvent>) -> Result<(), RelayError> {
        let Some(last) = page.last() else {
            return Ok(());
        };
        if Instant::now() >= *self.valid_until.borrow() {
            return Err(RelayError::LeaseLost);
        }
        if self.in_flight.is_empty() {
            self.last_sign = Instant::now();
        }
        let end = PageEnd {
            order: last.order,
            recorded_at: last.recorded_at,
            events: page.len() as u64,
        };
        if let Some(deliveries) = self.publisher.send(&page, &self.stop).await? {
            self.in_flight.push_back(Box::pin(acknowledged(deliveries, end)));
        }
        Ok(())
    }

    fn record(&mut self, session: &Session, end: PageEnd) {
        self.acknowledged = end.order;
        self.last_sign = Instant::now();
        if !self.published {
            self.published = true;
        }
        session.health.ready(PART);
        metrics::counter!(metric::PUBLISHED).increment(end.events);
        let lag = session.clock.now() - end.recorded_at;
        metrics::gauge!(metric::LAG_SECONDS).set(lag.num_milliseconds().max(0) as f64 / 1_000.0);
    }

    /// Says so when Kafka is silent; says so when nothing waits.
    fn report(&mut self, session: &Session) {
        if self.in_flight.is_empty() {
            metrics::gauge!(metric::LAG_SECONDS).set(0.0);
            return;
        }
        let silent = self.last_sign.elapsed();
        if silent >= SILENCE {
            session.health.failing(
                PART,
                format!("Kafka has acknowledged nothing for {} s", silent.as_secs()),
            );
        }
    }

    async fn save(&mut self) -> Result<(), RelayError> {
        self.lease.advance(self.acknowledged).await?;
        self.saved = self.acknowledged;
        Ok(())
    }

    /// Waits a moment for what is on its way, saves the checkpoint and lets the next relay start.
    async fn drain(&mut self, session: &Session) -> Result<(), RelayError> {
        let deadline = Instant::now() + DRAIN_FOR;
        while let Ok(Some(Ok(page))) = tokio::time::timeout_at(deadline, self.in_flight.next()).await {
            self.record(session, page);
        }
        if self.saved < self.acknowledged {
            self.save().await?;
        }
        Ok(self.lease.release().await?)
    }
}
