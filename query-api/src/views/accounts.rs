//! `views.accounts`, each with its newest heartbeat.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Postgres, QueryBuilder, Row};
use uuid::Uuid;
use weft_domain::account::{AccountStatus, GatewayKind};

use super::column::word;
use super::page::{NumberedPage, Place, Slice, Total, Window};
use super::{fetch, like_anywhere, push_page, push_window};
use crate::error::ReadError;
use crate::session::Session;

/// An account that was not heard of for longer cannot send.
const HEARD_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// One account. `phone`, `email` and `user_info` are sealed.
#[derive(Clone, Debug)]
pub(crate) struct AccountRow {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) user_id: Option<String>,
    pub(crate) account_name: String,
    pub(crate) phone: Option<Value>,
    pub(crate) email: Option<Value>,
    pub(crate) gateway: GatewayKind,
    pub(crate) guid: Option<String>,
    pub(crate) qr_code_url: Option<String>,
    pub(crate) qrcode_expires_at: Option<DateTime<Utc>>,
    pub(crate) verification_attempts: i64,
    pub(crate) status: AccountStatus,
    pub(crate) reason: Option<String>,
    pub(crate) error_message: Option<String>,
    pub(crate) config: Value,
    pub(crate) user_info: Option<Value>,
    pub(crate) online_since: Option<DateTime<Utc>>,
    pub(crate) last_login_time: Option<DateTime<Utc>>,
    pub(crate) last_heartbeat_time: Option<DateTime<Utc>>,
    pub(crate) login_retry_count: i64,
    pub(crate) health_score: Option<f64>,
    pub(crate) health_level: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) version: i64,
}

const SELECT: &str = "select a.id, a.tenant_id, a.user_id, a.account_name, a.phone, a.email, a.gateway, a.guid, \
    a.qr_code_url, a.qrcode_expires_at, a.verification_attempts::bigint as verification_attempts, a.status, a.reason, \
    a.error_message, a.config, a.user_info, a.online_since, a.last_login_time, \
    greatest(a.last_heartbeat_time, h.last_heartbeat_time) as last_heartbeat_time, \
    a.login_retry_count::bigint as login_retry_count, a.health_score, a.health_level, a.created_at, a.updated_at, \
    a.version \
    from views.accounts a left join views.account_heartbeats h on h.account_id = a.id";

impl FromRow<'_, PgRow> for AccountRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            tenant_id: row.try_get("tenant_id")?,
            user_id: row.try_get("user_id")?,
            account_name: row.try_get("account_name")?,
            phone: row.try_get("phone")?,
            email: row.try_get("email")?,
            gateway: word(row, "gateway", |text| {
                [GatewayKind::Instance, GatewayKind::Official]
                    .into_iter()
                    .find(|kind| kind.as_str() == text)
            })?,
            guid: row.try_get("guid")?,
            qr_code_url: row.try_get("qr_code_url")?,
            qrcode_expires_at: row.try_get("qrcode_expires_at")?,
            verification_attempts: row.try_get("verification_attempts")?,
            status: word(row, "status", AccountStatus::parse)?,
            reason: row.try_get("reason")?,
            error_message: row.try_get("error_message")?,
            config: row.try_get("config")?,
            user_info: row.try_get("user_info")?,
            online_since: row.try_get("online_since")?,
            last_login_time: row.try_get("last_login_time")?,
            last_heartbeat_time: row.try_get("last_heartbeat_time")?,
            login_retry_count: row.try_get("login_retry_count")?,
            health_score: row.try_get("health_score")?,
            health_level: row.try_get("health_level")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            version: row.try_get("version")?,
        })
    }
}

impl AccountRow {
    pub(crate) const fn place(&self) -> Place {
        Place {
            at: self.created_at,
            id: self.id,
        }
    }

    /// Online, heard of within five minutes, health good or better (unknown counts as good), not in maintenance.
    pub(crate) fn can_send(&self, now: DateTime<Utc>) -> bool {
        self.status == AccountStatus::Online
            && self
                .last_heartbeat_time
                .is_some_and(|heard| now - heard <= HEARD_WITHIN)
            && matches!(self.health_level.as_deref(), None | Some("excellent" | "good"))
            && self.config.get("maintenance_mode") != Some(&Value::Bool(true))
    }

    /// Seconds since it is online; 0 when it is not.
    pub(crate) fn online_seconds(&self, now: DateTime<Utc>) -> i64 {
        match self.online_since {
            Some(since) if self.status == AccountStatus::Online => (now - since).num_seconds().max(0),
            _ => 0,
        }
    }

    /// The path of the login code's picture, while a code can be scanned.
    pub(crate) fn qrcode_url(&self, now: DateTime<Utc>) -> Option<String> {
        let is_shown = self.status == AccountStatus::WaitingForQrcodeScan
            && self.qrcode_expires_at.is_some_and(|expires_at| now < expires_at);
        self.qr_code_url.clone().filter(|_| is_shown)
    }
}

/// Which accounts. Without a status, all that are not deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccountFilter {
    pub(crate) status: Option<AccountStatus>,
    /// Part of the name.
    pub(crate) search: Option<String>,
    pub(crate) health_level: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AccountSort {
    #[default]
    NewestFirst,
    OldestFirst,
    ByName,
    ByNameDescending,
}

impl AccountSort {
    const fn order(self) -> &'static str {
        match self {
            Self::NewestFirst => " order by a.created_at desc, a.id desc",
            Self::OldestFirst => " order by a.created_at, a.id",
            Self::ByName => " order by a.account_name, a.id",
            Self::ByNameDescending => " order by a.account_name desc, a.id desc",
        }
    }
}

impl AccountFilter {
    fn push(&self, query: &mut QueryBuilder<'_, Postgres>, tenant_id: Uuid) {
        query.push(" where a.tenant_id = ").push_bind(tenant_id);
        match self.status {
            Some(status) => query.push(" and a.status = ").push_bind(status.as_str()),
            None => query.push(" and a.status <> 'deleted'"),
        };
        if let Some(search) = &self.search {
            query
                .push(" and a.account_name ilike ")
                .push_bind(like_anywhere(search));
        }
        if let Some(level) = self.health_level {
            query.push(" and a.health_level = ").push_bind(level);
        }
    }
}

/// Rows by id, in any order; for the live feed, which has a transaction of its own.
pub(crate) async fn by_ids(
    connection: &mut PgConnection,
    tenant_id: Uuid,
    ids: &[Uuid],
) -> sqlx::Result<Vec<AccountRow>> {
    sqlx::query_as(&format!("{SELECT} where a.tenant_id = $1 and a.id = any($2)"))
        .bind(tenant_id)
        .bind(ids)
        .fetch_all(connection)
        .await
}

pub(crate) async fn find_many(session: &Session, ids: &[Uuid]) -> Result<Vec<AccountRow>, ReadError> {
    let rows = by_ids(&mut *session.connection().await?, session.tenant_id(), ids).await?;
    Ok(rows)
}

pub(crate) async fn find(session: &Session, id: Uuid) -> Result<Option<AccountRow>, ReadError> {
    Ok(find_many(session, &[id]).await?.pop())
}

pub(crate) async fn exists(session: &Session, id: Uuid) -> Result<bool, ReadError> {
    Ok(
        sqlx::query_scalar("select exists(select from views.accounts where tenant_id = $1 and id = $2)")
            .bind(session.tenant_id())
            .bind(id)
            .fetch_one(&mut *session.connection().await?)
            .await?,
    )
}

pub(crate) async fn list(
    session: &Session,
    filter: &AccountFilter,
    sort: AccountSort,
    page: NumberedPage,
) -> Result<(Vec<AccountRow>, Total), ReadError> {
    let total = count(session, filter).await?;
    let mut query = QueryBuilder::new(SELECT);
    filter.push(&mut query, session.tenant_id());
    query.push(sort.order());
    push_page(&mut query, page);
    Ok((fetch(session, query).await?, total))
}

pub(crate) async fn window(
    session: &Session,
    filter: &AccountFilter,
    window: &Window<Place>,
) -> Result<Slice<AccountRow>, ReadError> {
    let mut query = QueryBuilder::new(SELECT);
    filter.push(&mut query, session.tenant_id());
    push_window(&mut query, "a", window);
    Ok(window.slice(fetch(session, query).await?))
}

pub(crate) async fn count(session: &Session, filter: &AccountFilter) -> Result<Total, ReadError> {
    let mut query = QueryBuilder::new("select count(*) from (select from views.accounts a");
    filter.push(&mut query, session.tenant_id());
    super::count(session, query).await
}
