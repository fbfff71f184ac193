//! What an account has done, hour by hour.

use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::Deserialize;
use uuid::Uuid;

use super::{Facts, milliseconds};
use crate::error::ReadError;

/// What happened in one hour, whenever its messages were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Row, Deserialize)]
pub(crate) struct AccountHour {
    /// Seconds since the epoch.
    pub(crate) hour: i64,
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    /// From acceptance, or the planned time, to sent; of the messages sent in this hour.
    pub(crate) average_response_ms: Option<f64>,
}

impl Facts {
    /// The hours from the one that `start` lies in to before `end`, oldest first; hours without messages are absent.
    pub(crate) async fn account_hours(
        &self,
        tenant_id: Uuid,
        account_id: Uuid,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Result<Vec<AccountHour>, ReadError> {
        let sql = format!(
            "select toInt64(toUnixTimestamp(hour)) as hour, hour_sent as sent, hour_failed as failed, \
               if(hour_response_time_count = 0, null, hour_response_time_ms_sum / hour_response_time_count) \
                 as average_response_ms \
             from message_stats_hourly where tenant_id = '{tenant_id}' and account_id = '{account_id}' \
               and message_stats_hourly.hour >= toDateTime({}, 'UTC') \
               and message_stats_hourly.hour < toDateTime64({} / 1000, 3, 'UTC') \
             order by hour",
            milliseconds(start) / 3_600_000 * 3_600,
            milliseconds(end),
        );
        self.rows(&sql).await
    }
}
