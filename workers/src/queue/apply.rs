//! Events into rows: a batch at a time, a bounded number of statements whatever its size, in the caller's transaction.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;
use weft_domain::account::AccountEvent;
use weft_domain::message::{MessageEvent, ResolvedOutcome};

use super::accounts::AccountRow;
use super::facts::{Fact, Happened};
use super::messages::{Change, Followed, MessageState};
use super::receipts::Receipt;
use super::{accounts, jobs, messages, receipts};
use crate::error::WorkerError;

/// What a batch changed: whom to wake in this process.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Accounts whose own state changed.
    pub(crate) accounts: Vec<Uuid>,
    /// Accounts with a message that can move now, and the highest priority of those.
    pub(crate) ready: HashMap<Uuid, i16>,
    /// An unknown outcome came up or was settled elsewhere.
    pub(crate) unknown: bool,
}

impl Applied {
    fn add(&mut self, other: Self) {
        self.accounts.extend(other.accounts);
        for (account, priority) in other.ready {
            let highest = self.ready.entry(account).or_insert(priority);
            *highest = priority.max(*highest);
        }
        self.unknown |= other.unknown;
    }
}

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// As they happen: what dispatch has in hand is left to it, so that the two do not write the same rows.
    Feed,
    /// All of the log, while dispatch stands still.
    Rebuild,
}

/// Applies events, which are in order per stream. Harmless for those that were applied before.
pub(crate) async fn apply(
    connection: &mut PgConnection,
    facts: &[Fact],
    source: Source,
    now: DateTime<Utc>,
    heartbeat_at: impl Fn() -> DateTime<Utc>,
) -> Result<Applied, sqlx::Error> {
    let mut account_facts: BTreeMap<Uuid, Vec<(&Fact, &AccountEvent)>> = BTreeMap::new();
    let mut message_facts: BTreeMap<Uuid, Vec<(&Fact, &MessageEvent)>> = BTreeMap::new();
    for fact in facts {
        match &fact.happened {
            Happened::Account(event) => account_facts.entry(fact.aggregate_id).or_default().push((fact, event)),
            Happened::Message(event) => message_facts.entry(fact.aggregate_id).or_default().push((fact, event)),
        }
    }
    let mut applied = Applied::default();

    let account_ids: Vec<Uuid> = account_facts.keys().copied().collect();
    let mut known = accounts::load(connection, &account_ids).await?;
    let mut account_rows = Vec::new();
    for (id, facts) in &account_facts {
        let Some((first, _)) = facts.first() else { continue };
        let mut row = known
            .remove(id)
            .unwrap_or_else(|| AccountRow::new(*id, first.tenant_id));
        let before = row.version;
        for (fact, event) in facts.iter().filter(|(fact, _)| fact.sequence > before) {
            row.apply(event, fact.sequence);
            row.correlation_id.clone_from(&fact.correlation_id);
            row.traceparent.clone_from(&fact.traceparent);
        }
        if row.version > before {
            account_rows.push(row);
        }
    }

    let message_ids: Vec<Uuid> = message_facts.keys().copied().collect();
    let queued = messages::load(connection, &message_ids).await?;
    let (mut keep, mut remove, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    let mut wakes: BTreeMap<Uuid, (Uuid, DateTime<Utc>)> = BTreeMap::new();
    for (id, facts) in &message_facts {
        let row = queued.get(id);
        if source == Source::Feed && left_to_dispatch(row, facts) {
            continue;
        }
        let before = row.map(|row| &row.message);
        taken.extend(facts.iter().filter_map(|(fact, event)| receipt(fact, event)));
        let mut wake = |account: Uuid, tenant: Uuid, at: DateTime<Utc>| {
            let entry = wakes.entry(account).or_insert((tenant, at));
            entry.1 = entry.1.min(at);
        };
        match messages::follow(before, facts) {
            Some(Change::Keep(row)) => {
                if row.row.state == MessageState::Pending {
                    let at = row.row.not_before.unwrap_or(row.due_at).max(row.due_at);
                    wake(row.account_id, row.tenant_id, at);
                    if at <= now {
                        let priority = applied.ready.entry(row.account_id).or_insert(row.priority);
                        *priority = row.priority.max(*priority);
                    }
                }
                applied.unknown |= row.row.state == MessageState::Unknown;
                keep.push(*row);
            }
            Some(Change::Remove) => {
                // What was unknown held its conversation back.
                if let Some(before) = before.filter(|before| before.row.state != MessageState::Pending) {
                    wake(before.account_id, before.tenant_id, now);
                }
                remove.push(*id);
            }
            None => {}
        }
    }

    // Lanes first, then messages: the order in which a lane's owner locks them.
    accounts::save(connection, &account_rows, now).await?;
    let wakes: Vec<_> = wakes
        .into_iter()
        .map(|(account, (tenant, at))| (account, tenant, at))
        .collect();
    accounts::wake(connection, &wakes).await?;
    messages::save(connection, &keep).await?;
    messages::remove(connection, &remove).await?;
    receipts::save(connection, &taken).await?;
    jobs::follow_accounts(connection, &account_rows, now, heartbeat_at).await?;
    applied.accounts = account_rows.into_iter().map(|row| row.account_id).collect();
    Ok(applied)
}

/// Like [`apply`], after that failed because of something that no row can hold: what cannot be applied is found by halving
/// and left out, or nothing would be sent any more for anybody. Answers how many events these are too.
pub(crate) async fn apply_what_fits(
    connection: &mut PgConnection,
    facts: &[Fact],
    source: Source,
    now: DateTime<Utc>,
    heartbeat_at: impl Fn() -> DateTime<Utc>,
) -> Result<(Applied, u64), WorkerError> {
    let (mut applied, mut left_out) = (Applied::default(), 0);
    let mut parts = vec![facts];
    while let Some(part) = parts.pop() {
        let mut savepoint = connection.begin().await?;
        let error = match apply(&mut savepoint, part, source, now, &heartbeat_at).await {
            Ok(more) => {
                savepoint.commit().await?;
                applied.add(more);
                continue;
            }
            Err(error) => WorkerError::from(error),
        };
        savepoint.rollback().await?;
        match part {
            _ if !error.is_lasting() => return Err(error),
            [alone] => {
                left_out += 1;
                let id = format!("{}:{}", alone.aggregate_id, alone.sequence);
                tracing::error!(event.id = %id, %error, "the workers leave an event out");
            }
            part => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    Ok((applied, left_out))
}

/// Dispatch has the message in hand: it writes down itself what became of it, or whoever takes its lane over does. Only a
/// resolution comes from elsewhere.
fn left_to_dispatch(row: Option<&Followed>, facts: &[(&Fact, &MessageEvent)]) -> bool {
    row.is_some_and(|row| row.in_flight)
        && !facts
            .iter()
            .any(|(_, event)| matches!(event, MessageEvent::OutcomeResolved { .. }))
}

/// What a send's event says of how WeCom calls the message.
fn receipt(fact: &Fact, event: &MessageEvent) -> Option<Receipt> {
    let (MessageEvent::MessageSent {
        account_id,
        receipt,
        at,
        ..
    }
    | MessageEvent::OutcomeResolved {
        account_id,
        receipt: Some(receipt),
        outcome: ResolvedOutcome::Sent,
        at,
        ..
    }) = event
    else {
        return None;
    };
    Some(Receipt {
        message_id: fact.aggregate_id,
        tenant_id: fact.tenant_id,
        account_id: account_id.0,
        wework_msg_id: receipt.wework_msg_id.clone(),
        appinfo: receipt.appinfo.clone(),
        correlation_id: fact.correlation_id.clone(),
        sent_at: *at,
    })
}
