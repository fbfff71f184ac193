//! What Kafka did not bring is read from the log.

use std::sync::Arc;

use uuid::Uuid;
use weft_log_reader::{RawEvent, Tail, read_raw_stream};

use super::{Gap, Item, Projection, Session, What};
use crate::checkpoint::{Checkpoint, LogIdentity};
use crate::error::{ProjectionError, Stopped};
use crate::event::{Decoded, Event};
use crate::metric;
use crate::parked::Park;

/// Pages of the log while a gap is closed; most of their events may be of other partitions.
const PAGE: i64 = 2_000;

impl<P: Projection> Session<'_, P> {
    /// Applies what the log has between a partition's high-water and the gap's end, and goes on behind it. Answers the
    /// partition where the log holds an event that this program cannot read.
    pub(super) async fn close(&mut self, gap: &Gap) -> Result<Option<Stopped>, ProjectionError> {
        let partition = &gap.partition;
        let pool = self.engine.log_of(partition)?;
        let log = LogIdentity::read(pool).await?;
        let at = self.progress.at(partition);
        log.check(&at)?;
        let aggregate = self.engine.kafka.aggregate_of(&partition.topic).unwrap_or_default();
        let kafka = self.engine.kafka.seen_from(self.engine.kafka.share_of(partition));
        let mut tail = Tail::new(pool.clone(), at.high_water).of(&[aggregate]);
        if let Some(before) = gap.before {
            tail = tail.until(before);
        }
        let mut read = 0;
        loop {
            let page = tail.next_raw_page(PAGE).await?;
            if page.is_empty() {
                break;
            }
            let mut items = Vec::new();
            for raw in page
                .iter()
                .filter(|raw| kafka.partition_of(aggregate, &raw.partition_key) == partition.partition)
            {
                let decoded = match Event::of_log(raw) {
                    Ok(decoded) => decoded,
                    Err(error) => {
                        self.commit(items).await?;
                        self.progress.stop(partition.clone());
                        return Ok(Some(Stopped {
                            partition: partition.clone(),
                            offset: gap.next_offset,
                            error,
                        }));
                    }
                };
                items.push(Item {
                    partition: partition.clone(),
                    to: Some(Checkpoint {
                        next_offset: at.next_offset,
                        high_water: raw.order,
                        log_id: Some(log.log_id),
                        log_epoch: Some(log.epoch),
                    }),
                    what: What::of(decoded),
                });
            }
            read += items.len();
            while !items.is_empty() {
                let rest = items.split_off(items.len().min(P::MAX_BATCH));
                self.commit(std::mem::replace(&mut items, rest)).await?;
            }
        }
        // What Kafka still brings of this is at or below the high-water.
        let mut to = self.progress.at(partition);
        to.next_offset = gap.next_offset;
        let nothing = What::Nothing;
        self.commit(vec![Item {
            partition: partition.clone(),
            to: Some(to),
            what: nothing,
        }])
        .await?;
        metrics::counter!(metric::READ_FROM_LOG, "projection" => P::NAME).increment(read as u64);
        tracing::warn!(
            projection = P::NAME,
            topic = partition.topic,
            partition = partition.partition,
            expected_offset = at.next_offset,
            found_offset = gap.next_offset,
            events = read,
            "Kafka did not bring everything: the rest was read from the log"
        );
        Ok(None)
    }

    /// Puts the events `expected` to `found` (exclusive) of a stream in front of the one that came too early.
    pub(super) async fn insert_missing(
        &self,
        items: &mut Vec<Item>,
        stream: Uuid,
        expected: i64,
        found: i64,
    ) -> Result<(), ProjectionError> {
        let early = items
            .iter()
            .position(|item| matches!(&item.what, What::Event(event) if event.id == stream && event.sequence == found));
        let incomplete = ProjectionError::LogIncomplete {
            stream,
            missing: expected,
            found,
        };
        let Some((index, What::Event(event))) = early.map(|index| (index, &items[index].what)) else {
            return Err(incomplete);
        };
        let id = stream.to_string();
        let log = self.engine.log_of(&items[index].partition)?;
        let raw = read_raw_stream(log, event.stream().0, &id, expected, found - 1).await?;
        if raw.len() as i64 != found - expected {
            return Err(incomplete);
        }
        let partition = items[index].partition.clone();
        let missing = raw.iter().map(|raw| {
            let decoded = Event::of_log(raw).map_err(ProjectionError::LogStopped)?;
            Ok(Item {
                partition: partition.clone(),
                to: None,
                what: What::of(decoded),
            })
        });
        let missing = missing.collect::<Result<Vec<_>, ProjectionError>>()?;
        metrics::counter!(metric::READ_FROM_LOG, "projection" => P::NAME).increment(missing.len() as u64);
        tracing::warn!(projection = P::NAME, %stream, expected, found, "events were missing: read from the log");
        items.splice(index..index, missing);
        Ok(())
    }

    /// The rows that a stream which is about to be parked leaves incomplete, by its events up to the one that fails.
    pub(super) async fn rows_of(&self, park: &Park) -> Result<Vec<Uuid>, ProjectionError> {
        if P::SHAPE != crate::shape::Shape::Fold {
            return Ok(Vec::new());
        }
        let (aggregate, id) = park.place.stream;
        let log = self.engine.log_of(&park.partition)?;
        let raw = read_raw_stream(log, aggregate, &id.to_string(), 1, park.place.sequence).await?;
        let events: Vec<Arc<Event>> = raw.iter().filter_map(readable).collect();
        Ok(self.projection.rows_of(&events))
    }
}

fn readable(raw: &RawEvent) -> Option<Arc<Event>> {
    match Event::of_log(raw) {
        Ok(Decoded::Event(event)) => Some(event),
        _ => None,
    }
}
