//! Asks every account's instance whether its session lives. A look is a sample, not an event: only a change of the
//! account's status is. Nobody pushes heartbeats, so this is how a dead session that still shows `online` is found.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;
use weft_domain::account::{Account, AccountCommand, AccountStatus, SessionLossCause};
use weft_domain::{AccountId, TenantId};
use weft_log_writer::IfMatch;
use weft_wecom::gateway::{CallError, ClientStatus, RejectClass};

use crate::backoff;
use crate::context::{Actor, Cause, Context};
use crate::error::WorkerError;
use crate::queue::{AccountRow, Job, JobKind, JobResult, load_accounts};

pub(crate) const PART: &str = "worker heartbeat";
const ACTOR: Actor = Actor::auto("heartbeat");
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long looks may go on after the shutdown.
const DRAIN: Duration = Duration::from_secs(3);
/// A look takes at most the gateway's own time-outs.
const LEASE_SECONDS: f64 = 60.0;

mod metric {
    pub(super) const LOOKS: &str = "weft_heartbeats_total";
    pub(super) const SECONDS: &str = "weft_heartbeat_seconds";
}

/// Runs until the shutdown.
pub(crate) async fn run(ctx: &Context) {
    tokio::select! {
        () = ctx.owner.alive() => {}
        () = ctx.stop.cancelled() => return,
    }
    let in_flight = ctx.config.heartbeat.in_flight;
    let mut looks: JoinSet<JobResult> = JoinSet::new();
    let mut done: Vec<JobResult> = Vec::new();
    let mut failures = 0;
    while !ctx.stop.is_cancelled() {
        while let Some(look) = looks.try_join_next() {
            done.extend(look.ok());
        }
        let wait = match turn(ctx, &mut looks, &mut done, in_flight).await {
            Ok(()) => {
                failures = 0;
                ctx.health.ready(PART);
                LOOK_EVERY
            }
            Err(error) => {
                ctx.health.failing(PART, error.to_string());
                failures += 1;
                backoff::exponential(LOOK_EVERY, Duration::from_secs(5), failures)
            }
        };
        if !ctx.pause(wait).await {
            break;
        }
    }
    // Looks in the middle of recording something end by themselves.
    let _ = tokio::time::timeout(DRAIN, async { while looks.join_next().await.is_some() {} }).await;
}

/// Gives finished looks back and begins new ones.
async fn turn(
    ctx: &Context,
    looks: &mut JoinSet<JobResult>,
    done: &mut Vec<JobResult>,
    in_flight: usize,
) -> Result<(), WorkerError> {
    let now = ctx.clock.now();
    JobKind::Heartbeat
        .give_back(&ctx.pool, ctx.owner.key(), done, now)
        .await?;
    done.clear();
    let free = in_flight.saturating_sub(looks.len());
    if free == 0 {
        return Ok(());
    }
    let jobs = JobKind::Heartbeat
        .claim(&ctx.pool, ctx.owner.key(), LEASE_SECONDS, now, free as i64)
        .await?;
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.account_id).collect();
    let mut accounts: HashMap<Uuid, AccountRow> = load_accounts(&ctx.pool, &ids).await?;
    for job in jobs {
        match accounts.remove(&job.account_id).filter(AccountRow::wants_heartbeat) {
            Some(account) => {
                let ctx = ctx.clone();
                looks.spawn(async move { look(&ctx, job, &account).await });
            }
            // Until an event brings it back.
            None => done.push(JobResult { job, due_at: None }),
        }
    }
    Ok(())
}

/// One look at one account.
async fn look(ctx: &Context, mut job: Job, account: &AccountRow) -> JobResult {
    let guid = account.guid.as_deref().unwrap_or_default();
    let started = Instant::now();
    let answer = ctx.gateway.get_client_status(guid).await;
    let took = started.elapsed();
    let alive = answer == Ok(ClientStatus::Online);
    metrics::counter!(metric::LOOKS, "alive" => if alive { "yes" } else { "no" }).increment(1);
    metrics::histogram!(metric::SECONDS).record(took.as_secs_f64());
    let (account_id, tenant_id) = (AccountId(account.account_id), TenantId(account.tenant_id));
    ctx.samples
        .add(account_id, tenant_id, ctx.clock.now(), alive, took.as_millis() as u64);
    job.failures = if answer.is_ok() {
        0
    } else {
        job.failures.saturating_add(1)
    };
    let verdict = verdict(account.status, &answer, job.failures.unsigned_abs(), ctx);
    if matches!(verdict, Some(AccountCommand::RestoreSession { .. })) && withdrawn(ctx, account).await {
        if let Err(error) = ctx.gateway.logout(guid).await {
            tracing::debug!(account.id = %account_id, %error, "a cancelled login was not signed out");
        }
    } else if let Some(command) = verdict {
        let mut options = ctx.options(ACTOR, tenant_id, &Cause::none());
        // What was seen is of the account as it was: a login or a logout meanwhile makes it worthless.
        options.if_match = IfMatch::Version(account.version);
        match ctx.execute::<Account>(&account_id.to_string(), command, &options).await {
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => tracing::debug!(account.id = %account_id, %refusal, "a heartbeat's verdict came late"),
            Err(error) => tracing::debug!(account.id = %account_id, %error, "a heartbeat's verdict was not recorded"),
        }
    }
    let interval = Duration::from_secs(ctx.config.heartbeat.interval_seconds);
    let due_at = ctx.clock.now() + backoff::delta(backoff::around(interval));
    JobResult {
        job,
        due_at: Some(due_at),
    }
}

/// Whether somebody scanned the code of a login that was cancelled meanwhile: WeCom cannot take a shown code back, so
/// its session is signed out instead of being adopted.
async fn withdrawn(ctx: &Context, account: &AccountRow) -> bool {
    if account.status != AccountStatus::Offline {
        return false;
    }
    let loaded = weft_log_reader::load::<Account>(&ctx.pool, &account.account_id.to_string()).await;
    loaded.is_ok_and(|loaded| loaded.state.reason.as_deref() == Some("login_cancelled") && !loaded.state.may_resume)
}

/// What the account has become by this answer, if anything. `failures`: looks without an answer in a row.
fn verdict(
    status: AccountStatus,
    answer: &Result<ClientStatus, CallError>,
    failures: u32,
    ctx: &Context,
) -> Option<AccountCommand> {
    let now = ctx.clock.now();
    let message = |text: &str| Some(text.to_owned());
    match judge(status, answer, failures, ctx.config.heartbeat.failures)? {
        Verdict::Alive => Some(AccountCommand::RestoreSession { now }),
        Verdict::Lost(cause) => Some(AccountCommand::LoseSession {
            cause,
            error_message: match answer {
                Ok(ClientStatus::Stopped) => message("the instance has stopped"),
                Ok(_) => message("nobody is logged in at the instance"),
                Err(error) => Some(error.to_string()),
            },
            now,
        }),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Alive,
    Lost(SessionLossCause),
}

fn judge(
    status: AccountStatus,
    answer: &Result<ClientStatus, CallError>,
    failures: u32,
    failures_lost: u32,
) -> Option<Verdict> {
    let shown_alive = matches!(status, AccountStatus::Online | AccountStatus::RateLimited);
    match answer {
        Ok(ClientStatus::Online) => (!shown_alive).then_some(Verdict::Alive),
        _ if !shown_alive => None,
        Ok(ClientStatus::NotLoggedIn) => Some(Verdict::Lost(SessionLossCause::Auth)),
        Ok(ClientStatus::Stopped) => Some(Verdict::Lost(SessionLossCause::Network)),
        Ok(ClientStatus::Other(_)) => None,
        Err(CallError::Rejected {
            class: RejectClass::InstanceGone | RejectClass::InstanceExpired,
            ..
        }) => Some(Verdict::Lost(SessionLossCause::Other)),
        Err(CallError::Rejected {
            class: RejectClass::SessionInvalid,
            ..
        }) => Some(Verdict::Lost(SessionLossCause::Auth)),
        Err(_) => (failures >= failures_lost).then_some(Verdict::Lost(SessionLossCause::Network)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence() -> Result<ClientStatus, CallError> {
        Err(CallError::Unknown { detail: String::new() })
    }

    #[test]
    fn an_account_that_is_alive_again_is_restored_and_one_that_always_was_is_left_alone() {
        for status in [
            AccountStatus::Error,
            AccountStatus::NetworkError,
            AccountStatus::AuthError,
            AccountStatus::Offline,
        ] {
            assert_eq!(judge(status, &Ok(ClientStatus::Online), 0, 3), Some(Verdict::Alive));
        }
        assert_eq!(judge(AccountStatus::Online, &Ok(ClientStatus::Online), 0, 3), None);
        assert_eq!(judge(AccountStatus::RateLimited, &Ok(ClientStatus::Online), 0, 3), None);
    }

    #[test]
    fn a_session_that_is_gone_is_lost_at_once_and_silence_only_the_third_time() {
        let online = AccountStatus::Online;
        let lost = |cause| Some(Verdict::Lost(cause));
        assert_eq!(
            judge(online, &Ok(ClientStatus::NotLoggedIn), 0, 3),
            lost(SessionLossCause::Auth)
        );
        assert_eq!(
            judge(online, &Ok(ClientStatus::Stopped), 0, 3),
            lost(SessionLossCause::Network)
        );
        assert_eq!(judge(online, &silence(), 2, 3), None);
        assert_eq!(judge(online, &silence(), 3, 3), lost(SessionLossCause::Network));
    }

    #[test]
    fn an_account_that_is_down_already_is_not_lost_again() {
        for answer in [Ok(ClientStatus::NotLoggedIn), Ok(ClientStatus::Stopped), silence()] {
            assert_eq!(judge(AccountStatus::NetworkError, &answer, 9, 3), None);
        }
    }
}
