//! Connections that may append.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use weft_platform::config::LogSection;

/// How long a call waits for a connection before it says that the log is unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool that connects when first used. Every connection is made fit to append before it is handed out.
pub(crate) fn log_pool(log: &LogSection, name: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(log.url.expose())?.application_name(name);
    let statement_timeout_ms = log.statement_timeout_ms;
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_mins(5))
        .after_connect(move |connection, _| Box::pin(make_fit(connection, statement_timeout_ms)))
        .connect_lazy_with(options))
}

/// Sets what an append relies on, and refuses a server where the log's order would not hold.
async fn make_fit(connection: &mut PgConnection, statement_timeout_ms: u32) -> Result<(), sqlx::Error> {
    // A lock is given up a little earlier than the statement, so that the error names what was waited for.
    let lock_timeout_ms = statement_timeout_ms / 5 * 4;
    let (prepared,): (String,) = sqlx::query_as(
        "select current_setting('max_prepared_transactions') from (
           select set_config('synchronous_commit', 'on', false),
                  set_config('statement_timeout', $1, false),
                  set_config('lock_timeout', $2, false)) settings",
    )
    .bind(format!("{statement_timeout_ms}ms"))
    .bind(format!("{lock_timeout_ms}ms"))
    .fetch_one(connection)
    .await?;
    if prepared != "0" {
        return Err(sqlx::Error::Configuration(PREPARED_TRANSACTIONS.into()));
    }
    Ok(())
}

const PREPARED_TRANSACTIONS: &str = "max_prepared_transactions must be 0: a forgotten prepared transaction would hold back \
     every reader of the log's tail for ever";

/// Looks once whether the server is fit. `Ok(false)` when it cannot be reached: that may pass.
pub(crate) async fn check(log: &LogSection) -> Result<bool, String> {
    use sqlx::ConnectOptions;
    let options = PgConnectOptions::from_str(log.url.expose()).map_err(|error| error.to_string())?;
    let mut connection = match options.connect().await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::warn!(%error, "the log cannot be reached yet");
            return Ok(false);
        }
    };
    match make_fit(&mut connection, log.statement_timeout_ms).await {
        Ok(()) => Ok(true),
        Err(sqlx::Error::Configuration(problem)) => Err(problem.to_string()),
        Err(error) => {
            tracing::warn!(%error, "the log cannot be asked yet");
            Ok(false)
        }
    }
}
