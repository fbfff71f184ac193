//! Reads from Kafka which streams change, from the moment the process has started.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_platform::config::KafkaSection;
use weft_platform::health::Health;
use weft_platform::kafka::{EventConsumer, EventRecord, TopicPartition};

use super::hub::{Change, Hub, Kind, Place, Stream};

/// The feed's name in [`Health`].
pub(crate) const PART: &str = "live-feed";
const BATCH: usize = 1_000;
const LINGER: Duration = Duration::from_millis(2);
const RETRY: Duration = Duration::from_secs(1);
/// Of one question to a broker.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where each partition is read next.
type Positions = HashMap<TopicPartition, i64>;

/// Runs until shutdown; waits for Kafka as long as it is away.
pub(crate) async fn run(hub: Arc<Hub>, kafka: KafkaSection, health: Health, shutdown: CancellationToken) {
    health.expect(PART);
    let partitions = kafka.topic_partitions(&["account", "message"]);
    let Some(mut positions) = start(&hub, &kafka, &partitions, &health, &shutdown).await else {
        return;
    };
    loop {
        // After an error the consumer starts again where it was, so that nothing is missed.
        let error = tokio::select! {
            error = follow(&hub, &kafka, &partitions, &mut positions, &health) => error,
            () = shutdown.cancelled() => return,
        };
        tracing::warn!(%error, "the live feed starts again");
        health.failing(PART, error.to_string());
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// The ends of all partitions. What was published before is not known here: a gap for those who listen already.
async fn start(
    hub: &Hub,
    kafka: &KafkaSection,
    partitions: &[TopicPartition],
    health: &Health,
    shutdown: &CancellationToken,
) -> Option<Positions> {
    loop {
        let (settings, partitions) = (kafka.clone(), partitions.to_vec());
        let ends = tokio::task::spawn_blocking(move || end_offsets(&settings, &partitions)).await;
        match ends.unwrap_or(Err(KafkaError::Canceled)) {
            Ok(ends) => {
                hub.gap();
                return Some(ends);
            }
            Err(error) => health.failing(PART, format!("waiting for Kafka: {error}")),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}

fn end_offsets(kafka: &KafkaSection, partitions: &[TopicPartition]) -> Result<Positions, KafkaError> {
    let consumer: BaseConsumer = kafka.client().set("group.id", "weft.live-feed").create()?;
    let mut ends = Positions::new();
    for topic in partitions.iter().map(|place| &place.topic).collect::<BTreeSet<_>>() {
        // A topic that is not there is told at once here, and waited for below.
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
    }
    for place in partitions {
        let (_, end) = consumer.fetch_watermarks(&place.topic, place.partition, PATIENCE)?;
        ends.insert(place.clone(), end);
    }
    Ok(ends)
}

async fn follow(
    hub: &Hub,
    kafka: &KafkaSection,
    partitions: &[TopicPartition],
    positions: &mut Positions,
    health: &Health,
) -> KafkaError {
    let consumer = match EventConsumer::assign(kafka, "live-feed", partitions, positions) {
        Ok(consumer) => consumer,
        Err(error) => return error,
    };
    health.ready(PART);
    loop {
        while hub.is_full() {
            hub.cleaned.notified().await;
        }
        let batch = match consumer.next_records(BATCH, LINGER).await {
            Ok(batch) => batch,
            Err(error) => return error,
        };
        let mut is_gap = false;
        for record in &batch {
            // A record that is no event of ours only has a place.
            let (topic, partition, offset) = match record {
                Ok(event) => (&event.topic, event.partition, event.offset),
                Err(foreign) => (&foreign.topic, foreign.partition, foreign.offset),
            };
            let topic = topic.clone();
            let expected = positions.insert(TopicPartition { topic, partition }, offset + 1);
            // Kafka has deleted events before they were read here, or its topic was made anew.
            is_gap |= expected.is_some_and(|expected| offset != expected);
        }
        if is_gap {
            tracing::warn!("the live feed has a gap: subscribers get the current state again");
            hub.gap();
        }
        let changes: Vec<Change> = batch.iter().flatten().filter_map(change_of).collect();
        hub.changed(&changes);
    }
}

/// What an event says, as far as it matters here. Every message event names its account.
fn change_of(record: &EventRecord) -> Option<Change> {
    #[derive(Deserialize)]
    struct OfAccount {
        account_id: Uuid,
    }
    let id = Uuid::parse_str(&record.aggregate_id).ok()?;
    let (kind, account_id) = match record.aggregate_type.as_str() {
        "account" => (Kind::Account, id),
        "message" => {
            let payload: OfAccount = serde_json::from_slice(&record.payload).ok()?;
            (Kind::Message, payload.account_id)
        }
        _ => return None,
    };
    Some(Change {
        stream: Stream {
            kind,
            tenant_id: record.tenant_id,
            id,
        },
        version: record.sequence,
        place: Place {
            partition: record.partition,
            order: LogOrder {
                epoch: record.epoch,
                transaction_id: record.transaction_id,
                position: record.position,
            },
        },
        account_id,
    })
}
