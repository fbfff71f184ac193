//! Connections to the workers' own tables.

use std::str::FromStr;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use weft_platform::config::Config;

const MAX_CONNECTIONS: u32 = 12;

/// Commits here do not wait for the disk: everything can be rebuilt from the log, and whatever is committed before an
/// append is on the disk with it, because the write-ahead log is written in order.
pub(crate) fn queue_pool(config: &Config) -> Result<PgPool, sqlx::Error> {
    let timeout = config.log.statement_timeout_ms.to_string();
    let options = PgConnectOptions::from_str(config.log.url.expose())?
        .application_name("weft workers")
        .options([
            ("synchronous_commit", "off"),
            ("statement_timeout", &timeout),
            // A transaction that its client has forgotten holds locks, and every reader of the log's tail back.
            ("idle_in_transaction_session_timeout", "5000"),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS.min(config.log.max_connections.max(2)))
        // A ping before every statement would double the round trips; every caller tries again anyway.
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_mins(5))
        .connect_lazy_with(options))
}
