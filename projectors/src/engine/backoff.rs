//! How long to wait before trying again.

use std::time::Duration;

use tokio::time::Instant;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from 100 ms to 5 s, and begins anew after a stretch without failure.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    waited_at: Option<Instant>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next: SHORTEST,
            waited_at: None,
        }
    }
}

impl Backoff {
    /// Waits the longest time from now on: for what only a person changes.
    pub const fn rest(&mut self) {
        self.next = LONGEST;
        self.waited_at = None;
    }

    pub async fn wait(&mut self) {
        if self.waited_at.is_some_and(|at| at.elapsed() > LONGEST) {
            self.next = SHORTEST;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST);
        self.waited_at = Some(Instant::now());
    }
}
