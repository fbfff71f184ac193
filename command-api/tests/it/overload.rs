//! More is asked than the log can take.

use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use tokio::time::Instant;
use weft_platform::testing::until;

use crate::support::{Answer, Api, TOKEN_A, request, send};

async fn create(api: &Api, name: &str) -> (Answer, Duration) {
    let request = request("POST", "/api/v1/accounts")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN_A}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json!({"account_name": name}).to_string()))
        .unwrap();
    let asked = Instant::now();
    (send(api.router(), request).await, asked.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_full_queues_a_command_is_refused_without_waiting_for_any_batch() {
    let api = Api::start_with(|config| {
        config.log.writers = 1;
        config.log.queue_commands = 1;
        // Nothing but a full queue refuses within this test.
        config.log.append_deadline_ms = 60_000;
        config.log.statement_timeout_ms = 60_000;
    })
    .await;
    // What is loaded is remembered.
    assert_eq!(create(&api, "before").await.0.status, 201);
    let admin = api.log.log.admin_pool().await;
    let mut held_up = admin.begin().await.unwrap();
    sqlx::query("lock table events in share mode")
        .execute(&mut *held_up)
        .await
        .unwrap();

    let in_hand = create(&api, "in hand");
    tokio::pin!(in_hand);
    let stands = until("the batch in hand waits for the lock", async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock' and query like '%append_commands%'",
        )
        .fetch_one(&admin)
        .await
        .unwrap();
        (waiting == 1).then_some(())
    });
    tokio::select! {
        (answer, _) = &mut in_hand => panic!("{}", answer.body()),
        () = stands => {}
    }
    // One of these has room to wait; the answers of the others come while no batch can end.
    let names: Vec<String> = (0..9).map(|n| format!("racing {n}")).collect();
    let mut racing: FuturesUnordered<_> = names.iter().map(|name| create(&api, name)).collect();
    let mut took = Vec::new();
    for _ in 0..8 {
        let (answer, elapsed) = racing.next().await.unwrap();
        assert_eq!(answer.problem(), (503, "log.unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), Some("1"));
        took.push(elapsed);
    }
    took.sort();
    assert!(took[4] < Duration::from_millis(50), "{took:?}");
    held_up.rollback().await.unwrap();
    let ((first, _), waited) = tokio::join!(in_hand, racing.next());
    assert_eq!(first.status, 201);
    assert_eq!(waited.unwrap().0.status, 201);
    let stored: i64 = sqlx::query_scalar("select count(*) from events where event_type = 'AccountCreated'")
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(stored, 3);
}
