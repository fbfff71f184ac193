//! One claimed lane: turns, until there is nothing to do or it is others' turn.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::StreamExt;
use tokio::time::Instant;
use weft_domain::account::AccountStatus;
use weft_domain::message::{CancelCause, MessageCommand};

use super::PART;
use super::active::ActiveLane;
use super::attempt::{Work, ids};
use super::run::SHORT_WAIT;
use crate::backoff;
use crate::context::Context;
use crate::error::WorkerError;
use crate::queue::{
    Lane, LaneChange, MessageState, QueuedMessage, Release, Turn, TurnOptions, load_messages, release_lane, take_turn,
};

/// Messages a turn takes: what is loaded and opened together.
const TURN_SIZE: i64 = 32;
/// How long a lane is worked on before others get their turn.
const QUANTUM: Duration = Duration::from_secs(2);

/// What a lane's task carries from turn to turn.
struct State {
    lane: Lane,
    active: Arc<ActiveLane>,
    change: LaneChange,
    /// Messages that somebody had in flight, and that have to be looked at before anything is sent.
    left_behind: Vec<uuid::Uuid>,
    until: Instant,
}

pub(super) async fn work(ctx: Context, lane: Lane, active: Arc<ActiveLane>) {
    let left_behind = lane.left_behind.clone();
    let until = Instant::now() + QUANTUM;
    let mut state = State {
        lane,
        active,
        change: LaneChange::default(),
        left_behind,
        until,
    };
    let mut failures = 0;
    loop {
        match state.step(&ctx).await {
            Ok(true) => failures = 0,
            Ok(false) => return,
            Err(error) => {
                ctx.health.failing(PART, error.to_string());
                tracing::debug!(account.id = %state.lane.account_id, %error, "a lane's turn failed");
                if error.is_lasting() {
                    // Not at once again: the lane is claimed anew when its lease is over, and others' get this hand.
                    tracing::error!(account.id = %state.lane.account_id, %error, "an account's lane cannot go on");
                    return;
                }
                failures += 1;
                let wait = backoff::exponential(Duration::from_millis(100), Duration::from_secs(5), failures);
                if !ctx.pause(wait).await {
                    return;
                }
            }
        }
    }
}

impl State {
    /// One turn; `false`: the lane is given back, or lost.
    async fn step(&mut self, ctx: &Context) -> Result<bool, WorkerError> {
        let lease = Duration::from_secs(ctx.config.dispatch.lease_seconds);
        let unknown_timeout = TimeDelta::seconds(ctx.config.dispatch.unknown_timeout_seconds as i64);
        if !self.left_behind.is_empty() {
            let rows = load_messages(&ctx.pool, &self.left_behind).await?;
            let turn = Turn::blank();
            let work = Work {
                ctx,
                lane: &self.lane,
                active: &self.active,
                turn: &turn,
            };
            work.settle(rows, &mut self.change).await?;
            self.left_behind.clear();
        }
        // Before the turn's snapshot is taken: what comes after raises the flags again.
        self.active.begin_turn();
        let asked = Instant::now();
        let options = TurnOptions {
            size: TURN_SIZE,
            unknown_timeout,
            lease_seconds: lease.as_secs_f64(),
        };
        let taken = take_turn(&ctx.pool, &self.lane, &self.change, ctx.clock.now(), options).await?;
        let new_unknown = self
            .change
            .keep
            .iter()
            .any(|message| message.row.state == MessageState::Unknown);
        self.change = LaneChange::default();
        if new_unknown {
            ctx.signals.settle.notify_one();
        }
        let Some(mut turn) = taken else { return Ok(false) };
        self.active.prolong(asked + lease);
        ctx.health.ready(PART);
        let (stranded, ready) = (std::mem::take(&mut turn.stranded), std::mem::take(&mut turn.ready));
        let now = ctx.clock.now();
        let paced = turn.next_free_at.is_some_and(|free_at| free_at - now > SHORT_WAIT);
        let work = Work {
            ctx,
            lane: &self.lane,
            active: &self.active,
            turn: &turn,
        };
        if !stranded.is_empty() {
            work.settle(stranded, &mut self.change).await?;
            return Ok(true);
        }
        let unreachable = turn.guid.is_none() && turn.status != AccountStatus::Deleted;
        let release = if ready.is_empty() || unreachable {
            Some(Release::Idle)
        } else if paced || Instant::now() >= self.until || ctx.stop.is_cancelled() {
            Some(Release::Yield)
        } else {
            None
        };
        if let Some(release) = release {
            let released = release_lane(&ctx.pool, &self.lane, turn.changes, release, now, unknown_timeout).await?;
            if released && release == Release::Yield {
                ctx.signals.dispatch.notify_one();
            }
            return Ok(!released);
        }
        if turn.status == AccountStatus::Deleted {
            cancel_all(&work, ready, &mut self.change).await?;
            return Ok(true);
        }
        let in_flight = ids(&ready);
        if let Err(error) = work.run(ready, self.until, &mut self.change).await {
            // Some of these may be in `sending`: they are looked at before the next turn.
            self.left_behind = in_flight;
            return Err(error);
        }
        Ok(true)
    }
}

/// A deleted account's messages are cancelled.
async fn cancel_all(work: &Work<'_>, messages: Vec<QueuedMessage>, change: &mut LaneChange) -> Result<(), WorkerError> {
    let results: Vec<Result<LaneChange, WorkerError>> = futures::stream::iter(messages)
        .map(|message| async move {
            let mut change = LaneChange::default();
            let command = MessageCommand::Cancel {
                cause: CancelCause::AccountDeleted,
                now: work.ctx.clock.now(),
            };
            work.record(&message, command, None, &mut change).await?;
            Ok(change)
        })
        .buffer_unordered(4)
        .collect()
        .await;
    for result in results {
        let cancelled = result?;
        change.keep.extend(cancelled.keep);
        change.remove.extend(cancelled.remove);
        change.receipts.extend(cancelled.receipts);
    }
    Ok(())
}
