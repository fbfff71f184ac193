//! Sends messages. The contract towards WeCom is *never twice without knowing*: an attempt is committed before a byte
//! is written, and an attempt whose end nobody saw is never repeated (docs/adr/0005-unknown-outcomes.md).
//!
//! The scheduler claims account lanes; each claimed lane is worked on by a task of its own, one message at a time.

mod active;
mod attempt;
mod lane;
mod prepare;
mod recent;
mod request;
mod run;
mod settle;

use std::time::Duration;

use tokio::task::JoinSet;
use uuid::Uuid;

pub(crate) use self::active::ActiveLanes;
pub(crate) use self::recent::RecentReceipts;
pub(crate) use self::request::content_digest;
use crate::backoff;
use crate::context::{Actor, Context};
use crate::error::WorkerError;
use crate::queue::{claim_lanes, renew_lanes};

pub(crate) const PART: &str = "worker dispatch";
const ACTOR: Actor = Actor::system("dispatch");
/// Longest time between two looks for work that nobody told of: another process's, or a planned message.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Shortest time between two claims: a burst of events is one claim.
const CLAIM_SPACING: Duration = Duration::from_millis(10);
/// How long lanes in work may go on after the shutdown: the message in hand is finished and recorded.
const DRAIN: Duration = Duration::from_secs(8);

/// Runs until the shutdown, and until the lanes in work have been given back.
pub(crate) async fn run(ctx: &Context) {
    tokio::select! {
        () = ctx.owner.alive() => {}
        () = ctx.stop.cancelled() => return,
    }
    let mut tasks: JoinSet<Uuid> = JoinSet::new();
    let mut failures = 0;
    let renewing = tokio::spawn(renew(ctx.clone()));
    while !ctx.stop.is_cancelled() {
        while let Some(ended) = tasks.try_join_next() {
            note_end(ctx, ended);
        }
        let free = ctx.config.dispatch.lanes.saturating_sub(tasks.len());
        let claimed = if free == 0 {
            Ok(0)
        } else {
            claim(ctx, &mut tasks, free).await
        };
        let wait = match claimed {
            Ok(claimed) => {
                failures = 0;
                ctx.health.ready(PART);
                if claimed > 0 { CLAIM_SPACING } else { LOOK_EVERY }
            }
            Err(error) => {
                ctx.health.failing(PART, error.to_string());
                failures += 1;
                backoff::exponential(LOOK_EVERY, Duration::from_secs(5), failures)
            }
        };
        tokio::select! {
            () = ctx.stop.cancelled() => {}
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => note_end(ctx, ended),
            () = ctx.signals.dispatch.notified(), if failures == 0 => tokio::time::sleep(CLAIM_SPACING).await,
            () = tokio::time::sleep(wait) => {}
        }
    }
    let drained = tokio::time::timeout(DRAIN, async {
        while let Some(ended) = tasks.join_next().await {
            note_end(ctx, ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!(lanes = tasks.len(), "lanes still in work are left to the next process");
    }
    renewing.abort();
}

/// Claims as many lanes as there are free hands; answers how many.
async fn claim(ctx: &Context, tasks: &mut JoinSet<Uuid>, free: usize) -> Result<usize, WorkerError> {
    let mine = ctx.lanes.accounts();
    let lease_seconds = ctx.config.dispatch.lease_seconds;
    let started = tokio::time::Instant::now();
    let (owner, now) = (ctx.owner.key(), ctx.clock.now());
    let lanes = claim_lanes(&ctx.pool, owner, &mine, now, lease_seconds as f64, free as i64).await?;
    let claimed = lanes.len();
    let deadline = started + Duration::from_secs(lease_seconds);
    for lane in lanes {
        let active = ctx.lanes.add(lane.account_id, deadline);
        let ctx = ctx.clone();
        tasks.spawn(async move {
            let account = lane.account_id;
            lane::work(ctx, lane, active).await;
            account
        });
    }
    Ok(claimed)
}

fn note_end(ctx: &Context, ended: Result<Uuid, tokio::task::JoinError>) {
    match ended {
        Ok(account) => ctx.lanes.remove(account),
        // The lane stays in the register, so its lease runs out and it is claimed anew.
        Err(error) => {
            tracing::error!(%error, "a lane's task died");
            ctx.lanes.remove_dead();
        }
    }
}

/// Keeps the leases of the lanes in work.
async fn renew(ctx: Context) {
    let lease = Duration::from_secs(ctx.config.dispatch.lease_seconds);
    loop {
        tokio::time::sleep(lease / 4).await;
        let accounts = ctx.lanes.accounts();
        if accounts.is_empty() {
            continue;
        }
        let started = tokio::time::Instant::now();
        match renew_lanes(&ctx.pool, ctx.owner.key(), &accounts, lease.as_secs_f64()).await {
            Ok(renewed) => ctx.lanes.prolong(&renewed, started + lease),
            Err(error) => tracing::debug!(%error, "leases were not renewed"),
        }
    }
}
