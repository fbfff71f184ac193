use std::time::Duration;

use serde_json::json;
use weft_wecom::callbacks::{CallbackEvent, ErrorReport, QrStatus};
use weft_wecom::codes;
use weft_wecom::gateway::{CallError, ClientStatus, CreateClient, Gateway, RejectClass, RestoreClient};

use crate::support::{Inbox, Options, TestSimulator};

#[tokio::test]
async fn a_scanned_and_confirmed_code_brings_the_account_online() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let (guid, gateway) = (simulator.client(&inbox).await, &simulator.gateway);
    assert_eq!(
        gateway.get_client_status(&guid).await.unwrap(),
        ClientStatus::NotLoggedIn
    );

    let code = gateway.get_login_qrcode(&guid).await.unwrap();
    assert!(code.png.unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    assert!(code.content.contains(&code.key));
    assert_eq!(gateway.check_login_qrcode(&guid).await.unwrap().status, QrStatus::None);
    assert_eq!(simulator.state(&guid).await, "waiting_scan");

    let client = simulator.act(&guid, "scan", json!({})).await;
    assert_eq!(client["state"], "scanned");
    let check = gateway.check_login_qrcode(&guid).await.unwrap();
    assert_eq!((check.status, check.expired), (QrStatus::Scanned, false));

    simulator.act(&guid, "confirm", json!({})).await;
    assert_eq!(gateway.get_client_status(&guid).await.unwrap(), ClientStatus::Online);
    assert_eq!(
        gateway.check_login_qrcode(&guid).await.unwrap().status,
        QrStatus::Succeeded
    );
    let profile = gateway.get_profile(&guid).await.unwrap();
    assert_eq!(check.nickname, profile.name);

    let events = inbox.wait_for_types(&[11001, 11002, 11002, 11003, 11005, 11009]).await;
    let CallbackEvent::QrStatus(scanned) = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!((scanned.status, &scanned.vid), (QrStatus::Scanned, &profile.user_id));
    let CallbackEvent::QrStatus(succeeded) = &events[2] else {
        panic!("{events:?}")
    };
    assert_eq!(succeeded.status, QrStatus::Succeeded);
    assert_eq!(events[3], CallbackEvent::Login(profile.clone()));

    let corp = gateway.get_corp_info(&guid).await.unwrap();
    assert_eq!(
        (corp.corp_id, corp.full_name),
        (profile.corp_id, profile.corp_full_name)
    );
}

#[tokio::test]
async fn a_refused_confirmation_ends_the_attempt() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.client(&inbox).await;
    simulator.gateway.get_login_qrcode(&guid).await.unwrap();
    simulator.act(&guid, "scan", json!({})).await;
    let client = simulator.act(&guid, "refuse", json!({})).await;
    assert_eq!(
        (&client["state"], &client["qrcode_content"]),
        (&json!("idle"), &json!(null))
    );
    let events = inbox.wait_for_types(&[11001, 11002, 11002]).await;
    let CallbackEvent::QrStatus(refused) = &events[2] else {
        panic!("{events:?}")
    };
    assert_eq!(refused.status, QrStatus::Refused);
    assert_eq!(
        simulator.gateway.check_login_qrcode(&guid).await.unwrap().status,
        QrStatus::Refused
    );
    assert_eq!(simulator.try_act(&guid, "confirm", json!({})).await.0, 409);
}

#[tokio::test]
async fn an_expired_code_cannot_be_scanned_and_is_refreshed_by_another() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let (guid, gateway) = (simulator.client(&inbox).await, &simulator.gateway);
    let first = gateway.get_login_qrcode(&guid).await.unwrap();
    simulator.act(&guid, "expire", json!({})).await;
    assert!(gateway.check_login_qrcode(&guid).await.unwrap().expired);
    assert_eq!(simulator.try_act(&guid, "scan", json!({})).await.0, 409);
    assert_eq!(simulator.try_act(&guid, "expire", json!({})).await.0, 409);

    let second = gateway.get_login_qrcode(&guid).await.unwrap();
    assert_ne!(first.content, second.content);
    assert!(!gateway.check_login_qrcode(&guid).await.unwrap().expired);
    simulator.act(&guid, "scan", json!({})).await;
    simulator.act(&guid, "confirm", json!({})).await;
    assert_eq!(simulator.state(&guid).await, "online");
}

#[tokio::test]
async fn a_code_expires_by_itself_after_120_seconds() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.client(&inbox).await;
    simulator.gateway.get_login_qrcode(&guid).await.unwrap();
    simulator.simulator.advance_clock(Duration::from_secs(115));
    assert!(!simulator.gateway.check_login_qrcode(&guid).await.unwrap().expired);
    simulator.simulator.advance_clock(Duration::from_secs(5));
    assert!(simulator.gateway.check_login_qrcode(&guid).await.unwrap().expired);
    assert_eq!(simulator.try_act(&guid, "scan", json!({})).await.0, 409);
}

#[tokio::test]
async fn a_verification_code_must_be_the_right_one() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let (guid, gateway) = (simulator.client(&inbox).await, &simulator.gateway);
    gateway.get_login_qrcode(&guid).await.unwrap();
    assert_eq!(
        gateway.verify_login_qrcode(&guid, "123456").await,
        Err(CallError::NotReady)
    );
    simulator.act(&guid, "scan", json!({})).await;
    let client = simulator.act(&guid, "need_code", json!({"code": "123456"})).await;
    assert_eq!(client["state"], "need_code");
    assert_eq!(
        gateway.check_login_qrcode(&guid).await.unwrap().status,
        QrStatus::NeedsCode
    );
    assert_eq!(simulator.try_act(&guid, "confirm", json!({})).await.0, 409);

    let wrong = gateway.verify_login_qrcode(&guid, "654321").await.unwrap_err();
    let CallError::Rejected { class, code, .. } = wrong else {
        panic!("{wrong:?}")
    };
    assert_eq!(
        (class, code),
        (RejectClass::WrongVerificationCode, codes::WRONG_VERIFICATION_CODE)
    );
    assert_eq!(simulator.state(&guid).await, "need_code");

    gateway.verify_login_qrcode(&guid, "123456").await.unwrap();
    assert_eq!(simulator.state(&guid).await, "online");
    let events = inbox
        .wait_for_types(&[11001, 11002, 11002, 11002, 11003, 11005, 11009])
        .await;
    let CallbackEvent::QrStatus(asked) = &events[2] else {
        panic!("{events:?}")
    };
    assert_eq!(asked.status, QrStatus::NeedsCode);
}

#[tokio::test]
async fn a_safe_verification_is_told_by_its_own_callback() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.client(&inbox).await;
    simulator.gateway.get_login_qrcode(&guid).await.unwrap();
    simulator.act(&guid, "scan", json!({})).await;
    simulator.act(&guid, "safe_verify", json!({"code": "0042"})).await;
    simulator.gateway.verify_login_qrcode(&guid, "0042").await.unwrap();
    let events = inbox
        .wait_for_types(&[11001, 11002, 11012, 11002, 11003, 11005, 11009])
        .await;
    assert_eq!(events[2], CallbackEvent::SafeVerify);
}

#[tokio::test]
async fn a_failed_login_is_told_and_leaves_the_client_idle() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.client(&inbox).await;
    simulator.gateway.get_login_qrcode(&guid).await.unwrap();
    simulator.act(&guid, "login_failed", json!({})).await;
    let events = inbox.wait_for_types(&[11001, 11008]).await;
    assert!(matches!(events[1], CallbackEvent::LoginFailed(_)));
    assert_eq!(
        simulator.gateway.check_login_qrcode(&guid).await.unwrap().status,
        QrStatus::Failed
    );
    assert_eq!(simulator.state(&guid).await, "idle");
}

/// Ways to lose the session, with the callback that tells of it.
#[tokio::test]
async fn a_lost_session_is_told_and_cannot_be_restored() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    for (action, notify_type) in [("logout", 11004), ("session_timeout", 11007), ("other_device", 11011)] {
        let guid = simulator.online_client(&inbox).await;
        simulator.act(&guid, action, json!({})).await;
        inbox.wait_for_types(&[notify_type]).await;
        assert_eq!(
            simulator.gateway.get_client_status(&guid).await.unwrap(),
            ClientStatus::NotLoggedIn,
            "{action}"
        );
        assert_eq!(simulator.gateway.get_profile(&guid).await, Err(CallError::NotReady));
        simulator
            .gateway
            .restore_client(&guid, &RestoreClient::default())
            .await
            .unwrap();
        assert_eq!(
            simulator.gateway.get_client_status(&guid).await.unwrap(),
            ClientStatus::NotLoggedIn,
            "{action}"
        );
        assert_eq!(simulator.try_act(&guid, action, json!({})).await.0, 409);
        inbox.clear();
    }
}

#[tokio::test]
async fn a_logout_by_us_is_told_too() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    simulator.gateway.logout(&guid).await.unwrap();
    let events = inbox.wait_for_types(&[11004]).await;
    let expected = ErrorReport {
        error_code: Some(0),
        error_message: "logged out".to_owned(),
    };
    assert_eq!(events, [CallbackEvent::Logout(expected)]);
    assert_eq!(simulator.gateway.logout(&guid).await, Err(CallError::NotReady));
}

#[tokio::test]
async fn a_dropped_connection_is_restored_without_a_code() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let (guid, gateway) = (simulator.online_client(&inbox).await, &simulator.gateway);
    simulator.act(&guid, "drop", json!({})).await;
    inbox.wait_for_types(&[11006]).await;
    assert_eq!(gateway.get_client_status(&guid).await.unwrap(), ClientStatus::Stopped);
    assert_eq!(gateway.get_login_qrcode(&guid).await, Err(CallError::NotReady));
    gateway.restore_client(&guid, &RestoreClient::default()).await.unwrap();
    assert_eq!(gateway.get_client_status(&guid).await.unwrap(), ClientStatus::Online);
    inbox.wait_for_types(&[11006, 11001, 11003, 11005, 11009]).await;
}

#[tokio::test]
async fn a_silent_drop_tells_nothing() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    simulator.act(&guid, "drop", json!({"silent": true})).await;
    assert_eq!(
        simulator.gateway.get_client_status(&guid).await.unwrap(),
        ClientStatus::Stopped
    );
    // The queue is in order, so what comes next shows that nothing came before it.
    simulator
        .gateway
        .restore_client(&guid, &RestoreClient::default())
        .await
        .unwrap();
    inbox.wait_for_types(&[11001, 11003, 11005, 11009]).await;
}

#[tokio::test]
async fn clients_are_created_listed_stopped_and_removed() {
    let simulator = TestSimulator::start().await;
    let gateway = &simulator.gateway;
    let first = gateway.create_client(&CreateClient::default()).await.unwrap();
    let second = gateway
        .create_client(&CreateClient {
            auto_start: false,
            ..CreateClient::default()
        })
        .await
        .unwrap();
    let mut both = gateway.all_clients().await.unwrap();
    both.sort();
    let mut expected = [first.clone(), second.clone()];
    expected.sort();
    assert_eq!(both, expected);
    assert_eq!(gateway.get_client_status(&second).await.unwrap(), ClientStatus::Stopped);
    gateway.stop_client(&first).await.unwrap();
    assert_eq!(gateway.get_client_status(&first).await.unwrap(), ClientStatus::Stopped);
    gateway.remove_client(&first).await.unwrap();
    let gone = gateway.get_client_status(&first).await.unwrap_err();
    let CallError::Rejected { class, code, .. } = gone else {
        panic!("{gone:?}")
    };
    assert_eq!((class, code), (RejectClass::InstanceGone, codes::NO_SUCH_INSTANCE));
    assert_eq!(gateway.all_clients().await.unwrap(), [second]);
}

#[tokio::test]
async fn a_login_is_refused_while_online() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    let refused = simulator.gateway.get_login_qrcode(&guid).await.unwrap_err();
    assert!(
        matches!(
            refused,
            CallError::Rejected {
                class: RejectClass::Permanent,
                ..
            }
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn with_auto_scan_a_code_needs_nobody() {
    let options = Options {
        auto_scan: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let (simulator, inbox) = (TestSimulator::start_with(options).await, Inbox::open().await);
    let guid = simulator.client(&inbox).await;
    simulator.gateway.get_login_qrcode(&guid).await.unwrap();
    inbox.wait_for_types(&[11001, 11002, 11002, 11003, 11005, 11009]).await;
    assert_eq!(simulator.state(&guid).await, "online");
}
