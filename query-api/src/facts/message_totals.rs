//! What became of the messages accepted in a span.

use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::Deserialize;
use uuid::Uuid;

use super::{Facts, milliseconds};
use crate::error::ReadError;

/// Of the messages accepted in the span.
#[derive(Clone, Copy, Debug, PartialEq, Row, Deserialize)]
pub(crate) struct MessageTotals {
    pub(crate) total: u64,
    /// Sent or delivered.
    pub(crate) success: u64,
    pub(crate) failed: u64,
    /// From acceptance, or the planned time, to sent.
    pub(crate) average_response_ms: Option<f64>,
}

impl Facts {
    /// From `start` (inclusive) to `end` (exclusive).
    pub(crate) async fn message_totals(
        &self,
        tenant_id: Uuid,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Result<MessageTotals, ReadError> {
        let sql = format!(
            "select count() as total, countIf(status in ('sent', 'delivered')) as success, \
               countIf(status = 'failed') as failed, avgOrNull(response_time_ms) as average_response_ms \
             from message_facts where tenant_id = '{tenant_id}' \
               and accepted_at >= fromUnixTimestamp64Milli({}) and accepted_at < fromUnixTimestamp64Milli({})",
            milliseconds(start),
            milliseconds(end),
        );
        self.rows(&sql).await?.pop().ok_or(ReadError::Internal)
    }
}
