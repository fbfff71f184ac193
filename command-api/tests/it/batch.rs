//! Batches: good entries are accepted whatever the others are.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Api, changed, text_message};

const BATCH: &str = "/api/v1/messages/batch-send";

fn text(text: &str) -> Value {
    json!({"conversation_id": "S:1688850000000001", "message_type": "text", "content": {"text": text}})
}

async fn send(api: &Api, account: Uuid, messages: Value) -> crate::support::Answer {
    api.call(
        "POST",
        BATCH,
        json!({"account_id": account, "task_name": "春节问候", "messages": messages}),
    )
    .await
}

#[tokio::test]
async fn bad_entries_do_not_stop_good_ones() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let messages = json!([
        text("一"),
        changed(&text("二"), json!({"priority": 11, "send_at": "now"})),
        7,
        changed(&text("四"), json!({"account_id": account})),
        changed(&text("五"), json!({"account_id": Uuid::from_u128(7)})),
        text("  "),
        text("七"),
    ]);
    let answer = send(&api, account, messages).await;
    assert_json_snapshot!(answer.shown());
    let body = answer.body();
    let ids: Vec<Option<Uuid>> = serde_json::from_value(body["message_ids"].clone()).unwrap();
    for (index, id) in ids.iter().enumerate().filter_map(|(index, id)| Some((index, (*id)?))) {
        let accepted = api.message_state(id).await.accepted.unwrap();
        assert_eq!(json!(accepted.batch_id), body["batch_id"], "{index}");
    }
    let indexes: Vec<i64> = sqlx::query_scalar(
        "select (payload->>'batch_index')::bigint from events where aggregate_type = 'message' order by position",
    )
    .fetch_all(&api.log.log.admin_pool().await)
    .await
    .unwrap();
    assert_eq!(indexes, [0, 3, 6]);
}

#[tokio::test]
async fn a_batch_without_a_good_entry_is_refused_with_every_error() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let answer = send(
        &api,
        account,
        json!([text(""), changed(&text("二"), json!({"content": {}}))]),
    )
    .await;
    assert_json_snapshot!(answer.shown());
}

#[tokio::test]
async fn a_thousand_messages_are_one_transaction() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let messages: Vec<Value> = (0..1_000).map(|n| text(&n.to_string())).collect();
    let answer = send(&api, account, json!(messages)).await;
    assert_eq!(answer.status, 202, "{}", answer.body());
    assert_eq!(
        (&answer.body()["success_count"], &answer.body()["errors"]),
        (&json!(1_000), &json!([]))
    );
    let transactions: i64 =
        sqlx::query_scalar("select count(distinct transaction_id) from events where aggregate_type = 'message'")
            .fetch_one(&api.log.log.admin_pool().await)
            .await
            .unwrap();
    assert_eq!(transactions, 1);
    assert!(answer.header("weft-consistency").is_some());
}

#[tokio::test]
async fn a_batch_of_another_size_or_form_is_refused() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let many: Vec<Value> = (0..1_001).map(|n| text(&n.to_string())).collect();
    assert_eq!(send(&api, account, json!(many)).await.errors(), ["/messages too_many"]);
    assert_eq!(send(&api, account, json!([])).await.errors(), ["/messages too_few"]);
    assert_eq!(send(&api, account, json!({})).await.errors(), ["/messages type"]);
    let answer = api
        .call("POST", BATCH, json!({"account_id": "x", "task_name": "", "name": "y"}))
        .await;
    assert_eq!(
        answer.errors(),
        [
            "/account_id format",
            "/task_name too_short",
            "/messages missing",
            "/name unknown"
        ]
    );
}

#[tokio::test]
async fn a_batch_is_replayed_by_its_key() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let body = json!({"account_id": account, "messages": [text("一"), text("")]});
    let key = [("idempotency-key", "b-1")];
    let first = api.call_with("POST", BATCH, Some(body.clone()), &key).await;
    let again = api.call_with("POST", BATCH, Some(body), &key).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(api.event_count().await, 2);
}

#[tokio::test]
async fn a_disabled_account_takes_no_batch() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    api.disable(account).await;
    assert_eq!(
        send(&api, account, json!([text("一")])).await.problem(),
        (409, "account.wrong_status".to_owned())
    );
    let single = text_message(account, "一");
    assert_eq!(api.call("POST", "/api/v1/messages/send", single).await.status, 409);
}
