//! Facts in ClickHouse: rows that replace each other by version, so that inserting one again changes nothing.

pub mod account_facts;
pub mod message_facts;
pub mod message_stats_hourly;

use std::time::Duration;

use clickhouse::error::Error;
use clickhouse::{Client, RowOwned, RowWrite};
use weft_platform::config::ClickHouseSection;

use crate::error::ProjectionError;
use crate::generation::Generation;

/// A server that has not answered for this long is taken for away.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The server, without a database.
pub(crate) fn client(section: &ClickHouseSection) -> Client {
    Client::default()
        .with_url(section.url.as_str())
        .with_user(&section.user)
        .with_password(section.password.expose())
        // A lookup names every message of a batch.
        .with_setting("max_query_size", "4194304")
}

/// One generation's tables.
#[derive(Clone)]
pub struct Facts {
    client: Client,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("database", &self.client.database())
            .finish_non_exhaustive()
    }
}

impl Facts {
    pub fn new(section: &ClickHouseSection, generation: Generation) -> Self {
        Self {
            client: client(section).with_database(generation.facts_database(&section.database)),
        }
    }

    /// Rows of a table, replaced ones not counted.
    pub(crate) async fn count(&self, table: &str) -> Result<i64, ProjectionError> {
        let statement = format!("select count() from {table} final");
        let count: u64 = answered(self.client.query(&statement).fetch_one()).await?;
        Ok(count.cast_signed())
    }

    /// Inserts `rows` and waits until the server has them.
    async fn insert<R: RowOwned + RowWrite>(&self, table: &str, rows: &[R]) -> Result<(), ProjectionError> {
        if rows.is_empty() {
            return Ok(());
        }
        answered(async {
            let mut insert = self.client.insert::<R>(table).await?;
            for row in rows {
                insert.write(row).await?;
            }
            insert.end().await
        })
        .await
    }
}

pub(crate) async fn answered<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, ProjectionError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ProjectionError::ClickHouseTimeout),
    }
}
