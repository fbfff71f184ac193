//! Work that one process at a time does: the feed of the queues, the interpretation of callbacks.
//!
//! Leadership is a session advisory lock: free the moment the leader's connection ends. Two leaders for a moment (a
//! leader that has lost its connection and not noticed) do no harm: the feed is fenced by compare-and-set, and
//! callbacks are interpreted into commands that are idempotent.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{Connection, PgConnection};

use crate::backoff;
use crate::context::Context;
use crate::error::WorkerError;

/// What a leader does until it fails or is told to stop.
pub(crate) type Body = fn(Context) -> BoxFuture<'static, Result<(), WorkerError>>;

const RETRY: Duration = Duration::from_millis(500);
const CHECK: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Runs `body` again and again while this process leads `part`, until the shutdown. `body` reports its own readiness,
/// and ends by itself soon after its context's `stop`: it is never dropped in the middle of a statement, because that
/// may leave a connection of the pool inside a transaction that nobody ends.
pub(crate) async fn lead(ctx: &Context, part: &'static str, body: Body) {
    let mut failures = 0;
    while !ctx.stop.is_cancelled() {
        let wait = match lead_once(ctx, part, body).await {
            Ok(()) => {
                failures = 0;
                RETRY
            }
            Err(error) => {
                ctx.health.failing(part, error.to_string());
                tracing::warn!(part, %error, "trying again");
                failures += 1;
                backoff::exponential(RETRY, LONGEST_WAIT, failures - 1)
            }
        };
        if !ctx.pause(wait).await {
            return;
        }
    }
}

/// `Ok`: somebody else leads, or `body` ended well.
async fn lead_once(ctx: &Context, part: &'static str, body: Body) -> Result<(), WorkerError> {
    // A connection of its own, which may be dropped at any time.
    let mut connection = tokio::select! {
        () = ctx.stop.cancelled() => return Ok(()),
        connection = PgConnection::connect(ctx.config.log.url.expose()) => connection?,
    };
    let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended($1, 0))")
        .bind(format!("weft {part}"))
        .fetch_one(&mut connection)
        .await?;
    if !locked {
        // Another process does it; this one is as ready as can be.
        ctx.health.ready(part);
        return Ok(());
    }
    let term = ctx.stop.child_token();
    let watch = async {
        loop {
            tokio::time::sleep(CHECK).await;
            if connection.ping().await.is_err() {
                return;
            }
        }
    };
    let mut body = body(Context {
        stop: term.clone(),
        ..ctx.clone()
    });
    tokio::select! {
        ended = &mut body => return ended,
        () = watch => term.cancel(),
    }
    body.await?;
    Err(WorkerError::LeadershipLost)
}
