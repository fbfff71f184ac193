//! `views.conversations`, by account.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, QueryBuilder, Row};
use uuid::Uuid;
use weft_domain::WecomConversationKind;
use weft_domain::conversation::IncomingContent;
use weft_domain::message::MessageType;

use super::column::{optional_word, word};
use super::page::{NumberedPage, Place, Slice, Total, Window};
use super::{fetch, push_page, push_window};
use crate::error::ReadError;
use crate::personal::{Batch, Vault, mask_name, mask_text};
use crate::session::Session;

/// One conversation. Name, picture and the content of an incoming message are sealed.
#[derive(Clone, Debug)]
pub(crate) struct ConversationRow {
    pub(crate) id: Uuid,
    pub(crate) account_id: Uuid,
    pub(crate) conversation_id: String,
    conversation_name: Option<Value>,
    pub(crate) conversation_type: WecomConversationKind,
    avatar_url: Option<Value>,
    pub(crate) member_count: Option<i64>,
    pub(crate) last_msg_time: Option<DateTime<Utc>>,
    /// Of an incoming message.
    last_msg_content: Option<Value>,
    /// Of an outgoing message: in clear, with its type.
    sent_content: Option<Value>,
    sent_type: Option<MessageType>,
    pub(crate) unread_count: i64,
    pub(crate) is_active: bool,
    pub(crate) is_pinned: bool,
    pub(crate) tags: Vec<String>,
    /// Events of a stream that the projection could not go on with are missing.
    pub(crate) is_incomplete: bool,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

const SELECT: &str = "select c.id, c.account_id, c.conversation_id, c.conversation_name, c.conversation_type, \
    c.avatar_url, c.member_count::bigint as member_count, c.last_msg_time, c.last_msg_content, \
    m.content as sent_content, m.message_type as sent_type, c.unread_count, c.is_active, c.is_pinned, c.tags, \
    exists (select from views.dead_letters d where d.projection = 'conversations' \
      and d.incomplete_rows @> array[c.id]) as is_incomplete, \
    c.created_at, c.updated_at \
    from views.conversations c left join views.messages m on m.id = c.last_msg_id where c.account_id = ";

impl FromRow<'_, PgRow> for ConversationRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let tags: sqlx::types::Json<Vec<String>> = row.try_get("tags")?;
        Ok(Self {
            id: row.try_get("id")?,
            account_id: row.try_get("account_id")?,
            conversation_id: row.try_get("conversation_id")?,
            conversation_name: row.try_get("conversation_name")?,
            conversation_type: word(row, "conversation_type", |text| {
                [WecomConversationKind::Private, WecomConversationKind::Group]
                    .into_iter()
                    .find(|kind| kind.as_str() == text)
            })?,
            avatar_url: row.try_get("avatar_url")?,
            member_count: row.try_get("member_count")?,
            last_msg_time: row.try_get("last_msg_time")?,
            last_msg_content: row.try_get("last_msg_content")?,
            sent_content: row.try_get("sent_content")?,
            sent_type: optional_word(row, "sent_type", MessageType::parse)?,
            unread_count: row.try_get("unread_count")?,
            is_active: row.try_get("is_active")?,
            is_pinned: row.try_get("is_pinned")?,
            tags: tags.0,
            is_incomplete: row.try_get("is_incomplete")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// A conversation with its sealed fields opened, or masked.
#[derive(Clone, Debug)]
pub(crate) struct OpenedConversation {
    pub(crate) row: ConversationRow,
    pub(crate) name: Option<String>,
    pub(crate) avatar_url: Option<String>,
    /// One line of text; what is no text is named by its type in brackets.
    pub(crate) last_content: Option<String>,
}

impl OpenedConversation {
    pub(crate) const fn place(&self) -> Place {
        Place {
            at: self.row.created_at,
            id: self.row.id,
        }
    }
}

pub(crate) async fn list(
    session: &Session,
    account: Uuid,
    oldest_first: bool,
    page: NumberedPage,
) -> Result<(Vec<ConversationRow>, Total), ReadError> {
    let total = count(session, account).await?;
    let order = if oldest_first { "asc" } else { "desc" };
    let mut query = QueryBuilder::new(SELECT);
    query.push_bind(account);
    query.push(format!(" order by c.created_at {order}, c.id {order}"));
    push_page(&mut query, page);
    Ok((fetch(session, query).await?, total))
}

pub(crate) async fn window(
    session: &Session,
    account: Uuid,
    window: &Window<Place>,
) -> Result<Slice<ConversationRow>, ReadError> {
    let mut query = QueryBuilder::new(SELECT);
    query.push_bind(account);
    push_window(&mut query, "c", window);
    Ok(window.slice(fetch(session, query).await?))
}

pub(crate) async fn count(session: &Session, account: Uuid) -> Result<Total, ReadError> {
    let mut query = QueryBuilder::new("select count(*) from (select from views.conversations c where c.account_id = ");
    query.push_bind(account);
    super::count(session, query).await
}

/// Opens the rows' sealed fields together.
pub(crate) async fn open(rows: Vec<ConversationRow>, vault: &Vault) -> Result<Vec<OpenedConversation>, ReadError> {
    let mut batch = Batch::default();
    let slots: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                batch.add(row.conversation_name.as_ref()),
                batch.add(row.avatar_url.as_ref()),
                batch.add(row.last_msg_content.as_ref()),
            )
        })
        .collect();
    let mut opened = vault.open(batch).await?;
    let shown = rows.into_iter().zip(slots).map(|(row, (name, avatar, content))| {
        let incoming: Option<IncomingContent> = opened.take(content);
        let last_content = incoming
            .map(|incoming| incoming_line(&incoming))
            .or_else(|| sent_line(row.sent_type?, row.sent_content.as_ref()?));
        OpenedConversation {
            name: opened.text(name, mask_name),
            avatar_url: opened.take(avatar).filter(|_| opened.clear),
            last_content: if opened.clear {
                last_content
            } else {
                last_content.as_deref().map(mask_text)
            },
            row,
        }
    });
    Ok(shown.collect())
}

fn incoming_line(incoming: &IncomingContent) -> String {
    let text = match &incoming.content {
        Value::String(text) => Some(text.as_str()),
        content => ["content", "text"].iter().find_map(|key| content.get(key)?.as_str()),
    };
    text.map_or_else(|| format!("[{}]", incoming.msg_type), str::to_owned)
}

fn sent_line(kind: MessageType, content: &Value) -> Option<String> {
    match kind {
        MessageType::Text | MessageType::At => Some(content.get("text")?.as_str()?.to_owned()),
        MessageType::Image | MessageType::File | MessageType::Link | MessageType::Miniprogram => {
            Some(format!("[{}]", kind.as_str()))
        }
    }
}
