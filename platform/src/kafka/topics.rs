//! Creates the topics and refuses drift: the partitions that a log has of a topic never change, because the partition of
//! a key would. A topic only grows by the whole share of a log that was added.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::KafkaSection;

use super::AGGREGATES;

/// Largest record a topic takes: above `log.max_event_bytes`, so that no event can block the relay.
const MAX_MESSAGE_BYTES: &str = "1048588";

/// Why the topics are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error("Kafka at {brokers} does not answer: {error}")]
    Unreachable { brokers: String, error: KafkaError },
    #[error(
        "topic {topic} has {actual} partitions and kafka.partitions, for each log, says {wanted}: a partition count is \
         immutable; set it back, or publish a new topic generation from the log"
    )]
    PartitionDrift { topic: String, actual: usize, wanted: i32 },
    #[error("topic {topic} could not be created or grown: {error}")]
    Create { topic: String, error: RDKafkaErrorCode },
}

/// Creates what is missing and checks what is there. Idempotent; safe when two run at once. Answers the names of what was
/// created or grown.
pub async fn ensure_topics(kafka: &KafkaSection) -> Result<Vec<String>, TopicError> {
    let unreachable = |error| TopicError::Unreachable {
        brokers: kafka.brokers.clone(),
        error,
    };
    let admin: AdminClient<DefaultClientContext> = kafka.client().create().map_err(unreachable)?;
    let retention_ms = (u64::from(kafka.retention_hours) * 3_600_000).to_string();
    let mut wanted: Vec<(String, i32)> = AGGREGATES
        .iter()
        .map(|name| (kafka.topic(name), kafka.partition_count(name)))
        .collect();
    wanted.push((kafka.samples_topic(), 1));
    let new_topics: Vec<NewTopic<'_>> = wanted
        .iter()
        .map(|(name, partitions)| {
            NewTopic::new(name, *partitions, TopicReplication::Fixed(kafka.replication_factor))
                .set("cleanup.policy", "delete")
                .set("retention.ms", &retention_ms)
                .set("message.timestamp.type", "LogAppendTime")
                .set("max.message.bytes", MAX_MESSAGE_BYTES)
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let mut created = Vec::new();
    for result in admin.create_topics(&new_topics, &options).await.map_err(unreachable)? {
        match result {
            Ok(topic) => created.push(topic),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => return Err(TopicError::Create { topic, error }),
        }
    }
    let admin = Arc::new(admin);
    let client = Arc::clone(&admin);
    let metadata = tokio::task::spawn_blocking(move || {
        let metadata = client.inner().fetch_metadata(None, Duration::from_secs(10))?;
        Ok(metadata
            .topics()
            .iter()
            .map(|t| (t.name().to_owned(), t.partitions().len()))
            .collect::<Vec<_>>())
    })
    .await
    .unwrap_or(Err(KafkaError::Canceled))
    .map_err(unreachable)?;
    for (topic, wanted) in wanted {
        // A topic just created by another process may not be in the metadata yet.
        let actual = metadata
            .iter()
            .find(|(name, _)| *name == topic)
            .map_or(wanted as usize, |(_, count)| *count);
        if actual == wanted as usize || actual == 0 {
            continue;
        }
        let share = wanted as usize / kafka.share.count;
        if actual > wanted as usize || topic == kafka.samples_topic() || !actual.is_multiple_of(share) {
            return Err(TopicError::PartitionDrift { topic, actual, wanted });
        }
        let grown = [NewPartitions::new(&topic, wanted as usize)];
        for result in admin.create_partitions(&grown, &options).await.map_err(unreachable)? {
            match result {
                // Another process may have been faster.
                Ok(_) | Err((_, RDKafkaErrorCode::InvalidPartitions)) => {}
                Err((topic, error)) => return Err(TopicError::Create { topic, error }),
            }
        }
        created.push(topic);
    }
    Ok(created)
}
