//! `accounts`: one row per account, as its newest event leaves it.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Json;
use sqlx::{FromRow, Row};
use uuid::Uuid;
use weft_domain::account::{AccountEvent, AccountStatus, GatewayKind};
use weft_domain::{FieldChange, LogOrder, Sealed};

use crate::engine::{Projection, Tables};
use crate::error::ProjectionError;
use crate::event::Event;
use crate::row::{bind_columns, column, log_order, word};
use crate::shape::{Shape, Versioned, fold_rows};

#[derive(Debug)]
pub struct Accounts;

impl Projection for Accounts {
    type Prepared = ();

    const NAME: &'static str = "accounts";
    const HEALTH: &'static str = "projection accounts";
    const AGGREGATES: &'static [&'static str] = &["account"];
    const SHAPE: Shape = Shape::Row;
    const TABLES: Tables = Tables::Postgres(&["accounts"]);

    async fn prepare(&self, _: &[Arc<Event>]) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn write(&self, connection: &mut PgConnection, events: &[Arc<Event>], (): ()) -> Result<(), ProjectionError> {
        let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
        let known = load(connection, &ids).await?;
        let rows = fold(known, events)?;
        store(connection, &rows).await
    }
}

/// A row of `accounts`. Sealed values stay sealed.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountRow {
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub user_id: Option<String>,
    pub account_name: String,
    pub phone: Option<Json<Value>>,
    pub email: Option<Json<Value>>,
    pub gateway: GatewayKind,
    pub guid: Option<String>,
    pub qr_code_url: Option<String>,
    pub qrcode_expires_at: Option<DateTime<Utc>>,
    pub login_token: Option<Uuid>,
    pub verification_attempts: i32,
    pub status: AccountStatus,
    pub reason: Option<String>,
    pub error_message: Option<String>,
    pub config: Json<Value>,
    pub user_info: Option<Json<Value>>,
    pub online_since: Option<DateTime<Utc>>,
    pub restricted_until: Option<DateTime<Utc>>,
    pub last_login_time: Option<DateTime<Utc>>,
    pub last_heartbeat_time: Option<DateTime<Utc>>,
    pub login_retry_count: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
    pub order: LogOrder,
}

impl Versioned for AccountRow {
    fn version(&self) -> i64 {
        self.version
    }
}

/// The rows that `events` change, from the rows as they are. Pure.
pub(crate) fn fold(
    known: HashMap<Uuid, AccountRow>,
    events: &[Arc<Event>],
) -> Result<Vec<AccountRow>, ProjectionError> {
    fold_rows(known, events, |row, event| match (row, event.account()) {
        (None, Some(body)) => create(event, body).ok_or(ProjectionError::Unfounded { stream: event.id }),
        (Some(row), Some(body)) => Ok(apply(row, event, body)),
        (_, None) => Err(ProjectionError::Unfounded { stream: event.id }),
    })
}

fn create(event: &Event, body: &AccountEvent) -> Option<AccountRow> {
    let AccountEvent::AccountCreated {
        tenant_id,
        account_name,
        phone,
        email,
        user_id,
        gateway,
        config,
        at,
    } = body
    else {
        return None;
    };
    Some(AccountRow {
        id: event.id,
        tenant_id: tenant_id.0,
        user_id: user_id.clone(),
        account_name: account_name.clone(),
        phone: phone.as_ref().and_then(sealed),
        email: email.as_ref().and_then(sealed),
        gateway: *gateway,
        guid: None,
        qr_code_url: None,
        qrcode_expires_at: None,
        login_token: None,
        verification_attempts: 0,
        status: body.status_after(None).unwrap_or(AccountStatus::Created),
        reason: None,
        error_message: None,
        config: Json(serde_json::to_value(config).unwrap_or_default()),
        user_info: None,
        online_since: None,
        restricted_until: None,
        last_login_time: None,
        last_heartbeat_time: None,
        login_retry_count: 0,
        created_at: *at,
        updated_at: *at,
        version: event.sequence,
        order: event.order,
    })
}

fn apply(mut row: AccountRow, event: &Event, body: &AccountEvent) -> AccountRow {
    let at = body.at();
    let after = body.status_after(Some(row.status));
    if body.replaces_reason(Some(row.status), row.reason.as_deref()) {
        row.reason = body.reason().map(str::to_owned);
        row.error_message = body.error_message().map(str::to_owned);
    }
    if let Some(after) = after {
        match after {
            // A restricted session still lives.
            AccountStatus::Online if row.status == AccountStatus::RateLimited => {}
            AccountStatus::RateLimited => {}
            AccountStatus::Online => row.online_since = Some(at),
            _ => row.online_since = None,
        }
        row.status = after;
    }
    row.updated_at = at;
    row.version = event.sequence;
    row.order = event.order;
    match body {
        AccountEvent::AccountUpdated {
            account_name,
            phone,
            email,
            user_id,
            config,
            ..
        } => {
            if let Some(name) = account_name {
                row.account_name.clone_from(name);
            }
            change_sealed(phone, &mut row.phone);
            change_sealed(email, &mut row.email);
            user_id.clone().apply_to(&mut row.user_id);
            if let Some(config) = config {
                row.config = Json(serde_json::to_value(config).unwrap_or_default());
            }
        }
        AccountEvent::InstanceCreated { guid, .. } => row.guid = Some(guid.clone()),
        AccountEvent::InstanceRemoved { .. } => row.guid = None,
        AccountEvent::LoginStarted { attempt, .. } => {
            row.login_retry_count += 1;
            row.login_token = Some(attempt.0);
            row.verification_attempts = 0;
        }
        AccountEvent::QrCodeIssued { expires_at, .. } => {
            row.qr_code_url = Some(format!("/api/v1/accounts/{}/qrcode.png", row.id));
            row.qrcode_expires_at = Some(*expires_at);
        }
        AccountEvent::VerificationFailed { failures, .. } => row.verification_attempts = i32::from(*failures),
        AccountEvent::LoginConfirmed { .. } => {
            row.login_retry_count = 0;
            row.last_login_time = Some(at);
            row.last_heartbeat_time = row.last_heartbeat_time.max(Some(at));
        }
        AccountEvent::SessionRestored { .. } => {
            row.login_retry_count = 0;
            row.last_heartbeat_time = row.last_heartbeat_time.max(Some(at));
        }
        AccountEvent::Recovered { .. } => row.last_heartbeat_time = row.last_heartbeat_time.max(Some(at)),
        AccountEvent::ProfileUpdated { user_info, .. } => row.user_info = sealed(user_info),
        AccountEvent::AccountRestricted { until, .. } => row.restricted_until = Some(*until),
        AccountEvent::AccountCreated { .. }
        | AccountEvent::InstanceFailed { .. }
        | AccountEvent::QrCodeScanned { .. }
        | AccountEvent::QrCodeExpired { .. }
        | AccountEvent::LoginRejected { .. }
        | AccountEvent::VerificationRequired { .. }
        | AccountEvent::VerificationCodeSubmitted { .. }
        | AccountEvent::LoginFailed { .. }
        | AccountEvent::LoginTimedOut { .. }
        | AccountEvent::LoginCancelled { .. }
        | AccountEvent::SessionLost { .. }
        | AccountEvent::RestrictionLifted { .. }
        | AccountEvent::SignedOutRemotely { .. }
        | AccountEvent::LoggedOut { .. }
        | AccountEvent::WentOffline { .. }
        | AccountEvent::RecoveryStarted { .. }
        | AccountEvent::RecoveryFailed { .. }
        | AccountEvent::AccountDisabled { .. }
        | AccountEvent::AccountEnabled { .. }
        | AccountEvent::AccountDeleted { .. } => {}
    }
    // What only holds in some statuses goes with them.
    if row.status != AccountStatus::RateLimited {
        row.restricted_until = None;
    }
    if row.status != AccountStatus::WaitingForQrcodeScan {
        row.qr_code_url = None;
        row.qrcode_expires_at = None;
    }
    if !row.status.is_login_running() {
        row.login_token = None;
    }
    row
}

fn sealed<T>(sealed: &Sealed<T>) -> Option<Json<Value>> {
    serde_json::to_value(sealed).ok().map(Json)
}

fn change_sealed<T>(change: &FieldChange<Sealed<T>>, field: &mut Option<Json<Value>>) {
    match change {
        FieldChange::Unchanged => {}
        FieldChange::Cleared => *field = None,
        FieldChange::Set(value) => *field = sealed(value),
    }
}

async fn load(connection: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, AccountRow>, ProjectionError> {
    let rows: Vec<AccountRow> = sqlx::query_as("select * from accounts where id = any($1)")
        .bind(ids)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

impl FromRow<'_, PgRow> for AccountRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            tenant_id: row.try_get("tenant_id")?,
            user_id: row.try_get("user_id")?,
            account_name: row.try_get("account_name")?,
            phone: row.try_get("phone")?,
            email: row.try_get("email")?,
            gateway: word(row, "gateway", |text| match text {
                "instance" => Some(GatewayKind::Instance),
                "official" => Some(GatewayKind::Official),
                _ => None,
            })?,
            guid: row.try_get("guid")?,
            qr_code_url: row.try_get("qr_code_url")?,
            qrcode_expires_at: row.try_get("qrcode_expires_at")?,
            login_token: row.try_get("login_token")?,
            verification_attempts: row.try_get("verification_attempts")?,
            status: word(row, "status", AccountStatus::parse)?,
            reason: row.try_get("reason")?,
            error_message: row.try_get("error_message")?,
            config: row.try_get("config")?,
            user_info: row.try_get("user_info")?,
            online_since: row.try_get("online_since")?,
            restricted_until: row.try_get("restricted_until")?,
            last_login_time: row.try_get("last_login_time")?,
            last_heartbeat_time: row.try_get("last_heartbeat_time")?,
            login_retry_count: row.try_get("login_retry_count")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            version: row.try_get("version")?,
            order: log_order(row)?,
        })
    }
}

async fn store(connection: &mut PgConnection, rows: &[AccountRow]) -> Result<(), ProjectionError> {
    let query = sqlx::query(
        "insert into accounts (
           id, tenant_id, user_id, account_name, phone, email, gateway, guid, qr_code_url, qrcode_expires_at,
           login_token, verification_attempts, status, reason, error_message, config, user_info, online_since,
           restricted_until, last_login_time, last_heartbeat_time, login_retry_count, created_at, updated_at, version,
           epoch, transaction_id, position)
         select * from unnest(
           $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[], $7::text[], $8::text[],
           $9::text[], $10::timestamptz[], $11::uuid[], $12::integer[], $13::text[], $14::text[], $15::text[],
           $16::jsonb[], $17::jsonb[], $18::timestamptz[], $19::timestamptz[], $20::timestamptz[], $21::timestamptz[],
           $22::integer[], $23::timestamptz[], $24::timestamptz[], $25::bigint[], $26::smallint[], $27::bigint[],
           $28::bigint[])
         on conflict (id) do update set
           user_id = excluded.user_id, account_name = excluded.account_name, phone = excluded.phone,
           email = excluded.email, guid = excluded.guid, qr_code_url = excluded.qr_code_url,
           qrcode_expires_at = excluded.qrcode_expires_at, login_token = excluded.login_token,
           verification_attempts = excluded.verification_attempts, status = excluded.status, reason = excluded.reason,
           error_message = excluded.error_message, config = excluded.config, user_info = excluded.user_info,
           online_since = excluded.online_since, restricted_until = excluded.restricted_until,
           last_login_time = excluded.last_login_time, last_heartbeat_time = excluded.last_heartbeat_time,
           login_retry_count = excluded.login_retry_count, updated_at = excluded.updated_at,
           version = excluded.version, epoch = excluded.epoch, transaction_id = excluded.transaction_id,
           position = excluded.position
         where accounts.version < excluded.version",
    );
    let query = bind_columns!(query, rows =>
        id, tenant_id, user_id, account_name, phone, email, gateway.as_str(), guid, qr_code_url, qrcode_expires_at,
        login_token, verification_attempts, status.as_str(), reason, error_message, config, user_info, online_since,
        restricted_until, last_login_time, last_heartbeat_time, login_retry_count, created_at, updated_at, version,
        order.epoch, order.transaction_id, order.position);
    query.execute(connection).await?;
    Ok(())
}
