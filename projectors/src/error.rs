//! Why a projection does not go on.

use uuid::Uuid;
use weft_log_reader::LoadError;
use weft_platform::kafka::{InvalidRecord, TopicPartition};
use weft_platform::keys::KeysError;

/// What stops a projection. Nothing here skips an event: what is not final is tried again from the stored checkpoint, for
/// ever, and only what is deterministic parks a stream.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error("the views' database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("ClickHouse: {0}")]
    ClickHouse(#[from] clickhouse::error::Error),
    #[error("ClickHouse does not answer")]
    ClickHouseTimeout,
    #[error("the keys: {0}")]
    Keys(#[from] KeysError),
    #[error("Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// Another process writes this projection, or did since.
    #[error("fenced: another process moved the checkpoint")]
    Fenced,
    /// An event is missing between what is projected and what came.
    #[error("version gap: event {found} of {stream} came where {expected} should follow")]
    VersionGap { stream: Uuid, expected: i64, found: i64 },
    /// The stream's first event is not the one that creates its aggregate.
    #[error("the stream {stream} does not begin with the event that creates it")]
    Unfounded { stream: Uuid },
    #[error("the log: {0}")]
    Log(#[from] LoadError),
    /// The log does not hold what it must hold.
    #[error(
        "the log holds no event {missing} of {stream}, but Kafka carries event {found} of it: look at it with \
         `weft log verify`, and rebuild the view with `weft replay`"
    )]
    LogIncomplete { stream: Uuid, missing: i64, found: i64 },
    /// The log holds an event that only another program can read, where Kafka no longer has it.
    #[error("the log cannot be read on: {0}")]
    LogStopped(PartitionError),
    /// The topics carry another log's events.
    #[error(
        "log replaced: the view was made from log {known}, but events of log {found} come: rebuild it with `weft replay --all`"
    )]
    LogReplaced { known: Uuid, found: Uuid },
    /// The log was restored, failed over with a loss or imported since the view was made: the view may hold events that
    /// the log has lost.
    #[error(
        "log adopted: the view was made in epoch {known} of the log, which is in epoch {found} now: rebuild it with \
         `weft replay --all` (docs/operations/restore.md)"
    )]
    LogAdopted { known: i16, found: i16 },
    /// The offsets mean nothing here.
    #[error(
        "kafka.brokers leads to the cluster {found}, but the view was read from {known}: publish the log there with \
         `weft relay --from` (docs/operations/kafka-lost.md)"
    )]
    KafkaReplaced { known: String, found: String },
    #[error("{}/{} is in no log's share: set kafka.partitions and logs back", .0.topic, .0.partition)]
    NoLog(TopicPartition),
    /// Who else projects is not known yet.
    #[error("{0}")]
    Members(String),
    /// Another generation took over.
    #[error("generation {found} of this view took over from generation {ours}")]
    HandedOver { ours: i32, found: i32 },
}

impl ProjectionError {
    /// Waiting does not help: only a person, or another program, does.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::LogReplaced { .. }
                | Self::LogAdopted { .. }
                | Self::KafkaReplaced { .. }
                | Self::LogIncomplete { .. }
                | Self::NoLog(_)
        )
    }

    /// The same events fail in the same way for ever: a first event that creates nothing, or data that Postgres refuses
    /// (SQLSTATE classes 22, data exception, and 23, integrity constraint violation).
    pub fn is_deterministic(&self) -> bool {
        match self {
            Self::Unfounded { .. } => true,
            Self::Database(sqlx::Error::Database(error)) => error
                .code()
                .is_some_and(|code| code.starts_with("22") || code.starts_with("23")),
            _ => false,
        }
    }
}

/// Why one partition stops while the others go on: a rolling deploy's newer event, or a record that nobody can read.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error(transparent)]
    Decode(#[from] weft_log_reader::typed::DecodeError),
    #[error(transparent)]
    Record(#[from] InvalidRecord),
    #[error("the {aggregate} event {aggregate_id}:{sequence} names no UUID as its stream")]
    NoUuid {
        aggregate: String,
        aggregate_id: String,
        sequence: i64,
    },
}

/// A partition and what stopped it.
#[derive(Debug)]
pub struct Stopped {
    pub partition: TopicPartition,
    pub offset: i64,
    pub error: PartitionError,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TopicPartition { topic, partition } = &self.partition;
        write!(
            f,
            "{topic}/{partition} stopped at offset {}: {}",
            self.offset, self.error
        )
    }
}
