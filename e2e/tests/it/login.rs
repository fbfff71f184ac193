//! An account logs in by QR code: every way it can go.

use serde_json::json;
use weft_e2e::{Options, World, until};

use std::time::Duration;

async fn act(world: &World, guid: &str, action: &str) {
    let status = world
        .simulator_post(&format!("/_sim/clients/{guid}/{action}"), json!({}))
        .await;
    assert_eq!(status, 200, "{action}");
}

/// An account whose code is shown.
async fn waiting(world: &World, name: &str) -> (String, String) {
    let id = world.create_account(name).await;
    let login = world.api.put(&format!("/api/v1/accounts/{id}/login"), json!({})).await;
    assert_eq!(login.status, 200, "{}", login.body);
    assert_eq!(login.body["status"], "waiting_for_qrcode_scan");
    assert!(
        login.body["qrcode_content"].is_string() && login.body["login_token"].is_string(),
        "{}",
        login.body
    );
    (id.clone(), world.guid(&id).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanned_and_confirmed_code_brings_the_account_online_and_every_change_is_told() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "客服一号").await;
    let image = world.api.get(&format!("/api/v1/accounts/{id}/qrcode.png")).await;
    assert_eq!(image.headers["content-type"], "image/png");
    act(&world, &guid, "scan").await;
    world.account_in(&id, &["waiting_for_confirmation"]).await;
    act(&world, &guid, "confirm").await;
    let account = world.account_in(&id, &["online"]).await;
    assert_eq!(account["can_send"], true, "{account}");

    // A view of its own, which may be behind that of the accounts.
    let told = until(
        "the history tells that it is online",
        Duration::from_secs(20),
        async || {
            let history = world
                .api
                .get(&format!("/api/v1/accounts/{id}/status-history?size=100"))
                .await
                .body;
            let changes = history["history"].as_array()?.iter();
            let told: Vec<String> = changes
                .filter_map(|change| change["new_status"].as_str().map(str::to_owned))
                .collect();
            told.first().is_some_and(|newest| newest == "online").then_some(told)
        },
    )
    .await;
    let oldest_first: Vec<&str> = told.iter().rev().map(String::as_str).collect();
    assert_eq!(
        oldest_first,
        [
            "created",
            "logging_in",
            "waiting_for_qrcode_scan",
            "waiting_for_confirmation",
            "online"
        ]
    );

    // Another tenant sees nothing of it.
    assert_eq!(
        world.other_tenant.get(&format!("/api/v1/accounts/{id}")).await.status,
        404
    );
    // Logging in again changes nothing.
    let again = world.api.put(&format!("/api/v1/accounts/{id}/login"), json!({})).await;
    assert_eq!(
        (again.status.as_u16(), again.body["status"].as_str()),
        (200, Some("online")),
        "{}",
        again.body
    );

    let out = world.api.put(&format!("/api/v1/accounts/{id}/logout"), json!({})).await;
    assert_eq!(out.status, 202, "{}", out.body);
    world.account_in(&id, &["logged_out"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_ends_in_error_and_can_be_tried_again() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "客服二号").await;
    act(&world, &guid, "scan").await;
    world.account_in(&id, &["waiting_for_confirmation"]).await;
    act(&world, &guid, "refuse").await;
    world.account_in(&id, &["error"]).await;
    let status = world.api.get(&format!("/api/v1/accounts/{id}/status")).await.body;
    assert_eq!(status["reason"], "login_rejected", "{status}");

    let login = world.api.put(&format!("/api/v1/accounts/{id}/login"), json!({})).await;
    assert_eq!(login.body["status"], "waiting_for_qrcode_scan", "{}", login.body);
    act(&world, &guid, "scan").await;
    act(&world, &guid, "confirm").await;
    world.account_in(&id, &["online"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_code_is_refreshed_three_times_and_then_given_up() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "客服三号").await;
    let mut seen = Vec::new();
    for refresh in 0..=3 {
        let content = until("a fresh code", Duration::from_secs(30), async || {
            let login = world.api.put(&format!("/api/v1/accounts/{id}/login"), json!({})).await;
            let content = login.body["qrcode_content"].as_str()?.to_owned();
            (!seen.contains(&content)).then_some(content)
        })
        .await;
        seen.push(content);
        assert_eq!(seen.len(), refresh + 1);
        act(&world, &guid, "expire").await;
    }
    let account = world.account_in(&id, &["error"]).await;
    assert_eq!(account["status"], "error");
    let status = world.api.get(&format!("/api/v1/accounts/{id}/status")).await.body;
    assert_eq!(status["reason"], "qrcode_expired", "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_code_is_typed_wrong_once_and_then_right() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "客服四号").await;
    act(&world, &guid, "scan").await;
    let status = world
        .simulator_post(&format!("/_sim/clients/{guid}/need_code"), json!({"code": "123456"}))
        .await;
    assert_eq!(status, 200);
    let account = world.account_in(&id, &["waiting_for_verification"]).await;
    let login = world.api.put(&format!("/api/v1/accounts/{id}/login"), json!({})).await;
    let token = login.body["login_token"]
        .as_str()
        .expect("the running attempt")
        .to_owned();
    assert!(account["status"].is_string());

    let verify = async |code: &str| {
        let body = json!({"login_token": token, "code": code});
        let answer = world
            .api
            .post(&format!("/api/v1/accounts/{id}/login/verify"), body)
            .await;
        assert_eq!(answer.status, 202, "{}", answer.body);
    };
    verify("000000").await;
    until("the wrong code is told", Duration::from_secs(20), async || {
        let status = world.api.get(&format!("/api/v1/accounts/{id}/status")).await.body;
        (status["reason"] == "verification_failed").then_some(())
    })
    .await;
    verify("123456").await;
    world.account_in(&id, &["online"]).await;

    let over = json!({"login_token": uuid::Uuid::new_v4(), "code": "123456"});
    let answer = world
        .api
        .post(&format!("/api/v1/accounts/{id}/login/verify"), over)
        .await;
    assert_eq!(answer.body["code"], "account.login_attempt_over", "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_are_lost_doubled_or_late_do_not_strand_an_account() {
    let world = World::start(Options::default()).await;
    for (name, fault) in [
        ("丢失回调", json!({"callback": "drop", "count": 1})),
        ("重复回调", json!({"callback": "duplicate"})),
        (
            "延迟回调",
            json!({"callback": "delay", "delay_ms": 700, "notify_type": 11002}),
        ),
    ] {
        let (id, guid) = waiting(&world, name).await;
        let mut fault = fault;
        fault["guid"] = json!(guid);
        assert_eq!(world.simulator_post("/_sim/faults", fault).await, 201);
        act(&world, &guid, "scan").await;
        act(&world, &guid, "confirm").await;
        world.account_in(&id, &["online"]).await;
        world.clear_faults().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lost_by_network_is_restored_without_a_code() {
    let world = World::start(Options::default()).await;
    let (id, guid) = world.online_account("掉线账号").await;
    act(&world, &guid, "drop").await;
    world.account_in(&id, &["network_error", "auth_error"]).await;
    until("the account is online again", Duration::from_secs(30), async || {
        world.api.put(&format!("/api/v1/accounts/{id}/login"), json!({})).await;
        let account = world.api.get(&format!("/api/v1/accounts/{id}")).await.body;
        (account["status"] == "online").then_some(())
    })
    .await;
}
