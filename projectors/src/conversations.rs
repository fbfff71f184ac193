//! `conversations`: one row per conversation of an account, from its own stream and from the account's messages.
//!
//! The two topics come in no order between them. What the conversation's own stream says (name, pin, tags, unread
//! count) is guarded by that stream's version, and exact because a stream's own order is. What messages say is a
//! minimum or a maximum: when it began, when it last changed, which message is the newest.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Json;
use sqlx::{FromRow, Row};
use uuid::Uuid;
use weft_domain::conversation::ConversationEvent;
use weft_domain::message::{MessageEvent, ResolvedOutcome};
use weft_domain::{AccountId, ConversationId, Sealed, WecomConversationId, WecomConversationKind};

use crate::engine::{Projection, Tables};
use crate::error::ProjectionError;
use crate::event::Event;
use crate::row::{column, word};
use crate::shape::{Shape, Step, step};

#[derive(Debug)]
pub struct Conversations;

impl Projection for Conversations {
    type Prepared = ();

    const NAME: &'static str = "conversations";
    const HEALTH: &'static str = "projection conversations";
    const AGGREGATES: &'static [&'static str] = &["conversation", "message"];
    const SHAPE: Shape = Shape::Fold;
    const TABLES: Tables = Tables::Postgres(&["conversations"]);

    async fn prepare(&self, _: &[Arc<Event>]) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn write(&self, connection: &mut PgConnection, events: &[Arc<Event>], (): ()) -> Result<(), ProjectionError> {
        let known = load(connection, &self.rows_of(events)).await?;
        let rows = fold(known, events)?;
        store(connection, &rows).await
    }

    fn rows_of(&self, events: &[Arc<Event>]) -> Vec<Uuid> {
        let mut rows: Vec<Uuid> = events
            .iter()
            .filter_map(|event| subject(event))
            .map(|subject| subject.id())
            .collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}

/// The newest message of a conversation; the greater of two by time, then key.
#[derive(Clone, Debug, PartialEq)]
pub struct NewestMessage {
    pub time: DateTime<Utc>,
    /// WeCom's id of an incoming message, ours of an outgoing one.
    pub key: String,
    /// Of an incoming one; sealed.
    pub content: Option<Json<Value>>,
    /// Of an outgoing one.
    pub message_id: Option<Uuid>,
}

/// A row of `conversations`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationRow {
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub account_id: Uuid,
    pub conversation_id: String,
    pub conversation_type: WecomConversationKind,
    pub conversation_name: Option<Json<Value>>,
    pub newest: Option<NewestMessage>,
    pub received_count: i64,
    pub read_count: i64,
    pub is_pinned: bool,
    pub tags: Json<Vec<String>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Of the conversation's own stream.
    pub version: i64,
}

impl ConversationRow {
    fn new(subject: &Subject<'_>, tenant_id: Uuid) -> Self {
        Self {
            id: subject.id(),
            tenant_id,
            account_id: subject.account_id.0,
            conversation_id: subject.conversation_id.as_str().to_owned(),
            conversation_type: subject.conversation_id.kind(),
            conversation_name: None,
            newest: None,
            received_count: 0,
            read_count: 0,
            is_pinned: false,
            tags: Json(Vec::new()),
            created_at: subject.at,
            updated_at: subject.at,
            version: 0,
        }
    }

    fn touch(&mut self, at: DateTime<Utc>) {
        self.created_at = self.created_at.min(at);
        self.updated_at = self.updated_at.max(at);
    }

    fn offer(&mut self, message: NewestMessage) {
        let newer = self
            .newest
            .as_ref()
            .is_none_or(|newest| (newest.time, &newest.key) < (message.time, &message.key));
        if newer {
            self.newest = Some(message);
        }
    }
}

/// The conversation that an event is about.
struct Subject<'e> {
    account_id: AccountId,
    conversation_id: &'e WecomConversationId,
    at: DateTime<Utc>,
}

impl Subject<'_> {
    fn id(&self) -> Uuid {
        ConversationId::of(self.account_id, self.conversation_id).0
    }
}

fn subject(event: &Event) -> Option<Subject<'_>> {
    if let Some(body) = event.conversation() {
        let (account_id, conversation_id) = body.conversation();
        return Some(Subject {
            account_id,
            conversation_id,
            at: body.at(),
        });
    }
    match event.message()? {
        MessageEvent::MessageAccepted {
            account_id,
            conversation_id,
            at,
            ..
        }
        | MessageEvent::MessageSent {
            account_id,
            conversation_id,
            at,
            ..
        }
        | MessageEvent::OutcomeResolved {
            account_id,
            conversation_id,
            outcome: ResolvedOutcome::Sent,
            at,
            ..
        } => Some(Subject {
            account_id: *account_id,
            conversation_id,
            at: *at,
        }),
        _ => None,
    }
}

/// The rows that `events` change, from the rows as they are. Pure.
pub(crate) fn fold(
    known: HashMap<Uuid, ConversationRow>,
    events: &[Arc<Event>],
) -> Result<Vec<ConversationRow>, ProjectionError> {
    let mut rows: BTreeMap<Uuid, (ConversationRow, bool)> =
        known.into_iter().map(|(id, row)| (id, (row, false))).collect();
    for event in events {
        let Some(subject) = subject(event) else { continue };
        let (row, changed) = rows
            .entry(subject.id())
            .or_insert_with(|| (ConversationRow::new(&subject, event.tenant_id), true));
        let before = (!*changed).then(|| row.clone());
        match (event.conversation(), event.message()) {
            (Some(body), _) => {
                if step(row.version, event)? == Step::Apply {
                    apply_own(row, event, body);
                }
            }
            (None, Some(body)) => apply_message(row, event, body),
            (None, None) => {}
        }
        *changed = before.is_none_or(|before| before != *row);
    }
    Ok(rows
        .into_values()
        .filter_map(|(row, changed)| changed.then_some(row))
        .collect())
}

fn apply_own(row: &mut ConversationRow, event: &Event, body: &ConversationEvent) {
    row.touch(body.at());
    row.version = event.sequence;
    match body {
        ConversationEvent::ConversationOpened { .. } => {}
        ConversationEvent::MessageReceived {
            wework_msg_id,
            content,
            sent_at,
            ..
        } => {
            row.received_count += 1;
            row.offer(NewestMessage {
                time: *sent_at,
                key: wework_msg_id.clone(),
                content: sealed(content),
                message_id: None,
            });
        }
        ConversationEvent::ConversationRenamed { name, .. } => row.conversation_name = sealed(name),
        ConversationEvent::ConversationPinned { .. } => row.is_pinned = true,
        ConversationEvent::ConversationUnpinned { .. } => row.is_pinned = false,
        ConversationEvent::ConversationTagged { tags, .. } => row.tags = Json(tags.clone()),
        ConversationEvent::ConversationMarkedRead { .. } => row.read_count = row.received_count,
    }
}

fn apply_message(row: &mut ConversationRow, event: &Event, body: &MessageEvent) {
    row.touch(body.at());
    if !matches!(body, MessageEvent::MessageAccepted { .. }) {
        row.offer(NewestMessage {
            time: body.at(),
            key: event.id.to_string(),
            content: None,
            message_id: Some(event.id),
        });
    }
}

fn sealed<T>(sealed: &Sealed<T>) -> Option<Json<Value>> {
    serde_json::to_value(sealed).ok().map(Json)
}

async fn load(connection: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, ConversationRow>, ProjectionError> {
    let rows: Vec<ConversationRow> = sqlx::query_as("select * from conversations where id = any($1)")
        .bind(ids)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

impl FromRow<'_, PgRow> for ConversationRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let newest = match row.try_get::<Option<DateTime<Utc>>, _>("last_msg_time")? {
            Some(time) => Some(NewestMessage {
                time,
                key: row.try_get("last_msg_key")?,
                content: row.try_get("last_msg_content")?,
                message_id: row.try_get("last_msg_id")?,
            }),
            None => None,
        };
        Ok(Self {
            id: row.try_get("id")?,
            tenant_id: row.try_get("tenant_id")?,
            account_id: row.try_get("account_id")?,
            conversation_id: row.try_get("conversation_id")?,
            conversation_type: word(row, "conversation_type", |text| match text {
                "private" => Some(WecomConversationKind::Private),
                "group" => Some(WecomConversationKind::Group),
                _ => None,
            })?,
            conversation_name: row.try_get("conversation_name")?,
            newest,
            received_count: row.try_get("received_count")?,
            read_count: row.try_get("read_count")?,
            is_pinned: row.try_get("is_pinned")?,
            tags: row.try_get("tags")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            version: row.try_get("version")?,
        })
    }
}

async fn store(connection: &mut PgConnection, rows: &[ConversationRow]) -> Result<(), ProjectionError> {
    if rows.is_empty() {
        return Ok(());
    }
    let newest: Vec<Option<&NewestMessage>> = rows.iter().map(|row| row.newest.as_ref()).collect();
    sqlx::query(
        "insert into conversations (
           id, tenant_id, account_id, conversation_id, conversation_type, conversation_name, last_msg_time,
           last_msg_key, last_msg_content, last_msg_id, received_count, read_count, is_pinned, tags, created_at,
           updated_at, version)
         select * from unnest(
           $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[], $7::timestamptz[], $8::text[],
           $9::jsonb[], $10::uuid[], $11::bigint[], $12::bigint[], $13::boolean[], $14::jsonb[], $15::timestamptz[],
           $16::timestamptz[], $17::bigint[])
         on conflict (id) do update set
           conversation_name = excluded.conversation_name, last_msg_time = excluded.last_msg_time,
           last_msg_key = excluded.last_msg_key, last_msg_content = excluded.last_msg_content,
           last_msg_id = excluded.last_msg_id, received_count = excluded.received_count,
           read_count = excluded.read_count, is_pinned = excluded.is_pinned, tags = excluded.tags,
           created_at = excluded.created_at, updated_at = excluded.updated_at, version = excluded.version",
    )
    .bind(column!(rows, id))
    .bind(column!(rows, tenant_id))
    .bind(column!(rows, account_id))
    .bind(column!(rows, conversation_id))
    .bind(column!(rows, conversation_type.as_str()))
    .bind(column!(rows, conversation_name))
    .bind(newest.iter().map(|newest| newest.map(|m| m.time)).collect::<Vec<_>>())
    .bind(
        newest
            .iter()
            .map(|newest| newest.map(|m| m.key.as_str()))
            .collect::<Vec<_>>(),
    )
    .bind(
        newest
            .iter()
            .map(|newest| newest.and_then(|m| m.content.clone()))
            .collect::<Vec<_>>(),
    )
    .bind(
        newest
            .iter()
            .map(|newest| newest.and_then(|m| m.message_id))
            .collect::<Vec<_>>(),
    )
    .bind(column!(rows, received_count))
    .bind(column!(rows, read_count))
    .bind(column!(rows, is_pinned))
    .bind(column!(rows, tags))
    .bind(column!(rows, created_at))
    .bind(column!(rows, updated_at))
    .bind(column!(rows, version))
    .execute(connection)
    .await?;
    Ok(())
}
