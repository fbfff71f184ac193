//! Logging in: the wait for the code, the picture, the verification code, cancelling.

use chrono::TimeDelta;
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use uuid::Uuid;
use weft_domain::LoginAttemptId;
use weft_domain::account::{AccountCommand, AccountStatus, SessionLossCause};
use weft_log_writer::seal::account_subject;
use weft_platform::clock::Clock;
use weft_platform::keys::Opened;
use weft_platform::testing::until;

use crate::support::{Answer, Api};

const CODE: &str = "https://work.weixin.qq.com/ca/机密";

fn path(id: Uuid, rest: &str) -> String {
    format!("/api/v1/accounts/{id}{rest}")
}

async fn put_login(api: &Api, id: Uuid) -> Answer {
    api.call_with("PUT", &path(id, "/login"), None, &[]).await
}

/// Waits until a login runs; answers its attempt.
async fn started(api: &Api, id: Uuid) -> LoginAttemptId {
    until("the login has started", async || {
        api.account_state(id).await.running_attempt()
    })
    .await
}

async fn issue_code(api: &Api, id: Uuid, attempt: LoginAttemptId, lives: TimeDelta) {
    let now = Clock::system().now();
    let content = api
        .executor
        .sealer()
        .seal(&account_subject(id.into()), &CODE.to_owned())
        .await
        .unwrap();
    api.work(
        id,
        AccountCommand::IssueQrCode {
            attempt,
            content,
            expires_at: now + lives,
            now,
        },
    )
    .await;
}

/// An API that waits for a code only briefly, and an account whose login runs without one.
async fn logging_in() -> (Api, Uuid, LoginAttemptId) {
    let api = Api::start_with(|config| config.login.wait_for_code_seconds = 0).await;
    let id = api.account("一号").await;
    assert_eq!(put_login(&api, id).await.status, 202);
    let attempt = started(&api, id).await;
    (api, id, attempt)
}

#[tokio::test]
async fn a_login_waits_for_its_code() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    let worker = async {
        let attempt = started(&api, id).await;
        issue_code(&api, id, attempt, TimeDelta::seconds(120)).await;
        attempt
    };
    let (answer, attempt) = tokio::join!(put_login(&api, id), worker);
    assert_json_snapshot!("login_with_a_code", answer.shown());
    assert_eq!(answer.id("login_token"), attempt.0);
    let url = answer.body()["qrcode_url"].as_str().unwrap().to_owned();
    assert_eq!(url, path(id, "/qrcode.png"));
    let picture = api.call_with("GET", &url, None, &[]).await;
    assert_eq!(picture.status, 200);
    assert_eq!(
        (picture.header("content-type"), picture.header("cache-control")),
        (Some("image/png"), Some("no-store"))
    );
    assert!(picture.bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    // Asked again, it shows the same login at once, and emits nothing.
    let before = api.event_count().await;
    let again = put_login(&api, id).await;
    assert_eq!((again.status.as_u16(), again.body()), (200, answer.body()));
    assert_eq!(api.event_count().await, before);
    assert!(!api.log_text().await.contains("weixin"));
}

#[tokio::test]
async fn a_login_whose_code_is_late_is_answered_without_it() {
    let (api, id, attempt) = logging_in().await;
    let answer = put_login(&api, id).await;
    assert_json_snapshot!("login_without_a_code", answer.shown());
    assert_eq!(answer.id("login_token"), attempt.0);
    assert_json_snapshot!(
        "no_qrcode",
        api.call_with("GET", &path(id, "/qrcode.png"), None, &[]).await.shown()
    );
    issue_code(&api, id, attempt, TimeDelta::seconds(120)).await;
    assert_eq!(put_login(&api, id).await.status, 200);
}

#[tokio::test]
async fn an_expired_code_is_not_shown_and_its_refresh_is() {
    let (api, id, attempt) = logging_in().await;
    issue_code(&api, id, attempt, TimeDelta::seconds(-1)).await;
    let expired = put_login(&api, id).await;
    assert_eq!(
        (expired.status.as_u16(), &expired.body()["qrcode_url"]),
        (202, &Value::Null)
    );
    assert_eq!(
        api.call_with("GET", &path(id, "/qrcode.png"), None, &[]).await.status,
        404
    );
    issue_code(&api, id, attempt, TimeDelta::seconds(120)).await;
    assert_eq!(put_login(&api, id).await.status, 200);
}

#[tokio::test]
async fn a_login_that_waits_for_the_person_is_answered_at_once() {
    let api = Api::start_with(|config| config.login.wait_for_code_seconds = 600).await;
    let id = api.account("一号").await;
    let now = Clock::system().now();
    let attempt = LoginAttemptId(Clock::system().new_id());
    api.work(id, AccountCommand::StartLogin { attempt, now }).await;
    issue_code(&api, id, attempt, TimeDelta::seconds(120)).await;
    api.work(id, AccountCommand::RecordScan { attempt, now }).await;
    let answer = put_login(&api, id).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body()["status"]),
        (202, &json!("waiting_for_confirmation"))
    );
    assert_eq!(answer.id("login_token"), attempt.0);
}

#[tokio::test]
async fn a_login_that_fails_while_waited_for_says_why() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    let worker = async {
        let attempt = started(&api, id).await;
        let now = Clock::system().now();
        let reason = "instance_unavailable".to_owned();
        api.work(
            id,
            AccountCommand::FailLogin {
                attempt,
                reason,
                error_message: None,
                now,
            },
        )
        .await;
    };
    let (answer, ()) = tokio::join!(put_login(&api, id), worker);
    assert_json_snapshot!(answer.shown());
}

#[tokio::test]
async fn a_lost_session_is_restored_without_a_code() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    let now = Clock::system().now();
    let first = LoginAttemptId(Clock::system().new_id());
    api.work(id, AccountCommand::StartLogin { attempt: first, now }).await;
    api.work(id, AccountCommand::ConfirmLogin { attempt: first, now }).await;
    let cause = SessionLossCause::Network;
    api.work(
        id,
        AccountCommand::LoseSession {
            cause,
            error_message: None,
            now,
        },
    )
    .await;
    let worker = async {
        let attempt = started(&api, id).await;
        assert!(api.account_state(id).await.login.unwrap().restore_first);
        api.work(id, AccountCommand::RestoreSession { now }).await;
        attempt
    };
    let (answer, attempt) = tokio::join!(put_login(&api, id), worker);
    assert_json_snapshot!("restored", answer.shown());
    assert_eq!(answer.id("login_token"), attempt.0);
    // Who is online needs no login.
    let before = api.event_count().await;
    let online = put_login(&api, id).await;
    assert_eq!(
        (online.status.as_u16(), &online.body()["status"]),
        (200, &json!("online"))
    );
    assert_eq!(
        (&online.body()["qrcode_url"], online.etag()),
        (&Value::Null, answer.etag())
    );
    assert_eq!(api.event_count().await, before);
}

#[tokio::test]
async fn a_disabled_account_does_not_log_in() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    api.disable(id).await;
    assert_json_snapshot!(put_login(&api, id).await.shown());
}

#[tokio::test]
async fn a_login_can_be_tied_to_a_version() {
    let api = Api::start_with(|config| config.login.wait_for_code_seconds = 0).await;
    let id = api.account("一号").await;
    let login = async |tag: &str| {
        api.call_with("PUT", &path(id, "/login"), Some(json!({})), &[("if-match", tag)])
            .await
    };
    assert_eq!(login("\"2\"").await.problem(), (412, "version.mismatch".to_owned()));
    assert_eq!(login("\"1\"").await.etag(), "\"2\"");
}

#[tokio::test]
async fn a_login_is_cancelled_in_every_status_it_has() {
    let (api, id, first) = logging_in().await;
    let cancel = async || api.call_with("POST", &path(id, "/login/cancel"), None, &[]).await;
    assert_json_snapshot!("login_cancelled", cancel().await.shown());
    assert_json_snapshot!("no_login_to_cancel", cancel().await.shown());
    put_login(&api, id).await;
    let second = started(&api, id).await;
    assert_ne!(first, second);
    issue_code(&api, id, second, TimeDelta::seconds(120)).await;
    assert_eq!(cancel().await.status, 202);
    assert_eq!(api.account_state(id).await.status, Some(AccountStatus::Offline));
}

#[tokio::test]
async fn a_verification_code_is_passed_on_sealed() {
    let (api, id, attempt) = logging_in().await;
    let now = Clock::system().now();
    let verify = async |token: Value, code: Value| {
        api.call(
            "POST",
            &path(id, "/login/verify"),
            json!({"login_token": token, "code": code}),
        )
        .await
    };
    let early = verify(json!(attempt), json!("123456")).await;
    assert_eq!(early.problem(), (409, "account.wrong_status".to_owned()));
    api.work(id, AccountCommand::RequireVerification { attempt, now }).await;
    assert_json_snapshot!("code_submitted", verify(json!(attempt), json!("087654")).await.shown());
    let submitted = api.account_state(id).await.login.unwrap().submitted_code.unwrap();
    assert_eq!(
        api.executor.sealer().open(&submitted).await.unwrap(),
        Opened::Open("087654".to_owned())
    );
    assert!(!api.log_text().await.contains("087654"));
    assert_json_snapshot!(
        "another_attempt",
        verify(json!(Uuid::from_u128(7)), json!("1234")).await.shown()
    );
    for (token, code, errors) in [
        (
            json!("x"),
            json!("123"),
            ["/login_token format", "/code format"].as_slice(),
        ),
        (json!(7), json!(1234), &["/login_token type", "/code type"]),
        (
            json!(null),
            json!("123456789"),
            &["/login_token missing", "/code format"],
        ),
        (json!(attempt), json!("12 34"), &["/code format"]),
        (json!(attempt), json!("１２３４"), &["/code format"]),
    ] {
        assert_eq!(verify(token, code).await.errors(), errors);
    }
}
