//! Events as the queues need them, from Kafka or from the log itself.

use uuid::Uuid;
use weft_domain::LogOrder;
use weft_domain::account::AccountEvent;
use weft_domain::message::MessageEvent;
use weft_log_reader::StoredEvent;
use weft_log_reader::typed::{DecodeError, decode_account, decode_message};
use weft_platform::kafka::EventRecord;

/// One event with the parts of its envelope that the queues keep.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) aggregate_id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) sequence: i64,
    pub(crate) order: LogOrder,
    pub(crate) correlation_id: String,
    pub(crate) traceparent: String,
    pub(crate) happened: Happened,
}

#[derive(Clone, Debug)]
pub(crate) enum Happened {
    Account(Box<AccountEvent>),
    Message(Box<MessageEvent>),
}

/// Decodes the event of an aggregate that the workers follow; `None` for others.
fn happened(aggregate: &str, event_type: &str, version: &str, payload: &[u8]) -> Result<Option<Happened>, DecodeError> {
    Ok(match aggregate {
        "account" => Some(Happened::Account(Box::new(decode_account(
            event_type, version, payload,
        )?))),
        "message" => Some(Happened::Message(Box::new(decode_message(
            event_type, version, payload,
        )?))),
        _ => None,
    })
}

impl Fact {
    pub(crate) fn from_record(record: &EventRecord) -> Result<Option<Self>, DecodeError> {
        let happened = happened(
            &record.aggregate_type,
            &record.event_type,
            &record.event_version,
            &record.payload,
        )?;
        let Ok(aggregate_id) = record.aggregate_id.parse() else {
            return Ok(None);
        };
        Ok(happened.map(|happened| Self {
            aggregate_id,
            tenant_id: record.tenant_id,
            sequence: record.sequence,
            order: LogOrder {
                epoch: record.epoch,
                transaction_id: record.transaction_id,
                position: record.position,
            },
            correlation_id: record.correlation_id.clone(),
            traceparent: record.traceparent.clone(),
            happened,
        }))
    }

    pub(crate) fn from_stored(event: &StoredEvent) -> Result<Option<Self>, DecodeError> {
        if !matches!(event.aggregate_type.as_str(), "account" | "message") {
            return Ok(None);
        }
        let payload = event.payload.to_string();
        let happened = happened(
            &event.aggregate_type,
            &event.event_type,
            &event.event_version,
            payload.as_bytes(),
        )?;
        let tenant = event.tenant_id.as_deref().and_then(|tenant| tenant.parse().ok());
        let (Ok(aggregate_id), Some(tenant_id)) = (event.aggregate_id.parse(), tenant) else {
            return Ok(None);
        };
        let envelope = |key: &str| event.metadata.get(key).cloned().unwrap_or_default();
        Ok(happened.map(|happened| Self {
            aggregate_id,
            tenant_id,
            sequence: event.sequence,
            order: event.order,
            correlation_id: envelope("correlation_id"),
            traceparent: envelope("traceparent"),
            happened,
        }))
    }
}
