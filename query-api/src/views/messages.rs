//! `views.messages`.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Postgres, QueryBuilder, Row};
use uuid::Uuid;
use weft_domain::message::{MessageStatus, MessageType};

use super::column::word;
use super::page::{COUNTED, NumberedPage, Place, Slice, Total, Window};
use super::{fetch, push_page, push_window};
use crate::error::ReadError;
use crate::session::Session;

/// One message. `content` is null when it was forgotten.
#[derive(Clone, Debug)]
pub(crate) struct MessageRow {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) account_id: Uuid,
    pub(crate) conversation_id: String,
    pub(crate) message_type: MessageType,
    pub(crate) content: Option<Value>,
    pub(crate) template_id: Option<Uuid>,
    pub(crate) status: MessageStatus,
    pub(crate) wework_msg_id: Option<String>,
    pub(crate) send_time: Option<DateTime<Utc>>,
    pub(crate) callback_time: Option<DateTime<Utc>>,
    pub(crate) read_time: Option<DateTime<Utc>>,
    pub(crate) error_code: Option<String>,
    pub(crate) error_message: Option<String>,
    pub(crate) retry_count: i64,
    pub(crate) batch_id: Option<Uuid>,
    pub(crate) priority: i64,
    pub(crate) scheduled_time: Option<DateTime<Utc>>,
    pub(crate) client_reference: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) version: i64,
}

const COLUMNS: &str = "m.id, m.tenant_id, m.account_id, m.conversation_id, m.message_type, m.content, m.template_id, \
    m.status, m.wework_msg_id, m.send_time, m.callback_time, m.read_time, m.error_code, m.error_message, \
    m.retry_count::bigint as retry_count, m.batch_id, m.priority::bigint as priority, m.scheduled_time, \
    m.client_reference, m.created_at, m.updated_at, m.version";

impl FromRow<'_, PgRow> for MessageRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            tenant_id: row.try_get("tenant_id")?,
            account_id: row.try_get("account_id")?,
            conversation_id: row.try_get("conversation_id")?,
            message_type: word(row, "message_type", MessageType::parse)?,
            content: row.try_get("content")?,
            template_id: row.try_get("template_id")?,
            status: word(row, "status", MessageStatus::parse)?,
            wework_msg_id: row.try_get("wework_msg_id")?,
            send_time: row.try_get("send_time")?,
            callback_time: row.try_get("callback_time")?,
            read_time: row.try_get("read_time")?,
            error_code: row.try_get("error_code")?,
            error_message: row.try_get("error_message")?,
            retry_count: row.try_get("retry_count")?,
            batch_id: row.try_get("batch_id")?,
            priority: row.try_get("priority")?,
            scheduled_time: row.try_get("scheduled_time")?,
            client_reference: row.try_get("client_reference")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            version: row.try_get("version")?,
        })
    }
}

impl MessageRow {
    pub(crate) const fn place(&self) -> Place {
        Place {
            at: self.created_at,
            id: self.id,
        }
    }
}

/// Which messages; a field that is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageFilter {
    pub(crate) account_id: Option<Uuid>,
    pub(crate) conversation_id: Option<String>,
    pub(crate) status: Option<MessageStatus>,
    pub(crate) batch_id: Option<Uuid>,
    pub(crate) client_reference: Option<String>,
    /// Created at or after.
    pub(crate) from: Option<DateTime<Utc>>,
    /// Created before.
    pub(crate) to: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MessageSort {
    #[default]
    NewestFirst,
    OldestFirst,
    BatchIndex,
}

impl MessageSort {
    const fn order(self) -> &'static str {
        match self {
            Self::NewestFirst => " order by m.created_at desc, m.id desc",
            Self::OldestFirst => " order by m.created_at, m.id",
            Self::BatchIndex => " order by m.batch_index, m.id",
        }
    }
}

impl MessageFilter {
    fn push(&self, query: &mut QueryBuilder<'_, Postgres>, tenant_id: Uuid) {
        query.push(" where m.tenant_id = ").push_bind(tenant_id);
        if let Some(account_id) = self.account_id {
            query.push(" and m.account_id = ").push_bind(account_id);
        }
        if let Some(conversation_id) = &self.conversation_id {
            query
                .push(" and m.conversation_id = ")
                .push_bind(conversation_id.clone());
        }
        if let Some(status) = self.status {
            query.push(" and m.status = ").push_bind(status.as_str());
        }
        if let Some(batch_id) = self.batch_id {
            query.push(" and m.batch_id = ").push_bind(batch_id);
        }
        if let Some(reference) = &self.client_reference {
            query.push(" and m.client_reference = ").push_bind(reference.clone());
        }
        if let Some(from) = self.from {
            query.push(" and m.created_at >= ").push_bind(from);
        }
        if let Some(to) = self.to {
            query.push(" and m.created_at < ").push_bind(to);
        }
    }
}

/// Rows by id, in any order; for the live feed, which has a transaction of its own.
pub(crate) async fn by_ids(
    connection: &mut PgConnection,
    tenant_id: Uuid,
    ids: &[Uuid],
) -> sqlx::Result<Vec<MessageRow>> {
    sqlx::query_as(&format!(
        "select {COLUMNS} from views.messages m where m.tenant_id = $1 and m.id = any($2)"
    ))
    .bind(tenant_id)
    .bind(ids)
    .fetch_all(connection)
    .await
}

pub(crate) async fn find_many(session: &Session, ids: &[Uuid]) -> Result<Vec<MessageRow>, ReadError> {
    let rows = by_ids(&mut *session.connection().await?, session.tenant_id(), ids).await?;
    Ok(rows)
}

pub(crate) async fn find(session: &Session, id: Uuid) -> Result<Option<MessageRow>, ReadError> {
    Ok(find_many(session, &[id]).await?.pop())
}

pub(crate) async fn list(
    session: &Session,
    filter: &MessageFilter,
    sort: MessageSort,
    page: NumberedPage,
) -> Result<(Vec<MessageRow>, Total), ReadError> {
    let total = count(session, filter).await?;
    let mut query = select();
    filter.push(&mut query, session.tenant_id());
    query.push(sort.order());
    push_page(&mut query, page);
    Ok((fetch(session, query).await?, total))
}

pub(crate) async fn window(
    session: &Session,
    filter: &MessageFilter,
    window: &Window<Place>,
) -> Result<Slice<MessageRow>, ReadError> {
    let mut query = select();
    filter.push(&mut query, session.tenant_id());
    push_window(&mut query, "m", window);
    Ok(window.slice(fetch(session, query).await?))
}

pub(crate) async fn count(session: &Session, filter: &MessageFilter) -> Result<Total, ReadError> {
    let mut query = QueryBuilder::new("select count(*) from (select from views.messages m");
    filter.push(&mut query, session.tenant_id());
    super::count(session, query).await
}

/// Messages that changed since a time, oldest change first, at most `limit`. No index leads to changes: what was created
/// more than a day before is not looked at.
pub(crate) async fn changed_since(
    session: &Session,
    filter: &MessageFilter,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<MessageRow>, ReadError> {
    let mut query = select();
    let filter = MessageFilter {
        from: Some(since - TimeDelta::days(1)),
        ..filter.clone()
    };
    filter.push(&mut query, session.tenant_id());
    query.push(" and m.updated_at >= ").push_bind(since);
    query.push(" order by m.updated_at, m.id limit ").push_bind(limit);
    fetch(session, query).await
}

/// The same window of each account's messages, in one statement.
pub(crate) async fn windows(
    session: &Session,
    accounts: &[Uuid],
    window: &Window<Place>,
) -> Result<HashMap<Uuid, Vec<MessageRow>>, ReadError> {
    let mut query = QueryBuilder::new(format!("select {COLUMNS} from unnest("));
    query.push_bind(accounts);
    query.push(
        ") wanted (account_id) cross join lateral ( \
         select * from views.messages m where m.account_id = wanted.account_id",
    );
    push_window(&mut query, "m", window);
    query.push(") m");
    let mut by_account: HashMap<Uuid, Vec<MessageRow>> = HashMap::new();
    for row in fetch::<MessageRow>(session, query).await? {
        by_account.entry(row.account_id).or_default().push(row);
    }
    Ok(by_account)
}

pub(crate) async fn count_by_account(session: &Session, accounts: &[Uuid]) -> Result<Vec<(Uuid, Total)>, ReadError> {
    let counts: Vec<(Uuid, i64)> = sqlx::query_as(
        "select wanted.account_id, counted.n from unnest($1::uuid[]) wanted (account_id) cross join lateral ( \
           select count(*) as n from (select from views.messages m \
             where m.account_id = wanted.account_id limit $2) m) counted",
    )
    .bind(accounts)
    .bind(COUNTED + 1)
    .fetch_all(&mut *session.connection().await?)
    .await?;
    Ok(counts.into_iter().map(|(id, n)| (id, Total::of(n))).collect())
}

fn select() -> QueryBuilder<'static, Postgres> {
    QueryBuilder::new(format!("select {COLUMNS} from views.messages m"))
}
