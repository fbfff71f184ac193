//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Asks until `ask` answers something, for at most `patience`; panics with `what` after that.
pub async fn until<T, F, Fut>(what: &str, patience: Duration, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            started.elapsed() < patience,
            "waited {} s in vain: {what}",
            patience.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
