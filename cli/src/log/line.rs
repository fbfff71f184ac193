//! An event as a line of text.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;
use weft_log_reader::RawEvent;

use super::place::shown;
use crate::Failure;
use weft_domain::account::AccountEvent;
use weft_domain::conversation::ConversationEvent;
use weft_domain::message::MessageEvent;
use weft_domain::tenant::TenantEvent;
use weft_platform::kafka::AGGREGATES;

const EVENT_TYPES: [&[(&str, &str)]; 4] = [
    AccountEvent::VERSIONS,
    ConversationEvent::VERSIONS,
    MessageEvent::VERSIONS,
    TenantEvent::VERSIONS,
];

/// Which events are meant.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<Uuid>,
    /// Only of this type, such as MessageSent, or of this aggregate, such as message; may be repeated
    #[arg(long = "type", value_parser = known_type)]
    types: Vec<String>,
}

fn known_type(name: &str) -> Result<String, String> {
    if AGGREGATES.contains(&name)
        || EVENT_TYPES
            .iter()
            .any(|events| events.iter().any(|(event, _)| *event == name))
    {
        return Ok(name.to_owned());
    }
    Err(format!(
        "no event and no aggregate has this name: say one such as MessageSent, or of {}",
        AGGREGATES.join(", ")
    ))
}

impl Filter {
    /// For queries: event or aggregate types, none for all; and the tenant.
    pub(crate) fn parts(&self) -> (Option<&[String]>, Option<String>) {
        let types = (!self.types.is_empty()).then_some(self.types.as_slice());
        (types, self.tenant.map(|tenant| tenant.to_string()))
    }

    pub(crate) fn takes(&self, event: &RawEvent) -> bool {
        let of_type = |name: &String| *name == event.event_type || *name == event.aggregate_type;
        let of_tenant = |tenant: Uuid| event.tenant_id.as_deref() == Some(tenant.to_string().as_str());
        (self.types.is_empty() || self.types.iter().any(of_type)) && self.tenant.is_none_or(of_tenant)
    }
}

/// All but the payload, in the order in which it is written.
#[derive(Serialize)]
struct Envelope<'e> {
    order: String,
    recorded_at: chrono::DateTime<chrono::Utc>,
    tenant_id: Option<&'e str>,
    aggregate_type: &'e str,
    aggregate_id: &'e str,
    sequence: i64,
    event_type: &'e str,
    event_version: &'e str,
    partition_key: &'e str,
    metadata: BTreeMap<String, Value>,
}

/// One JSON object on one line. The payload is the stored text (Postgres prints `jsonb` on one line).
pub(crate) fn json(event: &RawEvent) -> Result<String, Failure> {
    let envelope = Envelope {
        order: shown(event.order),
        recorded_at: event.recorded_at,
        tenant_id: event.tenant_id.as_deref(),
        aggregate_type: &event.aggregate_type,
        aggregate_id: &event.aggregate_id,
        sequence: event.sequence,
        event_type: &event.event_type,
        event_version: &event.event_version,
        partition_key: &event.partition_key,
        metadata: serde_json::from_str(&event.metadata).map_err(Failure::new)?,
    };
    let mut line = serde_json::to_string(&envelope).map_err(Failure::new)?;
    line.pop();
    write!(line, r#","payload":{}}}"#, event.payload).map_err(Failure::new)?;
    Ok(line)
}

/// For a person.
pub(crate) fn text(event: &RawEvent) -> String {
    format!(
        "{} {} {} {}:{} {} v{} {}",
        shown(event.order),
        event.recorded_at.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
        event.aggregate_type,
        event.aggregate_id,
        event.sequence,
        event.event_type,
        event.event_version,
        event.payload
    )
}
