//! The envelope that every event carries beside its payload.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::TenantId;

/// Who caused an event: a person (or an integrator's key), a process manager reacting to something, or a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorType {
    User,
    System,
    Auto,
}

impl ActorType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
            Self::Auto => "auto",
        }
    }
}

#[derive(Serialize)]
struct Flat<'m> {
    tenant_id: TenantId,
    actor: &'m str,
    actor_type: ActorType,
    request_id: &'m str,
    correlation_id: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<&'m str>,
    traceparent: &'m str,
    partition_key: &'m str,
    occurred_at: String,
}

/// Turned into cqrs-es's flat string map when it is stored. Never holds personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub tenant_id: TenantId,
    pub actor: String,
    pub actor_type: ActorType,
    pub request_id: String,
    /// The first request or callback of the whole chain.
    pub correlation_id: String,
    /// Id of the event (`<aggregate_id>:<sequence>`) or callback that caused this command, if one did.
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: String,
    pub occurred_at: DateTime<Utc>,
}

impl Metadata {
    /// The stored form; `partition_key` is fixed by the stream's first event.
    pub fn to_map(&self, partition_key: &str) -> HashMap<String, String> {
        let mut map = HashMap::from([
            ("tenant_id".to_owned(), self.tenant_id.to_string()),
            ("actor".to_owned(), self.actor.clone()),
            ("actor_type".to_owned(), self.actor_type.as_str().to_owned()),
            ("request_id".to_owned(), self.request_id.clone()),
            ("correlation_id".to_owned(), self.correlation_id.clone()),
            ("traceparent".to_owned(), self.traceparent.clone()),
            ("partition_key".to_owned(), partition_key.to_owned()),
            (
                "occurred_at".to_owned(),
                self.occurred_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            ),
        ]);
        if let Some(causation_id) = &self.causation_id {
            map.insert("causation_id".to_owned(), causation_id.clone());
        }
        map
    }

    /// `to_map` with its entries in a fixed order, for those who write it down.
    pub fn flat<'m>(&'m self, partition_key: &'m str) -> impl Serialize + 'm {
        Flat {
            tenant_id: self.tenant_id,
            actor: &self.actor,
            actor_type: self.actor_type,
            request_id: &self.request_id,
            correlation_id: &self.correlation_id,
            causation_id: self.causation_id.as_deref(),
            traceparent: &self.traceparent,
            partition_key,
            occurred_at: self.occurred_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_down_it_is_the_map() {
        let mut metadata = Metadata {
            tenant_id: TenantId(uuid::Uuid::from_u128(7)),
            actor: "key:1".to_owned(),
            actor_type: ActorType::Auto,
            request_id: "r".to_owned(),
            correlation_id: "c".to_owned(),
            causation_id: None,
            traceparent: "00-a-b-01".to_owned(),
            occurred_at: "2026-03-01T02:03:04.567Z".parse().unwrap(),
        };
        for causation_id in [None, Some("m:1".to_owned())] {
            metadata.causation_id = causation_id;
            let flat = serde_json::to_value(metadata.flat("p")).unwrap();
            assert_eq!(flat, serde_json::to_value(metadata.to_map("p")).unwrap());
        }
    }
}
