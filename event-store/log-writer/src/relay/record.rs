//! One event as a Kafka record: CloudEvents 1.0, binary binding.

use std::sync::Arc;

use chrono::SecondsFormat;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use uuid::Uuid;
use weft_log_reader::RawEvent;
use weft_platform::config::KafkaSection;
use weft_platform::kafka::header;

use super::deliveries::Page;

/// Where records come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) log_id: Uuid,
    pub(super) publication: i64,
}

/// The headers of an event.
pub(super) fn headers(Source { log_id, publication }: Source, event: &RawEvent) -> OwnedHeaders {
    let id = format!("{}:{}", event.aggregate_id, event.sequence);
    let source = format!("/weft/{log_id}/{}", event.aggregate_type);
    let kind = format!(
        "weft.{}.{}.v{}",
        event.aggregate_type, event.event_type, event.event_version
    );
    let time = event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let nobody = Uuid::nil().to_string();
    let envelope = event.envelope();
    [
        (header::CONTENT_TYPE, "application/json"),
        (header::SPEC_VERSION, "1.0"),
        (header::ID, &id),
        (header::SOURCE, &source),
        (header::TYPE, &kind),
        (header::SUBJECT, &event.aggregate_id),
        (header::TIME, &time),
        (header::TENANT, event.tenant_id.as_deref().unwrap_or(&nobody)),
        (header::SEQUENCE, &event.sequence.to_string()),
        (header::EPOCH, &event.order.epoch.to_string()),
        (header::LOG_ORDER, &event.order.to_string()),
        (header::PUBLICATION, &publication.to_string()),
        (header::TRACEPARENT, &envelope.traceparent),
        (header::ACTOR, &envelope.actor),
        (header::ACTOR_TYPE, &envelope.actor_type),
        (header::CORRELATION, &envelope.correlation_id),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .fold(OwnedHeaders::new_with_capacity(16), |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    })
}

/// The record: the partition is computed here, from the key that the stream's first event fixed.
pub(super) fn record<'e>(
    kafka: &KafkaSection,
    topic: &'e str,
    source: Source,
    event: &'e RawEvent,
    page: Arc<Page>,
) -> BaseRecord<'e, str, str, Arc<Page>> {
    BaseRecord::with_opaque_to(topic, page)
        .partition(kafka.partition_of(&event.aggregate_type, &event.partition_key))
        .key(event.partition_key.as_str())
        .payload(event.payload.as_str())
        .headers(headers(source, event))
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;
    use weft_domain::LogOrder;

    use super::*;

    #[test]
    fn headers_are_those_of_the_contract() {
        let metadata = serde_json::json!({
            "traceparent": "00-a-b-01", "actor": "key:1", "actor_type": "user", "correlation_id": "c", "else": 1,
        });
        let event = RawEvent {
            aggregate_type: "message".to_owned(),
            aggregate_id: "m1".to_owned(),
            sequence: 3,
            event_type: "MessageSent".to_owned(),
            event_version: "1".to_owned(),
            payload: "{}".to_owned(),
            metadata: metadata.to_string(),
            order: LogOrder {
                epoch: 2,
                transaction_id: 77,
                position: 9,
            },
            recorded_at: "2026-03-01T02:03:04.567891Z".parse().unwrap(),
            partition_key: "a1".to_owned(),
            tenant_id: Some("t1".to_owned()),
        };
        let source = Source {
            log_id: Uuid::nil(),
            publication: 4,
        };
        let headers = headers(source, &event);
        let shown: Vec<String> = headers
            .iter()
            .map(|header| {
                format!(
                    "{}={}",
                    header.key,
                    String::from_utf8_lossy(header.value.unwrap_or_default())
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "content-type=application/json",
                "ce_specversion=1.0",
                "ce_id=m1:3",
                "ce_source=/weft/00000000-0000-0000-0000-000000000000/message",
                "ce_type=weft.message.MessageSent.v1",
                "ce_subject=m1",
                "ce_time=2026-03-01T02:03:04.567891Z",
                "ce_tenantid=t1",
                "ce_sequence=3",
                "ce_epoch=2",
                "ce_logorder=77-9",
                "ce_publication=4",
                "ce_traceparent=00-a-b-01",
                "ce_actor=key:1",
                "ce_actortype=user",
                "ce_correlationid=c",
            ]
        );
    }
}
