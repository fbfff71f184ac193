//! An event as the log has it.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgRow;
use weft_domain::LogOrder;

/// An event with its envelope; the payload is brought to its current version.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub sequence: i64,
    pub event_type: String,
    pub event_version: String,
    pub payload: Value,
    pub metadata: HashMap<String, String>,
    pub order: LogOrder,
    pub recorded_at: DateTime<Utc>,
    pub tenant_id: Option<String>,
}

impl StoredEvent {
    /// Event id: `<aggregate_id>:<sequence>`.
    pub fn id(&self) -> String {
        format!("{}:{}", self.aggregate_id, self.sequence)
    }
}

/// Of an event's metadata what is passed on with it; empty where they say nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Envelope<'m> {
    #[serde(borrow)]
    pub traceparent: Cow<'m, str>,
    #[serde(borrow)]
    pub actor: Cow<'m, str>,
    #[serde(borrow)]
    pub actor_type: Cow<'m, str>,
    #[serde(borrow)]
    pub correlation_id: Cow<'m, str>,
}

impl<'m> Envelope<'m> {
    /// Metadata of another form, that somebody else wrote, say nothing: they must not hold up the events behind them.
    pub(crate) fn of(metadata: &'m str) -> Self {
        serde_json::from_str(metadata).unwrap_or_default()
    }
}

/// Reads epoch, transaction id (as bigint) and position.
pub(crate) fn order(row: &PgRow) -> Result<LogOrder, sqlx::Error> {
    Ok(LogOrder {
        epoch: row.try_get("epoch")?,
        transaction_id: row.try_get("transaction_id")?,
        position: row.try_get("position")?,
    })
}
