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
}
