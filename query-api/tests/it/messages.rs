use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{TENANT_A, TENANT_B, World, id};

fn ids(body: &Value) -> Vec<Uuid> {
    let messages = body["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|message| message["message_id"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_message_shows_every_field() {
    let world = World::new().await;
    let row = json!({
        "status": "delivered", "send_time": "2026-02-01T00:00:01.5Z", "callback_time": "2026-02-01T00:00:02Z",
        "read_time": "2026-02-01T00:01:00Z", "wework_msg_id": "1000042", "retry_count": 1, "batch_id": id(500),
        "batch_index": 0, "scheduled_time": "2026-02-01T00:00:01Z", "client_reference": "order-7", "version": 6,
    });
    world.message(id(1), row).await;
    let answer = world.get(&format!("/api/v1/messages/{}", id(1))).await;
    assert_eq!(answer.headers["etag"], "\"6\"");
    insta::assert_json_snapshot!("message", answer.body);
    let answer = world.get(&format!("/api/v1/messages/{}/status", id(1))).await;
    assert_eq!(answer.headers["etag"], "\"6\"");
    insta::assert_json_snapshot!("message_status", answer.body);
}

#[tokio::test]
async fn a_message_without_values_has_every_field_as_null() {
    let world = World::new().await;
    let row = json!({"status": "failed", "error_code": "wecom.-2003", "error_message": "refused", "content": null});
    world.message(id(1), row).await;
    insta::assert_json_snapshot!(
        "message_failed",
        world.get(&format!("/api/v1/messages/{}", id(1))).await.body
    );
}

#[tokio::test]
async fn a_message_that_is_not_there_is_not_found() {
    let world = World::new().await;
    world.message(id(2), json!({"tenant_id": TENANT_B})).await;
    for wanted in [id(1).to_string(), id(2).to_string(), "x".to_owned()] {
        for rest in ["", "/status"] {
            let answer = world.get(&format!("/api/v1/messages/{wanted}{rest}")).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            assert_eq!(answer.body["code"], "message.not_found");
        }
    }
}

#[tokio::test]
async fn filters_narrow_and_unknown_ids_find_nothing() {
    let world = World::new().await;
    let rows = [
        json!({"created_at": "2026-02-01T00:00:01Z", "batch_id": id(500), "batch_index": 2}),
        json!({"created_at": "2026-02-01T00:00:02Z", "batch_id": id(500), "batch_index": 0, "status": "sent"}),
        json!({"created_at": "2026-02-01T00:00:03Z", "batch_id": id(500), "batch_index": 1}),
        json!({"created_at": "2026-02-01T00:00:04Z", "account_id": id(2), "conversation_id": "R:5"}),
        json!({"created_at": "2026-02-01T00:00:04Z", "client_reference": "order 7"}),
    ];
    for (n, row) in rows.into_iter().enumerate() {
        world.message(id(n as u128 + 1), row).await;
    }
    world
        .message(id(90), json!({"tenant_id": TENANT_B, "account_id": id(9)}))
        .await;
    let newest: Vec<Uuid> = [5, 4, 3, 2, 1].map(id).into();
    for (query, wanted) in [
        (String::new(), newest),
        ("sort=created_at&size=2".to_owned(), vec![id(1), id(2)]),
        ("page=3&size=2".to_owned(), vec![id(1)]),
        ("page=4&size=2".to_owned(), vec![]),
        (format!("account_id={}", id(2)), vec![id(4)]),
        (format!("account_id={}", id(9)), vec![]),
        (format!("account_id={}", id(77)), vec![]),
        ("conversation_id=R:5".to_owned(), vec![id(4)]),
        ("conversation_id=S%3A404".to_owned(), vec![]),
        ("status=sent".to_owned(), vec![id(2)]),
        ("status=unknown".to_owned(), vec![]),
        ("client_reference=order+7".to_owned(), vec![id(5)]),
        (format!("batch_id={}", id(500)), vec![id(2), id(3), id(1)]),
        (
            format!("batch_id={}&sort=-created_at", id(500)),
            vec![id(3), id(2), id(1)],
        ),
        // From inclusive, to exclusive.
        (
            "from=2026-02-01T00:00:02Z&to=2026-02-01T00:00:04Z".to_owned(),
            vec![id(3), id(2)],
        ),
        ("from=2026-02-01T08:00:04%2B08:00".to_owned(), vec![id(5), id(4)]),
    ] {
        let answer = world.get(&format!("/api/v1/messages?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.body);
        assert_eq!(ids(&answer.body), wanted, "{query}");
    }
    let answer = world.get("/api/v1/messages?page=4&size=2").await;
    assert_eq!(answer.body["total"], 5);
}

#[tokio::test]
async fn every_wrong_parameter_is_listed() {
    let world = World::new().await;
    let answer = world
        .get(
            "/api/v1/messages?account_id=7&conversation_id=1001&status=read&batch_id=x&from=today&to=1&size=0&tenant=a",
        )
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    insta::assert_json_snapshot!("message_list_errors", answer.body);
}

#[tokio::test]
async fn totals_are_counted_to_ten_thousand() {
    let world = World::new().await;
    world
        .update(&format!(
            "insert into views_g1.messages (id, tenant_id, account_id, conversation_id, message_type, content, status, \
               priority, created_at, updated_at, version, epoch, transaction_id, position) \
             select gen_random_uuid(), '{TENANT_A}', '{}', 'S:' || (n % 3), 'text', '{{}}', 'sent', 5, \
               timestamptz '2026-02-01' + n * interval '1 second', now(), 1, 1, 1, n from generate_series(1, 10001) n",
            id(1)
        ))
        .await;
    let answer = world.get("/api/v1/messages").await;
    assert_eq!(answer.body["total"], 10_000);
    assert_eq!(answer.body["total_is_capped"], true);
    let answer = world.get("/api/v1/messages?page=101&size=100").await;
    assert_eq!(ids(&answer.body).len(), 1);
    let answer = world.get("/api/v1/messages?conversation_id=S:1").await;
    assert_eq!(
        (&answer.body["total"], &answer.body["total_is_capped"]),
        (&json!(3334), &json!(false))
    );

    world.account(id(1), json!({})).await;
    let query = "{ messages { totalCount totalIsCapped } accounts { nodes { messages(first: 1) { totalCount totalIsCapped } } } }";
    let capped = json!({"totalCount": 10_000, "totalIsCapped": true});
    let data = world.data(query, json!({})).await;
    assert_eq!(data["messages"], capped);
    assert_eq!(data["accounts"]["nodes"][0]["messages"], capped);
}
