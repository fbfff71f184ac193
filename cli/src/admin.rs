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

/// `/healthz`, `/readyz`, `/metrics`.
pub(crate) fn router(health: Health, metrics: PrometheusHandle) -> Router {
    probes(health).route("/metrics", get(move || std::future::ready(metrics.render())))
}

/// `/healthz` (alive) and `/readyz` (can serve, else 503); the latter tells each part's state.
pub(crate) fn probes(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| std::future::ready("ok")))
        .route("/readyz", get(move || std::future::ready(readiness(&health))))
}

fn readiness(health: &Health) -> impl IntoResponse + use<> {
    let parts = health.parts();
    let ready = health.can_serve();
    let shown: serde_json::Map<String, serde_json::Value> = parts
        .into_iter()
        .map(|(name, part)| (name.to_owned(), json!({"ready": part.ready, "detail": part.detail})))
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, axum::Json(json!({"ready": ready, "parts": shown})))
}
