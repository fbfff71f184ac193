//! The admin port: alive, ready, metrics. Never the API's port for metrics.

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use weft_platform::health::Health;

use crate::Failure;

/// Installs the process's metrics recorder.
pub(crate) fn install_metrics() -> Result<PrometheusHandle, Failure> {
    PrometheusBuilder::new().install_recorder().map_err(Failure::new)
}

/// When a process is ready.
pub(crate) type Ready = fn(&Health) -> bool;

/// `/healthz`, `/readyz`, `/metrics`.
pub(crate) fn router(health: Health, ready: Ready, metrics: PrometheusHandle) -> Router {
    probes(health, ready).route("/metrics", get(move || std::future::ready(metrics.render())))
}

/// `/healthz` (alive) and `/readyz` (503 where not `ready`); the latter tells each part's state, and whether one fails.
pub(crate) fn probes(health: Health, ready: Ready) -> Router {
    Router::new()
        .route("/healthz", get(|| std::future::ready("ok")))
        .route("/readyz", get(move || std::future::ready(readiness(&health, ready))))
}

fn readiness(health: &Health, ready: Ready) -> impl IntoResponse + use<> {
    let parts = health.parts();
    let (ready, degraded) = (ready(health), !health.is_ready());
    let shown: serde_json::Map<String, serde_json::Value> = parts
        .into_iter()
        .map(|(name, part)| (name, json!({"ready": part.ready, "detail": part.detail})))
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        axum::Json(json!({"ready": ready, "degraded": degraded, "parts": shown})),
    )
}
