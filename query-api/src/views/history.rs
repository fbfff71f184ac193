//! `views.account_status_history`, by account.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;
use weft_domain::account::AccountStatus;

use super::column::{optional_word, word};
use super::page::{COUNTED, NumberedPage, Total, Window};
use crate::error::ReadError;
use crate::session::Session;

/// One change of an account's status.
#[derive(Clone, Debug)]
pub(crate) struct HistoryRow {
    pub(crate) account_id: Uuid,
    pub(crate) sequence: i64,
    pub(crate) old_status: Option<AccountStatus>,
    pub(crate) new_status: AccountStatus,
    pub(crate) reason: Option<String>,
    pub(crate) error_message: Option<String>,
    pub(crate) extra_data: Option<Value>,
    pub(crate) operator_id: Option<String>,
    pub(crate) operator_type: String,
    pub(crate) created_at: DateTime<Utc>,
}

const COLUMNS: &str = "h.account_id, h.sequence, h.old_status, h.new_status, h.reason, h.error_message, h.extra_data, \
    h.operator_id, h.operator_type, h.created_at";

impl FromRow<'_, PgRow> for HistoryRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            account_id: row.try_get("account_id")?,
            sequence: row.try_get("sequence")?,
            old_status: optional_word(row, "old_status", AccountStatus::parse)?,
            new_status: word(row, "new_status", AccountStatus::parse)?,
            reason: row.try_get("reason")?,
            error_message: row.try_get("error_message")?,
            extra_data: without_login_token(row.try_get("extra_data")?),
            operator_id: row.try_get("operator_id")?,
            operator_type: row.try_get("operator_type")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// The token of a login lets its holder take part in it: that is not for all who may read the account.
fn without_login_token(mut extra_data: Option<Value>) -> Option<Value> {
    if let Some(Value::Object(fields)) = &mut extra_data {
        fields.remove("login_token");
    }
    extra_data
}

/// A page of one account's history.
pub(crate) async fn list(
    session: &Session,
    account: Uuid,
    oldest_first: bool,
    page: NumberedPage,
) -> Result<(Vec<HistoryRow>, Total), ReadError> {
    let total = count_by_account(session, &[account])
        .await?
        .pop()
        .map_or(Total::of(0), |(_, total)| total);
    let order = if oldest_first { "asc" } else { "desc" };
    let rows: Vec<HistoryRow> = sqlx::query_as(&format!(
        "select {COLUMNS} from views.account_status_history h where h.account_id = $1 \
         order by h.sequence {order} limit $2 offset $3"
    ))
    .bind(account)
    .bind(page.size)
    .bind(page.offset())
    .fetch_all(&mut *session.connection().await?)
    .await?;
    Ok((rows, total))
}

/// The same window of each account's history, in one statement.
pub(crate) async fn windows(
    session: &Session,
    accounts: &[Uuid],
    window: &Window<i64>,
) -> Result<HashMap<Uuid, Vec<HistoryRow>>, ReadError> {
    let order = if window.from_end { "asc" } else { "desc" };
    let rows: Vec<HistoryRow> = sqlx::query_as(&format!(
        "select {COLUMNS} from unnest($1::uuid[]) wanted (account_id) cross join lateral ( \
           select * from views.account_status_history h where h.account_id = wanted.account_id \
             and ($2::bigint is null or h.sequence < $2) and ($3::bigint is null or h.sequence > $3) \
           order by h.sequence {order} limit $4) h"
    ))
    .bind(accounts)
    .bind(window.after)
    .bind(window.before)
    .bind(window.limit())
    .fetch_all(&mut *session.connection().await?)
    .await?;
    let mut by_account: HashMap<Uuid, Vec<HistoryRow>> = HashMap::new();
    for row in rows {
        by_account.entry(row.account_id).or_default().push(row);
    }
    Ok(by_account)
}

pub(crate) async fn count_by_account(session: &Session, accounts: &[Uuid]) -> Result<Vec<(Uuid, Total)>, ReadError> {
    let counts: Vec<(Uuid, i64)> = sqlx::query_as(
        "select wanted.account_id, counted.n from unnest($1::uuid[]) wanted (account_id) cross join lateral ( \
           select count(*) as n from (select from views.account_status_history h \
             where h.account_id = wanted.account_id limit $2) h) counted",
    )
    .bind(accounts)
    .bind(COUNTED + 1)
    .fetch_all(&mut *session.connection().await?)
    .await?;
    Ok(counts.into_iter().map(|(id, n)| (id, Total::of(n))).collect())
}
