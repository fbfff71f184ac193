//! A consumer that keeps its offsets elsewhere: in the same transaction as what it writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::{Instant, timeout_at};

use super::record::{EventRecord, InvalidRecord};
use crate::config::KafkaSection;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

/// Reads every partition of some topics from offsets that the caller gives. Commits nothing to Kafka.
pub struct EventConsumer {
    consumer: Arc<StreamConsumer>,
}

/// Of one question to a broker.
const PATIENCE: Duration = Duration::from_secs(2);
/// A batch ends with the record whose payload passes this.
const BATCH_BYTES: usize = 32 << 20;

/// What went wrong with one read.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Record(#[from] InvalidRecord),
}

impl EventConsumer {
    /// A consumer of some partitions, each from its entry in `next_offsets`, or from the beginning where it has none.
    pub fn assign(
        kafka: &KafkaSection,
        name: &str,
        partitions: &[TopicPartition],
        next_offsets: &HashMap<TopicPartition, i64>,
    ) -> Result<Self, KafkaError> {
        let consumer = Self::create(kafka, name)?;
        let mut list = TopicPartitionList::new();
        for place in partitions {
            let offset = next_offsets
                .get(place)
                .map_or(Offset::Beginning, |next| Offset::Offset(*next));
            list.add_partition_offset(&place.topic, place.partition, offset)?;
        }
        consumer.assign(&list)?;
        Ok(Self {
            consumer: Arc::new(consumer),
        })
    }

    /// A consumer of the partitions that `next_offsets` names, each from there.
    pub fn assign_at(
        kafka: &KafkaSection,
        name: &str,
        next_offsets: &HashMap<TopicPartition, i64>,
    ) -> Result<Self, KafkaError> {
        let consumer = Self::create(kafka, name)?;
        let mut list = TopicPartitionList::new();
        for (partition, next) in next_offsets {
            list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*next))?;
        }
        consumer.assign(&list)?;
        Ok(Self {
            consumer: Arc::new(consumer),
        })
    }

    /// Kafka's own name of the cluster; `None` where it does not answer. Remembered by the client once it was told.
    pub async fn cluster_id(&self) -> Option<String> {
        let consumer = Arc::clone(&self.consumer);
        let asked = tokio::task::spawn_blocking(move || consumer.client().fetch_cluster_id(PATIENCE));
        asked.await.unwrap_or_default()
    }

    /// The first offset that Kafka still has of each assigned partition; those that it does not tell are left out.
    pub async fn first_offsets(&self) -> HashMap<TopicPartition, i64> {
        let both = self.watermarks().await.into_iter();
        both.map(|(partition, (first, _))| (partition, first)).collect()
    }

    /// The offset that the next record of each assigned partition will have; those that Kafka does not tell are left out.
    pub async fn end_offsets(&self) -> HashMap<TopicPartition, i64> {
        let both = self.watermarks().await.into_iter();
        both.map(|(partition, (_, end))| (partition, end)).collect()
    }

    async fn watermarks(&self) -> HashMap<TopicPartition, (i64, i64)> {
        let consumer = Arc::clone(&self.consumer);
        let asked = tokio::task::spawn_blocking(move || {
            let mut found = HashMap::new();
            let Ok(assigned) = consumer.assignment() else {
                return found;
            };
            for place in assigned.elements() {
                let partition = TopicPartition {
                    topic: place.topic().to_owned(),
                    partition: place.partition(),
                };
                match consumer.fetch_watermarks(&partition.topic, partition.partition, PATIENCE) {
                    Ok(both) => drop(found.insert(partition, both)),
                    Err(error) => {
                        tracing::debug!(%error, "Kafka does not tell where its topics begin and end");
                        break;
                    }
                }
            }
            found
        });
        asked.await.unwrap_or_default()
    }

    /// A consumer of what is published from now on.
    pub fn assign_latest(kafka: &KafkaSection, name: &str, topics: &[(String, i32)]) -> Result<Self, KafkaError> {
        let consumer = Self::create(kafka, name)?;
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in topics {
            for partition in 0..*partitions {
                list.add_partition_offset(topic, partition, Offset::End)?;
            }
        }
        consumer.assign(&list)?;
        Ok(Self {
            consumer: Arc::new(consumer),
        })
    }

    fn create(kafka: &KafkaSection, name: &str) -> Result<StreamConsumer, KafkaError> {
        kafka
            .client()
            // Never joined, but librdkafka wants a name.
            .set("group.id", format!("weft.{name}"))
            .set("client.id", format!("weft.{name}"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "100")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.queue.backoff.ms", "20")
            .create()
    }

    /// The next events: waits for the first, then takes what has arrived, at most `max` and about `BATCH_BYTES`, and no
    /// longer than `linger`.
    /// Broker outages are waited out inside. A record that is none of ours loses what was read before it: the caller
    /// starts again from its own offsets.
    pub async fn next_batch(&self, max: usize, linger: Duration) -> Result<Vec<EventRecord>, ConsumeError> {
        let records = self.next_records(max, linger).await?;
        Ok(records.into_iter().collect::<Result<_, _>>()?)
    }

    /// As `next_batch`, with each record that is none of ours in its place.
    pub async fn next_records(
        &self,
        max: usize,
        linger: Duration,
    ) -> Result<Vec<Result<EventRecord, InvalidRecord>>, KafkaError> {
        self.next_of(max, linger, EventRecord::read).await
    }

    /// As `next_batch`, of a topic that carries no events: place and value.
    pub async fn next_raw_batch(
        &self,
        max: usize,
        linger: Duration,
    ) -> Result<Vec<(TopicPartition, i64, Vec<u8>)>, KafkaError> {
        self.next_of(max, linger, |message| {
            let from = TopicPartition {
                topic: message.topic().to_owned(),
                partition: message.partition(),
            };
            (from, message.offset(), message.payload().unwrap_or_default().to_vec())
        })
        .await
    }

    /// Stops reading one partition; the others go on.
    pub fn pause(&self, partition: &TopicPartition) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, partition.partition);
        self.consumer.pause(&list)
    }

    async fn next_of<T>(
        &self,
        max: usize,
        linger: Duration,
        read: impl Fn(&BorrowedMessage<'_>) -> T,
    ) -> Result<Vec<T>, KafkaError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut deadline: Option<Instant> = None;
        while batch.len() < max && bytes < BATCH_BYTES {
            let message = match deadline {
                None => self.consumer.recv().await,
                Some(deadline) => match timeout_at(deadline, self.consumer.recv()).await {
                    Ok(message) => message,
                    Err(_) => break,
                },
            };
            match message {
                Ok(message) => {
                    bytes += message.payload_len();
                    batch.push(read(&message));
                    deadline.get_or_insert_with(|| Instant::now() + linger);
                }
                // The broker is away or busy; librdkafka reconnects by itself.
                Err(error) if is_transient(&error) => tracing::debug!(%error, "waiting for Kafka"),
                Err(error) => return Err(error),
            }
        }
        Ok(batch)
    }

    /// The next raw message of a topic that carries no events: key and value.
    pub async fn next_raw(&self) -> Result<(TopicPartition, i64, Vec<u8>), KafkaError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => {
                    let from = TopicPartition {
                        topic: message.topic().to_owned(),
                        partition: message.partition(),
                    };
                    return Ok((from, message.offset(), message.payload().unwrap_or_default().to_vec()));
                }
                Err(error) if is_transient(&error) => tracing::debug!(%error, "waiting for Kafka"),
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_transient(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::PartitionEOF
        )
    )
}
