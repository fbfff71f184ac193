//! Publishes the log to Kafka, in log order, at least once.
//!
//! One relay is active per log: whoever holds the lease. Its checkpoint is a contiguous acknowledged prefix of the log,
//! moved forward only, and only by the owner whose epoch it carries. On any delivery error the producer is thrown away
//! and everything after the checkpoint is published again.
//!
//! What that guarantees does not rest on the lease. One producer writes a partition's events in log order without a hole
//! (idempotent, gapless), beginning no later than behind the checkpoint, up to which everything is in Kafka. So whichever
//! producers write, one after the other or, where a paused one wakes up, beside each other: whenever an event stands in a
//! partition, all events before it, in log order, stand there at lower offsets. A consumer that drops what is at or below
//! its high-water sees every event once, in order. The lease only keeps duplicates rare.

mod blame;
mod deliveries;
mod lag;
mod lease;
mod publisher;
mod reader;
mod record;
mod rewind;
mod session;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;

use crate::pool::{Probe, log_pool};
use session::{Ended, Session};

pub use lag::{Lag, lag};
pub use rewind::{Rewound, rewind};

/// The relay's name in health reports.
pub const PART: &str = "relay";

/// Connections: the reader, the lease, the checkpoint, lag, housekeeping.
const CONNECTIONS: u32 = 5;
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

pub(crate) mod metric {
    pub(crate) const PUBLISHED: &str = "weft_relay_published_total";
    pub(crate) const LAG_EVENTS: &str = "weft_relay_lag_events";
    pub(crate) const LAG_SECONDS: &str = "weft_relay_lag_seconds";
    pub(crate) const STALLED_SECONDS: &str = "weft_log_tail_stalled_seconds";
    pub(crate) const RESTARTS: &str = "weft_relay_restarts_total";
}

/// Why the relay does not publish right now.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the log's url: {0}")]
    Url(sqlx::Error),
    #[error("the log: {0}")]
    Log(String),
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error("Kafka at {brokers} does not answer")]
    KafkaAway { brokers: String },
    #[error("topic {topic} is not there ({error}): run weft topics")]
    NoTopic { topic: String, error: KafkaError },
    #[error("another relay has taken over")]
    LeaseLost,
    /// Kafka has less than was published.
    #[error(
        "Kafka has lost events: {topic}/{partition} ends at offset {found}, {known} was acknowledged. Nothing is \
         published until an operator re-publishes with weft relay --from"
    )]
    KafkaLost {
        topic: String,
        partition: i32,
        known: i64,
        found: i64,
    },
    #[error(
        "kafka.brokers leads to the cluster {found}, but this log was published to {known}. Nothing is published until \
         an operator re-publishes with weft relay --from"
    )]
    KafkaReplaced { known: String, found: String },
    /// Partitions of before hold this log's events.
    #[error(
        "the log {log} was published to partitions of {topic} up to {known}, and its share of them now ends at {found}: set \
         kafka.partitions and logs.{log}.share back, or re-publish with weft relay --from on topics that were made anew"
    )]
    ShareChanged {
        log: String,
        topic: String,
        known: usize,
        found: usize,
    },
    /// The log was moved to a server whose transaction ids are lower than those of its events.
    #[error(
        "the log is a copy on a server with lower transaction ids, so new events would come before old ones: \
         run weft log adopt"
    )]
    NotAdopted,
}

impl From<sqlx::Error> for RelayError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.to_string())
    }
}

impl From<weft_log_reader::LoadError> for RelayError {
    fn from(error: weft_log_reader::LoadError) -> Self {
        Self::Log(error.to_string())
    }
}

/// Runs until `shutdown`, for the log that `config` is seen from. Waits while another relay holds the lease; outlives
/// outages of Postgres and Kafka. `wake` is told after every append of this process; elsewhere the tail is polled every
/// `log.relay_poll_ms`.
pub async fn run(
    config: Arc<Config>,
    clock: Clock,
    health: Health,
    wake: Arc<Notify>,
    shutdown: CancellationToken,
) -> Result<(), RelayError> {
    let health = health.of_log(&config.log);
    health.expect(PART);
    let pool = log_pool(&config.log, "weft relay", CONNECTIONS).map_err(RelayError::Url)?;
    let watched = lag::watch(pool.clone(), config.kafka.topic_prefix.clone(), config.log.name.clone());
    let session = Session {
        owner: clock.new_id(),
        config,
        clock,
        health,
        probe: Probe::new(pool.clone()),
        pool,
        wake,
    };
    tokio::select! {
        () = watched => Ok(()),
        () = publish(&session, &shutdown) => Ok(()),
    }
}

/// One tenure after the other.
async fn publish(session: &Session, shutdown: &CancellationToken) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let pause = match session.run(shutdown).await {
            Ok(Ended::Shutdown) => return,
            Ok(Ended::StandBy) => {
                session.health.ready(PART);
                session.lease_time() / 3
            }
            Err((error, published)) => {
                let log = session.config.log.name.clone();
                metrics::counter!(metric::RESTARTS, "log" => log.clone()).increment(1);
                tracing::warn!(log, %error, "the relay starts again from its checkpoint");
                if !matches!(error, RelayError::LeaseLost) {
                    session.health.failing(PART, error.to_string());
                }
                // A session that got something done has shown that the trouble passed.
                backoff = if published {
                    FIRST_BACKOFF
                } else {
                    (backoff * 2).min(LONGEST_BACKOFF)
                };
                backoff
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
