//! Databases that an operator's command needs before it can do anything.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::Failure;

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// That the database which the setting `key` names answers; else where it was looked for, and what to do.
pub(crate) async fn reach(key: &str, url: &str) -> Result<PgConnectOptions, Failure> {
    let options: PgConnectOptions = url.parse().map_err(|error| Failure::new(format!("{key}: {error}")))?;
    let error = match tokio::time::timeout(PATIENCE, options.connect()).await {
        Ok(Ok(connection)) => {
            // It has answered; how it ends is of no interest.
            let _ = connection.close().await;
            return Ok(options);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    let (host, port) = (options.get_host(), options.get_port());
    let database = options.get_database().unwrap_or_default();
    let variable = format!("WEFT__{}", key.to_uppercase().replace('.', "__"));
    Err(Failure::new(format!(
        "the database {database} at {host}:{port} ({key}) cannot be reached: {error}; start Postgres (in development \
         infra/dev/up), or set {variable}"
    )))
}
