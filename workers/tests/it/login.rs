//! An account logs in: every way it can go.

use serde_json::json;
use weft_domain::AccountId;
use weft_domain::account::{Account, AccountCommand, AccountStatus as S};
use weft_log_writer::seal::account_subject;
use weft_platform::clock::Clock;
use weft_platform::testing::until;

use crate::world::{AUTO, Options, World};

/// An account whose code is shown.
async fn waiting(world: &World, name: &str) -> (AccountId, String) {
    let id = world.create_account(name).await;
    world.start_login(id).await;
    world.account_in(id, &[S::WaitingForQrcodeScan]).await;
    (id, world.guid(id).await)
}

/// Logs the account out and deletes it.
async fn delete(world: &World, id: AccountId) {
    let now = Clock::system().now();
    world.act(id, AccountCommand::LogOut { now }).await;
    world.act(id, AccountCommand::Delete { now }).await;
}

async fn type_code(world: &World, id: AccountId, code: &str) {
    let login = world.account(id).await.login.expect("a login");
    let code = world
        .executor
        .sealer()
        .seal(&account_subject(id), &code.to_owned())
        .await
        .expect("the keys answer");
    let command = AccountCommand::SubmitVerificationCode {
        attempt: login.attempt,
        code,
        now: Clock::system().now(),
    };
    world.act(id, command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanned_and_confirmed_code_brings_the_account_online_with_its_profile() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "客服一号").await;
    world.simulate(&guid, "scan", json!({})).await;
    world.account_in(id, &[S::WaitingForConfirmation]).await;
    world.simulate(&guid, "confirm", json!({})).await;
    world.account_in(id, &[S::Online]).await;
    until("the profile is known", async || world.account(id).await.user_info).await;

    world
        .act(
            id,
            AccountCommand::LogOut {
                now: Clock::system().now(),
            },
        )
        .await;
    until("WeCom's session is ended too", async || {
        world
            .clients()
            .await
            .iter()
            .any(|client| client["guid"] == guid && client["state"] == "idle")
            .then_some(())
    })
    .await;
    assert_eq!(world.account(id).await.status, Some(S::LoggedOut));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_ends_in_error_and_can_be_tried_again() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "客服二号").await;
    world.simulate(&guid, "scan", json!({})).await;
    world.simulate(&guid, "refuse", json!({})).await;
    let account = world.account_in(id, &[S::Error]).await;
    assert_eq!(account.reason.as_deref(), Some("login_rejected"));

    world.start_login(id).await;
    world.account_in(id, &[S::WaitingForQrcodeScan]).await;
    world.simulate(&guid, "scan", json!({})).await;
    world.simulate(&guid, "confirm", json!({})).await;
    world.account_in(id, &[S::Online]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_code_is_refreshed_three_times_and_then_given_up() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "客服三号").await;
    for refresh in 0..=3_u8 {
        until(&format!("code {refresh} is shown"), async || {
            let code = world.account(id).await.login?.qr_code?;
            (code.refresh == refresh).then_some(())
        })
        .await;
        world.simulate(&guid, "expire", json!({})).await;
    }
    let account = world.account_in(id, &[S::Error]).await;
    assert_eq!(account.reason.as_deref(), Some("qrcode_expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_code_is_typed_wrong_once_and_then_right() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "客服四号").await;
    world.simulate(&guid, "scan", json!({})).await;
    world.simulate(&guid, "need_code", json!({"code": "123456"})).await;
    world.account_in(id, &[S::WaitingForVerification]).await;
    type_code(&world, id, "000000").await;
    until("the wrong code is counted", async || {
        (world.account(id).await.login?.verification_failures == 1).then_some(())
    })
    .await;
    assert_eq!(world.account(id).await.reason.as_deref(), Some("verification_failed"));
    type_code(&world, id, "123456").await;
    world.account_in(id, &[S::Online]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_wrong_verification_code_ends_the_attempt() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "客服五号").await;
    world.simulate(&guid, "scan", json!({})).await;
    world.simulate(&guid, "need_code", json!({"code": "123456"})).await;
    world.account_in(id, &[S::WaitingForVerification]).await;
    for failure in 1..=3_u8 {
        type_code(&world, id, "999999").await;
        until("the wrong code is counted", async || {
            (world.account(id).await.login?.verification_failures == failure).then_some(())
        })
        .await;
    }
    assert_eq!(world.account(id).await.status, Some(S::Error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_callbacks_are_all_lost_is_found_by_asking() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "丢失回调").await;
    world.fault(json!({"guid": guid, "callback": "drop"})).await;
    world.simulate(&guid, "scan", json!({})).await;
    world.account_in(id, &[S::WaitingForConfirmation]).await;
    world.simulate(&guid, "confirm", json!({})).await;
    world.account_in(id, &[S::Online]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_callbacks_come_twice_or_late_happens_once() {
    let world = World::start(Options::default()).await;
    for (name, fault) in [
        ("重复回调", json!({"callback": "duplicate"})),
        (
            "延迟回调",
            json!({"callback": "delay", "delay_ms": 700, "notify_type": 11002}),
        ),
    ] {
        let (id, guid) = waiting(&world, name).await;
        let mut fault = fault;
        fault["guid"] = json!(guid);
        world.fault(fault).await;
        world.simulate(&guid, "scan", json!({})).await;
        world.simulate(&guid, "confirm", json!({})).await;
        world.account_in(id, &[S::Online]).await;
        until("the callbacks are interpreted", async || {
            let rows = world.callback_rows(id).await;
            (rows.len() >= 4 && rows.iter().all(|row| row.1 == "processed" || row.1 == "ignored")).then_some(())
        })
        .await;
        assert_eq!(confirmed(&world, id).await, 1, "{name}");
        world.clear_faults().await;
    }
}

/// Times the account was brought online.
async fn confirmed(world: &World, id: AccountId) -> i64 {
    sqlx::query_scalar(
        "select count(*) from events where aggregate_id = $1 and event_type in ('LoginConfirmed', 'SessionRestored')",
    )
    .bind(id.to_string())
    .fetch_one(&world.pool)
    .await
    .expect("the log answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_session_is_noticed_and_the_next_login_restores_it_without_a_code() {
    let world = World::start(AUTO).await;
    let (id, guid) = world.online_account("掉线账号").await;
    // Nothing is told: only the heartbeat can find out.
    world.simulate(&guid, "drop", json!({"silent": true})).await;
    world.account_in(id, &[S::NetworkError]).await;
    world.start_login(id).await;
    let account: Account = world.account_in(id, &[S::Online]).await;
    assert_eq!(
        account.login.and_then(|login| login.qr_code),
        None,
        "no code was needed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_comes_back_by_itself_is_online_again_by_a_heartbeat() {
    let world = World::start(AUTO).await;
    let (id, _) = world.online_account("恢复账号").await;
    // A heartbeat error is told though the session lives.
    let address = weft_platform::callback_token::CallbackAddress {
        account_id: id.0,
        attempt_id: world.account(id).await.login.expect("a login").attempt.0,
    };
    world
        .ingress
        .store(
            address,
            json!({"notify_type": 11006, "data": {}}).to_string().as_bytes(),
        )
        .await;
    until("it was lost and is back", async || {
        let events: Vec<String> = sqlx::query_scalar(
            "select event_type from events where aggregate_id = $1 and event_type in ('SessionLost', 'SessionRestored')
             order by sequence",
        )
        .bind(id.to_string())
        .fetch_all(&world.pool)
        .await
        .ok()?;
        (events == ["SessionLost", "SessionRestored"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_scanned_after_its_login_was_cancelled_is_signed_out_not_adopted() {
    let world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "撤销账号").await;
    let now = Clock::system().now();
    world.act(id, AccountCommand::CancelLogin { now }).await;
    world.simulate(&guid, "scan", json!({})).await;
    world.simulate(&guid, "confirm", json!({})).await;
    until("the heartbeat has signed it out", async || {
        let clients = world.clients().await;
        let client = clients.iter().find(|client| client["guid"] == guid)?;
        (client["state"] == "idle").then_some(())
    })
    .await;
    let account = world.account(id).await;
    assert_eq!(
        (account.status, account.reason.as_deref()),
        (Some(S::Offline), Some("login_cancelled"))
    );
    assert_eq!(confirmed(&world, id).await, 0, "it was online for a moment");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_the_official_gateway_is_told_that_it_cannot_log_in_by_code() {
    let world = World::start(Options::default()).await;
    let id = world.create_official_account("官方账号").await;
    world.start_login(id).await;
    let account = world.account_in(id, &[S::Error]).await;
    assert_eq!(account.reason.as_deref(), Some("gateway_unsupported"));
    assert!(world.clients().await.is_empty(), "nothing is made for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_goes_on_where_it_was_after_a_crash() {
    let mut world = World::start(Options::default()).await;
    let (id, guid) = waiting(&world, "重启账号").await;
    world.kill_workers();
    world.fault(json!({"guid": guid, "callback": "drop"})).await;
    world.simulate(&guid, "scan", json!({})).await;
    world.simulate(&guid, "confirm", json!({})).await;
    world.start_workers();
    world.account_in(id, &[S::Online]).await;
    assert_eq!(world.clients().await.len(), 1, "no second instance was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_leaves_no_instance_and_no_personal_key() {
    let world = World::start(AUTO).await;
    let (id, _) = world.online_account("注销账号").await;
    let sealed = until("the profile is known", async || world.account(id).await.user_info).await;
    delete(&world, id).await;
    until("the instance is gone", async || {
        world.clients().await.is_empty().then_some(())
    })
    .await;
    // A store of its own: the workers' has destroyed the key, this process's cache may still have it.
    until("the personal key is gone", async || {
        let keys = weft_platform::keys::KeyStore::new(&world.config.keys).expect("a key store");
        let opened = weft_log_writer::seal::Sealer::new(keys).open(&sealed).await.ok()?;
        (opened == weft_platform::keys::Opened::Erased).then_some(())
    })
    .await;
    until("the log says that the instance is gone", async || {
        world.account(id).await.guid.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_broken_off_before_it_was_written_down_is_tried_again_and_not_there_counts_as_removed() {
    let mut world = World::start(AUTO).await;
    let (id, guid) = world.online_account("注销中断").await;
    // Carried out at once, answered too late for this process.
    world
        .fault(json!({"guid": guid, "path": "/client/remove_client", "latency_ms": 1500, "count": 1}))
        .await;
    delete(&world, id).await;
    until("the instance is gone", async || {
        world.clients().await.is_empty().then_some(())
    })
    .await;
    world.kill_workers();
    assert_eq!(world.account(id).await.guid.as_deref(), Some(guid.as_str()));
    for path in ["/client/stop_client", "/client/remove_client"] {
        world.fault(json!({"path": path, "error_code": 9001})).await;
    }
    world.start_workers();
    until("the log says so", async || {
        world.account(id).await.guid.is_none().then_some(())
    })
    .await;
    let removed: Vec<String> = sqlx::query_scalar(
        "select payload ->> 'guid' from events
         where aggregate_id = $1 and event_type = 'InstanceRemoved'",
    )
    .bind(id.to_string())
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(removed, [guid]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_may_not_be_removed_is_not_written_down_as_removed() {
    let world = World::start(AUTO).await;
    let (id, guid) = world.online_account("注销被拒").await;
    world
        .fault(json!({"guid": guid, "path": "/client/remove_client", "error_code": 1, "count": 2}))
        .await;
    delete(&world, id).await;
    until("the log says that the instance is gone", async || {
        world.account(id).await.guid.is_none().then_some(())
    })
    .await;
    assert!(world.clients().await.is_empty(), "it was written down before it was so");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_does_not_answer_three_times_has_lost_its_network_until_it_answers_again() {
    let world = World::start(AUTO).await;
    let (id, guid) = world.online_account("无应答").await;
    world
        .fault(json!({"guid": guid, "path": "/client/get_client_status", "http_status": 500}))
        .await;
    let account = world.account_in(id, &[S::NetworkError]).await;
    assert_eq!(account.reason.as_deref(), Some("network"));
    world.clear_faults().await;
    world.account_in(id, &[S::Online]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_workers_do_for_a_login_belongs_to_the_request_that_asked_for_it() {
    let world = World::start(Options::default()).await;
    let (id, _) = waiting(&world, "因果").await;
    let envelopes: Vec<(String, String, String)> = sqlx::query_as(
        "select event_type, metadata ->> 'correlation_id', metadata ->> 'actor' from events
         where aggregate_id = $1 and event_type in ('LoginStarted', 'QrCodeIssued') order by sequence",
    )
    .bind(id.to_string())
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(envelopes.len(), 2, "{envelopes:?}");
    assert_eq!(envelopes[0].1, envelopes[1].1, "{envelopes:?}");
    assert_eq!(envelopes[1].2, "worker:session");
}
