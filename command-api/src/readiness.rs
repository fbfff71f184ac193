//! Whether commands can be carried out: looks at the log's database every few seconds.

use std::time::Duration;

use sqlx::PgPool;
use weft_platform::health::Health;

const PART: &str = weft_platform::health::LOG;
const EVERY: Duration = Duration::from_secs(2);

/// Reports until the runtime ends.
pub(crate) fn watch(pool: PgPool, health: Health) {
    health.expect(PART);
    tokio::spawn(async move {
        loop {
            match sqlx::query("select 1").execute(&pool).await {
                Ok(_) => health.ready(PART),
                Err(_) if pool.is_closed() => return,
                Err(error) => {
                    tracing::warn!(%error, "the log cannot be reached");
                    health.failing(PART, "the log's database cannot be reached");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    });
}
