//! In which order messages go out.

use chrono::TimeDelta;
use serde_json::json;
use weft_domain::account::AccountConfig;
use weft_domain::message::MessageStatus as M;

use crate::world::{AUTO, Draft, Options, World};

async fn sent_texts(world: &World) -> Vec<String> {
    world
        .effective()
        .await
        .iter()
        .filter_map(|entry| Some(entry["content"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn higher_priority_goes_first_then_due_time_then_acceptance() {
    let world = World::start(AUTO).await;
    let account = world.create_account("顺序").await;
    // Accepted while nobody is online: all of them wait together.
    let soon = Some(TimeDelta::milliseconds(300));
    let drafts = [
        Draft {
            priority: 1,
            ..Draft::text("S:1001", "低")
        },
        Draft::text("S:1001", "中一"),
        Draft {
            priority: 10,
            delay: soon,
            ..Draft::text("S:1002", "高，稍后")
        },
        Draft {
            priority: 10,
            ..Draft::text("S:1003", "高，现在")
        },
        Draft::text("S:1001", "中二"),
    ];
    let mut ids = Vec::new();
    for draft in drafts {
        ids.push(world.send(account, draft).await);
    }
    world.log_in(account).await;
    for id in ids {
        world.message_in(id, &[M::Delivered]).await;
    }
    assert_eq!(sent_texts(&world).await, ["高，现在", "高，稍后", "中一", "中二", "低"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_waits_for_its_retry_holds_back_later_ones_but_not_more_urgent_ones() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("重试").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "error_code": 1014, "count": 1}))
        .await;
    let retried = world.text(account, "S:1001", "重试的").await;
    weft_platform::testing::until("it waits for its retry", async || {
        (world.message(retried).await.retry_count == 1).then_some(())
    })
    .await;
    let later = world.text(account, "S:1002", "后来的").await;
    let urgent = world
        .send(
            account,
            Draft {
                priority: 9,
                ..Draft::text("S:1003", "加急的")
            },
        )
        .await;
    for id in [retried, later, urgent] {
        world.message_in(id, &[M::Delivered]).await;
    }
    assert_eq!(sent_texts(&world).await, ["加急的", "重试的", "后来的"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_keeps_its_pace() {
    let world = World::start(AUTO).await;
    let config = AccountConfig {
        send_interval_ms: 400,
        ..AccountConfig::default()
    };
    let account = world.create_account_with("节奏", config).await;
    world.log_in(account).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(world.text(account, "S:1001", &n.to_string()).await);
    }
    let mut started = Vec::new();
    for id in ids {
        started.push(
            world
                .message_in(id, &[M::Delivered])
                .await
                .attempt_started_at
                .expect("attempted"),
        );
    }
    for pair in started.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(
            gap >= TimeDelta::milliseconds(390) && gap < TimeDelta::seconds(3),
            "{gap}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_account_does_not_keep_another_from_its_lane() {
    let world = World::start(Options {
        configure: Some(|config| config.dispatch.lanes = 1),
        ..AUTO
    })
    .await;
    let (busy, guid) = world.online_account("忙").await;
    let (quiet, _) = world.online_account("闲").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "latency_ms": 30}))
        .await;
    let mut ids = Vec::new();
    for n in 0..200 {
        ids.push(world.text(busy, "S:1001", &n.to_string()).await);
    }
    let one = world.text(quiet, "S:1001", "一条").await;
    world.message_in(one, &[M::Delivered]).await;
    let left = world.message(*ids.last().expect("the last")).await.status;
    assert_eq!(left, Some(M::Pending), "the busy one is not through yet");
}
