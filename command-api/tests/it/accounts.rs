//! Accounts: create, change, disable, enable, log out, delete.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use uuid::Uuid;
use weft_domain::LoginAttemptId;
use weft_domain::account::{AccountCommand, AccountStatus};
use weft_platform::clock::Clock;
use weft_platform::config::AuthSection;
use weft_platform::keys::Opened;

use crate::support::{Answer, Api, TENANT_A};

const ACCOUNTS: &str = "/api/v1/accounts";

fn path(id: Uuid, rest: &str) -> String {
    format!("{ACCOUNTS}/{id}{rest}")
}

/// Logs the account in, as the workers do.
async fn log_in(api: &Api, id: Uuid) {
    let now = Clock::system().now();
    let attempt = LoginAttemptId(Clock::system().new_id());
    api.work(id, AccountCommand::StartLogin { attempt, now }).await;
    api.work(id, AccountCommand::ConfirmLogin { attempt, now }).await;
}

#[tokio::test]
async fn an_account_is_created_with_defaults() {
    let api = Api::start().await;
    let answer = api
        .call("POST", ACCOUNTS, json!({"account_name": "华东客服一号"}))
        .await;
    assert_json_snapshot!(answer.shown());
    let id = answer.id("account_id");
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(answer.header("location"), Some(path(id, "").as_str()));
    let account = api.account_state(id).await;
    assert_eq!(account.tenant_id, Some(TENANT_A));
    assert_eq!(
        (account.config.send_interval_ms, account.config.daily_limit),
        (0, 1_000)
    );
}

#[tokio::test]
async fn everything_that_is_given_is_kept_and_personal_data_is_sealed() {
    let api = Api::start().await;
    let body = json!({
        "tenant_id": AuthSection::DEV_TENANT_A,
        "account_name": "一号",
        "phone": "+86 138-0013-8000",
        "email": "li.lei@example.cn",
        "user_id": "u-7",
        "gateway": "official",
        "config": {"daily_limit": 5, "send_interval_ms": null, "quiet_hours": [
            {"start": "22:00", "end": "08:00", "time_zone": "Asia/Shanghai"},
        ]},
    });
    let id = api.call("POST", ACCOUNTS, body).await.id("account_id");
    let account = api.account_state(id).await;
    assert_eq!(account.user_id.as_deref(), Some("u-7"));
    assert_eq!((account.config.daily_limit, account.config.quiet_hours.len()), (5, 1));
    let phone = api
        .executor
        .sealer()
        .open(account.phone.as_ref().unwrap())
        .await
        .unwrap();
    assert_eq!(phone, Opened::Open("+86 138-0013-8000".to_owned()));
    let log = api.log_text().await;
    assert!(!log.contains("0013-8000") && !log.contains("li.lei"), "{log}");
}

#[tokio::test]
async fn every_error_of_a_new_account_is_listed() {
    let api = Api::start().await;
    let body = json!({
        "tenant_id": "mine",
        "account_name": "字".repeat(101),
        "phone": "12",
        "email": "a@b@c",
        "user_id": "\u{0}",
        "gateway": "fax",
        "config": {"daily_limit": 100_001, "colour": "red"},
        "acount_name": "x",
    });
    let answer = api.call("POST", ACCOUNTS, body).await;
    assert_json_snapshot!(answer.shown());
    let nothing = api.call("POST", ACCOUNTS, json!({"account_name": null})).await;
    assert_eq!(nothing.errors(), ["/account_name missing"]);
    // As in a change: a key may be null, all of them may not.
    let settings = api
        .call("POST", ACCOUNTS, json!({"account_name": "一号", "config": null}))
        .await;
    assert_eq!(settings.errors(), ["/config type"]);
    assert_eq!(api.call("POST", ACCOUNTS, json!([])).await.errors(), [" type"]);
    assert_eq!(api.event_count().await, 0);
}

#[tokio::test]
async fn a_name_is_taken_once_per_tenant() {
    let api = Api::start().await;
    let first = api.account("一号").await;
    let second = api.call("POST", ACCOUNTS, json!({"account_name": "一号"})).await;
    assert_json_snapshot!(second.shown());
    // The other tenant has names of its own, and a deleted account's is free again.
    let other = api.foreign_account().await;
    assert_ne!(other, first);
    api.account("B's own").await;
    api.delete(first).await;
    api.account("一号").await;
}

#[tokio::test]
async fn a_foreign_tenant_id_is_refused() {
    let api = Api::start().await;
    let body = json!({"account_name": "一号", "tenant_id": AuthSection::DEV_TENANT_B});
    assert_json_snapshot!(api.call("POST", ACCOUNTS, body).await.shown());
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name() {
    let api = Api::start().await;
    let body = json!({"account_name": "一号", "phone": "13800138000", "user_id": "u-7", "config": {"daily_limit": 5}});
    let id = api.call("POST", ACCOUNTS, body).await.id("account_id");
    let changes = json!({"account_name": "二号", "phone": null, "email": "a@b", "config": {"auto_reconnect": false}});
    let answer = api.call("PUT", &path(id, ""), changes).await;
    assert_json_snapshot!(answer.shown());
    let account = api.account_state(id).await;
    assert_eq!(
        (account.account_name.as_str(), account.user_id.as_deref()),
        ("二号", Some("u-7"))
    );
    assert!(account.phone.is_none() && account.email.is_some());
    assert_eq!((account.config.daily_limit, account.config.auto_reconnect), (5, false));
    // The old name is free, and a key is reset by null.
    api.account("一号").await;
    api.call("PUT", &path(id, ""), json!({"config": {"daily_limit": null}}))
        .await;
    assert_eq!(api.account_state(id).await.config.daily_limit, 1_000);
}

#[tokio::test]
async fn a_change_that_changes_nothing_emits_nothing() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    let before = api.event_count().await;
    for same in [
        json!({}),
        json!({"account_name": "一号"}),
        json!({"config": {"daily_limit": 1_000}}),
    ] {
        let answer = api.call("PUT", &path(id, ""), same).await;
        assert_eq!((answer.status.as_u16(), answer.etag()), (200, "\"1\""));
        assert!(answer.header("weft-consistency").is_some());
    }
    assert_eq!(api.event_count().await, before);
}

#[tokio::test]
async fn wrong_changes_are_refused() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    api.account("二号").await;
    let answer = api
        .call(
            "PUT",
            &path(id, ""),
            json!({"account_name": null, "phone": 5, "config": null, "status": "online"}),
        )
        .await;
    assert_eq!(
        answer.errors(),
        ["/account_name type", "/phone type", "/config type", "/status unknown"]
    );
    let taken = api.call("PUT", &path(id, ""), json!({"account_name": "二号"})).await;
    assert_eq!(taken.problem(), (409, "account.name_taken".to_owned()));
}

#[tokio::test]
async fn a_change_can_be_tied_to_a_version() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    let change = async |name: &str, tag: &str| {
        api.call_with(
            "PUT",
            &path(id, ""),
            Some(json!({"account_name": name})),
            &[("if-match", tag)],
        )
        .await
    };
    assert_eq!(change("二号", "\"1\"").await.etag(), "\"2\"");
    assert_json_snapshot!(change("三号", "\"1\"").await.shown());
    assert_eq!(change("三号", "\"x\"").await.problem().0, 412);
    assert_eq!(change("三号", "*").await.etag(), "\"3\"");
    for malformed in ["3", "W/\"3\"", "\"3\", \"4\"", ""] {
        assert_eq!(
            change("四号", malformed).await.problem(),
            (400, "request.malformed".to_owned()),
            "{malformed}"
        );
    }
    // A stale tag is refused even where the command would change nothing.
    assert_eq!(change("三号", "\"1\"").await.problem().0, 412);
}

#[tokio::test]
async fn an_account_is_disabled_and_enabled() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    let disable = async |reason: Value| api.call("POST", &path(id, "/disable"), json!({"reason": reason})).await;
    let enable = async || api.call_with("POST", &path(id, "/enable"), None, &[]).await;
    assert_json_snapshot!("disabled", disable(json!("离职")).await.shown());
    // Already so: nothing is emitted, the tag stays.
    assert_eq!(disable(json!("again")).await.etag(), "\"2\"");
    assert_eq!(api.account_state(id).await.reason.as_deref(), Some("离职"));
    assert_json_snapshot!("enabled", enable().await.shown());
    assert_eq!(enable().await.etag(), "\"3\"");
    for (wrong, code) in [
        (json!(""), "too_short"),
        (json!("  "), "blank"),
        (json!("字".repeat(501)), "too_long"),
    ] {
        assert_eq!(disable(wrong).await.errors(), [format!("/reason {code}")]);
    }
    let empty = api.call_with("POST", &path(id, "/disable"), None, &[]).await;
    assert_eq!(empty.problem(), (400, "request.malformed".to_owned()));
}

#[tokio::test]
async fn an_account_logs_out() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    let log_out = async || api.call_with("PUT", &path(id, "/logout"), None, &[]).await;
    assert_json_snapshot!("logout_while_created", log_out().await.shown());
    log_in(&api, id).await;
    assert_json_snapshot!("logged_out", log_out().await.shown());
    assert_eq!(log_out().await.status, 202, "already logged out");
}

#[tokio::test]
async fn an_account_that_is_logged_in_is_not_deleted() {
    let api = Api::start().await;
    let id = api.account("一号").await;
    log_in(&api, id).await;
    let delete = async || -> Answer { api.call_with("DELETE", &path(id, ""), None, &[]).await };
    assert_eq!(delete().await.problem(), (409, "account.wrong_status".to_owned()));
    api.call_with("PUT", &path(id, "/logout"), None, &[]).await;
    assert_json_snapshot!("deleted", delete().await.shown());
    assert_eq!(api.account_state(id).await.status, Some(AccountStatus::Deleted));
    // From now on it is gone, for every route.
    for (method, rest, body) in [
        ("DELETE", "", None),
        ("PUT", "", Some(json!({"account_name": "x"}))),
        ("PUT", "/login", None),
        ("GET", "/qrcode.png", None),
        (
            "POST",
            "/login/verify",
            Some(json!({"login_token": id, "code": "1234"})),
        ),
        ("POST", "/login/cancel", None),
        ("PUT", "/logout", None),
        ("POST", "/disable", Some(json!({"reason": "x"}))),
        ("POST", "/enable", None),
    ] {
        let answer = api.call_with(method, &path(id, rest), body, &[]).await;
        assert_eq!(
            answer.problem(),
            (404, "account.not_found".to_owned()),
            "{method} {rest}"
        );
    }
}
