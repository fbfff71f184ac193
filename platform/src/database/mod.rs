//! Postgres plumbing: pools, and what a cluster needs before a database's own migrations.

mod cluster;

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

pub use cluster::{FORGOTTEN_TRANSACTION, Role, ensure_database, run_formatted};

/// A pool that connects when first used, so that a role starts while Postgres is down and says so instead.
///
/// `application_name` shows in `pg_stat_activity`, which is how a stalling transaction is blamed on somebody.
pub fn lazy_pool(url: &str, application_name: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?.application_name(application_name);
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(3))
        .idle_timeout(Duration::from_mins(5))
        .connect_lazy_with(options))
}
