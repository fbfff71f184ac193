//! What is new in a batch of records, and where the checkpoints stand after it.

use std::collections::{BTreeMap, HashSet};

use weft_platform::kafka::{EventRecord, InvalidRecord, TopicPartition};

use crate::checkpoint::{Advance, Checkpoint};
use crate::error::{PartitionError, ProjectionError, Stopped};
use crate::event::{Event, order_of};

/// A batch ready to be written.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<Event>,
    pub steps: Vec<Advance>,
    /// Partitions that end before a record that this program cannot read.
    pub stopped: Vec<Stopped>,
    /// Records that were applied before.
    pub repeated: usize,
}

/// Where a session stands: the stored checkpoints, and the partitions that stopped.
#[derive(Debug, Default)]
pub struct Progress {
    pub checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    stopped: HashSet<TopicPartition>,
}

impl Progress {
    pub fn new(checkpoints: BTreeMap<TopicPartition, Checkpoint>) -> Self {
        Self {
            checkpoints,
            stopped: HashSet::new(),
        }
    }

    /// Takes what is new of `records`, in their order; changes nothing here until `advance`.
    pub fn take(&mut self, records: Vec<Result<EventRecord, InvalidRecord>>) -> Result<Batch, ProjectionError> {
        let mut batch = Batch::default();
        let mut reached: BTreeMap<TopicPartition, Checkpoint> = BTreeMap::new();
        for record in records {
            let (partition, offset) = place(&record);
            if self.stopped.contains(&partition) {
                continue;
            }
            let stored = self.checkpoints.get(&partition).copied().unwrap_or_default();
            let at = reached.get(&partition).copied().unwrap_or(stored);
            match read(record, &at)? {
                Ok((event, next)) => {
                    batch.repeated += usize::from(next.high_water == at.high_water);
                    batch.events.extend(event);
                    reached.insert(partition, next);
                }
                Err(error) => {
                    self.stopped.insert(partition.clone());
                    batch.stopped.push(Stopped {
                        partition,
                        offset,
                        error,
                    });
                }
            }
        }
        batch.steps = reached
            .into_iter()
            .map(|(partition, to)| {
                let from = self.checkpoints.get(&partition).copied().unwrap_or_default();
                Advance { partition, from, to }
            })
            .collect();
        Ok(batch)
    }

    /// The steps are committed.
    pub fn advance(&mut self, steps: Vec<Advance>) {
        for Advance { partition, to, .. } in steps {
            self.checkpoints.insert(partition, to);
        }
    }
}

/// The event, if it is new and of a view's aggregate, and the checkpoint behind it; or what stops the partition.
type Read = Result<(Option<Event>, Checkpoint), PartitionError>;

fn read(record: Result<EventRecord, InvalidRecord>, at: &Checkpoint) -> Result<Read, ProjectionError> {
    let record = match record {
        Ok(record) => record,
        Err(error) => return Ok(Err(error.into())),
    };
    if record.offset > at.next_offset {
        return Err(ProjectionError::MissingEvents {
            topic: record.topic,
            partition: record.partition,
            expected: at.next_offset,
            found: record.offset,
        });
    }
    if let Some(known) = at.log_id.filter(|known| *known != record.log_id) {
        return Err(ProjectionError::LogReplaced {
            known,
            found: record.log_id,
        });
    }
    let order = order_of(&record);
    let mut next = Checkpoint {
        next_offset: record.offset + 1,
        high_water: at.high_water,
        log_id: Some(record.log_id),
    };
    if order <= at.high_water {
        return Ok(Ok((None, next)));
    }
    next.high_water = order;
    Ok(Event::decode(&record).map(|event| (event, next)))
}

fn place(record: &Result<EventRecord, InvalidRecord>) -> (TopicPartition, i64) {
    let (topic, partition, offset) = match record {
        Ok(record) => (&record.topic, record.partition, record.offset),
        Err(record) => (&record.topic, record.partition, record.offset),
    };
    (
        TopicPartition {
            topic: topic.clone(),
            partition,
        },
        offset,
    )
}
