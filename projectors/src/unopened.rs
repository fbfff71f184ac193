//! Contents that this process's keys do not open: counted, so that a rebuild without keys tells it in a line.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines.
const EVERY: Duration = Duration::from_mins(1);

/// Tells how many messages' contents did not open: once a minute at most, and the rest when it is dropped.
#[derive(Debug)]
pub(crate) struct Unopened {
    /// Not told yet; when something was told last.
    waiting: Mutex<(u64, Instant)>,
}

impl Unopened {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::new((0, Instant::now())),
        }
    }

    pub(crate) fn add(&self, messages: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.0 += messages;
        if waiting.1.elapsed() >= EVERY {
            tell(waiting.0);
            *waiting = (0, Instant::now());
        }
    }
}

impl Drop for Unopened {
    fn drop(&mut self) {
        tell(self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner).0);
    }
}

fn tell(messages: u64) {
    if messages > 0 {
        tracing::warn!(
            messages,
            "contents do not open with this process's keys: their rows have none"
        );
    }
}
