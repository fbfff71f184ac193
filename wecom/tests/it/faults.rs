use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_wecom::codes;
use weft_wecom::gateway::{CallError, Gateway, RejectClass, SendOutcome};

use crate::support::{Inbox, TestSimulator, gateway_with, receipt, text};

#[tokio::test]
async fn every_listed_code_ends_a_send_as_the_table_says() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    for (code, class) in codes::CODES {
        if *code == 0 {
            continue;
        }
        simulator
            .fault(json!({"guid": guid, "path": "/msg/send_text", "error_code": code, "count": 1}))
            .await;
        let outcome = simulator.send_text(&guid, "S:1", "x").await;
        let expected = match class {
            codes::CodeClass::Ok => unreachable!(),
            codes::CodeClass::NotReady => SendOutcome::NotReady,
            codes::CodeClass::Throttled => SendOutcome::Throttled { retry_after: None },
            codes::CodeClass::Rejected(class) => SendOutcome::Rejected {
                class: *class,
                code: *code,
                message: "fault".to_owned(),
            },
        };
        assert_eq!(outcome, expected, "{code}");
    }
    simulator.fault(json!({"error_code": -31_337, "count": 1})).await;
    let outcome = simulator.send_text(&guid, "S:1", "x").await;
    assert!(matches!(
        outcome,
        SendOutcome::Rejected {
            class: RejectClass::Permanent,
            code: -31_337,
            ..
        }
    ));
    assert!(
        simulator
            .ledger()
            .await
            .iter()
            .all(|entry| entry["effective"] == json!(false))
    );
}

#[tokio::test]
async fn an_http_status_ends_a_send_by_its_class() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    for status in [301_u16, 400, 401, 404, 408, 429, 500, 502, 503, 599] {
        simulator.fault(json!({"http_status": status, "count": 1})).await;
        let outcome = simulator.send_text(&guid, "S:1", "x").await;
        match status {
            429 => assert_eq!(outcome, SendOutcome::Throttled { retry_after: None }),
            400..=499 => {
                let message = format!("HTTP {status}");
                let class = RejectClass::Permanent;
                assert_eq!(
                    outcome,
                    SendOutcome::Rejected {
                        class,
                        code: i64::from(status),
                        message
                    }
                );
            }
            _ => assert_eq!(
                outcome,
                SendOutcome::Unknown {
                    detail: format!("HTTP {status}")
                }
            ),
        }
    }
    let ledger = simulator.ledger().await;
    assert_eq!(ledger[0]["answer"], json!({"http_status": 301}));
    assert!(ledger.iter().all(|entry| entry["effective"] == json!(false)));
}

#[tokio::test]
async fn a_close_before_reading_is_unknown_and_leaves_no_entry() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    // On a fresh connection, and on one that has served already.
    for _ in 0..2 {
        simulator
            .fault(json!({"guid": guid, "close": "before_reading", "count": 1}))
            .await;
        let outcome = simulator.send_text(&guid, "S:1", "断").await;
        // In words of ours, not of a library's.
        let detail = "the connection broke before the whole answer had come".to_owned();
        assert_eq!(outcome, SendOutcome::Unknown { detail });
        assert!(simulator.ledger().await.is_empty());
        simulator.gateway.get_client_status(&guid).await.unwrap();
    }
    receipt(simulator.send_text(&guid, "S:1", "续").await);
    let contents: Vec<_> = simulator
        .ledger()
        .await
        .iter()
        .map(|entry| entry["content"].clone())
        .collect();
    assert_eq!(contents, [json!("续")]);
}

#[tokio::test]
async fn a_close_after_reading_is_unknown_but_delivered_once() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    simulator
        .fault(json!({"path": "/msg/send_text", "close": "after_reading", "count": 1}))
        .await;
    let outcome = simulator.send_text(&guid, "S:1", "断").await;
    assert!(matches!(outcome, SendOutcome::Unknown { .. }), "{outcome:?}");
    let ledger = simulator.ledger().await;
    assert_eq!(ledger.len(), 1);
    assert_eq!(
        (&ledger[0]["answer"], &ledger[0]["effective"]),
        (&Value::Null, &json!(true))
    );
    inbox.wait_for_types(&[11013]).await;
}

#[tokio::test]
async fn every_call_but_sends_ends_the_same_ways() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let (guid, gateway) = (simulator.client(&inbox).await, &simulator.gateway);
    let path = "/client/get_client_status";
    simulator
        .fault(json!({"path": path, "close": "before_reading", "count": 1}))
        .await;
    assert!(matches!(
        gateway.get_client_status(&guid).await,
        Err(CallError::Unknown { .. })
    ));
    simulator
        .fault(json!({"path": path, "close": "after_reading", "count": 1}))
        .await;
    assert!(matches!(
        gateway.get_client_status(&guid).await,
        Err(CallError::Unknown { .. })
    ));
    simulator
        .fault(json!({"path": path, "http_status": 502, "count": 1}))
        .await;
    assert!(matches!(
        gateway.get_client_status(&guid).await,
        Err(CallError::Unknown { .. })
    ));
    simulator
        .fault(json!({"path": path, "http_status": 429, "count": 1}))
        .await;
    assert_eq!(
        gateway.get_client_status(&guid).await,
        Err(CallError::Throttled { retry_after: None })
    );
    simulator
        .fault(json!({"path": path, "http_status": 403, "count": 1}))
        .await;
    let refused = gateway.get_client_status(&guid).await;
    assert!(matches!(
        refused,
        Err(CallError::Rejected {
            class: RejectClass::Permanent,
            code: 403,
            ..
        })
    ));
    simulator
        .fault(json!({"path": path, "error_code": 1014, "count": 1}))
        .await;
    assert_eq!(gateway.get_client_status(&guid).await, Err(CallError::NotReady));
    simulator
        .fault(json!({"path": path, "error_code": 9003, "count": 1}))
        .await;
    let expired = gateway.get_client_status(&guid).await;
    assert!(matches!(
        expired,
        Err(CallError::Rejected {
            class: RejectClass::InstanceExpired,
            ..
        })
    ));
    gateway.get_client_status(&guid).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_unknown() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    let hasty = gateway_with(&simulator.simulator.base_url(), |config| {
        config.answer_timeout = Duration::from_millis(300);
    });
    simulator.fault(json!({"latency_ms": 60_000, "count": 1})).await;
    let started = Instant::now();
    let outcome = hasty.send(&guid, &text("S:1", "慢")).await;
    assert_eq!(
        outcome,
        SendOutcome::Unknown {
            detail: "no answer in time".to_owned()
        }
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(simulator.ledger().await[0]["effective"], json!(true));
}

#[tokio::test]
async fn faults_are_listed_counted_and_deleted() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    let id = simulator.fault(json!({"guid": guid, "error_code": -2003})).await;
    let other = simulator
        .fault(json!({"guid": "somebody-else", "error_code": -1}))
        .await;
    for _ in 0..2 {
        let outcome = simulator.send_text(&guid, "S:1", "x").await;
        assert!(matches!(outcome, SendOutcome::Rejected { code: -2003, .. }));
    }
    let faults = simulator.get("/_sim/faults").await;
    assert_eq!(
        faults,
        json!({"faults": [
            {"fault_id": id, "guid": guid, "error_code": -2003, "fired": 2},
            {"fault_id": other, "guid": "somebody-else", "error_code": -1, "fired": 0},
        ]})
    );
    assert_eq!(simulator.delete(&format!("/_sim/faults/{id}")).await, 204);
    assert_eq!(simulator.delete(&format!("/_sim/faults/{id}")).await, 404);
    receipt(simulator.send_text(&guid, "S:1", "x").await);
    assert_eq!(simulator.delete("/_sim/faults").await, 204);
    assert_eq!(simulator.get("/_sim/faults").await, json!({"faults": []}));
}

#[tokio::test]
async fn chance_with_a_seed_repeats_itself() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    let mut rounds = Vec::new();
    for _ in 0..2 {
        simulator
            .fault(json!({"path": "/msg/send_text", "error_code": -1, "probability": 0.5, "seed": 42}))
            .await;
        let mut sent = Vec::new();
        for _ in 0..24 {
            sent.push(matches!(
                simulator.send_text(&guid, "S:1", "x").await,
                SendOutcome::Sent(_)
            ));
        }
        simulator.delete("/_sim/faults").await;
        rounds.push(sent);
    }
    assert_eq!(rounds[0], rounds[1]);
    assert!(rounds[0].contains(&true) && rounds[0].contains(&false));
}
