//! What an append or a call can end with.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use cqrs_es::AggregateError;
use weft_domain::account::AccountStatus;
use weft_domain::{Claim, QuotaKind};
use weft_log_reader::LoadError;
use weft_log_reader::typed::DecodeError;

use crate::archive::FENCE;

/// Why a command was not carried out. Nothing of it was written, but for `Unavailable` with an unknown outcome: there
/// an idempotency key tells.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E> {
    /// The aggregate refused.
    #[error("{0}")]
    Domain(E),
    #[error("the stream is at version {current}")]
    VersionMismatch { current: i64 },
    #[error("another {} holds this name", .0.kind.as_str())]
    ClaimTaken(Claim),
    #[error("{0}")]
    QuotaExceeded(QuotaExceeded),
    /// The account that a message was to be sent from.
    #[error("the account is {}", .0.as_str())]
    AccountClosed(AccountStatus),
    #[error("an event is larger than log.max_event_bytes")]
    EventTooLarge,
    #[error("the idempotency key was used for another body")]
    KeyReused,
    #[error("the first request with this idempotency key is still running")]
    KeyInProgress,
    #[error("the stream changes too fast")]
    Contended,
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// More is asked of the log than it can do: refused at once, or withdrawn after its deadline.
    #[error("the log has too much to do")]
    Overloaded,
    /// The stream cannot be read, or the event cannot be stored: an error of ours.
    #[error("{0}")]
    Corrupt(String),
}

/// A limit that would have been passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaExceeded {
    pub kind: QuotaKind,
    /// The tenant's or account's id.
    pub scope: String,
    pub limit: i64,
    /// The day that is used up, from its first moment to the next day's; `None` for what is not counted by day.
    pub day: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The day as it is counted; empty for what is not counted by day.
    pub period: String,
    pub asked_at: DateTime<Utc>,
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.kind {
            QuotaKind::TenantAccounts => write!(f, "the tenant may have {limit} accounts")?,
            QuotaKind::TenantMessages => write!(f, "the tenant may send {limit} messages a day")?,
            QuotaKind::AccountMessages => write!(f, "the account may send {limit} messages a day")?,
        }
        match self.day {
            Some((_, end)) => write!(
                f,
                "; the next day begins at {}",
                end.to_rfc3339_opts(SecondsFormat::Secs, true)
            ),
            None => Ok(()),
        }
    }
}

/// Why what a command uses was not counted.
#[derive(Debug)]
pub(crate) enum CountError {
    /// The account takes no messages.
    Closed(AccountStatus),
    Read(ReadError),
}

impl From<ReadError> for CountError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl<E> From<CountError> for ExecuteError<E> {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Closed(status) => Self::AccountClosed(status),
            CountError::Read(error) => error.into(),
        }
    }
}

/// Why a stream was not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Overloaded,
    Unavailable(String),
    Load(LoadError),
}

impl From<LoadError> for ReadError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl<E> From<ReadError> for ExecuteError<E> {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Overloaded => Self::Overloaded,
            ReadError::Unavailable(text) => Self::Unavailable(text),
            ReadError::Load(error) => error.into(),
        }
    }
}

impl<E> From<LoadError> for ExecuteError<E> {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Database(error) => Self::Unavailable(error.to_string()),
            // A newer program knows it: this one waits until it is upgraded.
            LoadError::Decode(error @ DecodeError::UnknownEvent { .. }) => Self::Unavailable(error.to_string()),
            LoadError::Decode(error) => Self::Corrupt(error.to_string()),
            LoadError::Corrupt(text) => Self::Corrupt(text),
        }
    }
}

impl<E> From<AppendError> for ExecuteError<E> {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Conflict | AppendError::Locked => Self::Contended,
            AppendError::KeyInProgress => Self::KeyInProgress,
            AppendError::Overloaded => Self::Overloaded,
            AppendError::InDoubt(text) | AppendError::Unavailable(text) => Self::Unavailable(text),
            AppendError::Refused(text) => Self::Corrupt(text),
        }
    }
}

/// For callers of the cqrs framework, which has no words of its own for most of it.
impl<E: std::error::Error + Send + Sync + 'static> From<ExecuteError<E>> for AggregateError<E> {
    fn from(error: ExecuteError<E>) -> Self {
        match error {
            ExecuteError::Domain(error) => Self::UserError(error),
            ExecuteError::VersionMismatch { .. } | ExecuteError::Contended => Self::AggregateConflict,
            ExecuteError::Unavailable(_) | ExecuteError::Overloaded => Self::DatabaseConnectionError(Box::new(error)),
            ExecuteError::Corrupt(_) => Self::DeserializationError(Box::new(error)),
            ExecuteError::ClaimTaken(_)
            | ExecuteError::QuotaExceeded(_)
            | ExecuteError::AccountClosed(_)
            | ExecuteError::EventTooLarge
            | ExecuteError::KeyReused
            | ExecuteError::KeyInProgress => Self::UnexpectedError(Box::new(error)),
        }
    }
}

/// Why a whole batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A sequence was taken: somebody else appended to one of the streams.
    #[error("a stream was appended to meanwhile")]
    Conflict,
    #[error("another append with the same idempotency key has not ended")]
    KeyInProgress,
    /// Another append to one of the streams, or for one of the claims, has not ended.
    #[error("another append has not ended")]
    Locked,
    /// The connection broke after the statement was sent: it may have been committed.
    #[error("the answer to an append was lost: {0}")]
    InDoubt(String),
    /// Not sent: too many waited before it, or it waited too long.
    #[error("too many appends wait")]
    Overloaded,
    /// Certainly not committed.
    #[error("{0}")]
    Unavailable(String),
    /// Postgres cannot store this, ever.
    #[error("the log refused an event: {0}")]
    Refused(String),
}

impl AppendError {
    /// Of the append itself; a connection that could not be had in the first place is `Unavailable`.
    pub(crate) fn of_statement(error: &sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return Self::InDoubt(error.to_string());
        };
        let postgres = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
        let place = postgres.and_then(|error| error.r#where()).unwrap_or_default();
        let code = database.code().unwrap_or_default();
        match (&*code, code.get(..2).unwrap_or_default()) {
            ("23505", _) if database.constraint() == Some("events_pkey") => Self::Conflict,
            // A month that was archived meanwhile: on the log itself, its messages have ended.
            ("23514", _) if database.constraint().is_some_and(|name| name.starts_with(FENCE)) => Self::Conflict,
            // Deadlock and serialisation failure; appends write in key order, but others may not.
            ("40P01" | "40001", _) => Self::Conflict,
            // Where the lock was waited for, or the time ran out, tells for what.
            ("55P03" | "57014", _) if place.contains("idempotency_keys") => Self::KeyInProgress,
            // A row of somebody's, as against a table.
            ("55P03", _) if place.contains("tuple") => Self::Locked,
            // The server was told to stop while it ran the statement.
            ("57P01" | "57P02", _) => Self::InDoubt(database.to_string()),
            (_, "21" | "22" | "23" | "54") => Self::Refused(database.to_string()),
            _ => Self::Unavailable(database.to_string()),
        }
    }
}

/// Why the log cannot be written to by this process.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the url of the log {log}: {error}")]
    Url { log: String, error: sqlx::Error },
    #[error("the log {log} is not as it must be: {problem}")]
    Unfit { log: String, problem: String },
    #[error(transparent)]
    Keys(#[from] weft_platform::keys::KeysError),
}
