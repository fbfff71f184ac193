//! Messages of every type, and every certain end.

use chrono::TimeDelta;
use serde_json::{Value, json};
use weft_domain::account::{AccountCommand, AccountStatus};
use weft_domain::message::{MessageStatus as M, MessageType};
use weft_platform::clock::Clock;
use weft_platform::testing::until;

use crate::world::{AUTO, Draft, Options, World};

#[tokio::test(flavor = "multi_thread")]
async fn each_type_is_sent_as_its_own_call_and_delivered() {
    let world = World::start(AUTO).await;
    let (account, _) = world.online_account("六种消息").await;
    let url = "https://files.example/a.png";
    let stored = json!({"file_id": "f1", "aes_key": "k", "md5": "m", "size": 3});
    let drafts = [
        (Draft::text("S:1001", "您好"), "/msg/send_text"),
        (
            Draft::of("S:1001", MessageType::Image, json!({"url": url})),
            "/msg/send_image",
        ),
        (Draft::of("S:1001", MessageType::Image, stored), "/msg/send_image"),
        (
            Draft::of("S:1001", MessageType::File, json!({"url": url, "name": "报价.pdf"})),
            "/msg/send_file",
        ),
        (
            Draft::of(
                "S:1001",
                MessageType::Link,
                json!({"title": "新品", "url": "https://a.example"}),
            ),
            "/msg/send_link",
        ),
        (
            Draft::of(
                "R:2001",
                MessageType::Miniprogram,
                json!({"username": "u", "appid": "a", "appname": "n", "title": "t", "page_path": "p", "cover_url": url}),
            ),
            "/msg/send_weapp",
        ),
        (
            Draft::of(
                "R:2001",
                MessageType::At,
                json!({"text": "开会", "mentions": ["1", "2"]}),
            ),
            "/msg/send_room_at",
        ),
    ];
    let mut sent = Vec::new();
    for (draft, path) in drafts {
        sent.push((world.send(account, draft).await, path));
    }
    for (id, _) in &sent {
        world.message_in(*id, &[M::Delivered]).await;
    }
    let ledger = world.ledger().await;
    let paths: Vec<&str> = ledger.iter().filter_map(|entry| entry["path"].as_str()).collect();
    let expected: Vec<&str> = sent.iter().map(|(_, path)| *path).collect();
    assert_eq!(paths, expected);
    let at = ledger.last().expect("the mention");
    assert_eq!(at["body"]["content"], "{$@}{$@}开会");
    assert_eq!(at["body"]["at_list"], json!(["1", "2"]));
    assert!(
        ledger[1]["body"]["file_id"]
            .as_str()
            .is_some_and(|id| id.starts_with("cdn_")),
        "{}",
        ledger[1]
    );
    assert_eq!(ledger[3]["body"]["file_name"], "报价.pdf");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wecom_refuses_fails_with_its_number_and_holds_nobody_back() {
    let world = World::start(AUTO).await;
    let (account, _) = world.online_account("拒绝").await;
    let unknown = world.text(account, "S:0001", "没有这个人").await;
    let external = world.text(account, "S:9001", "外部联系人").await;
    let good = world.text(account, "S:1001", "正常").await;
    world.message_in(good, &[M::Delivered]).await;
    let unknown = world.message_in(unknown, &[M::Failed]).await;
    assert_eq!(unknown.error_code.as_deref(), Some("wecom.-2003"));
    let external = world.message_in(external, &[M::Failed]).await;
    assert_eq!(external.error_code.as_deref(), Some("wecom.-4017"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_account_cools_down_probes_with_the_oldest_held_message_and_goes_on() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("限流").await;
    world.simulate(&guid, "restrict", json!({})).await;
    let first = world.text(account, "S:1001", "第一条").await;
    world.account_in(account, &[AccountStatus::RateLimited]).await;
    let urgent = world
        .send(
            account,
            Draft {
                priority: 10,
                ..Draft::text("S:1002", "加急")
            },
        )
        .await;
    // The first probe is refused too, and lengthens the cool-down.
    until("a second cool-down", async || {
        (world.account(account).await.cooldown >= 2).then_some(())
    })
    .await;
    world.simulate(&guid, "lift", json!({})).await;
    let message = world.message_in(first, &[M::Delivered]).await;
    world.message_in(urgent, &[M::Delivered]).await;
    world.account_in(account, &[AccountStatus::Online]).await;
    assert!(message.retry_count >= 2, "{message:?}");
    let effective = world.effective().await;
    let contents: Vec<&Value> = effective.iter().map(|entry| &entry["content"]).collect();
    assert_eq!(
        contents,
        [&json!("第一条"), &json!("加急")],
        "the oldest is the probe, whatever its priority"
    );
    // The urgent one was held all the time.
    assert_eq!(world.message(urgent).await.attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_message_is_sent_at_its_time_and_holds_nobody_back() {
    let world = World::start(AUTO).await;
    let (account, _) = world.online_account("定时").await;
    let delay = Some(TimeDelta::milliseconds(2_500));
    let planned = world
        .send(
            account,
            Draft {
                priority: 10,
                delay,
                ..Draft::text("S:1001", "稍后")
            },
        )
        .await;
    let now = world.text(account, "S:1001", "马上").await;
    world.message_in(now, &[M::Delivered]).await;
    assert_eq!(world.message(planned).await.status, Some(M::Pending));
    let message = world.message_in(planned, &[M::Delivered]).await;
    let due = message.accepted.expect("accepted").scheduled_time.expect("planned");
    let late = message.attempt_started_at.expect("attempted") - due;
    assert!(late >= TimeDelta::zero() && late <= TimeDelta::seconds(2), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_is_not_ready_is_tried_again_and_then_sends() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("未就绪").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "error_code": 1014, "count": 2}))
        .await;
    let id = world.text(account, "S:1001", "等一下").await;
    let message = world.message_in(id, &[M::Delivered]).await;
    assert_eq!(message.retry_count, 2);
    assert_eq!(world.account(account).await.status, Some(AccountStatus::Online));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_never_becomes_ready_fails_the_message_and_not_before_its_time() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("一直未就绪").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "error_code": 1014}))
        .await;
    let id = world.text(account, "S:1001", "等不到").await;
    let message = world.message_in(id, &[M::Failed]).await;
    assert_eq!(message.error_code.as_deref(), Some("wecom.1014"));
    assert!(message.retry_count >= 2, "{message:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_for_an_account_that_is_not_online() {
    let world = World::start(AUTO).await;
    let account = world.create_account("尚未登录").await;
    let id = world.text(account, "S:1001", "先等着").await;
    world.log_in(account).await;
    world.message_in(id, &[M::Delivered]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_holds_messages_and_deleting_cancels_them_planned_ones_too() {
    let world = World::start(AUTO).await;
    let (account, _) = world.online_account("停用").await;
    let delay = Some(TimeDelta::seconds(3));
    let soon = world
        .send(
            account,
            Draft {
                delay,
                ..Draft::text("S:1001", "三秒后")
            },
        )
        .await;
    let later = world
        .send(
            account,
            Draft {
                delay: Some(TimeDelta::days(1)),
                ..Draft::text("S:1001", "明天")
            },
        )
        .await;
    world
        .act(
            account,
            AccountCommand::Disable {
                reason: "休假".to_owned(),
                now: Clock::system().now(),
            },
        )
        .await;
    until("the planned time is long past", async || {
        let due = world.message(soon).await.accepted?.scheduled_time?;
        (Clock::system().now() - due > TimeDelta::seconds(1)).then_some(())
    })
    .await;
    assert_eq!(world.message(soon).await.status, Some(M::Pending));
    world
        .act(
            account,
            AccountCommand::Delete {
                now: Clock::system().now(),
            },
        )
        .await;
    for id in [soon, later] {
        let message = world.message_in(id, &[M::Cancelled]).await;
        assert_eq!(message.error_code.as_deref(), Some("account.deleted"));
    }
    assert_eq!(world.ledger().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_be_reached_is_tried_until_it_can() {
    let world = World::start(Options {
        configure: Some(|config| config.heartbeat.interval_seconds = 600),
        ..AUTO
    })
    .await;
    let (account, guid) = world.online_account("网络").await;
    world
        .fault(json!({"guid": guid, "path": "/cloud/cdn_c2c_upload", "close": "after_reading", "count": 2}))
        .await;
    let image = Draft::of(
        "S:1001",
        MessageType::Image,
        json!({"url": "https://files.example/b.png"}),
    );
    let id = world.send(account, image).await;
    let message = world.message_in(id, &[M::Delivered]).await;
    // Nothing was sent by an upload, so its lost answer is no unknown outcome.
    assert_eq!(message.retry_count, 2);
    assert_eq!(world.ledger().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_report_is_recorded() {
    let world = World::start(Options {
        read_after: Some(std::time::Duration::from_millis(100)),
        ..AUTO
    })
    .await;
    let (account, _) = world.online_account("已读").await;
    let id = world.text(account, "S:1001", "看到请回").await;
    until("it is read", async || world.message(id).await.read_at).await;
    assert_eq!(world.message(id).await.status, Some(M::Delivered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_found_dead_by_a_send_costs_no_message() {
    let world = World::start(Options {
        configure: Some(|config| config.heartbeat.interval_seconds = 600),
        ..AUTO
    })
    .await;
    let (account, guid) = world.online_account("会话失效").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "error_code": -102, "count": 1}))
        .await;
    let id = world.text(account, "S:1001", "会话失效时").await;
    world.account_in(account, &[AccountStatus::AuthError]).await;
    world.start_login(account).await;
    world.message_in(id, &[M::Delivered]).await;
    assert_eq!(world.effective().await.len(), 1);
}
