//! Interprets stored callbacks into commands: in the order in which each account's came in, in batches.
//!
//! A callback is processed, ignored with its reason, or failed with its reason where interpreting it would fail whenever
//! it is tried: no callback stops another's. Only outages are waited out. What a callback says may come twice, late or
//! out of order: commands are idempotent, they carry the login attempt, and messages are known by the protocol's ids.

mod account;
mod deliver;
mod incoming;
mod messages;
mod purge;
mod reads;
mod rows;
mod settle;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use uuid::Uuid;
use weft_domain::LoginAttemptId;
use weft_domain::account::{Account, AccountStatus};
use weft_log_reader::{load, load_many};
use weft_wecom::callbacks::{Callback, CallbackEvent};

pub(crate) use self::purge::PART as PURGE_PART;
pub(crate) use self::purge::run as purge;
use self::rows::{Body, Outcome, StoredCallback};
use crate::backoff;
use crate::context::{Actor, Context};
use crate::error::WorkerError;

pub(crate) const PART: &str = "worker callbacks";
const ACTOR: Actor = Actor::system("callbacks");
const BATCH: i64 = 500;
/// How long a batch waits for more: what it costs hardly depends on its size.
const LINGER: Duration = Duration::from_millis(10);
/// Longest time between two looks for callbacks that nobody told of: another process took them in.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest time between two looks at parked own-send callbacks.
const SETTLE_EVERY: Duration = Duration::from_millis(500);
/// Accounts interpreted at once.
const ACCOUNTS_AT_ONCE: usize = 8;

mod metric {
    pub(super) const CALLBACKS: &str = "weft_callbacks_total";
}

/// A callback understood, of an account that it is for.
struct Understood {
    row: StoredCallback,
    callback: Callback,
}

impl Understood {
    fn failed(&self, error: &WorkerError) -> Outcome {
        Outcome::failed(&self.row, Some(&self.callback), error.to_string())
    }
}

/// Interprets until something fails; the leader's loop starts it again.
pub(crate) async fn run(ctx: &Context) -> Result<(), WorkerError> {
    let mut settled = tokio::time::Instant::now();
    while !ctx.stop.is_cancelled() {
        let taken = batch(ctx).await?;
        ctx.health.ready(PART);
        if settled.elapsed() >= SETTLE_EVERY {
            sweep(ctx).await?;
            settled = tokio::time::Instant::now();
        }
        if taken == BATCH as usize {
            continue;
        }
        tokio::select! {
            () = ctx.wake.callbacks.notified() => tokio::time::sleep(LINGER).await,
            () = ctx.signals.settle.notified() => {
                sweep(ctx).await?;
                settled = tokio::time::Instant::now();
            }
            () = ctx.stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    Ok(())
}

/// Whatever was parked and fits something by now.
async fn sweep(ctx: &Context) -> Result<(), WorkerError> {
    settle::sweep(ctx, None).await?;
    reads::sweep(ctx).await
}

/// Takes what has come in; answers how many callbacks.
async fn batch(ctx: &Context) -> Result<usize, WorkerError> {
    let stored = rows::received(&ctx.pool, BATCH).await?;
    if stored.is_empty() {
        return Ok(0);
    }
    let taken = stored.len();
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(taken);
    let understood = understand(ctx, stored, &mut outcomes).await?;
    let mut accounts: BTreeMap<Uuid, Vec<Understood>> = BTreeMap::new();
    let mut messages = Vec::new();
    for callback in understood {
        match callback.callback.event {
            CallbackEvent::Message(_) | CallbackEvent::MessageSync(_) => messages.push(callback),
            _ => accounts.entry(callback.row.account_id).or_default().push(callback),
        }
    }
    let interpreted: Vec<Vec<Outcome>> = futures::stream::iter(accounts.into_values())
        .map(|callbacks| account::interpret(ctx, callbacks))
        .buffer_unordered(ACCOUNTS_AT_ONCE)
        .collect()
        .await;
    outcomes.extend(interpreted.into_iter().flatten());
    outcomes.extend(messages::interpret(ctx, &messages).await?);
    for outcome in &outcomes {
        metrics::counter!(metric::CALLBACKS, "status" => outcome.status.as_str()).increment(1);
    }
    rows::store(&ctx.pool, &outcomes, ctx.clock.now()).await?;
    if outcomes.iter().any(|outcome| outcome.status == rows::Status::Received) {
        // Something has to be tried again: not at once.
        tokio::time::sleep(backoff::around(LOOK_EVERY)).await;
    }
    Ok(taken)
}

/// Opens and reads callbacks, and sorts out those that are not for the account as it is now.
async fn understand(
    ctx: &Context,
    stored: Vec<StoredCallback>,
    outcomes: &mut Vec<Outcome>,
) -> Result<Vec<Understood>, WorkerError> {
    let ids: HashSet<Uuid> = stored.iter().map(|row| row.account_id).collect();
    let accounts = accounts(ctx, ids.into_iter().collect()).await?;
    let bodies = rows::open(ctx, &stored).await?;
    let mut understood = Vec::with_capacity(stored.len());
    for (row, body) in stored.into_iter().zip(bodies) {
        let callback = match body {
            Body::Open(body) => Callback::parse(&body).map_err(|error| error.to_string()),
            Body::Lost(reason) => Err(reason.to_owned()),
            Body::Closed => {
                let reason = "its key is not known here, while others' are";
                outcomes.push(Outcome::failed(&row, None, reason));
                continue;
            }
        };
        let callback = match callback {
            Ok(callback) => callback,
            Err(reason) => {
                outcomes.push(Outcome::ignored(row, None, reason));
                continue;
            }
        };
        let account = match accounts.get(&row.account_id) {
            Some(Err(reason)) => {
                outcomes.push(Outcome::failed(&row, Some(&callback), reason));
                continue;
            }
            account => account.and_then(|account| account.as_ref().ok()),
        };
        match ignore_reason(account, &row, &callback) {
            Some(reason) => outcomes.push(Outcome::ignored(row, Some(&callback), reason)),
            None => understood.push(Understood { row, callback }),
        }
    }
    Ok(understood)
}

/// Accounts by id; of one that can never be loaded, why.
async fn accounts(ctx: &Context, ids: Vec<Uuid>) -> Result<HashMap<Uuid, Result<Account, String>>, WorkerError> {
    let names: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    let loaded = load_many::<Account>(&ctx.pool, &names).await.map_err(WorkerError::from);
    let states: Vec<Result<Account, String>> = match loaded {
        Ok(loaded) => loaded.into_iter().map(|loaded| Ok(loaded.state)).collect(),
        Err(error) if error.is_lasting() => {
            let mut states = Vec::with_capacity(names.len());
            for name in &names {
                states.push(
                    match load::<Account>(&ctx.pool, name).await.map_err(WorkerError::from) {
                        Ok(loaded) => Ok(loaded.state),
                        Err(error) if error.is_lasting() => Err(error.to_string()),
                        Err(error) => return Err(error),
                    },
                );
            }
            states
        }
        Err(error) => return Err(error),
    };
    Ok(ids.into_iter().zip(states).collect())
}

/// Why a callback is not for the account, if it is not.
fn ignore_reason(account: Option<&Account>, row: &StoredCallback, callback: &Callback) -> Option<&'static str> {
    let Some(account) = account.filter(|account| account.status.is_some()) else {
        return Some("account_not_found");
    };
    if account.status == Some(AccountStatus::Deleted) {
        return Some("account_deleted");
    }
    let attempt = account.login.as_ref().map(|login| login.attempt);
    if attempt != Some(LoginAttemptId(row.attempt_id)) {
        return Some("attempt_over");
    }
    if !callback.guid.is_empty() && account.guid.as_deref() != Some(callback.guid.as_str()) {
        return Some("guid_mismatch");
    }
    match &callback.event {
        CallbackEvent::Unknown => Some("unknown_type"),
        CallbackEvent::MessageSync(sync) if sync.messages.is_empty() && sync.unreadable > 0 => Some("unreadable"),
        _ => None,
    }
}
