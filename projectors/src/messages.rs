//! `messages`: one row per message, with its content in clear.
//!
//! What was accepted is written once; later events change the rest, without carrying the content around.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{FromRow, Postgres, Row};
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_domain::message::{MessageEvent, MessageStatus, MessageType, ResolvedOutcome};
use weft_platform::keys::{KeyStore, Opened, SealedParts};

use crate::engine::{Projection, Tables};
use crate::error::ProjectionError;
use crate::event::Event;
use crate::row::{bind_columns, column, log_order, word};
use crate::shape::{Shape, Versioned, fold_rows};
use crate::unopened::Unopened;

#[derive(Debug)]
pub struct Messages {
    keys: KeyStore,
    unopened: Unopened,
}

impl Messages {
    pub fn new(keys: KeyStore) -> Self {
        Self {
            keys,
            unopened: Unopened::new(),
        }
    }
}

/// Opened contents by message; missing where a key was destroyed.
type Contents = HashMap<Uuid, Value>;

impl Projection for Messages {
    type Prepared = Contents;

    const NAME: &'static str = "messages";
    const HEALTH: &'static str = "projection messages";
    const AGGREGATES: &'static [&'static str] = &["message"];
    const SHAPE: Shape = Shape::Row;
    const TABLES: Tables = Tables::Postgres(&["messages"]);
    /// Wide rows with many indexes: half the usual keeps transactions well under 200 ms.
    const MAX_BATCH: usize = 500;

    async fn prepare(&self, events: &[Arc<Event>]) -> Result<Contents, ProjectionError> {
        let (ids, sealed): (Vec<Uuid>, Vec<SealedParts>) =
            events.iter().filter_map(|event| sealed_content(event)).unzip();
        let opened = self.keys.open_all(&sealed).await?;
        let unopened = opened.iter().filter(|opened| matches!(opened, Opened::Sealed)).count();
        self.unopened.add(unopened as u64);
        Ok(ids
            .into_iter()
            .zip(opened)
            .filter_map(|(id, opened)| Some((id, readable(id, opened)?)))
            .collect())
    }

    async fn write(
        &self,
        connection: &mut PgConnection,
        events: &[Arc<Event>],
        contents: Contents,
    ) -> Result<(), ProjectionError> {
        let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
        let known = load(connection, &ids).await?;
        let (new, changed): (Vec<MessageRow>, Vec<MessageRow>) = fold(known, events, &contents)?
            .into_iter()
            .partition(|row| row.accepted.is_some());
        insert(connection, &new).await?;
        update(connection, &changed).await
    }
}

/// What `MessageAccepted` says once and for all.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedColumns {
    pub tenant_id: Uuid,
    pub account_id: Uuid,
    pub conversation_id: String,
    pub message_type: MessageType,
    pub content: Option<Json<Value>>,
    pub batch_id: Option<Uuid>,
    pub batch_index: Option<i32>,
    pub priority: i16,
    pub scheduled_time: Option<DateTime<Utc>>,
    pub callback_url: Option<String>,
    pub client_reference: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// A row of `messages`; `accepted` only while the row is not stored yet.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRow {
    pub id: Uuid,
    pub accepted: Option<AcceptedColumns>,
    pub status: MessageStatus,
    pub wework_msg_id: Option<String>,
    pub send_time: Option<DateTime<Utc>>,
    pub callback_time: Option<DateTime<Utc>>,
    pub read_time: Option<DateTime<Utc>>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub retry_count: i32,
    pub attempt: i32,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
    pub order: LogOrder,
}

impl Versioned for MessageRow {
    fn version(&self) -> i64 {
        self.version
    }
}

/// The rows that `events` change, from the rows as they are. Pure.
pub(crate) fn fold(
    known: HashMap<Uuid, MessageRow>,
    events: &[Arc<Event>],
    contents: &HashMap<Uuid, Value>,
) -> Result<Vec<MessageRow>, ProjectionError> {
    fold_rows(known, events, |row, event| match (row, event.message()) {
        (None, Some(body)) => create(event, body, contents).ok_or(ProjectionError::Unfounded { stream: event.id }),
        (Some(row), Some(body)) => Ok(apply(row, event, body)),
        (_, None) => Err(ProjectionError::Unfounded { stream: event.id }),
    })
}

fn create(event: &Event, body: &MessageEvent, contents: &HashMap<Uuid, Value>) -> Option<MessageRow> {
    let MessageEvent::MessageAccepted {
        account_id,
        tenant_id,
        conversation_id,
        message_type,
        content: _,
        priority,
        scheduled_time,
        batch_id,
        batch_index,
        callback_url,
        client_reference,
        at,
    } = body
    else {
        return None;
    };
    Some(MessageRow {
        id: event.id,
        accepted: Some(AcceptedColumns {
            tenant_id: tenant_id.0,
            account_id: account_id.0,
            conversation_id: conversation_id.as_str().to_owned(),
            message_type: *message_type,
            content: contents.get(&event.id).cloned().map(Json),
            batch_id: batch_id.map(|id| id.0),
            batch_index: batch_index.map(u32::cast_signed),
            priority: i16::from(*priority),
            scheduled_time: *scheduled_time,
            callback_url: callback_url.clone(),
            client_reference: client_reference.clone(),
            created_at: *at,
        }),
        status: body.status_after().unwrap_or(MessageStatus::Pending),
        wework_msg_id: None,
        send_time: None,
        callback_time: None,
        read_time: None,
        error_code: None,
        error_message: None,
        retry_count: 0,
        attempt: 0,
        updated_at: *at,
        version: event.sequence,
        order: event.order,
    })
}

fn apply(mut row: MessageRow, event: &Event, body: &MessageEvent) -> MessageRow {
    let at = body.at();
    if let Some(status) = body.status_after() {
        row.status = status;
    }
    if let Some((code, message)) = body.error_after() {
        row.error_code = code.map(str::to_owned);
        row.error_message = message.map(str::to_owned);
    }
    row.updated_at = at;
    row.version = event.sequence;
    row.order = event.order;
    match body {
        MessageEvent::AttemptStarted { attempt, .. } => row.attempt = attempt.cast_signed(),
        MessageEvent::MessageSent { receipt, .. } => {
            row.send_time = Some(at);
            row.wework_msg_id = Some(receipt.wework_msg_id.clone());
        }
        MessageEvent::MessageDelivered { .. } => row.callback_time = Some(at),
        MessageEvent::MessageRead { .. } => row.read_time = Some(at),
        MessageEvent::RetryScheduled { .. } => row.retry_count += 1,
        MessageEvent::OutcomeResolved { outcome, receipt, .. } => match outcome {
            ResolvedOutcome::Sent => {
                row.send_time = Some(at);
                row.wework_msg_id = receipt.as_ref().map(|receipt| receipt.wework_msg_id.clone());
            }
            ResolvedOutcome::Resend => row.retry_count += 1,
            ResolvedOutcome::Failed => {}
        },
        MessageEvent::MessageAccepted { .. }
        | MessageEvent::MessageFailed { .. }
        | MessageEvent::MessageCancelled { .. }
        | MessageEvent::OutcomeUnknown { .. } => {}
    }
    row
}

fn sealed_content(event: &Event) -> Option<(Uuid, SealedParts)> {
    let MessageEvent::MessageAccepted { content, .. } = event.message()? else {
        return None;
    };
    Some((
        event.id,
        SealedParts {
            subject: content.subject.clone(),
            key: content.key.clone(),
            nonce: content.nonce.clone(),
            ciphertext: content.ciphertext.clone(),
        },
    ))
}

fn readable(message: Uuid, opened: Opened<Vec<u8>>) -> Option<Value> {
    match opened {
        Opened::Open(json) => serde_json::from_slice(&json)
            .inspect_err(|error| tracing::warn!(%message, %error, "a message's content is no JSON"))
            .ok(),
        Opened::Erased | Opened::Sealed => None,
    }
}

/// The span of ids that a statement needs to look at: it leaves out all partitions of other months.
fn span(ids: impl Iterator<Item = Uuid> + Clone) -> (Option<Uuid>, Option<Uuid>) {
    (ids.clone().min(), ids.max())
}

async fn load(connection: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, MessageRow>, ProjectionError> {
    let (first, last) = span(ids.iter().copied());
    let rows: Vec<MessageRow> = sqlx::query_as(
        "select id, status, wework_msg_id, send_time, callback_time, read_time, error_code, error_message,
                retry_count, attempt, updated_at, version, epoch, transaction_id, position
         from messages where id = any($1) and id >= $2 and id <= $3",
    )
    .bind(ids)
    .bind(first)
    .bind(last)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

impl FromRow<'_, PgRow> for MessageRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            accepted: None,
            status: word(row, "status", MessageStatus::parse)?,
            wework_msg_id: row.try_get("wework_msg_id")?,
            send_time: row.try_get("send_time")?,
            callback_time: row.try_get("callback_time")?,
            read_time: row.try_get("read_time")?,
            error_code: row.try_get("error_code")?,
            error_message: row.try_get("error_message")?,
            retry_count: row.try_get("retry_count")?,
            attempt: row.try_get("attempt")?,
            updated_at: row.try_get("updated_at")?,
            version: row.try_get("version")?,
            order: log_order(row)?,
        })
    }
}

async fn insert(connection: &mut PgConnection, rows: &[MessageRow]) -> Result<(), ProjectionError> {
    let accepted: Vec<&AcceptedColumns> = rows.iter().filter_map(|row| row.accepted.as_ref()).collect();
    if accepted.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(
        "insert into messages (
           id, tenant_id, account_id, conversation_id, message_type, content, batch_id, batch_index, priority,
           scheduled_time, callback_url, client_reference, created_at, status, wework_msg_id, send_time, callback_time,
           read_time, error_code, error_message, retry_count, attempt, updated_at, version, epoch, transaction_id,
           position)
         select * from unnest(
           $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[], $7::uuid[], $8::integer[],
           $9::smallint[], $10::timestamptz[], $11::text[], $12::text[], $13::timestamptz[], $14::text[], $15::text[],
           $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::text[], $20::text[], $21::integer[],
           $22::integer[], $23::timestamptz[], $24::bigint[], $25::smallint[], $26::bigint[], $27::bigint[])",
    );
    let query = query.bind(column!(rows, id));
    let query = bind_columns!(query, accepted =>
        tenant_id, account_id, conversation_id, message_type.as_str(), content, batch_id, batch_index, priority,
        scheduled_time, callback_url, client_reference, created_at);
    bind_state(query, rows).execute(connection).await?;
    Ok(())
}

async fn update(connection: &mut PgConnection, rows: &[MessageRow]) -> Result<(), ProjectionError> {
    if rows.is_empty() {
        return Ok(());
    }
    let (first, last) = span(rows.iter().map(|row| row.id));
    let query = sqlx::query(
        "update messages m set
           status = c.status, wework_msg_id = c.wework_msg_id, send_time = c.send_time,
           callback_time = c.callback_time, read_time = c.read_time, error_code = c.error_code,
           error_message = c.error_message, retry_count = c.retry_count, attempt = c.attempt,
           updated_at = c.updated_at, version = c.version, epoch = c.epoch, transaction_id = c.transaction_id,
           position = c.position
         from unnest(
           $1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::text[],
           $8::text[], $9::integer[], $10::integer[], $11::timestamptz[], $12::bigint[], $13::smallint[],
           $14::bigint[], $15::bigint[])
           as c (id, status, wework_msg_id, send_time, callback_time, read_time, error_code, error_message,
                 retry_count, attempt, updated_at, version, epoch, transaction_id, position)
         where m.id = c.id and m.id >= $16 and m.id <= $17 and m.version < c.version",
    );
    let query = bind_state(query.bind(column!(rows, id)), rows);
    query.bind(first).bind(last).execute(connection).await?;
    Ok(())
}

/// What changes in a message's life, in the order of both statements.
fn bind_state<'q>(query: Query<'q, Postgres, PgArguments>, rows: &[MessageRow]) -> Query<'q, Postgres, PgArguments> {
    bind_columns!(query, rows =>
        status.as_str(), wework_msg_id, send_time, callback_time, read_time, error_code, error_message, retry_count,
        attempt, updated_at, version, order.epoch, order.transaction_id, order.position)
}
