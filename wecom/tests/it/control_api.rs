use serde_json::{Value, json};
use weft_wecom::gateway::{CreateClient, Gateway};

use crate::support::{Inbox, TestSimulator};

#[tokio::test]
async fn clients_are_shown_as_they_are() {
    let simulator = TestSimulator::start().await;
    let guid = simulator.gateway.create_client(&CreateClient::default()).await.unwrap();
    let clients = simulator.get("/_sim/clients").await;
    assert_eq!(
        clients,
        json!({"clients": [{
            "guid": guid, "state": "idle", "notify_url": null, "qrcode_content": null, "qrcode_expires_at": null,
            "restricted": false,
        }]})
    );
    let code = simulator.gateway.get_login_qrcode(&guid).await.unwrap();
    let clients = simulator.get("/_sim/clients").await;
    let client = &clients["clients"][0];
    assert_eq!(
        (&client["state"], &client["qrcode_content"]),
        (&json!("waiting_scan"), &json!(code.content))
    );
    let expires_at = client["qrcode_expires_at"].as_str().unwrap();
    assert!(
        expires_at.ends_with('Z') && expires_at.len() == "2026-01-01T00:00:00.000Z".len(),
        "{expires_at}"
    );
}

#[tokio::test]
async fn an_act_that_the_state_makes_no_sense_of_is_409() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let idle = simulator.client(&inbox).await;
    let online = simulator.online_client(&inbox).await;
    let none = || json!({});
    let incoming = || json!({"conversation_id": "S:1", "sender": "1", "sender_name": "甲", "content": "x"});
    for (guid, action, body) in [
        (&idle, "scan", none()),
        (&idle, "confirm", none()),
        (&idle, "refuse", none()),
        (&idle, "expire", none()),
        (&idle, "need_code", json!({"code": "1"})),
        (&idle, "logout", none()),
        (&idle, "session_timeout", none()),
        (&idle, "drop", none()),
        (&idle, "incoming", incoming()),
        (&online, "scan", none()),
        (&online, "confirm", none()),
        (&online, "refuse", none()),
        (&online, "expire", none()),
    ] {
        let (status, answer) = simulator.try_act(guid, action, body).await;
        assert_eq!(status, 409, "{action}: {answer}");
    }
    assert_eq!(
        (simulator.state(&idle).await, simulator.state(&online).await),
        ("idle".into(), "online".into())
    );
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_reason() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.client(&inbox).await;
    for (path, body, expected) in [
        ("/_sim/clients/nobody/scan".to_owned(), json!({}), 404),
        (format!("/_sim/clients/{guid}/dance"), json!({}), 404),
        (format!("/_sim/clients/{guid}/need_code"), json!({}), 422),
        (format!("/_sim/clients/{guid}/drop"), json!({"silent": "yes"}), 422),
        (format!("/_sim/clients/{guid}/scan"), json!({"unknown": 1}), 422),
        ("/_sim/faults".to_owned(), json!({}), 422),
        (
            "/_sim/faults".to_owned(),
            json!({"error_code": 1, "close": "after_reading"}),
            422,
        ),
        ("/_sim/faults".to_owned(), json!({"close": "sometimes"}), 422),
        ("/_sim/faults".to_owned(), json!({"error_code": 1, "unknown": 1}), 422),
        ("/_sim/nothing".to_owned(), json!({}), 404),
    ] {
        let (status, answer) = simulator.post(&path, &body).await;
        assert_eq!(status, expected, "{path} {body}");
        assert!(!answer["error"].as_str().unwrap().is_empty(), "{path} {body}");
    }
}

#[tokio::test]
async fn the_page_shows_codes_that_wait() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let page = reqwest::get(simulator.url("/")).await.unwrap();
    assert!(
        page.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    assert!(page.text().await.unwrap().contains("/_sim/waiting"));
    simulator.online_client(&inbox).await;
    let guid = simulator.client(&inbox).await;
    simulator.gateway.get_login_qrcode(&guid).await.unwrap();
    let waiting = simulator.get("/_sim/waiting").await;
    let shown: Vec<&Value> = waiting["clients"].as_array().unwrap().iter().collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(
        (&shown[0]["guid"], &shown[0]["state"]),
        (&json!(guid), &json!("waiting_scan"))
    );
    assert!(shown[0]["png"].as_str().unwrap().starts_with("iVBORw0KGgo"));
}

#[tokio::test]
async fn the_protocol_answers_wrong_methods_and_paths_as_http_does() {
    let simulator = TestSimulator::start().await;
    let get = reqwest::get(simulator.url("/msg/send_text")).await.unwrap();
    assert_eq!(get.status().as_u16(), 405);
    assert_eq!(simulator.post("/msg/send_pigeon", &json!({})).await.0, 404);
    let (status, answer) = simulator
        .post("/client/get_client_status", &json!("not an object"))
        .await;
    assert_eq!((status, &answer["error_code"]), (200, &json!(9001)));
}
