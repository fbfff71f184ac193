//! Reads the tail ahead of the publisher.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use weft_log_reader::{LoadError, RawEvent, Tail};

/// Larger pages are no faster.
pub(super) const PAGE: i64 = 5_000;
/// After a wake the events are there, but may not be settled for as long as an older append still runs.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// Longest wait for woken events to settle, whatever the poll is.
const SETTLE_WAIT: Duration = Duration::from_millis(100);

/// Sends pages until the receiver is gone; an error is the last thing it sends.
pub(super) async fn read(
    mut tail: Tail,
    wake: Arc<Notify>,
    poll: Duration,
    pages: mpsc::Sender<Result<Vec<RawEvent>, LoadError>>,
) {
    let (mut wait, mut longest) = (poll, poll);
    loop {
        match tail.next_raw_page(PAGE).await {
            Ok(page) if page.is_empty() => {
                tokio::select! {
                    () = wake.notified() => (wait, longest) = (FIRST_WAIT, poll.min(SETTLE_WAIT)),
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(longest),
                    () = pages.closed() => return,
                }
            }
            Ok(page) => {
                (wait, longest) = (FIRST_WAIT, poll);
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
