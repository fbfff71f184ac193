//! `weft migrate` for what the projections write: roles, database, generation, stable names; and ClickHouse. Idempotent,
//! and safe when two run at once.

mod clickhouse;
mod postgres;

use weft_platform::config::Config;

use crate::generation::Generation;

/// Why the read stores could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("{key}: {reason}")]
    Url { key: &'static str, reason: String },
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    #[error("{0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("{0}")]
    ClickHouse(#[from] ::clickhouse::error::Error),
    #[error("{0} does not answer")]
    ClickHouseTimeout(url::Url),
}

/// The Postgres read models: roles, database, the live generation's schema and the stable schema `views`.
pub async fn views(config: &Config) -> Result<(), MigrateError> {
    postgres::migrate(&config.views, Generation::FIRST).await
}

/// The ClickHouse facts: the live generation's database and the stable one.
pub async fn clickhouse(config: &Config) -> Result<(), MigrateError> {
    clickhouse::migrate(&config.clickhouse, Generation::FIRST).await
}
