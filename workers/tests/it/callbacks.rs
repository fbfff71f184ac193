//! Callbacks: in order, once, and nothing that is not for the account as it is.

use serde_json::{Value, json};
use uuid::Uuid;
use weft_domain::account::AccountStatus;
use weft_domain::conversation::Conversation;
use weft_domain::{AccountId, ConversationId};
use weft_platform::callback_token::CallbackAddress;
use weft_platform::testing::until;

use crate::world::{AUTO, Options, World};

async fn address(world: &World, account: AccountId) -> CallbackAddress {
    let attempt = world.account(account).await.login.expect("a login").attempt;
    CallbackAddress {
        account_id: account.0,
        attempt_id: attempt.0,
    }
}

/// What became of a callback.
async fn outcome(world: &World, id: Uuid) -> (String, Option<String>) {
    until("the callback is interpreted", async || {
        let row: (String, Option<String>) =
            sqlx::query_as("select status, error_message from workers.callback_events where id = $1")
                .bind(id)
                .fetch_one(&world.pool)
                .await
                .ok()?;
        (row.0 != "received").then_some(row)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_for_the_account_as_it_is_is_ignored_with_its_reason() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("回调").await;
    let now = address(&world, account).await;
    let before = CallbackAddress {
        attempt_id: Uuid::from_u128(7),
        ..now
    };
    let body = |guid: &str, notify_type: i64| json!({"guid": guid, "notify_type": notify_type, "data": {}});
    let ignored: [(CallbackAddress, Value, &str); 9] = [
        (before, body(&guid, 11007), "attempt_over"),
        (now, body("another", 11007), "guid_mismatch"),
        (now, body(&guid, 2131), "unknown_type"),
        (now, json!("no object"), "not a JSON object"),
        (
            now,
            json!({"guid": guid, "notify_type": 11002, "data": 1}),
            "malformed: notify_type 11002 came without the data it needs",
        ),
        (
            now,
            json!({"guid": guid, "notify_type": 11007, "data": "gone"}),
            "malformed: notify_type 11007 came without the data it needs",
        ),
        (
            now,
            json!({"guid": guid, "notify_type": "11007", "data": {}}),
            "malformed: no notify_type that is a whole number",
        ),
        // No column holds a NUL; the callbacks behind it must not wait for it.
        (now, body("\0", 11007), "guid_mismatch"),
        (
            now,
            json!({"guid": guid, "notify_type": 11008, "data": {}}),
            "refused: FailLogin is not possible while the account is online",
        ),
    ];
    for (address, body, reason) in ignored {
        let id = world.ingress.store(address, body.to_string().as_bytes()).await;
        let (status, message) = outcome(&world, id).await;
        assert_eq!(
            (status.as_str(), message.as_deref()),
            ("ignored", Some(reason)),
            "{body}"
        );
    }
    let rubbish = world.ingress.store(now, b"\xff\x00").await;
    assert_eq!(
        outcome(&world, rubbish).await,
        ("ignored".to_owned(), Some("not JSON".to_owned()))
    );
    assert_eq!(world.account(account).await.status, Some(AccountStatus::Online));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_session_callback_leads_to_its_status() {
    let world = World::start(AUTO).await;
    for (action, status) in [
        ("logout", AccountStatus::Offline),
        ("session_timeout", AccountStatus::AuthError),
        ("drop", AccountStatus::NetworkError),
    ] {
        let (account, guid) = world.online_account(action).await;
        world.simulate(&guid, action, json!({})).await;
        world.account_in(account, &[status]).await;
    }
    let (account, _) = world.online_account("其他设备").await;
    let address = address(&world, account).await;
    world
        .ingress
        .store(
            address,
            json!({"notify_type": 11011, "data": {}}).to_string().as_bytes(),
        )
        .await;
    let account = world.account_in(account, &[AccountStatus::Offline]).await;
    assert_eq!(account.reason.as_deref(), Some("other_device"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incoming_message_told_twice_is_received_once() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("来信").await;
    world.fault(json!({"guid": guid, "callback": "duplicate"})).await;
    for content in ["在吗", "请报价"] {
        let body = json!({
            "conversation_id": "S:1001", "sender": "1001", "sender_name": "王芳", "content": content,
        });
        world.simulate(&guid, "incoming", body).await;
    }
    let id = ConversationId::of(account, &"S:1001".parse().expect("a conversation id"));
    let conversation = until("both are received", async || {
        let loaded = world.executor.load::<Conversation>(&id.to_string()).await.ok()?;
        (loaded.state.unread_count >= 2).then_some(loaded.state)
    })
    .await;
    until("all callbacks are interpreted", async || {
        let rows = world.callback_rows(account).await;
        let messages = rows
            .iter()
            .filter(|row| matches!(row.2.as_deref(), Some("message")))
            .count();
        (messages >= 4 && rows.iter().all(|row| row.1 != "received")).then_some(())
    })
    .await;
    assert_eq!(conversation.unread_count, 2);
    let stored: Vec<Value> = sqlx::query_scalar("select payload from events where event_type = 'MessageReceived'")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert!(
        stored.iter().all(|payload| !payload.to_string().contains("王芳")),
        "people's data is sealed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_a_callback_in_clear_is_nothing_personal() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("隐私").await;
    let body = json!({
        "conversation_id": "S:1001", "sender": "1001", "sender_name": "李敏", "content": "我的电话是 13800001111",
    });
    world.simulate(&guid, "incoming", body).await;
    until("it is interpreted", async || {
        let rows = world.callback_rows(account).await;
        rows.iter()
            .any(|row| row.2.as_deref() == Some("message") && row.1 == "processed")
            .then_some(())
    })
    .await;
    let rows: Vec<String> = sqlx::query_scalar("select to_jsonb(c)::text from workers.callback_events c")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    let profile = world.account(account).await.account_name;
    assert!(!profile.is_empty());
    for row in rows {
        assert!(
            !row.contains("李敏") && !row.contains("13800001111") && !row.contains("蔚风"),
            "{row}"
        );
    }
}

/// The payload of what was received of `sender`, once it was.
async fn received_from(world: &World, account: AccountId, sender: &str) -> Value {
    let id = ConversationId::of(account, &format!("S:{sender}").parse().expect("a conversation id"));
    until("it is received", async || {
        sqlx::query_scalar("select payload from events where event_type = 'MessageReceived' and aggregate_id = $1")
            .bind(id.to_string())
            .fetch_optional(&world.pool)
            .await
            .ok()?
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_none_stops_nobody_and_gets_into_no_event() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("时间").await;
    let now = address(&world, account).await;
    let message = |id: &str, own: i64, time: i64| {
        json!({"id": id, "appinfo": format!("app{id}"), "sender": id, "receiver": "5551", "roomid": "0",
            "sendtime": time, "content": "x", "send_flag": own, "msg_type": 2})
    };
    let sent = world.text(account, "S:2002", "读").await;
    let sent = world
        .message_in(sent, &[weft_domain::message::MessageStatus::Delivered])
        .await;
    let receipt = sent.receipt.expect("a delivered message has a receipt");
    for (id, time) in [
        ("91", -300_000_000_000),
        ("92", 300_000_000_000),
        ("93", -100_000_000_000),
        ("94", 0),
    ] {
        let own = json!({"guid": guid, "notify_type": 11013, "data": [message(&format!("{id}0"), 1, time)]});
        let incoming = json!({"guid": guid, "notify_type": 11010, "data": message(id, 0, time)});
        let mut read = message(&format!("{id}1"), 0, time);
        read["msg_type"] = json!(1012);
        read["content"] = json!({"msgids": [receipt.wework_msg_id], "appinfos": [receipt.appinfo], "read_time": time});
        let read = json!({"guid": guid, "notify_type": 11010, "data": read});
        for body in [own, incoming, read] {
            let id = world.ingress.store(now, body.to_string().as_bytes()).await;
            assert_eq!(outcome(&world, id).await, ("processed".to_owned(), None), "{body}");
        }
        let payload = received_from(&world, account, id).await;
        let sent_at: chrono::DateTime<chrono::Utc> = payload["sent_at"].as_str().unwrap().parse().unwrap();
        let at: chrono::DateTime<chrono::Utc> = payload["at"].as_str().unwrap().parse().unwrap();
        assert!(
            (at - sent_at).num_seconds().abs() < 60,
            "the time it came in stands in: {payload}"
        );
    }
    let read_at = world
        .message(weft_domain::MessageId(
            receipt_message(&world, &receipt.wework_msg_id).await,
        ))
        .await;
    assert!(read_at.read_at.is_some_and(|at| at >= sent.sent_at.unwrap()));
}

async fn receipt_message(world: &World, wework_msg_id: &str) -> Uuid {
    sqlx::query_scalar("select message_id from workers.receipts where wework_msg_id = $1")
        .bind(wework_msg_id)
        .fetch_one(&world.pool)
        .await
        .expect("a receipt")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_can_never_be_carried_out_fails_alone_with_its_reason() {
    let world = World::start(Options {
        configure: Some(|config| config.log.max_event_bytes = 16 * 1024),
        ..AUTO
    })
    .await;
    let (account, guid) = world.online_account("毒").await;
    let (other, other_guid) = world.online_account("邻").await;
    let (now, others) = (address(&world, account).await, address(&world, other).await);
    let body = |guid: &str, id: i64, content: &str| {
        let message = json!({"id": id, "sender": id, "sendtime": 1_767_225_600, "content": content, "msg_type": 2});
        json!({"guid": guid, "notify_type": 11010, "data": message}).to_string()
    };
    // Larger than any event may be.
    let poison = body(&guid, 71, &"长".repeat(20_000));
    let mut stored = Vec::new();
    for (address, body) in [
        (now, body(&guid, 70, "前")),
        (now, poison.clone()),
        (others, body(&other_guid, 72, "邻")),
        (now, poison),
        (now, body(&guid, 73, "后")),
    ] {
        stored.push(world.ingress.store(address, body.as_bytes()).await);
    }
    let failed = (
        "failed".to_owned(),
        Some("the log: an event is larger than log.max_event_bytes".to_owned()),
    );
    let done = ("processed".to_owned(), None);
    for (id, expected) in stored.iter().zip([&done, &failed, &done, &failed, &done]) {
        assert_eq!(outcome(&world, *id).await, *expected);
    }
    for (account, sender) in [(account, "70"), (other, "72"), (account, "73")] {
        received_from(&world, account, sender).await;
    }
    let health = &world.workers.as_ref().expect("workers run").health;
    until("the worker is well", async || {
        health.parts()["worker callbacks"].ready.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_whose_ids_no_text_can_hold_are_not_taken_for_one() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("同名").await;
    let now = address(&world, account).await;
    for sender in [r"\u0000", r"\ud800", r"\udc00"] {
        let message = format!(r#"{{"id": "1", "sender": "{sender}", "content": "x", "msg_type": 2}}"#);
        for (notify_type, data, reason) in [
            (
                11010,
                message.clone(),
                "malformed: notify_type 11010 came without the data it needs",
            ),
            (11013, format!("[{message}]"), "unreadable"),
        ] {
            let body = format!(r#"{{"guid": "{guid}", "notify_type": {notify_type}, "data": {data}}}"#);
            let id = world.ingress.store(now, body.as_bytes()).await;
            assert_eq!(
                outcome(&world, id).await,
                ("ignored".to_owned(), Some(reason.to_owned()))
            );
        }
    }
    let received: i64 = sqlx::query_scalar("select count(*) from events where event_type = 'MessageReceived'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(received, 0);
}
