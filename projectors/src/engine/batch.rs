//! What is new in a stretch of records, and where the checkpoints stand behind each.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use weft_domain::LogOrder;
use weft_platform::kafka::{EventRecord, InvalidRecord, TopicPartition};

use crate::checkpoint::{Advance, Checkpoint, LogIdentity};
use crate::error::{PartitionError, ProjectionError, Stopped};
use crate::event::{Decoded, Event, EventPlace, order_of};
use crate::parked::Fault;

/// One step of a partition.
#[derive(Clone, Debug)]
pub struct Item {
    pub partition: TopicPartition,
    /// Where the partition stands behind it; `None` for a missing event that was read from the log and stands before the
    /// next item.
    pub to: Option<Checkpoint>,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Event(Arc<Event>),
    /// An event that fails in the same way for ever.
    Faulty(EventPlace, Fault),
    /// Applied before, or of an aggregate that no view shows.
    Nothing,
}

/// Events that the log has and Kafka did not bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub partition: TopicPartition,
    /// The newest event missing at most; `None`: up to the log's end.
    pub before: Option<LogOrder>,
    /// Where Kafka goes on.
    pub next_offset: i64,
}

/// What was taken of some records: all of them, or those before a gap.
#[derive(Debug, Default)]
pub struct Taken {
    pub items: Vec<Item>,
    /// Partitions that end before a record that this program cannot read.
    pub stopped: Vec<Stopped>,
    pub gap: Option<Gap>,
}

/// Where a session stands: the stored checkpoints, and the partitions that stopped.
#[derive(Debug, Default)]
pub struct Progress {
    pub checkpoints: BTreeMap<TopicPartition, Checkpoint>,
    stopped: HashSet<TopicPartition>,
    /// The logs' own, where a checkpoint does not name its epoch yet.
    logs: Vec<LogIdentity>,
}

impl Progress {
    pub fn new(checkpoints: BTreeMap<TopicPartition, Checkpoint>) -> Self {
        Self {
            checkpoints,
            stopped: HashSet::new(),
            logs: Vec::new(),
        }
    }

    /// Checkpoints on this log that name no epoch of it take this one.
    pub fn of_log(&mut self, log: LogIdentity) {
        self.logs.push(log);
    }

    pub fn at(&self, partition: &TopicPartition) -> Checkpoint {
        self.checkpoints.get(partition).copied().unwrap_or_default()
    }

    /// A partition that nothing more is taken of.
    pub fn stop(&mut self, partition: TopicPartition) {
        self.stopped.insert(partition);
    }

    /// Takes `records` in their order, up to the first gap: the record behind it stays. Moves nothing until `advance`.
    pub fn take(
        &mut self,
        records: &mut std::iter::Peekable<impl Iterator<Item = Result<EventRecord, InvalidRecord>>>,
    ) -> Result<Taken, ProjectionError> {
        let mut taken = Taken::default();
        let mut reached: BTreeMap<TopicPartition, Checkpoint> = BTreeMap::new();
        while let Some(record) = records.peek() {
            let (partition, offset) = place(record);
            if self.stopped.contains(&partition) {
                records.next();
                continue;
            }
            let at = reached.get(&partition).copied().unwrap_or_else(|| self.at(&partition));
            match record
                .as_ref()
                .map_err(Clone::clone)
                .map_err(PartitionError::from)
                .and_then(|record| read(record, &at, &self.logs))
            {
                Ok(Read::Gap(before)) => {
                    taken.gap = Some(Gap {
                        partition,
                        before: Some(before),
                        next_offset: offset,
                    });
                    return Ok(taken);
                }
                Ok(Read::Foreign(error)) => return Err(error),
                Ok(Read::Item(what, to)) => {
                    reached.insert(partition.clone(), to);
                    taken.items.push(Item {
                        partition,
                        to: Some(to),
                        what,
                    });
                }
                Err(error) => {
                    self.stop(partition.clone());
                    taken.stopped.push(Stopped {
                        partition,
                        offset,
                        error,
                    });
                }
            }
            records.next();
        }
        Ok(taken)
    }

    /// The steps of `items`, in the order in which statements take their locks.
    pub fn steps(&self, items: &[Item]) -> Vec<Advance> {
        let mut steps: BTreeMap<&TopicPartition, Checkpoint> = BTreeMap::new();
        for item in items {
            let to = steps.entry(&item.partition).or_insert_with(|| self.at(&item.partition));
            *to = item.to.unwrap_or(*to);
        }
        let steps = steps.into_iter();
        steps
            .map(|(partition, to)| Advance {
                partition: partition.clone(),
                from: self.at(partition),
                to,
            })
            .collect()
    }

    /// The steps are committed.
    pub fn advance(&mut self, steps: Vec<Advance>) {
        for Advance { partition, to, .. } in steps {
            self.checkpoints.insert(partition, to);
        }
    }
}

enum Read {
    Item(What, Checkpoint),
    /// Events before this one are missing.
    Gap(LogOrder),
    /// Of another log, or another epoch of it, than the one known.
    Foreign(ProjectionError),
}

fn read(record: &EventRecord, at: &Checkpoint, logs: &[LogIdentity]) -> Result<Read, PartitionError> {
    let log = logs.iter().find(|log| log.log_id == record.log_id);
    let known = Checkpoint {
        log_epoch: at.log_epoch.or(log.map(|log| log.epoch)),
        ..*at
    };
    let found = LogIdentity {
        log_id: record.log_id,
        epoch: record.epoch,
    };
    if let Err(error) = found.check(&known) {
        return Ok(Read::Foreign(error));
    }
    let order = order_of(record);
    let to = Checkpoint {
        next_offset: record.offset + 1,
        high_water: at.high_water.max(order),
        log_id: Some(record.log_id),
        log_epoch: known.log_epoch,
    };
    if order <= at.high_water {
        return Ok(Read::Item(What::Nothing, to));
    }
    // Kafka dropped records, or the topic was made anew: what was between only the log knows.
    if record.offset != at.next_offset {
        return Ok(Read::Gap(order));
    }
    Ok(Read::Item(What::of(Event::decode(record)?), to))
}

impl What {
    /// What an engine does with a decoded event.
    pub fn of(decoded: Decoded) -> Self {
        match decoded {
            Decoded::Foreign => Self::Nothing,
            Decoded::Event(event) => Self::Event(event),
            Decoded::Undecodable(place, error) => {
                let fault = Fault::of_payload(&place, &error);
                Self::Faulty(place, fault)
            }
        }
    }
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
