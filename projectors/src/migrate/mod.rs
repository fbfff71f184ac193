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
    #[error("the views' database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the views' database: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("ClickHouse (clickhouse.url): {0}")]
    ClickHouse(#[from] ::clickhouse::error::Error),
    #[error("ClickHouse at {0} (clickhouse.url) does not answer")]
    ClickHouseTimeout(url::Url),
}

/// The Postgres read models: roles, database, the schemas of all generations and the stable schema `views`.
pub async fn views(config: &Config) -> Result<(), MigrateError> {
    postgres::migrate(&config.views).await
}

/// Tables for a generation that is not live, in both stores.
pub async fn generation(config: &Config, generation: Generation) -> Result<(), MigrateError> {
    postgres::generation(&config.views, generation).await?;
    clickhouse::generation(&config.clickhouse, generation).await
}

/// Drops a generation that no stable name shows, from both stores.
pub async fn drop_generation(config: &Config, generation: Generation) -> Result<(), MigrateError> {
    postgres::drop_generation(&config.views, generation).await?;
    clickhouse::drop_generation(&config.clickhouse, generation).await
}

/// Shows the live generation of every projection under the stable names, in the caller's transaction.
pub(crate) async fn publish(connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
    postgres::publish(connection).await
}

/// The ClickHouse facts: the live generations' databases and the stable one. After `views`.
pub async fn clickhouse(config: &Config) -> Result<(), MigrateError> {
    let live = postgres::live(&config.views).await?;
    clickhouse::migrate(&config.clickhouse, &live).await
}
