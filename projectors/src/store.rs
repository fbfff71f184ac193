//! The projector's own connections.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::generation::Generation;

/// Connects when first used. Statements name tables without their schema: a generation is the search path.
pub(crate) fn pool(url: &str, generation: Generation, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?
        .application_name("weft projectors")
        .options([
            ("search_path", generation.schema().as_str()),
            // A crash of the server may lose the newest transactions, but rows and checkpoint together: the same events
            // are applied again. Waiting for each flush would be most of a small batch's time.
            ("synchronous_commit", "off"),
            // A transaction that hangs would stall the tail of a log on the same cluster.
            ("statement_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "10s"),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(3))
        .idle_timeout(Duration::from_mins(5))
        .connect_lazy_with(options))
}
