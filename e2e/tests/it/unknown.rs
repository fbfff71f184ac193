//! Never twice without knowing: what happens when WeCom's answer is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use weft_e2e::{Options, World, until};

const AUTO: Options = Options {
    auto_scan: Some("100ms"),
    read_after: None,
    environment: Vec::new(),
};

/// Sends 50 identical texts to one conversation under a fault that breaks some of them; answers the statuses counted
/// and the effective sends in the ledger.
async fn fifty_identical_texts(fault: &str) -> (BTreeMap<String, usize>, usize) {
    // A short wait for settlement: each unknown one holds its conversation back.
    let world = World::start(Options {
        environment: vec![("WEFT__DISPATCH__UNKNOWN_TIMEOUT_SECONDS", "2")],
        ..AUTO
    })
    .await;
    let (account, guid) = world.online_account("重复文本").await;
    let fault = json!({"guid": guid, "path": "/msg/send_text", "close": fault, "count": 3});
    assert_eq!(world.simulator_post("/_sim/faults", fault).await, 201);
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(world.api.send_text(&account, "S:1001", "同样的内容").await);
    }
    let statuses = until("all fifty have ended", Duration::from_secs(90), async || {
        let page = world
            .api
            .get(&format!("/api/v1/messages?account_id={account}&size=100"))
            .await
            .body;
        let mut counted = BTreeMap::new();
        for message in page["messages"].as_array()? {
            *counted.entry(message["status"].as_str()?.to_owned()).or_insert(0_usize) += 1;
        }
        let moving = ["pending", "sending", "sent"]
            .iter()
            .any(|status| counted.contains_key(*status));
        (!moving && counted.values().sum::<usize>() == ids.len()).then_some(counted)
    })
    .await;
    let effective = world
        .ledger()
        .await
        .iter()
        .filter(|entry| entry["effective"] == true)
        .count();
    (statuses, effective)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_identical_texts_with_answers_lost_after_reading_are_all_settled_by_their_callbacks() {
    let (statuses, effective) = fifty_identical_texts("after_reading").await;
    // WeCom took every one exactly once, and the callbacks prove it.
    assert_eq!(
        (statuses.get("delivered").copied(), effective),
        (Some(50), 50),
        "{statuses:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_identical_texts_closed_before_reading_leave_exactly_the_unsent_ones_unknown() {
    let (statuses, effective) = fifty_identical_texts("before_reading").await;
    // Nothing proves that these were not sent, so nobody sends them again.
    assert_eq!(statuses.get("unknown").copied(), Some(3), "{statuses:?}");
    assert_eq!(
        (statuses.get("delivered").copied(), effective),
        (Some(47), 47),
        "{statuses:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_settles_an_unknown_message() {
    let world = World::start(Options {
        environment: vec![("WEFT__DISPATCH__UNKNOWN_TIMEOUT_SECONDS", "2")],
        ..AUTO
    })
    .await;
    let (account, guid) = world.online_account("人工确认").await;
    let fault = json!({"guid": guid, "path": "/msg/send_text", "close": "before_reading", "count": 1});
    assert_eq!(world.simulator_post("/_sim/faults", fault).await, 201);
    let id = world.api.send_text(&account, "S:1001", "结果未知").await;
    let message = world.message_in(&id, &["unknown"]).await;
    assert_eq!(message["error_code"], "message.outcome_unknown", "{message}");
    let resolve = json!({"outcome": "resend", "reason": "客户没有收到"});
    let answer = world.api.post(&format!("/api/v1/messages/{id}/resolve"), resolve).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    world.message_in(&id, &["delivered"]).await;
    assert_eq!(world.ledger().await.len(), 1);
}
