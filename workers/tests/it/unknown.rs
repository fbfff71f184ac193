//! Never twice without knowing: what happens when WeCom's answer is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use weft_domain::message::{MessageCommand, MessageStatus as M, MessageType, ResolvedBy, ResolvedOutcome};
use weft_log_writer::testing::options;
use weft_platform::clock::Clock;
use weft_platform::testing::until_within;

use crate::world::{AUTO, Draft, Options, World};

/// Sends 50 identical texts to one conversation while some of the answers are lost; answers how many ended how.
async fn fifty(world: &World, fault: serde_json::Value) -> BTreeMap<&'static str, usize> {
    let (account, guid) = world.online_account("重复文本").await;
    let mut fault = fault;
    fault["guid"] = json!(guid);
    fault["path"] = json!("/msg/send_text");
    world.fault(fault).await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(world.text(account, "S:1001", "同样的内容").await);
    }
    until_within("all fifty have ended", Duration::from_mins(2), async || {
        let mut counted: BTreeMap<&'static str, usize> = BTreeMap::new();
        for id in &ids {
            *counted.entry(world.message(*id).await.status?.as_str()).or_default() += 1;
        }
        let moving = ["pending", "sending", "sent"]
            .iter()
            .any(|status| counted.contains_key(*status));
        (!moving).then_some(counted)
    })
    .await
}

fn short_unknown() -> Options {
    Options {
        configure: Some(|config| config.dispatch.unknown_timeout_seconds = 2),
        ..AUTO
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_identical_texts_with_answers_lost_after_reading_are_all_settled_by_their_callbacks() {
    let world = World::start(short_unknown()).await;
    let counted = fifty(&world, json!({"close": "after_reading", "probability": 0.3, "seed": 7})).await;
    assert_eq!(counted, BTreeMap::from([("delivered", 50)]));
    assert_eq!(world.effective().await.len(), 50, "WeCom took each once");
    let settled: i64 = sqlx::query_scalar("select count(*) from events where event_type = 'OutcomeResolved'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(settled > 3, "{settled} answers were lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_identical_texts_closed_before_reading_leave_exactly_the_unsent_ones_unknown() {
    let world = World::start(short_unknown()).await;
    let counted = fifty(&world, json!({"close": "before_reading", "count": 3})).await;
    assert_eq!(counted, BTreeMap::from([("delivered", 47), ("unknown", 3)]));
    assert_eq!(world.effective().await.len(), 47);
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_come_late_and_twice_still_settle_the_right_ones() {
    let world = World::start(Options {
        configure: Some(|config| config.dispatch.unknown_timeout_seconds = 4),
        ..AUTO
    })
    .await;
    world
        .fault(json!({"callback": "delay", "delay_ms": 900, "notify_type": 11013, "count": 20}))
        .await;
    world
        .fault(json!({"callback": "duplicate", "notify_type": 11013}))
        .await;
    let counted = fifty(&world, json!({"close": "after_reading", "count": 4})).await;
    assert_eq!(counted, BTreeMap::from([("delivered", 50)]));
    assert_eq!(world.effective().await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_holds_back_its_conversation_and_nobody_else() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("只停一个会话").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "close": "before_reading", "count": 1}))
        .await;
    let unknown = world.text(account, "S:1001", "结果未知").await;
    world.message_in(unknown, &[M::Unknown]).await;
    let behind = world.text(account, "S:1001", "在后面").await;
    let beside = world.text(account, "S:1002", "在旁边").await;
    world.message_in(beside, &[M::Delivered]).await;
    assert_eq!(world.message(behind).await.status, Some(M::Pending));
    // Until its time is over.
    world.message_in(behind, &[M::Delivered]).await;
    let message = world.message(unknown).await;
    assert_eq!(
        (message.status, message.error_code.as_deref()),
        (Some(M::Unknown), Some("message.outcome_unknown"))
    );
    assert_eq!(world.effective().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_content_is_settled_by_its_callback_too() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("文件结果未知").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_file", "close": "after_reading", "count": 1}))
        .await;
    let content = json!({"url": "https://files.example/c.pdf", "name": "合同.pdf"});
    let id = world
        .send(account, Draft::of("R:2001", MessageType::File, content))
        .await;
    let message = world.message_in(id, &[M::Delivered]).await;
    assert!(message.receipt.is_some(), "{message:?}");
    assert_eq!(world.effective().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lets_an_unknown_message_be_sent_again() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("人工处理").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "close": "before_reading", "count": 1}))
        .await;
    let id = world.text(account, "S:1001", "没有送到").await;
    world.message_in(id, &[M::Unknown]).await;
    let told = world.message(id).await.error_message.expect("a reason");
    assert!(
        told.starts_with("it is not known whether WeCom took the message: the connection broke"),
        "{told}"
    );
    assert!(
        told.ends_with("resolve the message as sent, failed or resend"),
        "{told}"
    );
    let command = MessageCommand::Resolve {
        outcome: ResolvedOutcome::Resend,
        by: ResolvedBy::Operator,
        reason: Some("客户没有收到".to_owned()),
        receipt: None,
        now: Clock::system().now(),
    };
    let resolved = world
        .executor
        .execute::<weft_domain::message::Message>(&id.to_string(), command, &options(world.tenant))
        .await;
    resolved.expect("an operator may");
    world.message_in(id, &[M::Delivered]).await;
    assert_eq!(world.effective().await.len(), 1);
}
