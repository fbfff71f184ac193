//! Fills a generation from the log. The log is read once, in its order, for all projections; each takes what is its own
//! up to where the live generation stands, partition by partition, so that in the end both are at the same place. Of
//! several logs one is read after the other: no row and no partition is made from two of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weft_domain::LogOrder;
use weft_log_reader::{Tail, newest};
use weft_platform::kafka::TopicPartition;

use super::{Purpose, Replay, ReplayError};
use crate::checkpoint::{self, Checkpoint, LogIdentity};
use crate::clickhouse::message_facts::MessageFacts;
use crate::clickhouse::message_stats_hourly;
use crate::engine::{Engine, Item, Projection, Session, What};
use crate::error::ProjectionError;
use crate::event::Event;

/// Larger pages are no faster.
const PAGE: i64 = 5_000;
/// Pages read ahead of the slowest projection.
const AHEAD: usize = 2;
/// Pages after which everything taken of them is committed.
const MOST_HELD: usize = 4;
/// Events of one transaction, to begin with and at least.
const LEAST_BATCH: usize = 2_500;
/// A transaction that takes longer makes the next ones smaller: on one cluster with the log, it holds back the tail.
const LONG: Duration = Duration::from_millis(150);
/// A round that took no longer has brought the generation near enough to the live one to lock that for the rest.
const NEAR: Duration = Duration::from_millis(150);
/// Between two looks at a log whose tail is held back by a transaction that still runs.
const UNSETTLED_PAUSE: Duration = Duration::from_millis(50);
/// Rounds after which that is done anyway.
const MOST_ROUNDS: usize = 20;

/// A part of the log, decoded once for all.
#[derive(Debug)]
pub struct Page {
    items: Vec<PageItem>,
    /// Every event up to here was in this page or one before it.
    end: LogOrder,
    log: LogIdentity,
}

#[derive(Clone, Debug)]
pub struct PageItem {
    partition: TopicPartition,
    order: LogOrder,
    what: What,
}

/// What one projection fills its tables from.
pub struct Fill {
    /// Where it ends on each partition.
    pub limits: BTreeMap<TopicPartition, LogOrder>,
    pub pages: mpsc::Receiver<Arc<Page>>,
}

/// What is missing of one log.
struct Stretch {
    share: usize,
    from: LogOrder,
    to: LogOrder,
    /// Of each projection.
    limits: Vec<BTreeMap<TopicPartition, LogOrder>>,
}

/// How far a fill has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillProgress {
    /// Events read by this process.
    pub events: u64,
    /// The position of the newest one, and of the last one to read; of several logs, their positions together.
    pub position: i64,
    pub last_position: i64,
}

impl Replay {
    /// Fills the generation until it is as far as the live one, or to the place it is made for.
    pub async fn fill(&self, mut told: impl FnMut(FillProgress)) -> Result<FillProgress, ReplayError> {
        let mut progress = FillProgress::default();
        for _ in 0..MOST_ROUNDS {
            let began = Instant::now();
            let limits = self.limits().await?;
            self.round(limits, &mut progress, &mut told).await?;
            if began.elapsed() < NEAR || matches!(self.purpose, Purpose::Until(_)) {
                break;
            }
        }
        self.compute_statistics().await?;
        Ok(progress)
    }

    /// Where each projection's partitions end: where the live generation stands now.
    async fn limits(&self) -> Result<Vec<BTreeMap<TopicPartition, LogOrder>>, ReplayError> {
        let mut limits = Vec::new();
        for projection in &self.projections {
            let live = self.world.live(projection.name()).await?;
            let partitions = live.partitions(projection.aggregates());
            limits.push(match self.purpose {
                Purpose::Until(until) => partitions.into_iter().map(|partition| (partition, until)).collect(),
                Purpose::HandOver | Purpose::Check => {
                    let at = checkpoint::load(&live.pool, projection.name(), live.generation, &partitions).await?;
                    let mut limits = BTreeMap::new();
                    for (partition, at) in at {
                        let limit = self.limit(&live, &partition, &at).await?;
                        limits.insert(partition, limit);
                    }
                    limits
                }
            });
        }
        Ok(limits)
    }

    /// Where a partition of the live generation stands. Where that is of another log or epoch, whose places mean nothing,
    /// the log's end, and at least all that is older than its present epoch: what the log has lost is not taken again from
    /// Kafka.
    pub(super) async fn limit(
        &self,
        live: &Engine,
        partition: &TopicPartition,
        at: &Checkpoint,
    ) -> Result<LogOrder, ReplayError> {
        let pool = live.log_of(partition)?;
        let log = self.logs[live.kafka.share_of(partition)];
        if log.check(at).is_ok() {
            return Ok(at.high_water);
        }
        let newest = newest(pool).await.map_err(ProjectionError::from)?;
        Ok(newest.max(LogOrder {
            epoch: log.epoch,
            ..LogOrder::default()
        }))
    }

    /// Brings every projection to its limits.
    pub(super) async fn round(
        &self,
        limits: Vec<BTreeMap<TopicPartition, LogOrder>>,
        progress: &mut FillProgress,
        told: &mut impl FnMut(FillProgress),
    ) -> Result<(), ReplayError> {
        let engine = self.world.engine(self.generation)?;
        let mut stretches = Vec::new();
        for share in 0..engine.logs.len() {
            let own = |limits: &BTreeMap<TopicPartition, LogOrder>| {
                let limits = limits
                    .iter()
                    .filter(|(partition, _)| engine.kafka.share_of(partition) == share);
                limits.map(|(partition, limit)| (partition.clone(), *limit)).collect()
            };
            let limits = limits.iter().map(own).collect();
            stretches.extend(self.stretch(&engine, share, limits).await?);
        }
        let all: i64 = stretches.iter().map(|stretch| stretch.to.position).sum();
        progress.last_position = progress.last_position.max(all);
        let mut before = 0;
        for stretch in stretches {
            let end = before + stretch.to.position;
            self.read_stretch(&engine, stretch, progress, &mut |progress| {
                let position = before + progress.position;
                told(FillProgress { position, ..progress });
            })
            .await?;
            before = end;
        }
        Ok(())
    }

    /// What is missing of one log, if anything is.
    async fn stretch(
        &self,
        engine: &Engine,
        share: usize,
        limits: Vec<BTreeMap<TopicPartition, LogOrder>>,
    ) -> Result<Option<Stretch>, ReplayError> {
        let (mut from, mut to) = (None::<LogOrder>, LogOrder::default());
        for (projection, limits) in self.projections.iter().zip(&limits) {
            let partitions: Vec<TopicPartition> = limits.keys().cloned().collect();
            let at = checkpoint::load(&engine.pool, projection.name(), self.generation, &partitions).await?;
            let behind = at.iter().filter(|(partition, at)| at.high_water < limits[*partition]);
            for (partition, at) in behind {
                from = Some(from.map_or(at.high_water, |from| from.min(at.high_water)));
                to = to.max(limits[partition]);
            }
        }
        Ok(from.map(|from| Stretch {
            share,
            from,
            to,
            limits,
        }))
    }

    async fn read_stretch(
        &self,
        engine: &Engine,
        stretch: Stretch,
        progress: &mut FillProgress,
        told: &mut impl FnMut(FillProgress),
    ) -> Result<(), ReplayError> {
        let Stretch {
            share,
            from,
            to,
            limits,
        } = stretch;
        let mut senders = Vec::new();
        let mut tasks = JoinSet::new();
        for (projection, limits) in self.projections.iter().zip(limits) {
            let (sender, pages) = mpsc::channel(AHEAD);
            senders.push(sender);
            let fill = Fill { limits, pages };
            tasks.spawn(projection.fill(Arc::clone(&self.world), self.generation, fill));
        }
        let read = self.read(engine, share, (from, to), &senders, progress, told).await;
        drop(senders);
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        read
    }

    /// Sends a log from one place to another to every projection; ends early when one of them has failed.
    async fn read(
        &self,
        engine: &Engine,
        share: usize,
        (from, to): (LogOrder, LogOrder),
        senders: &[mpsc::Sender<Arc<Page>>],
        progress: &mut FillProgress,
        told: &mut impl FnMut(FillProgress),
    ) -> Result<(), ReplayError> {
        let (log, kafka) = (&engine.logs[share], engine.kafka.seen_from(share));
        let mut aggregates: Vec<&str> = self.projections.iter().flat_map(|p| p.aggregates()).copied().collect();
        aggregates.sort_unstable();
        aggregates.dedup();
        let topics: BTreeMap<&str, String> = aggregates.iter().map(|name| (*name, kafka.topic(name))).collect();
        let mut tail = Tail::new(log.clone(), from).until(to).of(&aggregates);
        let mut complete = false;
        loop {
            let raw = tail.next_raw_page(PAGE).await.map_err(ProjectionError::from)?;
            let is_last = raw.is_empty();
            if is_last && !complete {
                // Looked at before the page that is to be the last: what settles in between is in that page.
                complete = !tail.has_unsettled().await.map_err(ProjectionError::from)?;
                if !complete {
                    tokio::time::sleep(UNSETTLED_PAUSE).await;
                }
                continue;
            }
            let mut items = Vec::with_capacity(raw.len());
            for event in &raw {
                let Some(topic) = topics.get(event.aggregate_type.as_str()) else {
                    continue;
                };
                items.push(PageItem {
                    partition: TopicPartition {
                        topic: topic.clone(),
                        partition: kafka.partition_of(&event.aggregate_type, &event.partition_key),
                    },
                    order: event.order,
                    what: What::of(Event::of_log(event).map_err(ProjectionError::LogStopped)?),
                });
            }
            progress.events += raw.len() as u64;
            progress.position = raw.last().map_or(to, |last| last.order).position;
            let end = if is_last { to } else { tail.after() };
            let page = Arc::new(Page {
                items,
                end,
                log: self.logs[share],
            });
            for sender in senders {
                if sender.send(Arc::clone(&page)).await.is_err() {
                    return Ok(());
                }
            }
            told(*progress);
            if is_last {
                return Ok(());
            }
        }
    }

    /// What follows from the facts.
    pub(super) async fn compute_statistics(&self) -> Result<(), ReplayError> {
        if self
            .projections
            .iter()
            .any(|projection| projection.name() == MessageFacts::NAME)
        {
            let engine = self.world.engine(self.generation)?;
            let facts = self.world.facts(self.generation);
            while message_stats_hourly::compute(&engine.pool, &facts).await? > 0 {}
        }
        Ok(())
    }
}

/// Writes what is a projection's own of the pages that come.
pub(crate) async fn fill<P: Projection>(
    engine: &Engine,
    projection: &P,
    mut fill: Fill,
) -> Result<(), ProjectionError> {
    let mut session = Session::open(engine, projection).await?;
    let mut batch = LEAST_BATCH;
    let mut items: Vec<Item> = Vec::new();
    let mut held = 0;
    loop {
        let page = fill.pages.recv().await;
        let ended = page.is_none();
        // What is rare is committed too, so that a fill that was killed goes on near where it was.
        held = (held + 1) % MOST_HELD;
        let all = ended || held == 0;
        if let Some(page) = page {
            take(&page, &fill.limits, &session.progress().checkpoints, &mut items);
        }
        while items.len() >= batch || (all && !items.is_empty()) {
            let rest = items.split_off(items.len().min(batch));
            let count = items.len();
            session.commit(std::mem::replace(&mut items, rest)).await?;
            batch =
                next_batch(batch, count, session.last_transaction).clamp(LEAST_BATCH, P::FILL_BATCH.max(LEAST_BATCH));
        }
        if ended {
            return Ok(());
        }
    }
}

/// How many events to take next, where `count` of at most `batch` took so long.
fn next_batch(batch: usize, count: usize, took: Duration) -> usize {
    if took > LONG {
        count / 2
    } else if took < LONG / 3 && count == batch {
        // Less than a batch tells nothing of a larger one.
        batch * 2
    } else {
        batch
    }
}

/// Adds what of `page` is new to a projection that stands at `checkpoints`, and ends at `limits`.
fn take(
    page: &Page,
    limits: &BTreeMap<TopicPartition, LogOrder>,
    checkpoints: &BTreeMap<TopicPartition, Checkpoint>,
    items: &mut Vec<Item>,
) {
    let high_water = |partition| {
        checkpoints
            .get(partition)
            .map_or_else(LogOrder::default, |at| at.high_water)
    };
    for item in &page.items {
        let wanted = limits
            .get(&item.partition)
            .is_some_and(|limit| item.order <= *limit && item.order > high_water(&item.partition));
        if wanted {
            items.push(Item {
                partition: item.partition.clone(),
                to: Some(at_place(item.order, page.log)),
                what: item.what.clone(),
            });
        }
    }
    // Everything up to the page's end is done, also where a partition had nothing in it.
    let ends = limits.iter().filter_map(|(partition, limit)| {
        let end = page.end.min(*limit);
        (high_water(partition) < end).then(|| Item {
            partition: partition.clone(),
            to: Some(at_place(end, page.log)),
            what: What::Nothing,
        })
    });
    items.extend(ends);
}

/// Offsets come with the hand-over.
const fn at_place(high_water: LogOrder, log: LogIdentity) -> Checkpoint {
    Checkpoint {
        next_offset: 0,
        high_water,
        log_id: Some(log.log_id),
        log_epoch: Some(log.epoch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_transaction_makes_the_next_smaller_and_only_a_full_short_one_makes_it_larger() {
        assert_eq!(next_batch(20_000, 20_000, LONG * 2), 10_000);
        assert_eq!(next_batch(10_000, 10_000, LONG / 4), 20_000);
        assert_eq!(next_batch(10_000, 18, LONG / 100), 10_000);
        assert_eq!(next_batch(10_000, 10_000, LONG / 2), 10_000);
    }
}
