//! A closed loop: so many callers, each with its next request as soon as it has its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::report::Round;

/// Runs `one` from `callers` tasks for `length`. The latencies are of every eighth request: enough for a p99.
pub(crate) async fn closed_loop<F, Fut>(callers: usize, length: Duration, one: F) -> Result<Round, Failure>
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (one, done) = (one.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while started.elapsed() < length {
                    let asked = Instant::now();
                    one().await?;
                    if done.fetch_add(1, Ordering::Relaxed).is_multiple_of(8) {
                        latencies.push(asked.elapsed());
                    }
                }
                Ok::<_, Failure>(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Round {
        per_second: done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64(),
        latencies,
    })
}
