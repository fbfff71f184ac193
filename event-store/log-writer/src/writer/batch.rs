//! One batch to its end: every caller is answered.

use std::collections::HashSet;

use sqlx::PgConnection;
use weft_domain::LogOrder;

use super::Tools;
use super::queue::{Job, Recent};
use crate::append::{Appended, Outcome, Terms, append, overtaken};
use crate::error::AppendError;

/// Times a batch is sent again without those that were overtaken, before it is taken apart.
const TRIES: u32 = 3;
/// Longest wait of a batch for somebody else's transaction: one that holds a lock for longer must not hold up many. Who
/// is alone waits as long as the connection allows.
const LOCK_WAIT_MS: i32 = 1_000;

pub(crate) mod metric {
    pub(crate) const BATCH_COMMANDS: &str = "weft_log_batch_commands";
    pub(crate) const BATCH_SECONDS: &str = "weft_log_batch_seconds";
    pub(crate) const BISECTIONS: &str = "weft_log_bisections_total";
}

/// `false` when the connection is not to be used again.
pub(super) async fn write(
    connection: &mut PgConnection,
    tools: &Tools,
    mut jobs: Vec<Job>,
    recent: &mut Recent,
) -> bool {
    for _ in 0..TRIES {
        match once(connection, tools, jobs, recent).await {
            Ended::All => return true,
            Ended::Lost => return false,
            Ended::Failed(failed, AppendError::Conflict) => {
                // The others are as good as before. None named: it was a deadlock.
                let Ok(conflicting) = overtaken(connection, &failed).await else {
                    end_all(failed, &AppendError::Conflict);
                    return false;
                };
                jobs = without(failed, &conflicting);
            }
            Ended::Stale(all, stale) => jobs = without(all, &stale),
            Ended::Failed(failed, _) => {
                jobs = failed;
                break;
            }
        }
        if jobs.is_empty() {
            return true;
        }
    }
    // One of them, or a few, fail all: halves, until each of those is alone.
    let mut parts = vec![jobs];
    while let Some(part) = parts.pop() {
        match once(connection, tools, part, recent).await {
            Ended::All => {}
            Ended::Lost => {
                for part in parts {
                    end_all(part, &AppendError::Unavailable("the connection was lost".to_owned()));
                }
                return false;
            }
            Ended::Stale(part, stale) => {
                let rest = without(part, &stale);
                if !rest.is_empty() {
                    parts.push(rest);
                }
            }
            Ended::Failed(mut first, _) => {
                metrics::counter!(metric::BISECTIONS).increment(1);
                let second = first.split_off(first.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    true
}

enum Ended {
    /// Everybody is answered.
    All,
    /// Everybody is answered, and the connection is broken.
    Lost,
    /// Nothing was written, because of these commands alone. Nobody is answered.
    Stale(Vec<Job>, HashSet<usize>),
    /// Several failed together, for a reason that may be that of one. Nobody is answered.
    Failed(Vec<Job>, AppendError),
}

async fn once(connection: &mut PgConnection, tools: &Tools, jobs: Vec<Job>, recent: &mut Recent) -> Ended {
    let terms = Terms {
        epoch: tools.epoch.get(),
        lock_wait_ms: (jobs.len() > 1).then_some(LOCK_WAIT_MS),
    };
    let started = tokio::time::Instant::now();
    let appended = append(connection, tools.clock.now(), &jobs, terms).await;
    metrics::histogram!(metric::BATCH_SECONDS).record(started.elapsed().as_secs_f64());
    metrics::histogram!(metric::BATCH_COMMANDS).record(jobs.len() as f64);
    match appended {
        Ok(Appended::Done(epoch, outcomes)) => {
            tools.epoch.set(epoch);
            answer(tools, jobs, outcomes, recent);
            Ended::All
        }
        Ok(Appended::OtherEpoch(epoch)) => {
            tracing::warn!(
                epoch,
                "the log is of another epoch than before; what was remembered of it is forgotten"
            );
            (tools.forget)();
            *recent = Recent::default();
            tools.epoch.set(epoch);
            end_all(jobs, &AppendError::Conflict);
            Ended::All
        }
        Ok(Appended::Stale(stale)) => Ended::Stale(jobs, stale),
        Err(error @ (AppendError::InDoubt(_) | AppendError::Unavailable(_))) => {
            end_all(jobs, &error);
            Ended::Lost
        }
        Err(error) if jobs.len() > 1 => Ended::Failed(jobs, error),
        Err(error) => {
            end_all(jobs, &error);
            Ended::All
        }
    }
}

fn answer(tools: &Tools, jobs: Vec<Job>, outcomes: Vec<Outcome>, recent: &mut Recent) {
    let wrote = |outcome: &Outcome| matches!(outcome, Outcome::Committed(orders) if !<[LogOrder]>::is_empty(orders));
    if outcomes.iter().any(wrote) {
        tools.appended.notify_one();
    }
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        if matches!(outcome, Outcome::Committed(_)) {
            recent.committed(&job);
        }
        job.end(Ok(outcome));
    }
}

/// The others; these are answered that they were decided on what has changed.
fn without(jobs: Vec<Job>, overtaken: &HashSet<usize>) -> Vec<Job> {
    let mut rest = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.into_iter().enumerate() {
        if overtaken.contains(&index) {
            job.end(Err(AppendError::Conflict));
        } else {
            rest.push(job);
        }
    }
    rest
}

fn end_all(jobs: Vec<Job>, error: &AppendError) {
    for job in jobs {
        job.end(Err(error.clone()));
    }
}
