//! One event as it travels: CloudEvents 1.0, binary binding.

use chrono::{DateTime, Utc};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use uuid::Uuid;

/// Header names.
pub mod header {
    pub const CONTENT_TYPE: &str = "content-type";
    pub const SPEC_VERSION: &str = "ce_specversion";
    pub const ID: &str = "ce_id";
    pub const SOURCE: &str = "ce_source";
    pub const TYPE: &str = "ce_type";
    pub const SUBJECT: &str = "ce_subject";
    pub const TIME: &str = "ce_time";
    pub const TENANT: &str = "ce_tenantid";
    pub const SEQUENCE: &str = "ce_sequence";
    pub const EPOCH: &str = "ce_epoch";
    pub const LOG_ORDER: &str = "ce_logorder";
    pub const PUBLICATION: &str = "ce_publication";
    pub const TRACEPARENT: &str = "ce_traceparent";
    pub const ACTOR: &str = "ce_actor";
    pub const ACTOR_TYPE: &str = "ce_actortype";
    pub const CORRELATION: &str = "ce_correlationid";
}

/// An event read from Kafka; the payload stays bytes until somebody wants it typed.
#[derive(Clone, Debug)]
pub struct EventRecord {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub log_id: Uuid,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub sequence: i64,
    pub event_type: String,
    pub event_version: String,
    pub tenant_id: Uuid,
    pub epoch: i16,
    pub transaction_id: i64,
    pub position: i64,
    /// Which publication of the log this record belongs to, from 1. A higher one than a consumer has met says that Kafka
    /// had lost records and was given them again: offsets of before mean nothing any more, the log order still does.
    pub publication: i64,
    pub recorded_at: DateTime<Utc>,
    pub actor: String,
    pub actor_type: String,
    pub correlation_id: String,
    pub traceparent: String,
    pub payload: Vec<u8>,
}

/// A record that is not one of ours; names the header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {topic}/{partition}@{offset}: header {header} is missing or malformed")]
pub struct InvalidRecord {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub header: &'static str,
}

impl EventRecord {
    /// Event id: `<aggregate_id>:<sequence>`.
    pub fn id(&self) -> String {
        format!("{}:{}", self.aggregate_id, self.sequence)
    }

    /// Reads headers and payload of a message of a `weft.events.*` topic.
    pub fn read(message: &BorrowedMessage<'_>) -> Result<Self, InvalidRecord> {
        let invalid = |header| InvalidRecord {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            header,
        };
        let headers = message.headers().ok_or_else(|| invalid(header::ID))?;
        // Once through them: each look is a call into librdkafka.
        let found: Vec<(&str, &str)> = headers
            .iter()
            .filter_map(|header| Some((header.key, std::str::from_utf8(header.value?).ok()?)))
            .collect();
        let text = |name: &'static str| -> Result<&str, InvalidRecord> {
            let value = found.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
            value.ok_or_else(|| invalid(name))
        };
        let (log_id, aggregate_type) = text(header::SOURCE)?
            .strip_prefix("/weft/")
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(|| invalid(header::SOURCE))?;
        // weft.<aggregate>.<EventName>.v<n>
        let mut kind = text(header::TYPE)?.rsplitn(3, '.');
        let version = kind
            .next()
            .and_then(|v| v.strip_prefix('v'))
            .ok_or_else(|| invalid(header::TYPE))?;
        let event_type = kind.next().ok_or_else(|| invalid(header::TYPE))?;
        let (transaction_id, position) = text(header::LOG_ORDER)?
            .split_once('-')
            .ok_or_else(|| invalid(header::LOG_ORDER))?;
        Ok(Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            log_id: number(log_id, invalid(header::SOURCE))?,
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id: text(header::SUBJECT)?.to_owned(),
            sequence: number(text(header::SEQUENCE)?, invalid(header::SEQUENCE))?,
            event_type: event_type.to_owned(),
            event_version: version.to_owned(),
            tenant_id: number(text(header::TENANT)?, invalid(header::TENANT))?,
            epoch: number(text(header::EPOCH)?, invalid(header::EPOCH))?,
            transaction_id: number(transaction_id, invalid(header::LOG_ORDER))?,
            position: number(position, invalid(header::LOG_ORDER))?,
            publication: number(text(header::PUBLICATION).unwrap_or("1"), invalid(header::PUBLICATION))?,
            recorded_at: number(text(header::TIME)?, invalid(header::TIME))?,
            actor: text(header::ACTOR).unwrap_or_default().to_owned(),
            actor_type: text(header::ACTOR_TYPE).unwrap_or("system").to_owned(),
            correlation_id: text(header::CORRELATION).unwrap_or_default().to_owned(),
            traceparent: text(header::TRACEPARENT).unwrap_or_default().to_owned(),
            payload: message.payload().unwrap_or_default().to_vec(),
        })
    }
}

fn number<T: std::str::FromStr>(text: &str, invalid: InvalidRecord) -> Result<T, InvalidRecord> {
    text.parse().map_err(|_| invalid)
}
