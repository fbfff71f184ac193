//! What can go wrong in a worker, and what a refused command says.

use weft_domain::Claim;
use weft_log_reader::LoadError;
use weft_log_reader::typed::DecodeError;
use weft_log_writer::ExecuteError;
use weft_platform::kafka::ConsumeError;
use weft_platform::keys::KeysError;

/// Why a worker stopped in the middle. Everything here is tried again: a worker never gives up by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the workers' tables: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the log: {0}")]
    Log(String),
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
        other => Err(WorkerError::Log(other.to_string())),
    }
}
