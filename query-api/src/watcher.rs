//! Where the projections stand: read by one task per process whenever the views' database tells that a checkpoint moved,
//! for all who wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use weft_domain::LogOrder;

use crate::consistency::Awaited;

/// The channel on which projectors tell of their checkpoints.
const CHANNEL: &str = "weft_checkpoints";
/// How often is looked while somebody waits and nothing is told: on a replica, or while the listener's connection is
/// lost.
const LOOK: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);

/// High-water by projection, topic and partition.
pub(crate) type Positions = HashMap<(String, String, i32), LogOrder>;

/// Who wants to know, and what is known. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    positions: watch::Sender<Arc<Positions>>,
    waiting: AtomicUsize,
    joined: Notify,
}

impl Default for Watcher {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                positions: watch::channel(Arc::default()).0,
                waiting: AtomicUsize::new(0),
                joined: Notify::new(),
            }),
        }
    }
}

/// Somebody who waits: the positions are kept up to date until this is dropped.
pub(crate) struct Waiting {
    inner: Arc<Inner>,
    positions: watch::Receiver<Arc<Positions>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.inner.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watcher {
    pub(crate) fn wait(&self) -> Waiting {
        self.inner.waiting.fetch_add(1, Ordering::Relaxed);
        self.inner.joined.notify_one();
        Waiting {
            inner: Arc::clone(&self.inner),
            positions: self.inner.positions.subscribe(),
        }
    }

    /// Runs until shutdown; survives the views' database being away.
    pub(crate) async fn run(self, pool: PgPool, url: String, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                error = self.follow(&pool, &url) => tracing::warn!(%error, "checkpoints are not told: looking for them"),
                () = shutdown.cancelled() => return,
            }
            // Until the listener is back, by looking.
            tokio::select! {
                () = self.look_around(&pool) => {}
                () = tokio::time::sleep(RETRY) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn follow(&self, pool: &PgPool, url: &str) -> sqlx::Error {
        let mut listener = match PgListener::connect(url).await {
            Ok(listener) => listener,
            Err(error) => return error,
        };
        if let Err(error) = listener.listen(CHANNEL).await {
            return error;
        }
        loop {
            if self.is_waited_for()
                && let Err(error) = self.look(pool).await
            {
                return error;
            }
            tokio::select! {
                told = listener.try_recv() => match told {
                    Ok(Some(_)) => while listener.next_buffered().is_some() {},
                    // The connection was lost and made anew: something may have been missed.
                    Ok(None) => {}
                    Err(error) => return error,
                },
                () = self.inner.joined.notified() => {}
            }
        }
    }

    async fn look_around(&self, pool: &PgPool) {
        loop {
            if self.is_waited_for()
                && let Err(error) = self.look(pool).await
            {
                tracing::debug!(%error, "the checkpoints cannot be read");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_waited_for(&self) -> bool {
        self.inner.waiting.load(Ordering::Relaxed) > 0
    }

    async fn look(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let rows: Vec<(String, String, i32, i16, i64, i64)> = sqlx::query_as(
            "select projection, topic, partition, epoch, transaction_id, position from views.checkpoints",
        )
        .fetch_all(pool)
        .await?;
        let rows = rows.into_iter();
        let positions: Positions = rows
            .map(|(projection, topic, partition, epoch, transaction_id, position)| {
                let order = LogOrder {
                    epoch,
                    transaction_id,
                    position,
                };
                ((projection, topic, partition), order)
            })
            .collect();
        self.inner.positions.send_replace(Arc::new(positions));
        Ok(())
    }
}

impl Waiting {
    /// Waits until every one of `awaited` is reached, or may be, as far as is told.
    pub(crate) async fn until_reached(&mut self, awaited: &[Awaited]) {
        loop {
            if self.positions.changed().await.is_err() {
                // Shutting down: the caller's bound ends it.
                std::future::pending::<()>().await;
            }
            let positions = Arc::clone(&self.positions.borrow_and_update());
            let reached = awaited.iter().all(|awaited| {
                has_reached(
                    &positions,
                    awaited.projection,
                    &awaited.topic,
                    awaited.partition,
                    awaited.order,
                )
            });
            if reached {
                return;
            }
        }
    }

    /// The positions when they are told next.
    pub(crate) async fn moved(&mut self) {
        if self.positions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn positions(&mut self) -> Arc<Positions> {
        Arc::clone(&self.positions.borrow_and_update())
    }
}

pub(crate) fn has_reached(
    positions: &Positions,
    projection: &str,
    topic: &str,
    partition: i32,
    order: LogOrder,
) -> bool {
    let key = (projection.to_owned(), topic.to_owned(), partition);
    positions.get(&key).is_some_and(|reached| *reached >= order)
}
