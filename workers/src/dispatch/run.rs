//! A turn's messages, one after the other.

use std::collections::HashSet;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;
use weft_domain::account::AccountStatus;
use weft_domain::message::MessageStatus;

use super::attempt::{Next, Plan, Sent, Taken, Work, note};
use super::prepare::{Prepared, prepare};
use crate::backoff;
use crate::error::WorkerError;
use crate::queue::{LaneChange, QueuedMessage};

/// A shorter wait for the account's pace is waited out in the lane's hand; for a longer one it is given back.
pub(super) const SHORT_WAIT: TimeDelta = TimeDelta::milliseconds(250);

impl Work<'_> {
    /// Sends what the turn holds, until something holds back. Whatever happens, `change` says what has become of the
    /// messages that were touched.
    pub(super) async fn run(
        &self,
        rows: Vec<QueuedMessage>,
        until: Instant,
        change: &mut LaneChange,
    ) -> Result<(), WorkerError> {
        let prepared = prepare(self.ctx, rows).await?;
        let mut taken: Option<Taken> = None;
        let ended = self.run_all(prepared, until, &mut taken, change).await;
        // The last one's answer is recorded in any case.
        if let Some(taken) = taken {
            self.record_taken(&taken, change).await?;
        }
        ended
    }

    async fn run_all(
        &self,
        prepared: Vec<Prepared>,
        until: Instant,
        taken: &mut Option<Taken>,
        change: &mut LaneChange,
    ) -> Result<(), WorkerError> {
        let Some(guid) = self.turn.guid.as_deref() else {
            return Ok(());
        };
        let mut held: HashSet<String> = HashSet::new();
        for mut message in prepared {
            let queued = message.queued.clone();
            if held.contains(&queued.conversation_id) {
                continue;
            }
            if message.message.status != Some(MessageStatus::Pending) {
                note(change, &queued, &message.message, message.version, None);
                if message.message.status == Some(MessageStatus::Unknown) {
                    held.insert(queued.conversation_id);
                }
                continue;
            }
            let stop = self.ctx.stop.is_cancelled()
                || !self.active.holds()
                || Instant::now() >= until
                || self.active.is_overtaken(queued.priority);
            if stop || !self.keep_pace(change).await {
                break;
            }
            let plan = self.plan(&mut message, guid).await?;
            // The last message's end and this one's beginning need not wait for each other, but the call waits for
            // both: at most one attempt of an account is ever unrecorded after its answer.
            let mut recorded = LaneChange::default();
            let (previous, started) = tokio::join!(
                async {
                    match taken.take() {
                        Some(taken) => self.record_taken(&taken, &mut recorded).await,
                        None => Ok(()),
                    }
                },
                self.start(&queued, message.version, change)
            );
            merge(change, recorded);
            previous?;
            let Some(attempt) = started? else { continue };
            self.set_pace(change);
            let next = match plan {
                Plan::Refuse(code) => {
                    self.refuse(&queued, attempt, code, change).await?;
                    Next::Go
                }
                Plan::End(outcome) => self.record_end(&queued, attempt, outcome, None, change).await?,
                Plan::Send { request, digest } => match self.send(guid, &request, &queued, attempt).await {
                    Sent::Ended(weft_wecom::gateway::SendOutcome::Sent(receipt)) => {
                        *taken = Some(Taken {
                            queued,
                            attempt,
                            receipt,
                        });
                        Next::Go
                    }
                    Sent::Ended(outcome) => self.record_end(&queued, attempt, outcome, Some(digest), change).await?,
                    Sent::NotTried => {
                        let detail = "the lane was lost before the call".to_owned();
                        let outcome = weft_wecom::gateway::SendOutcome::NotConnected { detail };
                        self.record_end(&queued, attempt, outcome, None, change).await?
                    }
                },
            };
            // A probe decides what comes after it.
            if next == Next::EndTurn || self.turn.status == AccountStatus::RateLimited {
                break;
            }
        }
        Ok(())
    }

    /// Waits until the account may send again; `false`: that takes longer than a lane is held for.
    async fn keep_pace(&self, change: &LaneChange) -> bool {
        let Some(free_at) = change.next_free_at.or(self.turn.next_free_at) else {
            return true;
        };
        let wait = free_at - self.ctx.clock.now();
        if wait > SHORT_WAIT {
            return false;
        }
        self.ctx.pause(wait.to_std().unwrap_or_default()).await
    }

    fn set_pace(&self, change: &mut LaneChange) {
        if self.turn.send_interval_ms > 0 {
            let interval = Duration::from_millis(self.turn.send_interval_ms.unsigned_abs().into());
            change.next_free_at = Some(self.ctx.clock.now() + backoff::delta(backoff::spread(interval)));
        }
    }
}

fn merge(change: &mut LaneChange, other: LaneChange) {
    change.keep.extend(other.keep);
    change.remove.extend(other.remove);
    change.receipts.extend(other.receipts);
}
