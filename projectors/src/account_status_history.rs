//! `account_status_history`: one row per event that changed an account's status.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;
use weft_domain::account::{AccountEvent, AccountStatus};

use crate::engine::{Projection, Tables};
use crate::error::ProjectionError;
use crate::event::Event;
use crate::row::column;
use crate::shape::Shape;

#[derive(Debug)]
pub struct AccountStatusHistory;

impl Projection for AccountStatusHistory {
    type Prepared = ();

    const NAME: &'static str = "account_status_history";
    const HEALTH: &'static str = "projection account_status_history";
    const AGGREGATES: &'static [&'static str] = &["account"];
    const SHAPE: Shape = Shape::Log;
    const TABLES: Tables = Tables::Postgres(&["account_status_history"]);

    async fn prepare(&self, _: &[Arc<Event>]) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn write(&self, connection: &mut PgConnection, events: &[Arc<Event>], (): ()) -> Result<(), ProjectionError> {
        let before = statuses_before(connection, events).await?;
        let rows = rows(before, events);
        store(connection, &rows).await
    }
}

/// A row of `account_status_history`.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusChange {
    pub account_id: Uuid,
    pub sequence: i64,
    pub tenant_id: Uuid,
    pub old_status: Option<AccountStatus>,
    pub new_status: AccountStatus,
    pub reason: Option<String>,
    pub error_message: Option<String>,
    pub extra_data: Json<Value>,
    pub operator_id: Option<String>,
    pub operator_type: String,
    pub created_at: DateTime<Utc>,
}

/// The changes among `events`, where `statuses` has each account's status before its first event here. Pure.
pub(crate) fn rows(mut statuses: HashMap<Uuid, AccountStatus>, events: &[Arc<Event>]) -> Vec<StatusChange> {
    let mut rows = Vec::new();
    for event in events {
        let Some(body) = event.account() else { continue };
        let old_status = statuses.get(&event.id).copied();
        let Some(new_status) = body.status_after(old_status) else {
            continue;
        };
        statuses.insert(event.id, new_status);
        rows.push(StatusChange {
            account_id: event.id,
            sequence: event.sequence,
            tenant_id: event.tenant_id,
            old_status,
            new_status,
            reason: body.reason().map(str::to_owned),
            error_message: body.error_message().map(str::to_owned),
            extra_data: Json(extra_data(body)),
            operator_id: Some(event.actor.clone()).filter(|actor| !actor.is_empty()),
            operator_type: event.actor_type.clone(),
            created_at: body.at(),
        });
    }
    rows
}

/// The event's name, and what it tells beside reason and error.
fn extra_data(event: &AccountEvent) -> Value {
    let name = event.name();
    match event {
        AccountEvent::LoginStarted {
            attempt, restore_first, ..
        } => {
            json!({"event": name, "login_token": attempt, "restore_first": restore_first})
        }
        AccountEvent::QrCodeIssued {
            attempt,
            refresh,
            expires_at,
            ..
        } => {
            json!({"event": name, "login_token": attempt, "refresh": refresh, "expires_at": expires_at})
        }
        AccountEvent::QrCodeScanned { attempt, .. }
        | AccountEvent::QrCodeExpired { attempt, .. }
        | AccountEvent::LoginRejected { attempt, .. }
        | AccountEvent::VerificationRequired { attempt, .. }
        | AccountEvent::LoginConfirmed { attempt, .. }
        | AccountEvent::LoginFailed { attempt, .. }
        | AccountEvent::LoginTimedOut { attempt, .. }
        | AccountEvent::LoginCancelled { attempt, .. } => json!({"event": name, "login_token": attempt}),
        AccountEvent::VerificationFailed { attempt, failures, .. } => {
            json!({"event": name, "login_token": attempt, "verification_attempts": failures})
        }
        AccountEvent::AccountRestricted { until, cooldown, .. } => {
            json!({"event": name, "until": until, "cooldown": cooldown})
        }
        AccountEvent::RecoveryStarted { strategy, attempt, .. } => {
            json!({"event": name, "strategy": strategy, "attempt": attempt})
        }
        AccountEvent::RecoveryFailed { attempts_left, .. } => json!({"event": name, "attempts_left": attempts_left}),
        _ => json!({"event": name}),
    }
}

/// Each account's status before its first event in the batch, as this table has it.
async fn statuses_before(
    connection: &mut PgConnection,
    events: &[Arc<Event>],
) -> Result<HashMap<Uuid, AccountStatus>, ProjectionError> {
    let mut first: HashMap<Uuid, i64> = HashMap::new();
    for event in events {
        first.entry(event.id).or_insert(event.sequence);
    }
    let (accounts, sequences): (Vec<Uuid>, Vec<i64>) = first.into_iter().unzip();
    let found: Vec<(Uuid, String)> = sqlx::query_as(
        "select wanted.account_id, before.new_status
         from unnest($1::uuid[], $2::bigint[]) as wanted (account_id, sequence)
         cross join lateral (
           select new_status from account_status_history history
           where history.account_id = wanted.account_id and history.sequence < wanted.sequence
           order by history.sequence desc limit 1) before",
    )
    .bind(accounts)
    .bind(sequences)
    .fetch_all(connection)
    .await?;
    Ok(found
        .into_iter()
        .filter_map(|(id, status)| Some((id, AccountStatus::parse(&status)?)))
        .collect())
}

async fn store(connection: &mut PgConnection, rows: &[StatusChange]) -> Result<(), ProjectionError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into account_status_history (
           account_id, sequence, tenant_id, old_status, new_status, reason, error_message, extra_data, operator_id,
           operator_type, created_at)
         select * from unnest(
           $1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
           $9::text[], $10::text[], $11::timestamptz[])
         on conflict (account_id, sequence) do nothing",
    )
    .bind(column!(rows, account_id))
    .bind(column!(rows, sequence))
    .bind(column!(rows, tenant_id))
    .bind(column!(rows, old_status.map(AccountStatus::as_str)))
    .bind(column!(rows, new_status.as_str()))
    .bind(column!(rows, reason))
    .bind(column!(rows, error_message))
    .bind(column!(rows, extra_data))
    .bind(column!(rows, operator_id))
    .bind(column!(rows, operator_type))
    .bind(column!(rows, created_at))
    .execute(connection)
    .await?;
    Ok(())
}
