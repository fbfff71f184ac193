//! What is kept for a time only: raw callbacks 30 days, receipts as long, own-send callbacks that fitted nothing a day.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::PgPool;

use crate::context::Context;
use crate::error::WorkerError;
use crate::queue::{purge_parked, purge_receipts};

pub(crate) const PART: &str = "worker purge";
const CALLBACKS_FOR: TimeDelta = TimeDelta::days(30);
const RECEIPTS_FOR: TimeDelta = TimeDelta::days(30);
const PARKED_FOR: TimeDelta = TimeDelta::days(1);
const EVERY: Duration = Duration::from_hours(1);
/// Rows a statement deletes: no transaction holds the log's tail back for long.
const AT_ONCE: i64 = 1_000;

/// Purges every hour while this process leads.
pub(crate) async fn run(ctx: &Context) -> Result<(), WorkerError> {
    loop {
        let now = ctx.clock.now();
        while purge_callbacks(&ctx.pool, now - CALLBACKS_FOR).await? == AT_ONCE as u64 {}
        while purge_receipts(&ctx.pool, now, RECEIPTS_FOR).await? == AT_ONCE as u64 {}
        purge_parked(&ctx.pool, now, PARKED_FOR).await?;
        super::reads::purge(ctx, PARKED_FOR).await?;
        crate::session::report_unclaimed(ctx).await?;
        ctx.health.ready(PART);
        if !ctx.pause(EVERY).await {
            return Ok(());
        }
    }
}

async fn purge_callbacks(pool: &PgPool, before: chrono::DateTime<chrono::Utc>) -> Result<u64, sqlx::Error> {
    let purged = sqlx::query(
        "delete from workers.callback_events where id in (
           select id from workers.callback_events where received_time < $1 order by received_time limit $2
           for update skip locked)",
    )
    .bind(before)
    .bind(AT_ONCE)
    .execute(pool)
    .await?;
    Ok(purged.rows_affected())
}
