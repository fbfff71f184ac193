use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::{TENANT_A, TENANT_B, World, config, id};

fn names(body: &Value) -> Vec<&str> {
    let accounts = body["accounts"].as_array().unwrap();
    accounts
        .iter()
        .map(|account| account["account_name"].as_str().unwrap())
        .collect()
}

async fn world_with_names() -> World {
    let world = World::new().await;
    for (n, (name, status)) in [
        ("销售一部", "online"),
        ("Support 50%", "offline"),
        ("support_b", "created"),
        ("gone", "deleted"),
    ]
    .into_iter()
    .enumerate()
    {
        let row = json!({
            "account_name": name, "status": status, "created_at": format!("2026-02-01T00:00:0{n}Z"),
        });
        world.account(id(n as u128 + 1), row).await;
    }
    world
        .account(
            id(9),
            json!({"tenant_id": TENANT_B, "account_name": "of another tenant"}),
        )
        .await;
    world
}

#[tokio::test]
async fn an_account_shows_every_field() {
    let world = World::with_keys().await;
    let subject = format!("account:{}", id(1));
    let phone = world.seal(&subject, &json!("13812345678")).await;
    let email = world.seal(&subject, &json!("zhang@example.com")).await;
    let info = json!({
        "user_id": "1688850", "name": "张三", "real_name": null, "corp_id": "1970324", "corp_short_name": "织云",
        "corp_full_name": null, "gender": 1, "avatar": "https://example.com/a.png",
    });
    let info = world.seal(&subject, &info).await;
    let row = json!({
        "account_name": "销售一部", "phone": phone, "email": email, "user_info": info, "user_id": "u-7",
        "guid": "guid-1", "status": "online", "online_since": "2026-03-01T07:00:00Z",
        "last_login_time": "2026-03-01T07:00:00Z", "last_heartbeat_time": "2026-03-01T07:00:00Z", "version": 9,
        "updated_at": "2026-03-01T07:00:00.120Z",
    });
    world.account(id(1), row).await;
    let beat = json!({
        "account_id": id(1), "tenant_id": TENANT_A, "last_heartbeat_time": "2026-03-01T07:59:30Z",
        "sampled_at": "2026-03-01T07:59:30Z", "alive": true,
    });
    world.insert("account_heartbeats", json!({}), beat).await;

    let answer = world.get(&format!("/api/v1/accounts/{}", id(1))).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["etag"], "\"9\"");
    insta::assert_json_snapshot!("account", answer.body);

    let answer = world.get(&format!("/api/v1/accounts/{}/status", id(1))).await;
    assert_eq!(answer.headers["etag"], "\"9\"");
    insta::assert_json_snapshot!("account_status", answer.body);
}

#[tokio::test]
async fn a_deleted_account_shows_as_deleted_and_its_personal_fields_are_gone() {
    let world = World::with_keys().await;
    let subject = format!("account:{}", id(1));
    let phone = world.seal(&subject, &json!("13812345678")).await;
    world
        .account(id(1), json!({"status": "deleted", "phone": phone, "version": 4}))
        .await;
    world
        .history(id(1), 4, json!({"old_status": "created", "new_status": "deleted"}))
        .await;
    world.keys.destroy_subject(&subject).await.unwrap();

    let answer = world.get(&format!("/api/v1/accounts/{}", id(1))).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body["status"], "deleted");
    assert_eq!(answer.body["phone"], Value::Null);
    for rest in ["status", "status-history", "conversations"] {
        let answer = world.get(&format!("/api/v1/accounts/{}/{rest}", id(1))).await;
        assert_eq!(answer.status, StatusCode::OK, "{rest}");
    }
    assert_eq!(world.get("/api/v1/accounts").await.body["total"], 0);
    assert_eq!(world.get("/api/v1/accounts?status=deleted").await.body["total"], 1);
}

#[tokio::test]
async fn lists_are_newest_first_and_leave_deleted_and_foreign_accounts_out() {
    let world = world_with_names().await;
    let answer = world.get("/api/v1/accounts").await;
    assert_eq!(names(&answer.body), ["support_b", "Support 50%", "销售一部"]);
    assert_eq!(answer.body["total"], 3);
    assert_eq!(answer.body["page"], 1);
    assert_eq!(answer.body["size"], 20);
    assert_eq!(answer.body["total_is_capped"], false);
    // A whole account in the list is the account itself.
    let single = world.get(&format!("/api/v1/accounts/{}", id(3))).await;
    assert_eq!(answer.body["accounts"][0], single.body);

    for (query, wanted) in [
        ("sort=created_at", vec!["销售一部", "Support 50%", "support_b"]),
        ("sort=account_name", vec!["Support 50%", "support_b", "销售一部"]),
        ("sort=-account_name", vec!["销售一部", "support_b", "Support 50%"]),
        ("page=2&size=2", vec!["销售一部"]),
        ("page=9", vec![]),
        ("page=9223372036854775807&size=100", vec![]),
        ("status=online", vec!["销售一部"]),
        ("status=waiting_scan", vec![]),
        ("status=deleted", vec!["gone"]),
        ("health_level=good", vec![]),
        (
            "tenant_id=01930000-0000-7000-8000-00000000000a&size=1",
            vec!["support_b"],
        ),
    ] {
        let answer = world.get(&format!("/api/v1/accounts?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.body);
        assert_eq!(names(&answer.body), wanted, "{query}");
    }
}

#[tokio::test]
async fn a_search_ignores_case_and_knows_no_wildcards() {
    let world = world_with_names().await;
    for (search, wanted) in [
        ("SUPPORT", vec!["support_b", "Support 50%"]),
        ("%25", vec!["Support 50%"]),
        ("_", vec!["support_b"]),
        ("%5C", vec![]),
        ("%E4%B8%80", vec!["销售一部"]),
        ("", vec!["support_b", "Support 50%", "销售一部"]),
    ] {
        let answer = world.get(&format!("/api/v1/accounts?q={search}")).await;
        assert_eq!(names(&answer.body), wanted, "{search}");
    }
}

#[tokio::test]
async fn every_wrong_parameter_is_listed() {
    let world = World::new().await;
    let answer = world
        .get("/api/v1/accounts?page=0&size=101&sort=colour&status=asleep&health_level=superb&color=red&q=%00")
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    insta::assert_json_snapshot!("account_list_errors", answer.body);
    let answer = world.get(&format!("/api/v1/accounts?tenant_id={TENANT_B}")).await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (StatusCode::FORBIDDEN, &json!("tenant.mismatch"))
    );
    // What is no id at all is malformed, as it is in a body.
    let answer = world.get("/api/v1/accounts?tenant_id=acme").await;
    assert_eq!(
        (answer.status, &answer.body["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("?tenant_id"))
    );
    for path in ["", "/status", "/status-history", "/conversations"] {
        world.account(id(1), json!({})).await;
        let answer = world.get(&format!("/api/v1/accounts/{}{path}?verbose=1", id(1))).await;
        assert_eq!(answer.body["errors"][0]["pointer"], "?verbose", "{path}");
        world.update("delete from views_g1.accounts").await;
    }
}

#[tokio::test]
async fn an_account_that_is_not_there_is_not_found() {
    let world = World::new().await;
    world.account(id(2), json!({"tenant_id": TENANT_B})).await;
    for wanted in [
        id(1).to_string(),
        id(2).to_string(),
        "7".to_owned(),
        "%FF".to_owned(),
        id(1).simple().to_string(),
    ] {
        for rest in ["", "/status", "/status-history", "/conversations"] {
            let answer = world.get(&format!("/api/v1/accounts/{wanted}{rest}")).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{wanted}{rest}");
            assert_eq!(answer.body["code"], "account.not_found");
        }
        let answer = world.get(&format!("/api/v1/monitor/accounts/{wanted}/metrics")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_account_can_send_when_it_is_online_heard_of_healthy_and_not_in_maintenance() {
    let world = World::new().await;
    let mut maintenance = config();
    maintenance["maintenance_mode"] = json!(true);
    let online = |row: Value| {
        let mut all = json!({"status": "online", "last_heartbeat_time": "2026-03-01T07:55:00Z"});
        all.as_object_mut().unwrap().extend(row.as_object().unwrap().clone());
        all
    };
    let cases = [
        (online(json!({})), true),
        (online(json!({"last_heartbeat_time": "2026-03-01T07:54:59Z"})), false),
        (online(json!({"last_heartbeat_time": null})), false),
        (online(json!({"status": "rate_limited"})), false),
        (online(json!({"health_level": "good", "health_score": 0.7})), true),
        (online(json!({"health_level": "fair", "health_score": 0.6})), false),
        (online(json!({"config": maintenance})), false),
    ];
    for (n, (row, wanted)) in cases.into_iter().enumerate() {
        let account = id(n as u128 + 1);
        world.account(account, row.clone()).await;
        let answer = world.get(&format!("/api/v1/accounts/{account}/status")).await;
        assert_eq!(answer.body["can_send"], wanted, "{row}");
    }
}

#[tokio::test]
async fn a_login_code_is_shown_only_while_it_can_be_scanned() {
    let world = World::new().await;
    let url = format!("/api/v1/accounts/{}/qrcode.png", id(1));
    let row = json!({
        "status": "waiting_for_qrcode_scan", "qr_code_url": url, "qrcode_expires_at": "2026-03-01T08:00:01Z",
    });
    world.account(id(1), row).await;
    let path = format!("/api/v1/accounts/{}", id(1));
    assert_eq!(world.get(&path).await.body["qrcode_url"], json!(url));
    world
        .update("update views_g1.accounts set qrcode_expires_at = '2026-03-01T08:00:00Z'")
        .await;
    assert_eq!(world.get(&path).await.body["qrcode_url"], Value::Null);
    world
        .update("update views_g1.accounts set status = 'online', qrcode_expires_at = '2026-03-01T08:00:01Z'")
        .await;
    assert_eq!(world.get(&path).await.body["qrcode_url"], Value::Null);
}

#[tokio::test]
async fn a_wrong_verification_code_shows_in_the_status() {
    let world = World::new().await;
    let row = json!({
        "status": "waiting_for_verification", "reason": "verification_failed", "verification_attempts": 2,
    });
    world.account(id(1), row).await;
    let answer = world.get(&format!("/api/v1/accounts/{}/status", id(1))).await;
    assert_eq!(answer.body["reason"], "verification_failed");
    assert_eq!(answer.body["verification_attempts"], 2);
    assert_eq!(answer.body["online_duration"], 0);
}

#[tokio::test]
async fn the_status_history_is_newest_first() {
    let world = World::new().await;
    world.account(id(1), json!({"version": 7})).await;
    world
        .history(id(1), 1, json!({"old_status": null, "new_status": "created"}))
        .await;
    world.history(id(1), 3, json!({})).await;
    let error = json!({
        "old_status": "logging_in", "new_status": "error", "reason": "instance_unavailable",
        "error_message": "no answer", "extra_data": {"attempt": 1, "login_token": id(9)}, "operator_id": null, "operator_type": "system",
    });
    world.history(id(1), 7, error).await;
    world.history(id(2), 1, json!({"new_status": "created"})).await;
    let path = format!("/api/v1/accounts/{}/status-history", id(1));
    insta::assert_json_snapshot!("status_history", world.get(&path).await.body);
    let second = world.get(&format!("{path}?page=2&size=2&sort=created_at")).await;
    assert_eq!(second.body["history"][0]["new_status"], "error");
    assert_eq!(second.body["total"], 3);
}

#[tokio::test]
async fn conversations_show_who_wrote_last() {
    let world = World::with_keys().await;
    world.account(id(1), json!({})).await;
    let subject = format!("conversation:{}", id(31));
    let name = world.seal(&subject, &json!("张三")).await;
    let content = world
        .seal(&subject, &json!({"msg_type": 2, "content": {"content": "你好"}}))
        .await;
    let incoming = json!({
        "conversation_name": name, "last_msg_time": "2026-02-28T09:00:00Z", "last_msg_key": "k",
        "last_msg_content": content, "received_count": 3, "read_count": 1, "is_pinned": true, "tags": ["vip"],
        "version": 4,
    });
    world.conversation(id(31), incoming).await;
    world
        .message(
            id(70),
            json!({"message_type": "at", "content": {"text": "@all", "mention_all": true}}),
        )
        .await;
    let outgoing = json!({
        "conversation_id": "R:77", "conversation_type": "group", "last_msg_time": "2026-02-28T09:00:00Z",
        "last_msg_key": "k", "last_msg_id": id(70), "created_at": "2026-02-02T00:00:00Z", "member_count": 12,
    });
    world.conversation(id(32), outgoing).await;
    let other = json!({"account_id": id(2), "conversation_id": "S:1"});
    world.conversation(id(33), other).await;
    world
        .update(
            "insert into views_g1.checkpoints (projection, topic, partition, next_offset, generation)
             values ('conversations', 't', 0, 1, 1)",
        )
        .await;
    world
        .update(&format!(
            "insert into views_g1.dead_letters (projection, aggregate_type, aggregate_id, tenant_id, topic, partition,
               sequence, last_sequence, event_type, epoch, transaction_id, position, fingerprint, error, incomplete_rows)
             values ('conversations', 'message', '{}', '{}', 't', 0, 3, 3, 'MessageSent', 1, 7, 8, 'f', 'e', '{{{}}}')",
            id(5),
            crate::support::TENANT_A,
            id(0x20)
        ))
        .await;
    let answer = world.get(&format!("/api/v1/accounts/{}/conversations", id(1))).await;
    insta::assert_json_snapshot!("conversations", answer.body);
}
