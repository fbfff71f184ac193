//! An event as projections take it: typed, with the envelope that rows need.

use chrono::{DateTime, Utc};
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_domain::account::AccountEvent;
use weft_domain::conversation::ConversationEvent;
use weft_domain::message::MessageEvent;
use weft_log_reader::typed::{decode_account, decode_conversation, decode_message};
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

impl Event {
    /// Decodes a record; `None` for an aggregate that no view shows.
    pub fn decode(record: &EventRecord) -> Result<Option<Self>, PartitionError> {
        let (kind, version, payload) = (&record.event_type, &record.event_version, &record.payload);
        let body = match record.aggregate_type.as_str() {
            "account" => Body::Account(decode_account(kind, version, payload)?),
            "message" => Body::Message(decode_message(kind, version, payload)?),
            "conversation" => Body::Conversation(decode_conversation(kind, version, payload)?),
            _ => return Ok(None),
        };
        let id = record.aggregate_id.parse().map_err(|_| PartitionError::NoUuid {
            aggregate: record.aggregate_type.clone(),
            aggregate_id: record.aggregate_id.clone(),
            sequence: record.sequence,
        })?;
        Ok(Some(Self {
            id,
            sequence: record.sequence,
            tenant_id: record.tenant_id,
            order: order_of(record),
            recorded_at: record.recorded_at,
            actor: record.actor.clone(),
            actor_type: record.actor_type.clone(),
            body,
        }))
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
