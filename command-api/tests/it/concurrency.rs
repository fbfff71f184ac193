//! Many callers at once.

use axum::body::Body;
use axum::http::header;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Answer, Api, TOKEN_A, request, send, text_message};

/// `count` times the same POST, all at once.
async fn all_at_once(api: &Api, count: usize, path: &str, body: &Value, key: Option<&str>) -> Vec<Answer> {
    let calls = (0..count).map(|_| {
        let mut call = request("POST", path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN_A}"))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            call = call.header("idempotency-key", key);
        }
        tokio::spawn(send(api.router(), call.body(Body::from(body.to_string())).unwrap()))
    });
    join_all(calls).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_callers_with_one_key_get_one_message() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let answers = all_at_once(
        &api,
        20,
        "/api/v1/messages/send",
        &text_message(account, "你好"),
        Some("k-1"),
    )
    .await;
    let replayed = answers
        .iter()
        .filter(|answer| answer.header("idempotent-replayed") == Some("true"))
        .count();
    assert_eq!(replayed, 19);
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.bytes), (202, &answers[0].bytes));
        assert_eq!(answer.header("weft-consistency"), answers[0].header("weft-consistency"));
    }
    assert_eq!(api.event_count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_callers_gets_a_name() {
    let api = Api::start().await;
    let answers = all_at_once(&api, 20, "/api/v1/accounts", &json!({"account_name": "一号"}), None).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers
        .iter()
        .filter(|answer| answer.problem() == (409, "account.name_taken".to_owned()))
        .count();
    assert_eq!((created, refused), (1, 19));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_decided_again_and_never_told() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let path = format!("/api/v1/accounts/{account}/disable");
    let answers = all_at_once(&api, 20, &path, &json!({"reason": "x"}), None).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 202 && answer.etag() == "\"2\"")
    );
    assert_eq!(api.event_count().await, 2);
}
