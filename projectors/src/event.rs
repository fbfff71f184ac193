//! An event as projections take it: typed, with the envelope that rows need.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_domain::account::AccountEvent;
use weft_domain::conversation::ConversationEvent;
use weft_domain::message::MessageEvent;
use weft_log_reader::RawEvent;
use weft_log_reader::typed::{DecodeError, decode_account, decode_conversation, decode_message};
use weft_platform::kafka::EventRecord;

use crate::error::PartitionError;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Account(AccountEvent),
    Message(MessageEvent),
    Conversation(ConversationEvent),
}

/// One event of one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The stream.
    pub id: Uuid,
    pub sequence: i64,
    pub tenant_id: Uuid,
    pub order: LogOrder,
    pub recorded_at: DateTime<Utc>,
    pub actor: String,
    pub actor_type: String,
    pub body: Body,
}

/// What a record of Kafka and a row of the log have in common.
struct Source<'s> {
    aggregate: &'s str,
    aggregate_id: &'s str,
    sequence: i64,
    event_type: &'s str,
    event_version: &'s str,
    payload: &'s [u8],
    tenant_id: Uuid,
    order: LogOrder,
    recorded_at: DateTime<Utc>,
    actor: &'s str,
    actor_type: &'s str,
}

/// A stream: its aggregate and id.
pub type Stream = (&'static str, Uuid);

/// The event of a stream that a view cannot take, without its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPlace {
    pub stream: Stream,
    pub sequence: i64,
    pub event_type: String,
    pub tenant_id: Uuid,
    pub order: LogOrder,
}

/// An event of a view's aggregate, or what is wrong with it.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// Of an aggregate that no view shows.
    Foreign,
    Event(Arc<Event>),
    /// Of a known version, and it will never decode.
    Undecodable(EventPlace, DecodeError),
}

impl Event {
    /// Decodes a record. An error is what only another program, or nobody, can read.
    pub fn decode(record: &EventRecord) -> Result<Decoded, PartitionError> {
        Self::read(&Source {
            aggregate: &record.aggregate_type,
            aggregate_id: &record.aggregate_id,
            sequence: record.sequence,
            event_type: &record.event_type,
            event_version: &record.event_version,
            payload: &record.payload,
            tenant_id: record.tenant_id,
            order: order_of(record),
            recorded_at: record.recorded_at,
            actor: &record.actor,
            actor_type: &record.actor_type,
        })
    }

    /// Decodes a row of the log, to what `decode` makes of the record that the relay makes of it.
    pub fn of_log(raw: &RawEvent) -> Result<Decoded, PartitionError> {
        let envelope = raw.envelope();
        let actor_type = Some(&*envelope.actor_type).filter(|kind| !kind.is_empty());
        Self::read(&Source {
            aggregate: &raw.aggregate_type,
            aggregate_id: &raw.aggregate_id,
            sequence: raw.sequence,
            event_type: &raw.event_type,
            event_version: &raw.event_version,
            payload: raw.payload.as_bytes(),
            tenant_id: raw
                .tenant_id
                .as_deref()
                .and_then(|id| id.parse().ok())
                .unwrap_or_default(),
            order: raw.order,
            recorded_at: raw.recorded_at,
            actor: &envelope.actor,
            actor_type: actor_type.unwrap_or("system"),
        })
    }

    fn read(source: &Source<'_>) -> Result<Decoded, PartitionError> {
        let (kind, version, payload) = (source.event_type, source.event_version, source.payload);
        let (aggregate, body) = match source.aggregate {
            "account" => ("account", decode_account(kind, version, payload).map(Body::Account)),
            "message" => ("message", decode_message(kind, version, payload).map(Body::Message)),
            "conversation" => (
                "conversation",
                decode_conversation(kind, version, payload).map(Body::Conversation),
            ),
            _ => return Ok(Decoded::Foreign),
        };
        let id = source.aggregate_id.parse().map_err(|_| PartitionError::NoUuid {
            aggregate: source.aggregate.to_owned(),
            aggregate_id: source.aggregate_id.to_owned(),
            sequence: source.sequence,
        })?;
        let place = || EventPlace {
            stream: (aggregate, id),
            sequence: source.sequence,
            event_type: kind.to_owned(),
            tenant_id: source.tenant_id,
            order: source.order,
        };
        match body {
            Ok(body) => Ok(Decoded::Event(Arc::new(Self {
                id,
                sequence: source.sequence,
                tenant_id: source.tenant_id,
                order: source.order,
                recorded_at: source.recorded_at,
                actor: source.actor.to_owned(),
                actor_type: source.actor_type.to_owned(),
                body,
            }))),
            Err(error @ DecodeError::Undecodable { .. }) => Ok(Decoded::Undecodable(place(), error)),
            Err(error @ DecodeError::UnknownEvent { .. }) => Err(error.into()),
        }
    }

    pub fn stream(&self) -> Stream {
        let aggregate = match self.body {
            Body::Account(_) => "account",
            Body::Message(_) => "message",
            Body::Conversation(_) => "conversation",
        };
        (aggregate, self.id)
    }

    pub fn place(&self) -> EventPlace {
        EventPlace {
            stream: self.stream(),
            sequence: self.sequence,
            event_type: match &self.body {
                Body::Account(event) => event.name(),
                Body::Message(event) => event.name(),
                Body::Conversation(event) => event.name(),
            }
            .to_owned(),
            tenant_id: self.tenant_id,
            order: self.order,
        }
    }

    pub fn account(&self) -> Option<&AccountEvent> {
        match &self.body {
            Body::Account(event) => Some(event),
            Body::Message(_) | Body::Conversation(_) => None,
        }
    }

    pub fn message(&self) -> Option<&MessageEvent> {
        match &self.body {
            Body::Message(event) => Some(event),
            Body::Account(_) | Body::Conversation(_) => None,
        }
    }

    pub fn conversation(&self) -> Option<&ConversationEvent> {
        match &self.body {
            Body::Conversation(event) => Some(event),
            Body::Account(_) | Body::Message(_) => None,
        }
    }
}

/// Where a record stands in the log.
pub fn order_of(record: &EventRecord) -> LogOrder {
    LogOrder {
        epoch: record.epoch,
        transaction_id: record.transaction_id,
        position: record.position,
    }
}
