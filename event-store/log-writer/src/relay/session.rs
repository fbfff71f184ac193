//! One tenure: from taking the lease to an error, a loss of the lease or the shutdown.

use std::collections::HashMap;
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
use weft_platform::kafka::AGGREGATES;

use super::lease::{Lease, Published, Taken};
use super::publisher::Publisher;
use super::{PART, RelayError, metric, reader};
use crate::pool::Probe;
use crate::{idempotency, quotas};

/// Pages on their way to Kafka at once: with pages of at most 5,000 events and `Tail::PAGE_BYTES` always less than the
/// producer's queue takes (100,000 records, 128 MiB).
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
        tracing::info!(log = self.config.log.name, owner_epoch = taken.lease.owner_epoch, checkpoint = %taken.published.checkpoint, publication = taken.published.publication, "this relay publishes");
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
            published,
            valid_until,
        } = taken;
        let Published {
            checkpoint,
            publication,
            cluster_id,
            next_offsets,
        } = published;
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

        let log_id = self.log_id(checkpoint).await?;
        self.check_share(&next_offsets)?;
        let publisher = Publisher::new(&self.config.kafka, log_id, publication, &next_offsets)?;
        let cluster_id = publisher.verify(cluster_id.as_deref()).await?;

        let (pages_sender, pages) = mpsc::channel(PAGES_READ_AHEAD);
        let tail = Tail::new(self.pool.clone(), checkpoint);
        let poll = Duration::from_millis(self.config.log.relay_poll_ms.max(1).into());
        tasks.spawn(reader::read(tail, Arc::clone(&self.wake), poll, pages_sender));

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
                match quotas::purge(&pool, clock.now()).await {
                    Ok(0) => {}
                    Ok(purged) => tracing::debug!(purged, "counters of days long gone are gone"),
                    Err(error) => tracing::warn!(%error, "counters of days long gone could not be deleted"),
                }
            }
        });

        Ok(Tenure {
            lease,
            publisher,
            cluster_id,
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

    /// That the log's own partitions are those that it was published to.
    fn check_share(&self, published: &HashMap<String, Vec<i64>>) -> Result<(), RelayError> {
        for aggregate in AGGREGATES {
            let topic = self.config.kafka.topic(aggregate);
            let share = self.config.kafka.own_share(aggregate);
            let (first, found) = (share.start as usize, share.end as usize);
            if let Some(offsets) = published.get(&topic)
                && (offsets.len() != found || offsets[..first].iter().any(|next| *next > 0))
            {
                let (log, known) = (self.config.log.name.clone(), offsets.len());
                return Err(RelayError::ShareChanged {
                    log,
                    topic,
                    known,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Also that new events will come after the old ones: a copy of a log may be on a server whose transaction ids are
    /// lower, until `weft log adopt` begins the next epoch.
    async fn log_id(&self, checkpoint: LogOrder) -> Result<Uuid, RelayError> {
        let (log_id, epoch, next): (Uuid, i16, i64) = sqlx::query_as(
            "select log_id, epoch, pg_snapshot_xmax(pg_current_snapshot())::text::bigint from log_identity",
        )
        .fetch_one(&self.pool)
        .await?;
        if epoch < checkpoint.epoch || (epoch == checkpoint.epoch && next <= checkpoint.transaction_id) {
            return Err(RelayError::NotAdopted);
        }
        Ok(log_id)
    }
}

/// The end of a page that is on its way.
#[derive(Clone, Copy, Debug)]
struct PageEnd {
    order: LogOrder,
    events: u64,
}

type Acknowledgement = std::pin::Pin<Box<dyn Future<Output = (PageEnd, bool)> + Send>>;

struct Tenure {
    lease: Lease,
    publisher: Publisher,
    cluster_id: String,
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
                error = self.publisher.failure() => return Err(error),
                Some((page, acknowledged)) = self.in_flight.next() => {
                    if acknowledged {
                        self.record(session, page);
                    }
                }
                _ = checkpoint.tick(), if self.saved < self.acknowledged => self.save().await?,
                _ = look.tick() => self.report(session),
                page = self.pages.recv(), if self.in_flight.len() < PAGES_IN_FLIGHT => match page {
                    Some(page) => self.send(&page?)?,
                    None => return Err(RelayError::Log("the tail's reader ended".to_owned())),
                },
            }
        }
        if self.lost.is_cancelled() {
            return Err(RelayError::LeaseLost);
        }
        self.drain(session).await
    }

    fn send(&mut self, page: &[RawEvent]) -> Result<(), RelayError> {
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
            events: page.len() as u64,
        };
        let acknowledged = self.publisher.send(page)?;
        self.in_flight
            .push_back(Box::pin(async move { (end, acknowledged.await.is_ok()) }));
        Ok(())
    }

    fn record(&mut self, session: &Session, end: PageEnd) {
        self.acknowledged = end.order;
        self.last_sign = Instant::now();
        self.published = true;
        self.publisher.recovered();
        session.health.ready(PART);
        metrics::counter!(metric::PUBLISHED, "log" => session.config.log.name.clone()).increment(end.events);
    }

    /// Says so when Kafka is silent.
    fn report(&self, session: &Session) {
        let silent = self.last_sign.elapsed();
        if self.in_flight.is_empty() || silent < SILENCE {
            return;
        }
        let mut detail = format!("Kafka has acknowledged nothing for {} s", silent.as_secs());
        if let Some(trouble) = self.publisher.trouble() {
            detail.push_str(": ");
            detail.push_str(&trouble);
        }
        session.health.failing(PART, detail);
    }

    async fn save(&mut self) -> Result<(), RelayError> {
        let offsets = self.publisher.offsets();
        self.lease.advance(self.acknowledged, &self.cluster_id, offsets).await?;
        self.saved = self.acknowledged;
        Ok(())
    }

    /// Waits a moment for what is on its way, saves the checkpoint and lets the next relay start.
    async fn drain(&mut self, session: &Session) -> Result<(), RelayError> {
        let deadline = Instant::now() + DRAIN_FOR;
        while let Ok(Some((page, true))) = tokio::time::timeout_at(deadline, self.in_flight.next()).await {
            self.record(session, page);
        }
        if self.saved < self.acknowledged {
            self.save().await?;
        }
        Ok(self.lease.release().await?)
    }
}
