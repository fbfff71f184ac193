//! Hands pages to Kafka.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ThreadedProducer};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;
use weft_log_reader::RawEvent;
use weft_platform::config::KafkaSection;
use weft_platform::kafka::AGGREGATES;

use super::RelayError;
use super::deliveries::{Deliveries, Offsets, Page};
use super::record::{Source, record};

/// Longest wait for one answer of Kafka before anything is published: well within a lease.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A producer that lives until its first error.
pub(super) struct Publisher {
    producer: Option<Arc<ThreadedProducer<Deliveries>>>,
    kafka: KafkaSection,
    source: Source,
    topics: HashMap<&'static str, String>,
    offsets: Offsets,
    failed: mpsc::Receiver<RelayError>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Publisher {
    pub(super) fn new(
        kafka: &KafkaSection,
        log_id: Uuid,
        publication: i64,
        stored: &HashMap<String, Vec<i64>>,
    ) -> Result<Self, KafkaError> {
        let topics: HashMap<_, _> = AGGREGATES.iter().map(|name| (*name, kafka.topic(name))).collect();
        let counts: Vec<_> = AGGREGATES
            .iter()
            .map(|name| (kafka.topic(name), kafka.own_share(name).end))
            .collect();
        let offsets = Offsets::new(&counts, stored);
        let (failure, failed) = mpsc::channel(1);
        let trouble = Arc::default();
        let deliveries = Deliveries {
            offsets: offsets.clone(),
            failed: failure,
            trouble: Arc::clone(&trouble),
        };
        let producer = kafka
            .producer()
            // A failed record must not be passed by later ones of its partition.
            .set("enable.gapless.guarantee", "true")
            .set("message.max.bytes", "1048588")
            .set("client.id", "weft.relay")
            .create_with_context(deliveries)?;
        Ok(Self {
            producer: Some(Arc::new(producer)),
            kafka: kafka.clone(),
            source: Source { log_id, publication },
            topics,
            offsets,
            failed,
            trouble,
        })
    }

    /// Queues a page in log order; the receiver is told when all of it is acknowledged. The caller keeps what is on its
    /// way below the producer's bounds.
    pub(super) fn send(&self, events: &[RawEvent]) -> Result<oneshot::Receiver<()>, KafkaError> {
        let producer = self.producer.as_ref().ok_or(KafkaError::Canceled)?;
        let (page, acknowledged) = Page::new();
        for event in events {
            let topic = self.topics.get(event.aggregate_type.as_str());
            let Some(topic) = topic else {
                // Not one of Weft's aggregates: it has no topic and nobody waits for it.
                tracing::warn!(
                    aggregate = event.aggregate_type,
                    id = event.aggregate_id,
                    "an event without a topic"
                );
                continue;
            };
            let record = record(&self.kafka, topic, self.source, event, Arc::clone(&page));
            producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(acknowledged)
    }

    /// The first failure; never when there is none.
    pub(super) async fn failure(&mut self) -> RelayError {
        match self.failed.recv().await {
            Some(error) => error,
            None => KafkaError::Canceled.into(),
        }
    }

    /// What the client last complained of.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The brokers answer again.
    pub(super) fn recovered(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn offsets(&self) -> serde_json::Value {
        serde_json::json!(self.offsets.stored())
    }

    /// That this is the Kafka that was published to before, and has all of it. Answers the cluster's id.
    pub(super) async fn verify(&self, known_cluster: Option<&str>) -> Result<String, RelayError> {
        let producer = self.producer.clone().ok_or(KafkaError::Canceled)?;
        let (known, topics) = (self.offsets.known(), self.topics.clone());
        let brokers = self.kafka.brokers.clone();
        let known_cluster = known_cluster.map(str::to_owned);
        let looked = tokio::task::spawn_blocking(move || {
            let client = producer.client();
            let cluster = client
                .fetch_cluster_id(ANSWER_WITHIN)
                .ok_or(RelayError::KafkaAway { brokers })?;
            if let Some(known) = known_cluster.filter(|known| *known != cluster) {
                return Err(RelayError::KafkaReplaced { known, found: cluster });
            }
            for topic in topics.values() {
                let metadata = client.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
                let missing = metadata
                    .topics()
                    .iter()
                    .find_map(rdkafka::metadata::MetadataTopic::error);
                if let Some(error) = missing {
                    let error = KafkaError::MetadataFetch(RDKafkaErrorCode::from(error));
                    let topic = topic.clone();
                    return Err(RelayError::NoTopic { topic, error });
                }
            }
            for (topic, partition, known) in known {
                let (_, found) = client.fetch_watermarks(&topic, partition, ANSWER_WITHIN)?;
                if found < known {
                    return Err(RelayError::KafkaLost {
                        topic,
                        partition,
                        known,
                        found,
                    });
                }
            }
            Ok(cluster)
        });
        looked.await.unwrap_or(Err(KafkaError::Canceled.into()))
    }

    /// Throws away what is queued, and returns when nothing of it can be sent any more.
    pub(super) async fn close(mut self) {
        if let Some(producer) = self.producer.take() {
            // Purges and waits for the poll thread: not on an async thread.
            let closed = tokio::task::spawn_blocking(move || drop(producer)).await;
            if let Err(error) = closed {
                tracing::warn!(%error, "the producer did not close cleanly");
            }
        }
    }
}

impl Drop for Publisher {
    /// For a task that is aborted.
    fn drop(&mut self) {
        if let (Some(producer), Ok(runtime)) = (self.producer.take(), tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(producer)));
        }
    }
}
