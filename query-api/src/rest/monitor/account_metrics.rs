//! GET `/api/v1/monitor/accounts/{id}/metrics`.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use chrono::DateTime;
use serde::Serialize;
use utoipa::ToSchema;
use weft_platform::http::{Permission, Problem, QueryParams};

use super::span_of;
use crate::facts::AccountHour;
use crate::rest::path::{AccountPath, account_not_found};
use crate::state::{QueryState, Read};
use crate::timestamp::Timestamp;
use crate::views::accounts;

/// An account's hours.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccountMetrics {
    metrics: Vec<AccountMetric>,
}

/// One hour.
#[derive(Serialize, ToSchema)]
struct AccountMetric {
    /// The hour's start.
    #[schema(value_type = DateTime<Utc>)]
    time: Timestamp,
    /// 0–1; null until account care measures it.
    health_score: Option<f64>,
    /// From acceptance, or the planned time, to sent; of the messages sent in this hour.
    response_time_ms: Option<f64>,
    /// 0–1: failed over sent and failed; null when there is neither.
    error_rate: Option<f64>,
    sent: u64,
    failed: u64,
}

impl From<AccountHour> for AccountMetric {
    fn from(hour: AccountHour) -> Self {
        let judged = hour.sent + hour.failed;
        Self {
            time: Timestamp(DateTime::from_timestamp(hour.hour, 0).unwrap_or_default()),
            health_score: None,
            response_time_ms: hour.average_response_ms,
            error_rate: (judged > 0).then(|| hour.failed as f64 / judged as f64),
            sent: hour.sent,
            failed: hour.failed,
        }
    }
}

/// What an account has done hour by hour, oldest first; the last day without a span.
#[utoipa::path(
    get,
    path = "/api/v1/monitor/accounts/{id}/metrics",
    tag = "monitor",
    operation_id = "get_account_metrics",
    params(
        ("id" = String, Path, description = "The account's id"),
        ("start_time" = Option<String>, Query, description = "Inclusive; RFC 3339"),
        ("end_time" = Option<String>, Query, description = "Exclusive; RFC 3339"),
    ),
    responses(
        (status = 200, body = AccountMetrics),
        (status = 404, description = "account.not_found"),
        (status = 422, description = "request.invalid"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.monitor.account_metrics", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    State(state): State<QueryState>,
    Extension(read): Extension<Read>,
    AccountPath(id): AccountPath,
    RawQuery(query): RawQuery,
) -> Result<Json<AccountMetrics>, Problem> {
    read.call.require(Permission::MonitorRead)?;
    let mut params = QueryParams::parse(query.as_deref());
    let (start, end) = span_of(&mut params, read.session.now());
    params.finish()?;
    if !accounts::exists(&read.session, id).await? {
        return Err(account_not_found());
    }
    read.session.release().await;
    let hours = state
        .facts()
        .account_hours(read.session.tenant_id(), id, start, end)
        .await?;
    Ok(Json(AccountMetrics {
        metrics: hours.into_iter().map(Into::into).collect(),
    }))
}
