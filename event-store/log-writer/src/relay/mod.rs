//! Publishes the log to Kafka, in log order, at least once.
//!
//! One relay is active per log: whoever holds the lease. Its checkpoint is a contiguous acknowledged prefix of the log,
//! moved forward only, and only by the owner whose epoch it carries. On any delivery error the producer is thrown away
//! and everything after the checkpoint is published again. That never leaves a hole in a partition: one producer keeps
//! its partition's order and stops at its first failure, and the next one starts no later than where it stopped.

mod blame;
mod lease;
mod publisher;
mod reader;
mod record;
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

/// The relay's name in health reports.
pub const PART: &str = "relay";

/// Connections: the reader, the lease, the checkpoint, housekeeping.
const CONNECTIONS: u32 = 4;
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

pub(crate) mod metric {
    pub(crate) const PUBLISHED: &str = "weft_relay_published_total";
    pub(crate) const LAG_SECONDS: &str = "weft_relay_lag_seconds";
    pub(crate) const STALLED_SECONDS: &str = "weft_log_tail_stalled_seconds";
    pub(crate) const RESTARTS: &str = "weft_relay_restarts_total";
}

/// Why the relay does not publish right now.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("log.url: {0}")]
    Url(sqlx::Error),
    #[error("the log: {0}")]
    Log(String),
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error("another relay has taken over")]
    LeaseLost,
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

/// Runs until `shutdown`. Waits while another relay holds the lease; outlives outages of Postgres and Kafka. `wake` is
/// told after every append of this process; elsewhere the tail is polled every `log.relay_poll_ms`.
pub async fn run(
    config: Arc<Config>,
    clock: Clock,
    health: Health,
    wake: Arc<Notify>,
    shutdown: CancellationToken,
) -> Result<(), RelayError> {
    health.expect(PART);
    let pool = log_pool(&config.log, "weft relay", CONNECTIONS).map_err(RelayError::Url)?;
    let session = Session {
        owner: clock.new_id(),
        config,
        clock,
        health: health.clone(),
        probe: Probe::new(pool.clone()),
        pool,
        wake,
    };
    let mut backoff = FIRST_BACKOFF;
    loop {
        let pause = match session.run(&shutdown).await {
            Ok(Ended::Shutdown) => return Ok(()),
            Ok(Ended::StandBy) => {
                health.ready(PART);
                session.lease_time() / 3
            }
            Err((error, published)) => {
                metrics::counter!(metric::RESTARTS).increment(1);
                tracing::warn!(%error, "the relay starts again from its checkpoint");
                if !matches!(error, RelayError::LeaseLost) {
                    health.failing(PART, error.to_string());
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
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
