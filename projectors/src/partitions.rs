//! Keeps the monthly partitions of `messages` ahead of time. A message that finds none lies in the default partition
//! until the next look moves it, so nothing waits for this.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weft_platform::clock::Clock;

use crate::RunError;
use crate::engine::Projection;
use crate::messages::Messages;
use crate::world::World;

const MONTHS_BEFORE: i32 = 1;
const MONTHS_AFTER: i32 = 2;
const EVERY: Duration = Duration::from_hours(24);
const AFTER_A_FAILURE: Duration = Duration::from_secs(10);

pub(crate) async fn run(world: &World, clock: Clock, shutdown: CancellationToken) {
    loop {
        let wait = match ensure(world, &clock).await {
            Ok(made) => {
                if made > 0 {
                    tracing::info!(made, "partitions of messages");
                }
                EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "partitions of messages could not be made");
                AFTER_A_FAILURE
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Answers how many partitions of the live generation were missing.
async fn ensure(world: &World, clock: &Clock) -> Result<i32, RunError> {
    sqlx::query_scalar("select ensure_message_partitions($1, $2, $3)")
        .bind(clock.now())
        .bind(MONTHS_BEFORE)
        .bind(MONTHS_AFTER)
        .fetch_one(&world.live(Messages::NAME).await?.pool)
        .await
        .map_err(RunError::Views)
}
