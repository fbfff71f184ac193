//! GET `/api/v1/accounts/{id}/status-history`.

use axum::extract::RawQuery;
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use weft_platform::http::Problem;

use super::list_of_account;
use crate::rest::answer::PageNumbers;
use crate::rest::path::AccountPath;
use crate::state::Read;
use crate::timestamp::Timestamp;
use crate::views::history::{self, HistoryRow};

/// One change of status.
#[derive(Serialize, ToSchema)]
struct StatusChange {
    old_status: Option<String>,
    new_status: String,
    reason: Option<String>,
    error_message: Option<String>,
    extra_data: Option<Value>,
    operator_id: Option<String>,
    /// `user`, `system` or `auto`.
    operator_type: String,
    #[schema(value_type = DateTime<Utc>)]
    created_at: Timestamp,
}

impl From<HistoryRow> for StatusChange {
    fn from(row: HistoryRow) -> Self {
        Self {
            old_status: row.old_status.map(|status| status.as_str().to_owned()),
            new_status: row.new_status.as_str().to_owned(),
            reason: row.reason,
            error_message: row.error_message,
            extra_data: row.extra_data,
            operator_id: row.operator_id,
            operator_type: row.operator_type,
            created_at: Timestamp(row.created_at),
        }
    }
}

/// A page of an account's history.
#[derive(Serialize, ToSchema)]
pub(crate) struct History {
    history: Vec<StatusChange>,
    #[serde(flatten)]
    page: PageNumbers,
}

/// An account's changes of status, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{id}/status-history",
    tag = "accounts",
    operation_id = "list_account_status_history",
    params(
        ("id" = String, Path, description = "The account's id"),
        ("sort" = Option<String>, Query, description = "-created_at or created_at"),
        ("page" = Option<i64>, Query, description = "From 1"),
        ("size" = Option<i64>, Query, description = "1 to 100; 20 by default"),
    ),
    responses(
        (status = 200, body = History),
        (status = 404, description = "account.not_found"),
        (status = 422, description = "request.invalid"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.account.status_history", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    Extension(read): Extension<Read>,
    AccountPath(id): AccountPath,
    RawQuery(query): RawQuery,
) -> Result<Json<History>, Problem> {
    let (oldest_first, page) = list_of_account(&read, id, query.as_deref()).await?;
    let (rows, total) = history::list(&read.session, id, oldest_first, page).await?;
    Ok(Json(History {
        history: rows.into_iter().map(Into::into).collect(),
        page: PageNumbers::new(page, total),
    }))
}
