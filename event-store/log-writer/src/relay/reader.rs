//! Reads the tail ahead of the publisher.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use weft_log_reader::{LoadError, RawEvent, Tail};

use super::{blame, metric};

/// Larger pages are no faster.
const PAGE: i64 = 5_000;
/// After a wake the events are there, but may not be settled for as long as an older append still runs.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// Longest wait for woken events to settle, whatever the poll is.
const SETTLE_WAIT: Duration = Duration::from_millis(100);
/// Events that are not settled for this long are somebody's fault, who is then named.
const STALL: Duration = Duration::from_secs(2);

/// Sends pages until the receiver is gone; an error is the last thing it sends.
pub(super) async fn read(
    mut tail: Tail,
    pool: sqlx::PgPool,
    wake: Arc<Notify>,
    poll: Duration,
    pages: mpsc::Sender<Result<Vec<RawEvent>, LoadError>>,
) {
    let (mut wait, mut longest) = (poll, poll);
    let mut empty_since = Instant::now();
    loop {
        match tail.next_raw_page(PAGE).await {
            Ok(page) if page.is_empty() => {
                if empty_since.elapsed() >= STALL {
                    report_stall(&pool, &tail).await;
                    empty_since = Instant::now();
                }
                tokio::select! {
                    () = wake.notified() => (wait, longest) = (FIRST_WAIT, poll.min(SETTLE_WAIT)),
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(longest),
                    () = pages.closed() => return,
                }
            }
            Ok(page) => {
                (wait, longest) = (FIRST_WAIT, poll);
                empty_since = Instant::now();
                metrics::gauge!(metric::STALLED_SECONDS).set(0.0);
                if pages.send(Ok(page)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Nobody listens any more: the session is over anyway.
                let _ = pages.send(Err(error)).await;
                return;
            }
        }
    }
}

async fn report_stall(pool: &sqlx::PgPool, tail: &Tail) {
    match blame::stall(pool, tail.after()).await {
        Ok(Some(stall)) => {
            metrics::gauge!(metric::STALLED_SECONDS).set(stall.seconds);
            tracing::warn!(
                pid = stall.pid,
                application = stall.application,
                seconds = stall.seconds,
                "committed events wait behind a long write transaction"
            );
        }
        Ok(None) => metrics::gauge!(metric::STALLED_SECONDS).set(0.0),
        Err(error) => tracing::debug!(%error, "could not look for what stalls the tail"),
    }
}
