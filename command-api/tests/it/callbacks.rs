//! The ingress of callbacks: stored as they came, before they are answered.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header;
use insta::assert_json_snapshot;
use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;
use weft_platform::callback_token::CallbackAddress;
use weft_platform::config::AuthSection;
use weft_platform::keys::{Opened, SealedParts};

use crate::support::{Answer, Api, request};

async fn call_back(api: &Api, path: &str, body: impl Into<Body>) -> Answer {
    let request = request("POST", path)
        .header(header::CONTENT_TYPE, "text/weird")
        .header(header::USER_AGENT, "instance/1.0")
        .extension(ConnectInfo(SocketAddr::from(([10, 0, 0, 7], 4242))))
        .body(body.into())
        .unwrap();
    api.send(request).await
}

fn address(account_id: Uuid) -> CallbackAddress {
    CallbackAddress {
        account_id,
        attempt_id: Uuid::from_u128(9),
    }
}

#[tokio::test]
async fn a_callback_is_stored_sealed_before_it_is_answered() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let body = r#"{"guid":"g-1","notify_type":11003,"data":{"name":"机密"}}"#;
    let answer = call_back(&api, &address(account).path(api.executor.keys()), body).await;
    assert_json_snapshot!(answer.shown());
    let row = sqlx::query("select * from workers.callback_events")
        .fetch_one(api.executor.pool())
        .await
        .unwrap();
    assert_eq!(row.get::<Uuid, _>("tenant_id"), AuthSection::DEV_TENANT_A);
    assert_eq!(
        (row.get::<Uuid, _>("account_id"), row.get::<Uuid, _>("attempt_id")),
        (account, Uuid::from_u128(9))
    );
    assert_eq!(
        (row.get::<&str, _>("guid"), row.get::<i32, _>("notify_type")),
        ("g-1", 11_003)
    );
    assert_eq!(
        (row.get::<&str, _>("source_ip"), row.get::<&str, _>("user_agent")),
        ("10.0.0.7", "instance/1.0")
    );
    assert_eq!(
        (row.get::<&str, _>("status"), row.get::<i32, _>("retry_count")),
        ("received", 0)
    );
    let raw = row.get::<Value, _>("raw_data");
    assert!(!raw.to_string().contains("机密"));
    let sealed: SealedParts = serde_json::from_value(raw).unwrap();
    let opened = api.executor.keys().open_all(&[sealed]).await.unwrap();
    assert_eq!(opened, [Opened::Open(body.as_bytes().to_vec())]);
    // The worker in this process was told.
    tokio::time::timeout(Duration::from_secs(5), api.callback_stored.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn whatever_comes_is_stored_in_the_order_it_came() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let path = address(account).path(api.executor.keys());
    let large = vec![b'x'; 1024 * 1024];
    for body in [
        b"".to_vec(),
        b"hello".to_vec(),
        b"\xff\x00".to_vec(),
        br#"{"guid":"\u0000","notify_type":"x"}"#.to_vec(),
        large,
    ] {
        let answer = call_back(&api, &path, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.bytes.as_slice()),
            (200, b"{}".as_slice())
        );
    }
    // The same again is kept again: only the protocol's ids tell duplicates.
    call_back(&api, &path, "hello").await;
    let rows: Vec<Value> = sqlx::query_scalar("select raw_data from workers.callback_events order by ingress")
        .fetch_all(api.executor.pool())
        .await
        .unwrap();
    let sealed: Vec<SealedParts> = rows
        .into_iter()
        .map(|row| serde_json::from_value(row).unwrap())
        .collect();
    let lengths: Vec<usize> = api
        .executor
        .keys()
        .open_all(&sealed)
        .await
        .unwrap()
        .into_iter()
        .map(|opened| opened.open().unwrap().len())
        .collect();
    assert_eq!(lengths, [0, 5, 2, 35, 1024 * 1024, 5]);
    let too_large = call_back(&api, &path, vec![b'x'; 1024 * 1024 + 1]).await;
    assert_eq!(too_large.problem(), (413, "request.too_large".to_owned()));
}

#[tokio::test]
async fn a_wrong_address_stores_nothing() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let keys = api.executor.keys();
    let mut forged = address(account).path(keys);
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    let unknown = address(Uuid::from_u128(7)).path(keys);
    for path in [
        forged.as_str(),
        &unknown,
        "/api/v1/callbacks/instance/x",
        "/api/v1/callbacks/instance/%FF",
    ] {
        assert_eq!(
            call_back(&api, path, "{}").await.problem(),
            (404, "callback.not_found".to_owned()),
            "{path}"
        );
    }
    assert_json_snapshot!(call_back(&api, "/api/v1/callbacks/instance/x", "{}").await.shown());
    let stored: i64 = sqlx::query_scalar("select count(*) from workers.callback_events")
        .fetch_one(api.executor.pool())
        .await
        .unwrap();
    assert_eq!(stored, 0);
}

#[tokio::test]
async fn a_deleted_account_takes_no_callbacks() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let path = address(account).path(api.executor.keys());
    api.delete(account).await;
    assert_eq!(call_back(&api, &path, "{}").await.problem().0, 404);
    // Nor does one that was deleted, and forgotten, after its first callback.
    let other = api.account("二号").await;
    let path = address(other).path(api.executor.keys());
    assert_eq!(call_back(&api, &path, "{}").await.status, 200);
    api.delete(other).await;
    api.executor
        .keys()
        .destroy_subject(&format!("account:{other}"))
        .await
        .unwrap();
    assert_eq!(
        call_back(&api, &path, "{}").await.problem(),
        (404, "callback.not_found".to_owned())
    );
}
