//! A server that is away: nothing but an honest refusal. The addresses are ones where nobody listens.

use axum::http::StatusCode;
use serde_json::json;
use weft_platform::config::Secret;

use crate::support::World;

#[tokio::test]
async fn without_the_views_reads_are_unavailable() {
    let world = World::with(|config| {
        config.views.url = Secret("postgres://weft_query:weft@127.0.0.1:1/weft_views".to_owned());
    })
    .await;
    for path in ["/api/v1/accounts", "/api/v1/messages"] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.body["code"], "view.unavailable");
        assert!(answer.headers.contains_key("retry-after"));
    }
    let answer = world.ask("{ accounts { nodes { id } } }", json!({})).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "VIEW_UNAVAILABLE");
    let answer = world.get("/api/v1/monitor/health").await;
    assert_eq!(
        (answer.status, &answer.body["status"]),
        (StatusCode::OK, &json!("down"))
    );
    assert_eq!(answer.body["services"][0]["status"], "down");
}

#[tokio::test]
async fn without_clickhouse_and_kafka_lists_are_served_and_health_is_degraded() {
    let world = World::with(|config| {
        config.clickhouse.url = "http://127.0.0.1:1".parse().unwrap();
        config.kafka.brokers = "127.0.0.1:1".to_owned();
    })
    .await;
    assert_eq!(world.get("/api/v1/accounts").await.status, StatusCode::OK);
    let answer = world.get("/api/v1/monitor/messages/stats").await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("view.unavailable"))
    );
    let answer = world.get("/api/v1/monitor/health").await;
    insta::assert_json_snapshot!("health_degraded", answer.body, {".services[0].latency_ms" => "[measured]"});
}
