//! Rows of `workers.callback_events`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{PgPool, Row};
use uuid::Uuid;
use weft_platform::keys::{Opened, SealedParts};
use weft_wecom::callbacks::{Callback, CallbackEvent};

use crate::context::Context;
use crate::error::WorkerError;

/// A callback that waits to be interpreted.
#[derive(Clone, Debug)]
pub(super) struct StoredCallback {
    pub(super) id: Uuid,
    pub(super) tenant_id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) attempt_id: Uuid,
    /// When it came in: stands in for a time that the callback does not tell.
    pub(super) received_time: DateTime<Utc>,
    retry_count: i32,
    raw_data: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// To be tried again.
    Received,
    Processed,
    Ignored,
    Failed,
}

impl Status {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Processed => "processed",
            Self::Ignored => "ignored",
            Self::Failed => "failed",
        }
    }
}

/// What became of a callback.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    id: Uuid,
    pub(super) status: Status,
    error_message: Option<String>,
    retry_count: i32,
    guid: Option<String>,
    notify_type: Option<i32>,
    event_type: Option<&'static str>,
    parsed_data: Option<Value>,
}

impl Outcome {
    fn new(row: &StoredCallback, callback: Option<&Callback>, status: Status) -> Self {
        Self {
            id: row.id,
            status,
            error_message: None,
            retry_count: row.retry_count,
            guid: callback
                .map(|callback| callback.guid.clone())
                .filter(|guid| !guid.is_empty()),
            notify_type: callback.and_then(|callback| i32::try_from(callback.notify_type).ok()),
            event_type: callback.map(|callback| event_type(&callback.event)),
            parsed_data: callback.map(|callback| parsed(&callback.event)),
        }
    }

    pub(super) fn processed(row: &StoredCallback, callback: &Callback) -> Self {
        Self::new(row, Some(callback), Status::Processed)
    }

    pub(super) fn ignored(row: StoredCallback, callback: Option<&Callback>, reason: impl Into<String>) -> Self {
        Self {
            error_message: Some(reason.into()),
            ..Self::new(&row, callback, Status::Ignored)
        }
    }

    /// Tried again: something that it needs does not answer.
    pub(super) fn again(row: &StoredCallback, callback: &Callback, error: &WorkerError) -> Self {
        Self {
            error_message: Some(error.to_string()),
            retry_count: row.retry_count.saturating_add(1),
            ..Self::new(row, Some(callback), Status::Received)
        }
    }

    /// Given up: trying again would fail again.
    pub(super) fn failed(row: &StoredCallback, callback: Option<&Callback>, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        tracing::error!(callback.id = %row.id, account.id = %row.account_id, reason, "a callback failed for good");
        Self {
            error_message: Some(reason),
            ..Self::new(row, callback, Status::Failed)
        }
    }

    /// Adds what was made of it.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Some(Value::Object(fields)) = &mut self.parsed_data {
            fields.insert(key.to_owned(), value.into());
        }
        self
    }
}

/// The oldest callbacks that wait, in ingress order.
pub(super) async fn received(pool: &PgPool, limit: i64) -> Result<Vec<StoredCallback>, sqlx::Error> {
    let rows = sqlx::query(
        "select id, tenant_id, account_id, attempt_id, received_time, retry_count, raw_data
         from workers.callback_events
         where status in ('received', 'processing') order by ingress limit $1",
    )
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(StoredCallback {
                id: row.try_get("id")?,
                tenant_id: row.try_get("tenant_id")?,
                account_id: row.try_get("account_id")?,
                attempt_id: row.try_get("attempt_id")?,
                received_time: row.try_get("received_time")?,
                retry_count: row.try_get("retry_count")?,
                raw_data: row.try_get("raw_data")?,
            })
        })
        .collect()
}

/// What became of a stored body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Open(Vec<u8>),
    /// Nobody can read it any more, and why.
    Lost(&'static str),
    /// Not by this process: another master key, or a key that the key database does not know.
    Closed,
}

/// Opens bodies. Fails where none can be opened for want of a key: that is the configuration's fault, not theirs.
pub(super) async fn open(ctx: &Context, rows: &[StoredCallback]) -> Result<Vec<Body>, WorkerError> {
    let parts: Vec<Option<SealedParts>> = rows
        .iter()
        .map(|row| serde_json::from_value(row.raw_data.clone()).ok())
        .collect();
    let sealed: Vec<SealedParts> = parts.iter().flatten().cloned().collect();
    let mut opened = ctx.executor.keys().open_all(&sealed).await?.into_iter();
    let mut bodies = Vec::with_capacity(rows.len());
    for part in parts {
        if part.is_none() {
            bodies.push(Body::Lost("not_sealed"));
            continue;
        }
        bodies.push(match opened.next() {
            Some(Opened::Open(body)) => Body::Open(body),
            Some(Opened::Erased) | None => Body::Lost("erased"),
            Some(Opened::Sealed) => Body::Closed,
        });
    }
    let is_any = |body: fn(&Body) -> bool| bodies.iter().any(body);
    if is_any(|body| *body == Body::Closed) && !is_any(|body| matches!(body, Body::Open(_))) {
        return Err(WorkerError::Protocol(
            "callbacks cannot be opened: check keys.master_key".to_owned(),
        ));
    }
    Ok(bodies)
}

/// Writes down what became of them. What no column can hold is left out, so that it stops no other callback.
pub(super) async fn store(pool: &PgPool, outcomes: &[Outcome], now: DateTime<Utc>) -> Result<(), WorkerError> {
    match write(pool, outcomes, now).await.map_err(WorkerError::from) {
        Err(error) if error.is_lasting() => {}
        stored => return stored,
    }
    for outcome in outcomes {
        let alone = std::slice::from_ref(outcome);
        let Err(error) = write(pool, alone, now).await.map_err(WorkerError::from) else {
            continue;
        };
        if !error.is_lasting() {
            return Err(error);
        }
        tracing::error!(callback.id = %outcome.id, %error, "what became of a callback cannot be stored");
        let bare = Outcome {
            status: Status::Failed,
            error_message: Some(format!("{}, which cannot be stored", outcome.status.as_str())),
            guid: None,
            parsed_data: None,
            ..outcome.clone()
        };
        write(pool, &[bare], now).await?;
    }
    Ok(())
}

async fn write(pool: &PgPool, outcomes: &[Outcome], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    fn column<T>(rows: &[Outcome], value: impl Fn(&Outcome) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    sqlx::query(
        "with locked as (select id from workers.callback_events where id = any($1) order by id for update)
         update workers.callback_events c
         set status = v.status, error_message = v.error_message, retry_count = v.retry_count, process_time = $9,
             guid = coalesce(c.guid, v.guid), notify_type = coalesce(c.notify_type, v.notify_type),
             event_type = coalesce(c.event_type, v.event_type), parsed_data = coalesce(v.parsed_data, c.parsed_data)
         from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::integer[], $7::text[],
                     $8::jsonb[])
           as v (id, status, error_message, retry_count, guid, notify_type, event_type, parsed_data)
           join locked using (id)
         where c.id = v.id",
    )
    .bind(column(outcomes, |o| o.id))
    .bind(column(outcomes, |o| o.status.as_str()))
    .bind(column(outcomes, |o| o.error_message.clone()))
    .bind(column(outcomes, |o| o.retry_count))
    .bind(column(outcomes, |o| o.guid.clone()))
    .bind(column(outcomes, |o| o.notify_type))
    .bind(column(outcomes, |o| o.event_type))
    .bind(column(outcomes, |o| o.parsed_data.clone()))
    .bind(now)
    .execute(pool)
    .await?;
    Ok(())
}

/// The callback's name, as the table shows it.
pub(super) const fn event_type(event: &CallbackEvent) -> &'static str {
    match event {
        CallbackEvent::InstanceReady => "instance_ready",
        CallbackEvent::QrStatus(_) => "qr_status",
        CallbackEvent::Login(_) => "login",
        CallbackEvent::Logout(_) => "logout",
        CallbackEvent::InitFinished => "init_finished",
        CallbackEvent::HeartbeatError(_) => "heartbeat_error",
        CallbackEvent::SessionTimeout(_) => "session_timeout",
        CallbackEvent::LoginFailed(_) => "login_failed",
        CallbackEvent::ContactsSynced => "contacts_synced",
        CallbackEvent::Message(_) => "message",
        CallbackEvent::OtherDevice(_) => "other_device",
        CallbackEvent::SafeVerify => "safe_verify",
        CallbackEvent::MessageSync(_) => "message_sync",
        CallbackEvent::Unknown => "unknown",
    }
}

/// What it was understood as, without anything personal: no names, no contents.
fn parsed(event: &CallbackEvent) -> Value {
    let error = |report: &weft_wecom::callbacks::ErrorReport| json!({ "error_code": report.error_code });
    match event {
        CallbackEvent::QrStatus(report) => json!({ "qr_status": format!("{:?}", report.status).to_lowercase() }),
        CallbackEvent::Logout(report)
        | CallbackEvent::HeartbeatError(report)
        | CallbackEvent::SessionTimeout(report)
        | CallbackEvent::LoginFailed(report)
        | CallbackEvent::OtherDevice(report) => error(report),
        CallbackEvent::Message(message) => json!({ "msg_type": message.msg_type.number(), "msg_id": message.id }),
        CallbackEvent::MessageSync(sync) => {
            json!({ "messages": sync.messages.len(), "unreadable": sync.unreadable })
        }
        CallbackEvent::InstanceReady
        | CallbackEvent::Login(_)
        | CallbackEvent::InitFinished
        | CallbackEvent::ContactsSynced
        | CallbackEvent::SafeVerify
        | CallbackEvent::Unknown => json!({}),
    }
}
