//! Messages that have not ended: rows of `workers.messages`.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_domain::message::{Message, MessageEvent, MessageStatus};

use super::facts::Fact;

/// `error_code` of a retry because the instance's runtime was not ready.
pub(crate) const NOT_READY: &str = "wecom.1014";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageState {
    Pending,
    Sending,
    Unknown,
}

impl MessageState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Unknown => "unknown",
        }
    }

    fn parse(text: &str) -> Result<Self, sqlx::Error> {
        match text {
            "pending" => Ok(Self::Pending),
            "sending" => Ok(Self::Sending),
            "unknown" => Ok(Self::Unknown),
            other => Err(sqlx::Error::Decode(format!("message state {other}").into())),
        }
    }
}

/// A message in the queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QueuedMessage {
    pub(crate) message_id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) account_id: Uuid,
    pub(crate) conversation_id: String,
    pub(crate) priority: i16,
    pub(crate) due_at: DateTime<Utc>,
    pub(crate) accepted: LogOrder,
    pub(crate) correlation_id: String,
    pub(crate) traceparent: String,
    pub(crate) row: RowState,
}

/// The part of a queued message that changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowState {
    pub(crate) version: i64,
    pub(crate) state: MessageState,
    pub(crate) attempt: i32,
    pub(crate) retry_count: i32,
    pub(crate) not_before: Option<DateTime<Utc>>,
    pub(crate) not_ready_since: Option<DateTime<Utc>>,
    pub(crate) attempt_started_at: Option<DateTime<Utc>>,
    pub(crate) unknown_since: Option<DateTime<Utc>>,
    /// Of what was or may have been sent, where it has been worked out.
    pub(crate) content_digest: Option<Vec<u8>>,
}

impl RowState {
    /// The row of a message as its aggregate says; `None` when it has ended.
    pub(crate) fn of(message: &Message, version: i64, before: &Self) -> Option<Self> {
        let state = match message.status? {
            MessageStatus::Pending => MessageState::Pending,
            MessageStatus::Sending => MessageState::Sending,
            MessageStatus::Unknown => MessageState::Unknown,
            MessageStatus::Sent
            | MessageStatus::Delivered
            | MessageStatus::Failed
            | MessageStatus::Cancelled
            | MessageStatus::Revoked => return None,
        };
        let not_ready = state == MessageState::Pending && message.error_code.as_deref() == Some(NOT_READY);
        Some(Self {
            version,
            state,
            attempt: message.attempt.cast_signed(),
            retry_count: message.retry_count.cast_signed(),
            not_before: message.retry_at.filter(|_| state == MessageState::Pending),
            not_ready_since: not_ready
                .then(|| before.not_ready_since.or(message.updated_at))
                .flatten(),
            attempt_started_at: message.attempt_started_at,
            unknown_since: message.updated_at.filter(|_| state == MessageState::Unknown),
            content_digest: before.content_digest.clone(),
        })
    }

    fn apply(&mut self, event: &MessageEvent, sequence: i64) {
        match event {
            MessageEvent::AttemptStarted { attempt, at, .. } => {
                self.state = MessageState::Sending;
                self.attempt = attempt.cast_signed();
                self.attempt_started_at = Some(*at);
                self.not_before = None;
                self.unknown_since = None;
            }
            MessageEvent::RetryScheduled {
                retry_at,
                error_code,
                at,
                ..
            } => {
                self.state = MessageState::Pending;
                self.retry_count += 1;
                self.not_before = Some(*retry_at);
                self.not_ready_since = (error_code == NOT_READY).then(|| self.not_ready_since.unwrap_or(*at));
            }
            MessageEvent::OutcomeUnknown { at, .. } => {
                self.state = MessageState::Unknown;
                self.unknown_since = Some(*at);
            }
            // Of the resolutions, only a resend leaves a message in the queue.
            MessageEvent::OutcomeResolved { .. } => {
                self.state = MessageState::Pending;
                self.retry_count += 1;
                self.not_before = None;
                self.not_ready_since = None;
                self.unknown_since = None;
            }
            MessageEvent::MessageAccepted { .. }
            | MessageEvent::MessageSent { .. }
            | MessageEvent::MessageDelivered { .. }
            | MessageEvent::MessageRead { .. }
            | MessageEvent::MessageFailed { .. }
            | MessageEvent::MessageCancelled { .. } => {}
        }
        self.version = sequence;
    }
}

/// A message's row, and whether dispatch has it in hand.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Followed {
    pub(super) message: QueuedMessage,
    /// In some lane's `in_flight`: its owner, or whoever takes the lane over, writes down what the log says of it.
    pub(super) in_flight: bool,
}

/// What became of one message by the events of one batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// Written over an older row, or as a new one.
    Keep(Box<QueuedMessage>),
    Remove,
}

/// Follows a message through its events, oldest first, from its row if it has one. `None`: nothing new.
pub(super) fn follow(before: Option<&QueuedMessage>, facts: &[(&Fact, &MessageEvent)]) -> Option<Change> {
    let mut now: Option<QueuedMessage> = before.cloned();
    let mut ended = false;
    for (fact, event) in facts {
        if now.as_ref().is_some_and(|row| row.row.version >= fact.sequence) {
            continue;
        }
        if event.status_after().is_some_and(MessageStatus::has_ended) {
            ended = true;
            continue;
        }
        match (&mut now, event) {
            (Some(row), event) => row.row.apply(event, fact.sequence),
            (None, MessageEvent::MessageAccepted { .. }) => now = accepted(fact, event),
            // It has ended: its row is gone.
            (None, _) => {}
        }
    }
    if ended {
        return Some(Change::Remove);
    }
    now.filter(|row| before != Some(row))
        .map(|row| Change::Keep(Box::new(row)))
}

fn accepted(fact: &Fact, event: &MessageEvent) -> Option<QueuedMessage> {
    let MessageEvent::MessageAccepted {
        account_id,
        tenant_id,
        conversation_id,
        priority,
        scheduled_time,
        at,
        ..
    } = event
    else {
        return None;
    };
    Some(QueuedMessage {
        message_id: fact.aggregate_id,
        tenant_id: tenant_id.0,
        account_id: account_id.0,
        conversation_id: conversation_id.as_str().to_owned(),
        priority: i16::from(*priority),
        // A time in the past means now: it gives no place before what was accepted earlier.
        due_at: scheduled_time.map_or(*at, |time| time.max(*at)),
        accepted: fact.order,
        correlation_id: fact.correlation_id.clone(),
        traceparent: fact.traceparent.clone(),
        row: RowState {
            version: fact.sequence,
            state: MessageState::Pending,
            attempt: 0,
            retry_count: 0,
            not_before: None,
            not_ready_since: None,
            attempt_started_at: None,
            unknown_since: None,
            content_digest: None,
        },
    })
}

pub(super) const COLUMNS: &str = "message_id, tenant_id, account_id, conversation_id, priority, due_at, accepted_epoch, \
     accepted_transaction, accepted_position, correlation_id, traceparent, version, state, attempt, retry_count, \
     not_before, not_ready_since, attempt_started_at, unknown_since, content_digest";

pub(super) fn read(row: &PgRow) -> Result<QueuedMessage, sqlx::Error> {
    Ok(QueuedMessage {
        message_id: row.try_get("message_id")?,
        tenant_id: row.try_get("tenant_id")?,
        account_id: row.try_get("account_id")?,
        conversation_id: row.try_get("conversation_id")?,
        priority: row.try_get("priority")?,
        due_at: row.try_get("due_at")?,
        accepted: LogOrder {
            epoch: row.try_get("accepted_epoch")?,
            transaction_id: row.try_get("accepted_transaction")?,
            position: row.try_get("accepted_position")?,
        },
        correlation_id: row.try_get("correlation_id")?,
        traceparent: row.try_get("traceparent")?,
        row: RowState {
            version: row.try_get("version")?,
            state: MessageState::parse(row.try_get("state")?)?,
            attempt: row.try_get("attempt")?,
            retry_count: row.try_get("retry_count")?,
            not_before: row.try_get("not_before")?,
            not_ready_since: row.try_get("not_ready_since")?,
            attempt_started_at: row.try_get("attempt_started_at")?,
            unknown_since: row.try_get("unknown_since")?,
            content_digest: row.try_get("content_digest")?,
        },
    })
}

/// The rows of these messages that exist.
pub(super) async fn load(connection: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, Followed>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(&format!(
        "select {COLUMNS}, exists (
           select from workers.account_lanes lane
           where lane.account_id = m.account_id and m.message_id = any (lane.in_flight)) as in_flight
         from workers.messages m where message_id = any($1)"
    ))
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok((
                row.try_get("message_id")?,
                Followed {
                    message: read(row)?,
                    in_flight: row.try_get("in_flight")?,
                },
            ))
        })
        .collect()
}

/// The rows of these messages that exist.
pub(crate) async fn load_messages(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<QueuedMessage>, sqlx::Error> {
    let rows = sqlx::query(&format!(
        "select {COLUMNS} from workers.messages where message_id = any($1)"
    ))
    .bind(ids)
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

/// Writes rows over older ones.
pub(super) async fn save(connection: &mut PgConnection, rows: &[QueuedMessage]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    fn column<T>(rows: &[QueuedMessage], value: impl Fn(&QueuedMessage) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    sqlx::query(&format!(
        "insert into workers.messages as m ({COLUMNS})
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::smallint[], $6::timestamptz[],
           $7::smallint[], $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::bigint[], $13::text[],
           $14::integer[], $15::integer[], $16::timestamptz[], $17::timestamptz[], $18::timestamptz[],
           $19::timestamptz[], $20::bytea[])
         order by 1
         on conflict (message_id) do update set
           version = excluded.version, state = excluded.state, attempt = excluded.attempt,
           retry_count = excluded.retry_count, not_before = excluded.not_before,
           not_ready_since = excluded.not_ready_since, attempt_started_at = excluded.attempt_started_at,
           unknown_since = excluded.unknown_since,
           content_digest = coalesce(excluded.content_digest, m.content_digest)
         where m.version < excluded.version",
    ))
    .bind(column(rows, |m| m.message_id))
    .bind(column(rows, |m| m.tenant_id))
    .bind(column(rows, |m| m.account_id))
    .bind(column(rows, |m| m.conversation_id.clone()))
    .bind(column(rows, |m| m.priority))
    .bind(column(rows, |m| m.due_at))
    .bind(column(rows, |m| m.accepted.epoch))
    .bind(column(rows, |m| m.accepted.transaction_id))
    .bind(column(rows, |m| m.accepted.position))
    .bind(column(rows, |m| m.correlation_id.clone()))
    .bind(column(rows, |m| m.traceparent.clone()))
    .bind(column(rows, |m| m.row.version))
    .bind(column(rows, |m| m.row.state.as_str()))
    .bind(column(rows, |m| m.row.attempt))
    .bind(column(rows, |m| m.row.retry_count))
    .bind(column(rows, |m| m.row.not_before))
    .bind(column(rows, |m| m.row.not_ready_since))
    .bind(column(rows, |m| m.row.attempt_started_at))
    .bind(column(rows, |m| m.row.unknown_since))
    .bind(column(rows, |m| m.row.content_digest.clone()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes ended messages out.
pub(crate) async fn remove(connection: &mut PgConnection, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "delete from workers.messages where message_id in (
           select message_id from workers.messages where message_id = any($1) order by message_id for update)",
    )
    .bind(ids)
    .execute(connection)
    .await?;
    Ok(())
}
