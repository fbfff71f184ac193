//! Single messages: send, cancel, resolve.

use chrono::TimeDelta;
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use uuid::Uuid;
use weft_domain::message::{MessageCommand, MessageContent, MessageStatus, MessageType};
use weft_platform::clock::Clock;
use weft_platform::keys::Opened;

use crate::support::{Api, changed, text_message};

const SEND: &str = "/api/v1/messages/send";

#[tokio::test]
async fn a_message_is_accepted_and_its_content_sealed() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let answer = api.call("POST", SEND, text_message(account, " 您好，机密 ")).await;
    assert_json_snapshot!(answer.shown());
    let message = api.message_state(answer.id("message_id")).await;
    let accepted = message.accepted.unwrap();
    assert_eq!((accepted.priority, accepted.scheduled_time), (5, None));
    let opened = api
        .executor
        .sealer()
        .open_content(MessageType::Text, &accepted.content)
        .await
        .unwrap();
    let Opened::Open(MessageContent::Text(content)) = opened else {
        panic!("{opened:?}");
    };
    assert_eq!(content.text, " 您好，机密 ");
    assert!(!api.log_text().await.contains("机密"));
}

#[tokio::test]
async fn every_type_is_accepted() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    for (kind, conversation, content) in [
        ("text", "S:1", json!({"text": "你好"})),
        ("image", "R:1", json!({"url": "https://example.cn/a.png"})),
        (
            "image",
            "S:1",
            json!({"file_id": "f", "aes_key": "k", "md5": "m", "size": 7, "width": 1, "height": 2}),
        ),
        (
            "file",
            "S:1",
            json!({"url": "https://example.cn/a.pdf", "name": "a.pdf"}),
        ),
        (
            "file",
            "S:1",
            json!({"file_id": "f", "aes_key": "k", "md5": "m", "size": 7, "name": "a.pdf"}),
        ),
        (
            "link",
            "S:1",
            json!({"title": "t", "description": "d", "url": "https://a", "image_url": "https://b"}),
        ),
        (
            "miniprogram",
            "S:1",
            json!({"username": "u", "appid": "i", "appname": "n", "title": "t", "page_path": "p", "cover_url": "https://c"}),
        ),
        ("at", "R:1", json!({"text": "早", "mentions": ["u1", "u2"]})),
        ("at", "R:1", json!({"text": "早", "mention_all": true})),
    ] {
        let changes = json!({"message_type": kind, "conversation_id": conversation, "content": content});
        let answer = api
            .call("POST", SEND, changed(&text_message(account, ""), changes))
            .await;
        assert_eq!(answer.status, 202, "{kind}: {}", answer.body());
    }
}

#[tokio::test]
async fn everything_that_is_given_is_kept() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let later = Clock::system().now() + TimeDelta::days(89);
    let body = changed(
        &text_message(account, "你好"),
        json!({
            "send_time": later,
            "priority": 10,
            "callback_url": "https://example.cn/hook",
            "client_reference": "order-7",
        }),
    );
    let accepted = api
        .message_state(api.call("POST", SEND, body).await.id("message_id"))
        .await
        .accepted
        .unwrap();
    assert_eq!((accepted.priority, accepted.scheduled_time), (10, Some(later)));
    assert_eq!(accepted.client_reference.as_deref(), Some("order-7"));
    // The past means now, and is kept as what was asked for.
    let past = changed(
        &text_message(account, "你好"),
        json!({"send_time": "2001-01-01T00:00:00Z"}),
    );
    let accepted = api
        .message_state(api.call("POST", SEND, past).await.id("message_id"))
        .await
        .accepted
        .unwrap();
    assert_eq!(accepted.scheduled_time, Some("2001-01-01T00:00:00Z".parse().unwrap()));
}

#[tokio::test]
async fn every_error_of_a_message_is_listed() {
    let api = Api::start().await;
    let body = json!({
        "account_id": 7,
        "conversation_id": "1688850000000001",
        "message_type": "text",
        "content": {"txt": "你好"},
        "send_time": Clock::system().now() + TimeDelta::days(91),
        "priority": 0,
        "callback_url": "example.cn",
        "client_reference": "",
        "account_pool": "auto",
        "template_id": "t",
        "variables": {},
    });
    assert_json_snapshot!(api.call("POST", SEND, body).await.shown());
    let empty = api.call("POST", SEND, json!({})).await;
    assert_eq!(
        empty.errors(),
        [
            "/account_id missing",
            "/conversation_id missing",
            "/message_type missing",
            "/content missing"
        ]
    );
    assert_eq!(api.event_count().await, 0);
}

#[tokio::test]
async fn a_disabled_account_takes_no_message() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    api.disable(account).await;
    assert_json_snapshot!(api.call("POST", SEND, text_message(account, "你好")).await.shown());
}

#[tokio::test]
async fn a_pending_message_is_cancelled_once() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let id = api.text(account, "你好").await;
    let cancel = async |id: Uuid| {
        api.call_with("POST", &format!("/api/v1/messages/{id}/cancel"), None, &[])
            .await
    };
    assert_json_snapshot!("message_cancelled", cancel(id).await.shown());
    let again = cancel(id).await;
    assert_eq!((again.status.as_u16(), again.etag()), (202, "\"2\""));
    let sending = api.text(account, "你好").await;
    api.dispatch(
        sending,
        MessageCommand::StartAttempt {
            now: Clock::system().now(),
        },
    )
    .await;
    assert_json_snapshot!("cancelled_too_late", cancel(sending).await.shown());
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_by_a_person() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let now = Clock::system().now();
    let unknown = async || {
        let id = api.text(account, "你好").await;
        api.dispatch(id, MessageCommand::StartAttempt { now }).await;
        api.dispatch(
            id,
            MessageCommand::MarkUnknown {
                attempt: 1,
                error_message: None,
                now,
            },
        )
        .await;
        id
    };
    let resolve = async |id: Uuid, body: Value| api.call("POST", &format!("/api/v1/messages/{id}/resolve"), body).await;
    for (outcome, status) in [
        ("sent", MessageStatus::Sent),
        ("failed", MessageStatus::Failed),
        ("resend", MessageStatus::Pending),
    ] {
        let id = unknown().await;
        let answer = resolve(id, json!({"outcome": outcome, "reason": "客户确认"})).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body()["status"]),
            (202, &json!(status.as_str()))
        );
        assert_eq!(api.message_state(id).await.status, Some(status));
    }
    let pending = api.text(account, "你好").await;
    assert_json_snapshot!(
        "nothing_to_resolve",
        resolve(pending, json!({"outcome": "sent", "reason": "x"}))
            .await
            .shown()
    );
    let wrong = resolve(pending, json!({"outcome": "lost", "reason": ""})).await;
    assert_eq!(wrong.errors(), ["/outcome out_of_range", "/reason too_short"]);
}
