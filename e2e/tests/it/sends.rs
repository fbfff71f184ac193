//! Messages go out: every type, planned, throttled, refused; everybody tells the same.

use std::time::Duration;

use serde_json::{Value, json};
use weft_e2e::{Options, World, until};

const AUTO: Options = Options {
    auto_scan: Some("100ms"),
    read_after: None,
    environment: Vec::new(),
};

async fn send(world: &World, account: &str, conversation: &str, message_type: &str, content: Value) -> String {
    let body = json!({
        "account_id": account,
        "conversation_id": conversation,
        "message_type": message_type,
        "content": content,
    });
    let answer = world.api.post("/api/v1/messages/send", body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.body["message_id"].as_str().expect("an id").to_owned()
}

/// Waits until views and facts equal a recount of the log.
async fn views_settle(world: &World) {
    let differences = world.view_differences(Duration::from_secs(20)).await;
    assert!(differences.is_empty(), "{differences:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_is_sent_and_delivered_and_every_view_tells_it() {
    let world = World::start(Options {
        read_after: Some("100ms"),
        ..AUTO
    })
    .await;
    let (account, _) = world.online_account("发送账号").await;
    let file = json!({"file_id": "f-1", "aes_key": "k", "md5": "m", "size": 10, "name": "报价单.pdf"});
    let ids = [
        send(&world, &account, "S:1001", "text", json!({"text": "您好"})).await,
        send(
            &world,
            &account,
            "S:1001",
            "image",
            json!({"url": "http://127.0.0.1/a.png"}),
        )
        .await,
        send(&world, &account, "R:2001", "file", file).await,
        send(
            &world,
            &account,
            "R:2001",
            "link",
            json!({"title": "活动", "url": "https://example.com/a"}),
        )
        .await,
        send(
            &world,
            &account,
            "S:1002",
            "miniprogram",
            json!({"username": "gh_1", "appid": "wx1", "appname": "商城", "title": "订单", "page_path": "pages/a"}),
        )
        .await,
        send(
            &world,
            &account,
            "R:2001",
            "at",
            json!({"text": "请查收", "mentions": ["u1", "u2"]}),
        )
        .await,
    ];
    for id in &ids {
        let message = world.message_in(id, &["delivered"]).await;
        assert!(
            message["wework_msg_id"].is_string() && message["send_time"].is_string(),
            "{message}"
        );
    }
    until("read reports arrive", Duration::from_secs(20), async || {
        let message = world.api.get(&format!("/api/v1/messages/{}", ids[0])).await.body;
        message["read_time"].is_string().then_some(())
    })
    .await;
    views_settle(&world).await;
    assert_eq!(
        world
            .ledger()
            .await
            .iter()
            .filter(|entry| entry["effective"] == true)
            .count(),
        ids.len()
    );

    until("every conversation is listed", Duration::from_secs(20), async || {
        let conversations = world
            .api
            .get(&format!("/api/v1/accounts/{account}/conversations"))
            .await
            .body;
        (conversations["total"] == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_message_is_never_early_and_a_refused_one_tells_why() {
    let world = World::start(AUTO).await;
    let (account, _) = world.online_account("计划账号").await;
    let planned = chrono_now_plus_seconds(2);
    let body = json!({
        "account_id": account,
        "conversation_id": "S:1001",
        "message_type": "text",
        "content": {"text": "稍后发送"},
        "send_time": planned,
    });
    let answer = world.api.post("/api/v1/messages/send", body).await;
    let id = answer.body["message_id"].as_str().expect("an id").to_owned();
    let refused = world.api.send_text(&account, "S:0123", "坏会话").await;
    let stranger = world.api.send_text(&account, "S:9123", "外部联系人").await;

    let message = world.message_in(&refused, &["failed"]).await;
    assert_eq!(message["error_code"], "wecom.-2003", "{message}");
    let message = world.message_in(&stranger, &["failed"]).await;
    assert_eq!(message["error_code"], "wecom.-4017", "{message}");
    let message = world.message_in(&id, &["sent", "delivered"]).await;
    let (sent, planned) = (message["send_time"].as_str().expect("a time"), planned.as_str());
    assert!(sent >= planned, "sent {sent}, planned {planned}");
    views_settle(&world).await;
}

/// RFC 3339 with milliseconds, as the API has it.
fn chrono_now_plus_seconds(seconds: i64) -> String {
    let time = weft_platform::clock::Clock::system().now() + chrono::TimeDelta::seconds(seconds);
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_account_cools_down_probes_and_goes_on() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("限流账号").await;
    assert_eq!(
        world
            .simulator_post(&format!("/_sim/clients/{guid}/restrict"), json!({}))
            .await,
        200
    );
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(world.api.send_text(&account, "S:1001", &format!("第 {n} 条")).await);
    }
    world.account_in(&account, &["rate_limited"]).await;
    assert_eq!(
        world
            .simulator_post(&format!("/_sim/clients/{guid}/lift"), json!({}))
            .await,
        200
    );
    for id in &ids {
        world.message_in(id, &["delivered"]).await;
    }
    world.account_in(&account, &["online"]).await;
    let first = world.api.get(&format!("/api/v1/messages/{}", ids[0])).await.body;
    assert!(first["retry_count"].as_u64() >= Some(1), "{first}");
    let effective = world
        .ledger()
        .await
        .iter()
        .filter(|entry| entry["effective"] == true)
        .count();
    assert_eq!(effective, ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_while_disabled_and_are_cancelled_with_the_account() {
    let world = World::start(AUTO).await;
    let account = world.create_account("停用账号").await;
    let waits = world.api.send_text(&account, "S:1001", "等待上线").await;
    let answer = world
        .api
        .post(
            &format!("/api/v1/accounts/{account}/disable"),
            json!({"reason": "维护"}),
        )
        .await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let refused = json!({
        "account_id": account, "conversation_id": "S:1", "message_type": "text", "content": {"text": "x"},
    });
    assert_eq!(
        world.api.post("/api/v1/messages/send", refused.clone()).await.body["code"],
        "account.wrong_status"
    );
    assert_eq!(
        world.api.delete(&format!("/api/v1/accounts/{account}")).await.status,
        202
    );
    let message = world.message_in(&waits, &["cancelled"]).await;
    assert_eq!(message["error_code"], "account.deleted", "{message}");
    assert_eq!(world.api.post("/api/v1/messages/send", refused).await.status, 404);
}
