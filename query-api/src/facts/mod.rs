//! Statistics over ClickHouse. Every statement names the tenant: nothing else guards these tables.

mod account_metrics;
mod message_stats;
mod message_totals;

use std::time::Duration;

use chrono::{DateTime, Utc};
use clickhouse::Client;
use weft_platform::config::ClickHouseSection;

use crate::error::ReadError;

pub(crate) use account_metrics::AccountHour;
pub(crate) use message_stats::Bucket;

/// A statement that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What ClickHouse's times can hold; whatever asks for more gets all there is.
const TIMES: (i64, i64) = (0, 4_102_444_800_000);

/// Milliseconds since the epoch, as ClickHouse takes them.
fn milliseconds(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis().clamp(TIMES.0, TIMES.1)
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Facts {
    client: Client,
}

impl Facts {
    pub(crate) fn new(config: &ClickHouseSection) -> Self {
        let client = Client::default()
            .with_url(config.url.as_str())
            .with_database(&config.database)
            .with_user(&config.user)
            .with_password(config.password.expose())
            .with_setting("max_execution_time", PATIENCE.as_secs().to_string());
        Self { client }
    }

    /// Whether ClickHouse answers.
    pub(crate) async fn ping(&self) -> Result<(), ()> {
        let one = self.client.query("select 1").fetch_one::<u8>().await;
        one.map(drop).map_err(|error| tracing::debug!(%error, "ClickHouse"))
    }

    async fn rows<T>(&self, sql: &str) -> Result<Vec<T>, ReadError>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        match tokio::time::timeout(PATIENCE, self.client.query_raw(sql).fetch_all::<T>()).await {
            Ok(rows) => Ok(rows?),
            Err(_) => Err(clickhouse::error::Error::TimedOut.into()),
        }
    }
}
