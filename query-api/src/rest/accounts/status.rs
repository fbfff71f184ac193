//! GET `/api/v1/accounts/{id}/status`.

use axum::Extension;
use axum::extract::RawQuery;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use weft_platform::http::{Permission, Problem, QueryParams};

use crate::rest::answer::one;
use crate::rest::path::{AccountPath, account_not_found};
use crate::state::Read;
use crate::timestamp::Timestamp;
use crate::views::accounts;

/// Whether an account is alive.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccountStatusAnswer {
    account_id: Uuid,
    status: &'static str,
    #[schema(value_type = Option<DateTime<Utc>>)]
    last_heartbeat: Option<Timestamp>,
    /// Seconds; 0 when not online.
    online_duration: i64,
    health_score: Option<f64>,
    health_level: Option<String>,
    can_send: bool,
    /// Why the status is what it is, as a stable word or a person's text.
    reason: Option<String>,
    /// Wrong verification codes in this login.
    verification_attempts: i64,
}

/// An account's status.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{id}/status",
    tag = "accounts",
    operation_id = "get_account_status",
    params(("id" = String, Path, description = "The account's id")),
    responses((status = 200, body = AccountStatusAnswer), (status = 404, description = "account.not_found")),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.account.status", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    Extension(read): Extension<Read>,
    AccountPath(id): AccountPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    read.call.require(Permission::AccountRead)?;
    QueryParams::parse(query.as_deref()).finish()?;
    let row = accounts::find(&read.session, id).await?.ok_or_else(account_not_found)?;
    let now = read.session.now();
    let answer = AccountStatusAnswer {
        account_id: row.id,
        status: row.status.as_str(),
        last_heartbeat: row.last_heartbeat_time.map(Timestamp),
        online_duration: row.online_seconds(now),
        can_send: row.can_send(now),
        health_score: row.health_score,
        health_level: row.health_level,
        verification_attempts: row.verification_attempts,
        reason: row.reason,
    };
    Ok(one(row.version, &answer))
}
