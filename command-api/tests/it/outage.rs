//! A log that is away: commands are refused, to be repeated, and nothing is told of the cause.

use axum::body::Body;
use axum::http::header;
use insta::assert_json_snapshot;
use serde_json::json;
use uuid::Uuid;
use weft_platform::callback_token::CallbackAddress;
use weft_platform::config::{Config, Secret};

use crate::support::{TOKEN_A, request, router_of, send};

#[tokio::test]
async fn without_the_log_commands_are_to_be_repeated() {
    let mut config = Config::default();
    // Nobody listens there.
    config.log.url = Secret("postgres://weft_log:weft@127.0.0.1:1/weft_log".to_owned());
    config.keys.url = Secret("postgres://weft_keys:weft@127.0.0.1:1/weft_keys".to_owned());
    let (router, executor, _) = router_of(config).await;
    let id = Uuid::from_u128(7);
    let callback = CallbackAddress {
        account_id: id,
        attempt_id: id,
    }
    .path(executor.keys());
    for (method, path, body) in [
        ("POST", "/api/v1/accounts".to_owned(), json!({"account_name": "一号"})),
        (
            "POST",
            "/api/v1/accounts".to_owned(),
            json!({"account_name": "一号", "phone": "13800138000"}),
        ),
        ("PUT", format!("/api/v1/accounts/{id}/login"), json!({})),
        ("POST", format!("/api/v1/messages/{id}/cancel"), json!({})),
        ("POST", callback, json!({})),
    ] {
        let request = request(method, &path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN_A}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "k-1")
            .body(Body::from(body.to_string()))
            .unwrap();
        let answer = send(router.clone(), request).await;
        assert_eq!(answer.problem(), (503, "log.unavailable".to_owned()), "{path}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        if path == "/api/v1/accounts" {
            assert_json_snapshot!("log_unavailable", answer.shown());
        }
    }
}
