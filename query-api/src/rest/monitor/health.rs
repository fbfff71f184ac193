//! GET `/api/v1/monitor/health`: really asks each server, and says which parts of this process work.

use std::time::{Duration, Instant};

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::Serialize;
use utoipa::ToSchema;
use weft_platform::config::KafkaSection;
use weft_platform::health::PartHealth;
use weft_platform::http::{Permission, Problem, QueryParams};

use crate::state::{QueryState, Read};

/// A server that has not answered in this time is down.
const PATIENCE: Duration = Duration::from_secs(3);

const HEALTHY: &str = "healthy";

/// The servers' and the parts' health.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `healthy`: every server answers and every part works; `down`: the views' Postgres does not answer; `degraded`: else.
    status: &'static str,
    services: Vec<Service>,
    /// Seconds since this process serves.
    uptime: i64,
}

/// One server, or one part of this process, such as `worker callbacks`. Roles that run in processes of their own are told
/// by their own `/readyz`.
#[derive(Serialize, ToSchema)]
struct Service {
    name: String,
    /// `healthy` or `down`.
    status: &'static str,
    /// Of one question and its answer; null for a part.
    latency_ms: Option<f64>,
    detail: Option<&'static str>,
}

/// Whether Postgres, ClickHouse and Kafka answer, and whether the parts of this process work.
#[utoipa::path(
    get,
    path = "/api/v1/monitor/health",
    tag = "monitor",
    operation_id = "get_health",
    responses((status = 200, body = Health)),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.monitor.health", skip_all)]
pub(crate) async fn handler(
    State(state): State<QueryState>,
    Extension(read): Extension<Read>,
    RawQuery(query): RawQuery,
) -> Result<Json<Health>, Problem> {
    read.call.require(Permission::MonitorRead)?;
    QueryParams::parse(query.as_deref()).finish()?;
    let postgres = async {
        sqlx::query("select 1")
            .execute(state.views())
            .await
            .map(drop)
            .map_err(drop)
    };
    let (postgres, clickhouse, kafka) = tokio::join!(
        ask("postgres", "the views' database does not answer", postgres),
        ask("clickhouse", "ClickHouse does not answer", state.facts().ping()),
        ask("kafka", "no Kafka broker answers", ask_kafka(state.kafka().clone())),
    );
    let is_down = postgres.latency_ms.is_none();
    let mut services = vec![postgres, clickhouse, kafka];
    services.extend(
        state
            .health()
            .parts()
            .into_iter()
            .map(|(name, part)| Service::of(name, &part)),
    );
    let all_up = services.iter().all(|service| service.status == HEALTHY);
    Ok(Json(Health {
        status: match (is_down, all_up) {
            (true, _) => "down",
            (false, true) => HEALTHY,
            (false, false) => "degraded",
        },
        services,
        uptime: state.uptime_seconds(),
    }))
}

impl Service {
    fn of(name: String, part: &PartHealth) -> Self {
        Self {
            name,
            status: if part.ready { HEALTHY } else { "down" },
            latency_ms: None,
            detail: match (part.ready, part.started) {
                (true, _) => None,
                (false, true) => Some("it fails and is tried again: /readyz and the log say why"),
                (false, false) => Some("it has not started: /readyz and the log say why"),
            },
        }
    }
}

/// Times one question. What exactly went wrong is for the log, not for callers.
async fn ask(name: &'static str, detail: &'static str, question: impl Future<Output = Result<(), ()>>) -> Service {
    let asked = Instant::now();
    let answered = matches!(tokio::time::timeout(PATIENCE, question).await, Ok(Ok(())));
    let latency_ms = (asked.elapsed().as_secs_f64() * 100_000.0).round() / 100.0;
    if !answered {
        tracing::warn!(service = name, detail);
    }
    Service {
        name: name.to_owned(),
        status: if answered { HEALTHY } else { "down" },
        latency_ms: answered.then_some(latency_ms),
        detail: (!answered).then_some(detail),
    }
}

async fn ask_kafka(kafka: KafkaSection) -> Result<(), ()> {
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = kafka.client().set("group.id", "weft.health").create()?;
        consumer
            .fetch_metadata(Some(&kafka.topic("account")), PATIENCE)
            .map(drop)
    });
    asked.await.map_err(drop)?.map_err(drop)
}
