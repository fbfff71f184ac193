//! GET `/api/v1/monitor/messages/stats`.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;
use weft_platform::http::{Permission, Problem, QueryParams};

use super::span_of;
use crate::state::{QueryState, Read};

/// What became of the messages accepted in a span.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageStats {
    total_count: u64,
    /// Sent or delivered.
    success_count: u64,
    failed_count: u64,
    /// 0–1: success over success and failed; null when there is neither.
    success_rate: Option<f64>,
    /// Milliseconds from acceptance, or the planned time, to sent; null when none was sent.
    avg_response_time: Option<f64>,
}

/// Statistics of the messages accepted in a span; the last day without one.
#[utoipa::path(
    get,
    path = "/api/v1/monitor/messages/stats",
    tag = "monitor",
    operation_id = "get_message_stats",
    params(
        ("tenant_id" = Option<String>, Query, description = "The token's tenant"),
        ("start_time" = Option<String>, Query, description = "Inclusive; RFC 3339"),
        ("end_time" = Option<String>, Query, description = "Exclusive; RFC 3339"),
    ),
    responses((status = 200, body = MessageStats), (status = 422, description = "request.invalid")),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.monitor.message_stats", skip_all)]
pub(crate) async fn handler(
    State(state): State<QueryState>,
    Extension(read): Extension<Read>,
    RawQuery(query): RawQuery,
) -> Result<Json<MessageStats>, Problem> {
    read.call.require(Permission::MonitorRead)?;
    let mut params = QueryParams::parse(query.as_deref());
    let tenant_id = params.uuid("tenant_id");
    let (start, end) = span_of(&mut params, read.session.now());
    params.finish()?;
    read.call.require_tenant(tenant_id)?;
    let totals = state
        .facts()
        .message_totals(read.session.tenant_id(), start, end)
        .await?;
    let judged = totals.success + totals.failed;
    Ok(Json(MessageStats {
        total_count: totals.total,
        success_count: totals.success,
        failed_count: totals.failed,
        success_rate: (judged > 0).then(|| totals.success as f64 / judged as f64),
        avg_response_time: totals.average_response_ms,
    }))
}
