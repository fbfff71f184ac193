use axum::http::StatusCode;
use serde_json::json;
use uuid::Uuid;
use weft_platform::http::{ConsistencyToken, StreamMark};

use crate::support::{World, id};

fn token(marks: &[(Uuid, i64)]) -> String {
    let marks = marks
        .iter()
        .map(|(aggregate, version)| StreamMark {
            topic: "weft.events.account".to_owned(),
            partition: 0,
            order: (1, 1),
            aggregate_id: aggregate.to_string(),
            version: *version,
        })
        .collect();
    ConsistencyToken {
        log_id: Uuid::nil(),
        epoch: 1,
        marks,
    }
    .encode()
}

#[tokio::test]
async fn an_answer_says_whether_it_shows_what_the_token_names() {
    let world = World::new().await;
    world.account(id(1), json!({"version": 3})).await;
    world.message(id(5), json!({"version": 2})).await;
    let account = format!("/api/v1/accounts/{}", id(1));
    for (path, marks, met) in [
        (account.clone(), vec![(id(1), 3)], "true"),
        (account.clone(), vec![(id(1), 2)], "true"),
        (account.clone(), vec![(id(1), 4)], "false"),
        (account.clone(), vec![(id(1), 3), (id(5), 1)], "false"),
        (format!("{account}/status"), vec![(id(1), 3)], "true"),
        ("/api/v1/accounts".to_owned(), vec![(id(1), 3)], "true"),
        ("/api/v1/accounts?status=online".to_owned(), vec![(id(1), 3)], "false"),
        (format!("/api/v1/messages/{}/status", id(5)), vec![(id(5), 2)], "true"),
    ] {
        let token = token(&marks);
        let answer = world
            .get_with(&path, "dev-token-a", &[("weft-consistency", &token)])
            .await;
        assert_eq!(answer.headers["weft-consistency-met"], met, "{path} {marks:?}");
        let strict = [
            ("weft-consistency", token.as_str()),
            ("prefer", "handling=strict, wait=1"),
        ];
        let answer = world.get_with(&path, "dev-token-a", &strict).await;
        if met == "false" {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.body["code"], "view.behind");
            assert!(answer.headers.contains_key("retry-after"));
        } else {
            assert_ne!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}

#[tokio::test]
async fn what_the_view_does_not_have_yet_is_not_met() {
    let world = World::new().await;
    let path = format!("/api/v1/accounts/{}", id(1));
    let token = token(&[(id(1), 1)]);
    let answer = world
        .get_with(&path, "dev-token-a", &[("weft-consistency", &token)])
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.headers["weft-consistency-met"], "false");
    let strict = [("weft-consistency", token.as_str()), ("prefer", "handling=strict")];
    let answer = world.get_with(&path, "dev-token-a", &strict).await;
    assert_eq!(answer.body["code"], "view.behind");
    // Without a token nothing is said.
    let answer = world.get(&path).await;
    assert!(!answer.headers.contains_key("weft-consistency-met"));
}

#[tokio::test]
async fn several_tokens_must_all_be_met_and_rubbish_is_malformed() {
    let world = World::new().await;
    world.account(id(1), json!({"version": 3})).await;
    let path = format!("/api/v1/accounts/{}", id(1));
    let both = format!("{}, {}", token(&[(id(1), 3)]), token(&[(id(1), 2)]));
    let answer = world
        .get_with(&path, "dev-token-a", &[("weft-consistency", &both)])
        .await;
    assert_eq!(answer.headers["weft-consistency-met"], "true");
    let answer = world
        .get_with(&path, "dev-token-a", &[("weft-consistency", "rubbish")])
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.body["code"], "consistency.token_malformed");
}

#[tokio::test]
async fn graphql_says_it_in_its_extensions() {
    let world = World::new().await;
    world.account(id(1), json!({"version": 3})).await;
    let body = json!({"query": format!("{{ account(id: \"{}\") {{ id }} }}", id(1))});
    for (version, met) in [(3, true), (4, false)] {
        let token = token(&[(id(1), version)]);
        let headers = [
            ("authorization", "Bearer dev-token-a"),
            ("weft-consistency", token.as_str()),
        ];
        let answer = world.graphql_with(body.clone(), &headers).await;
        assert_eq!(answer.body["extensions"]["consistencyMet"], met);
        assert_eq!(
            answer.headers["weft-consistency-met"],
            if met { "true" } else { "false" }
        );
    }
}
