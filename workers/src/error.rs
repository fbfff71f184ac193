//! What can go wrong in a worker, and what a refused command says.

use weft_domain::Claim;
use weft_log_reader::LoadError;
use weft_log_reader::typed::DecodeError;
use weft_log_writer::ExecuteError;
use weft_log_writer::seal::SealError;
use weft_platform::kafka::ConsumeError;
use weft_platform::keys::KeysError;

/// Why a worker stopped in the middle. What is not [lasting](WorkerError::is_lasting) is tried again: a worker never
/// gives up by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the workers' tables: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the log: {0}")]
    Log(String),
    /// The log will never take it.
    #[error("the log: {0}")]
    Refused(String),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    #[error("Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error("{0}")]
    Protocol(String),
    #[error("another process leads now")]
    LeadershipLost,
    #[error("gateway: {0}")]
    Gateway(String),
}

impl WorkerError {
    /// The same thing would fail in the same way whenever it is tried again: what caused it is put aside, so that it does
    /// not hold others up. Everything else is an outage, or for an operator to put right.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Database(error) | Self::Load(LoadError::Database(error)) => is_lasting(error),
            Self::Refused(_) | Self::Load(LoadError::Corrupt(_)) => true,
            Self::Decode(error) | Self::Load(LoadError::Decode(error)) => match error {
                // A newer program knows it.
                DecodeError::UnknownEvent { .. } => false,
                DecodeError::Undecodable { .. } => true,
            },
            Self::Keys(error) => matches!(error, KeysError::Destroyed(_) | KeysError::Cipher),
            Self::Log(_)
            | Self::Consume(_)
            | Self::Kafka(_)
            | Self::Protocol(_)
            | Self::LeadershipLost
            | Self::Gateway(_) => false,
        }
    }
}

/// Postgres' classes cardinality, data, integrity and program limit, and what does not fit a column's type.
fn is_lasting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            matches!(
                error.code().as_deref().and_then(|code| code.get(..2)),
                Some("21" | "22" | "23" | "54")
            )
        }
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}

impl From<SealError> for WorkerError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Keys(error) => Self::Keys(error),
            SealError::Shape(_) => Self::Refused(error.to_string()),
        }
    }
}

/// What a command was answered, where it was not carried out and trying again would not change that.
#[derive(Debug)]
pub(crate) enum Refusal<E> {
    /// The aggregate's own answer.
    Domain(E),
    /// The stream is at another version than the command asked for.
    Version,
    Claim(Claim),
}

impl<E: std::fmt::Display> std::fmt::Display for Refusal<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(error) => error.fmt(f),
            Self::Version => f.write_str("the stream has moved on"),
            Self::Claim(claim) => write!(f, "{} is taken", claim.kind.as_str()),
        }
    }
}

/// Tells a refusal, which is an answer, from a failure, which is tried again.
pub(crate) fn refusal<E: std::error::Error>(error: ExecuteError<E>) -> Result<Refusal<E>, WorkerError> {
    match error {
        ExecuteError::Domain(error) => Ok(Refusal::Domain(error)),
        ExecuteError::VersionMismatch { .. } => Ok(Refusal::Version),
        ExecuteError::ClaimTaken(claim) => Ok(Refusal::Claim(claim)),
        error @ (ExecuteError::EventTooLarge | ExecuteError::Corrupt(_)) => {
            Err(WorkerError::Refused(error.to_string()))
        }
        other => Err(WorkerError::Log(other.to_string())),
    }
}
