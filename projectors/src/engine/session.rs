//! A projection at work from its stored checkpoints on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::{Duration, Instant};
use weft_platform::kafka::{EventRecord, InvalidRecord, TopicPartition};

use super::{Engine, Item, Progress, Projection, What};
use crate::checkpoint::{self, Advance, LogIdentity};
use crate::error::{ProjectionError, Stopped};
use crate::event::{Event, Stream};
use crate::metric;
use crate::parked::{self, Fault, Park, Parked};
use crate::shape::Shape;

/// A write transaction of this length holds back the log's tail, where both are on one cluster.
const LONG_TRANSACTION: Duration = Duration::from_millis(200);

pub struct Session<'s, P> {
    pub(super) engine: &'s Engine,
    pub(super) projection: &'s P,
    pub(super) progress: Progress,
    /// As the last transaction found them.
    parked: Parked,
    /// How long the last transaction took.
    pub(crate) last_transaction: Duration,
}

impl<'s, P: Projection> Session<'s, P> {
    /// Of every partition of the projection's topics.
    pub async fn open(engine: &'s Engine, projection: &'s P) -> Result<Self, ProjectionError> {
        Self::open_on(engine, projection, &engine.partitions(P::AGGREGATES)).await
    }

    pub async fn open_on(
        engine: &'s Engine,
        projection: &'s P,
        partitions: &[TopicPartition],
    ) -> Result<Self, ProjectionError> {
        let checkpoints = checkpoint::load(&engine.pool, P::NAME, engine.generation, partitions).await?;
        let is_new = checkpoints.values().any(|at| at.log_epoch.is_none());
        let mut progress = Progress::new(checkpoints);
        if is_new {
            // A log that is away is asked by the next session.
            for log in engine.logs.iter() {
                match LogIdentity::read(log).await {
                    Ok(log) => progress.of_log(log),
                    Err(error) => tracing::debug!(%error, "the log does not tell its epoch"),
                }
            }
        }
        Ok(Self {
            engine,
            projection,
            progress,
            parked: Parked::new(),
            last_transaction: Duration::ZERO,
        })
    }

    /// Where the session stands.
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Applies what is new of `records` and moves the checkpoints behind them, each transaction all or nothing. After an
    /// error the session is over: where the store stands is then known only to the store.
    pub async fn apply(
        &mut self,
        records: Vec<Result<EventRecord, InvalidRecord>>,
    ) -> Result<Vec<Stopped>, ProjectionError> {
        let mut records = records.into_iter().peekable();
        let mut stopped = Vec::new();
        loop {
            let taken = self.progress.take(&mut records)?;
            stopped.extend(taken.stopped);
            self.commit(taken.items).await?;
            match taken.gap {
                Some(gap) => stopped.extend(self.close(&gap).await?),
                None => return Ok(stopped),
            }
        }
    }

    /// Commits `items` in their order: in one transaction, or, where one of them fails in the same way for ever, in
    /// halves, until it stands alone and its stream is parked.
    pub(crate) async fn commit(&mut self, items: Vec<Item>) -> Result<(), ProjectionError> {
        let mut todo = vec![items];
        while let Some(mut items) = todo.pop() {
            if items.is_empty() {
                continue;
            }
            match self.commit_at_once(&items).await {
                Ok(()) => {}
                Err(ProjectionError::VersionGap {
                    stream,
                    expected,
                    found,
                }) => {
                    self.insert_missing(&mut items, stream, expected, found).await?;
                    todo.push(items);
                }
                Err(error) if error.is_deterministic() && items.len() > 1 => {
                    let second = items.split_off(items.len() / 2);
                    todo.push(second);
                    todo.push(items);
                }
                Err(error) if error.is_deterministic() => {
                    let Some(What::Event(event)) = items.first().map(|item| &item.what) else {
                        return Err(error);
                    };
                    let place = event.place();
                    let fault = Fault::of(&place, &error);
                    items[0].what = What::Faulty(place, fault);
                    todo.push(items);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn commit_at_once(&mut self, items: &[Item]) -> Result<(), ProjectionError> {
        let steps = self.progress.steps(items);
        loop {
            let mut work = sort(items, &self.parked);
            for park in &mut work.parks {
                park.incomplete_rows = self.rows_of(park).await?;
            }
            if let Some(found) = self.attempt(&work, &steps).await? {
                // Somebody let a parked stream go on, or parked one: what was prepared is for other streams.
                self.parked = found;
                continue;
            }
            metrics::counter!(metric::EVENTS, "projection" => P::NAME).increment(work.events.len() as u64);
            metrics::counter!(metric::REPEATED, "projection" => P::NAME).increment(work.repeated);
            if let Some(last) = work.events.last() {
                let newest = last.recorded_at.timestamp_millis() as f64 / 1_000.0;
                metrics::gauge!(metric::NEWEST_EVENT_SECONDS, "projection" => P::NAME).set(newest);
            }
            for park in &work.parks {
                let (place, fault) = (&park.place, &park.fault);
                tracing::error!(
                    projection = P::NAME,
                    stream = %place.stream.1,
                    sequence = place.sequence,
                    fingerprint = fault.fingerprint,
                    error = fault.error,
                    "stream parked"
                );
            }
            metrics::counter!(metric::PARKED, "projection" => P::NAME).increment(work.parks.len() as u64);
            self.parked.extend(work.parks.iter().map(|park| park.place.stream));
            self.progress.advance(steps);
            return Ok(());
        }
    }

    /// One transaction; if other streams are parked than this session knew, nothing is done, and they are answered.
    async fn attempt(&mut self, work: &Work, steps: &[Advance]) -> Result<Option<Parked>, ProjectionError> {
        let prepared = match work.events.as_slice() {
            [] => None,
            events => Some(self.projection.prepare(events).await?),
        };
        let began = Instant::now();
        let mut transaction = self.engine.pool.begin().await?;
        if P::SHAPE == Shape::Fold {
            checkpoint::lock_all(&mut transaction, P::NAME).await?;
        }
        // First, so that a fenced consumer waits here and writes nothing.
        let found = checkpoint::advance(&mut transaction, P::NAME, self.engine.generation, steps).await?;
        if found != self.parked {
            return Ok(Some(found));
        }
        if let Some(prepared) = prepared {
            self.projection.write(&mut transaction, &work.events, prepared).await?;
        }
        parked::park(&mut transaction, P::NAME, &work.parks).await?;
        if !parked::put_aside(&mut transaction, P::NAME, &work.aside).await? {
            // The stream was let go on while this transaction waited for the checkpoint.
            drop(transaction);
            return Ok(Some(parked::streams(&self.engine.pool, P::NAME).await?));
        }
        transaction.commit().await?;
        let took = began.elapsed();
        self.last_transaction = took;
        if took > LONG_TRANSACTION {
            let events = work.events.len();
            tracing::warn!(projection = P::NAME, events, ?took, "long transaction");
        }
        metrics::histogram!(metric::TRANSACTION_SECONDS, "projection" => P::NAME).record(took.as_secs_f64());
        Ok(None)
    }
}

/// What is done with some items.
#[derive(Debug, Default)]
struct Work {
    events: Vec<Arc<Event>>,
    parks: Vec<Park>,
    /// Streams that are parked already, and the newest of their events here.
    aside: BTreeMap<Stream, i64>,
    repeated: u64,
}

fn sort(items: &[Item], parked: &Parked) -> Work {
    let mut work = Work::default();
    let mut parked_here: BTreeSet<Stream> = BTreeSet::new();
    for item in items {
        let (stream, sequence) = match &item.what {
            What::Nothing => {
                work.repeated += 1;
                continue;
            }
            What::Event(event) => (event.stream(), event.sequence),
            What::Faulty(place, _) => (place.stream, place.sequence),
        };
        if parked.contains(&stream) || parked_here.contains(&stream) {
            work.aside.insert(stream, sequence);
            continue;
        }
        match &item.what {
            What::Event(event) => work.events.push(Arc::clone(event)),
            What::Faulty(place, fault) => {
                parked_here.insert(stream);
                work.parks.push(Park {
                    partition: item.partition.clone(),
                    place: place.clone(),
                    fault: fault.clone(),
                    incomplete_rows: Vec::new(),
                });
            }
            What::Nothing => {}
        }
    }
    work
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use weft_domain::LogOrder;

    use super::*;
    use crate::event::EventPlace;

    fn faulty(id: u128, sequence: i64) -> Item {
        let place = EventPlace {
            stream: ("account", Uuid::from_u128(id)),
            sequence,
            event_type: "LoggedOut".to_owned(),
            tenant_id: Uuid::nil(),
            order: LogOrder::default(),
        };
        Item {
            partition: TopicPartition {
                topic: "t".to_owned(),
                partition: 0,
            },
            to: None,
            what: What::Faulty(
                place,
                Fault {
                    fingerprint: String::new(),
                    error: String::new(),
                },
            ),
        }
    }

    #[test]
    fn what_comes_behind_a_faulty_event_of_its_stream_is_put_aside() {
        let parked = Parked::from([("account", Uuid::from_u128(9))]);
        let work = sort(&[faulty(1, 4), faulty(9, 7), faulty(1, 5), faulty(9, 8)], &parked);
        assert_eq!(work.parks.len(), 1);
        assert_eq!(
            (work.parks[0].place.stream.1, work.parks[0].place.sequence),
            (Uuid::from_u128(1), 4)
        );
        let aside: Vec<i64> = work.aside.values().copied().collect();
        assert_eq!(aside, [5, 8]);
    }
}
