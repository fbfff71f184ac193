//! What can go wrong with a read that is not the caller's fault.

use axum::http::StatusCode;
use weft_platform::http::Problem;

/// A store could not answer. The cause was logged where it arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the views cannot be reached: try again")]
    ViewsUnavailable,
    #[error("the statistics cannot be reached: try again")]
    FactsUnavailable,
    #[error("the keys of sealed fields cannot be reached: try again")]
    KeysUnavailable,
    #[error("an error of ours; it was logged under the request's id")]
    Internal,
}

impl ReadError {
    /// The code of a GraphQL error.
    pub(crate) const fn graphql_code(self) -> &'static str {
        match self {
            Self::ViewsUnavailable | Self::FactsUnavailable | Self::KeysUnavailable => "VIEW_UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        if is_outage(&error) {
            tracing::warn!(%error, "the views cannot be reached");
            Self::ViewsUnavailable
        } else {
            tracing::error!(%error, "a query over the views failed");
            Self::Internal
        }
    }
}

impl From<clickhouse::error::Error> for ReadError {
    fn from(error: clickhouse::error::Error) -> Self {
        use clickhouse::error::Error as E;
        match error {
            E::Network(_) | E::TimedOut => {
                tracing::warn!(%error, "ClickHouse cannot be reached");
                Self::FactsUnavailable
            }
            error => {
                tracing::error!(%error, "a query over the facts failed");
                Self::Internal
            }
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ViewsUnavailable | ReadError::FactsUnavailable | ReadError::KeysUnavailable => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "view.unavailable", error).with_retry_after(1)
            }
            ReadError::Internal => Self::internal(),
        }
    }
}

/// The server is away, starting, stopping or out of resources; anything else is a defect of a statement.
fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        // 08 connection, 28 login refused, 3D no such database, 53 resources, 57P operator intervention, 25P aborted.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "28", "3D", "53", "57P"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}
