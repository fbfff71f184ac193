//! Hands records to Kafka and waits for their acknowledgement, page by page.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_log_reader::RawEvent;
use weft_platform::config::KafkaSection;
use weft_platform::kafka::AGGREGATES;

use super::record::record;

/// How long to wait for room in the producer's queue.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(5);

/// A producer that lives until its first error.
pub(super) struct Publisher {
    producer: Option<FutureProducer>,
    kafka: KafkaSection,
    log_id: Uuid,
    topics: HashMap<&'static str, String>,
}

/// The end of a page that is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageEnd {
    pub(super) order: LogOrder,
    pub(super) recorded_at: DateTime<Utc>,
    pub(super) events: u64,
}

impl Publisher {
    pub(super) fn new(kafka: &KafkaSection, log_id: Uuid) -> Result<Self, KafkaError> {
        let producer = kafka
            .producer()
            // A failed record must not be passed by later ones of its partition.
            .set("enable.gapless.guarantee", "true")
            .set("message.max.bytes", "1048588")
            .set("client.id", "weft.relay")
            .create()?;
        let topics = AGGREGATES
            .iter()
            .map(|aggregate| (*aggregate, kafka.topic(aggregate)))
            .collect();
        Ok(Self {
            producer: Some(producer),
            kafka: kafka.clone(),
            log_id,
            topics,
        })
    }

    /// Queues a page in log order. `None` when `stop` came while the queue was full.
    pub(super) async fn send(
        &self,
        page: &[RawEvent],
        stop: &CancellationToken,
    ) -> Result<Option<Vec<DeliveryFuture>>, KafkaError> {
        let Some(producer) = &self.producer else {
            return Ok(None);
        };
        let mut deliveries = Vec::with_capacity(page.len());
        for event in page {
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
            let mut next = record(&self.kafka, topic, self.log_id, event);
            loop {
                match producer.send_result(next) {
                    Ok(delivery) => {
                        deliveries.push(delivery);
                        break;
                    }
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                        next = unsent;
                        tokio::select! {
                            () = stop.cancelled() => return Ok(None),
                            () = tokio::time::sleep(QUEUE_FULL_WAIT) => {}
                        }
                    }
                    Err((error, _)) => return Err(error),
                }
            }
        }
        Ok(Some(deliveries))
    }
}

/// Waits until all of a page is acknowledged; fails with its first failure.
pub(super) async fn acknowledged(deliveries: Vec<DeliveryFuture>, end: PageEnd) -> Result<PageEnd, KafkaError> {
    for delivery in deliveries {
        match delivery.await {
            Ok(Ok(_)) => {}
            Ok(Err((error, _))) => return Err(error),
            Err(_) => return Err(KafkaError::Canceled),
        }
    }
    Ok(end)
}

impl Publisher {
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
