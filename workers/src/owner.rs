//! Who holds leases in this process, and how others see that it is alive.
//!
//! A lease alone would keep an account's lane closed for its whole length after a crash. So each process also holds a
//! session advisory lock, whose key stands in its leases: it dies with the connection, that is with the process, and
//! `workers.live_owners()` no longer names it. Losing the connection while alive is harmless: whoever takes a lane over
//! settles what was in flight as unknown, and the optimistic lock on each message decides between two owners.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::watch;

use crate::backoff;
use crate::error::WorkerError;

/// How often the lock's connection is looked at.
const CHECK: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) struct Owner {
    key: i64,
    held: watch::Sender<bool>,
}

impl Owner {
    pub(crate) fn new(id: uuid::Uuid) -> Self {
        // The random half of the id.
        let key = id.as_u128() as u64 as i64;
        Self {
            key,
            held: watch::Sender::new(false),
        }
    }

    pub(crate) const fn key(&self) -> i64 {
        self.key
    }

    /// Waits until the lock is held: before, a lease of this process would look like a dead one's.
    pub(crate) async fn alive(&self) {
        let mut held = self.held.subscribe();
        // The sender lives as long as `self`.
        let _ = held.wait_for(|held| *held).await;
    }

    /// Holds the lock until the end; takes it again when the connection broke.
    pub(crate) async fn hold(&self, url: &str) {
        let mut failures = 0;
        loop {
            match self.hold_once(url, &mut failures).await {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "the owner's lock"),
            }
            self.held.send_replace(false);
            tokio::time::sleep(backoff::exponential(Duration::from_millis(100), CHECK, failures)).await;
            failures += 1;
        }
    }

    async fn hold_once(&self, url: &str, failures: &mut u32) -> Result<(), WorkerError> {
        let mut connection = PgConnection::connect(url).await?;
        let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(self.key)
            .fetch_one(&mut connection)
            .await?;
        if !locked {
            // Our own connection before this one has not been given up by the server yet.
            return Ok(());
        }
        *failures = 0;
        self.held.send_replace(true);
        loop {
            tokio::time::sleep(CHECK).await;
            connection.ping().await?;
        }
    }
}
