use serde_json::json;
use weft_wecom::gateway::{CallError, ClientStatus, CreateClient, Gateway, RestoreClient};
use weft_wecom::instance::{HostedKeys, InstanceConfig, InstanceConfigError, InstanceGateway};

use crate::support::{Inbox, TestSimulator, gateway_with, receipt, text};

fn hosted(simulator: &TestSimulator) -> InstanceGateway {
    gateway_with(&simulator.simulator.base_url(), |config| {
        config.hosted = Some(HostedKeys {
            app_key: "key".to_owned(),
            app_secret: "geheim".to_owned(),
        });
    })
}

#[tokio::test]
async fn the_hosted_variant_does_all_that_the_direct_one_does() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let gateway = hosted(&simulator);
    let guid = gateway.create_client(&CreateClient::default()).await.unwrap();
    gateway.set_notify_url(&guid, &inbox.url).await.unwrap();
    gateway.get_login_qrcode(&guid).await.unwrap();
    simulator.act(&guid, "scan", json!({})).await;
    simulator.act(&guid, "confirm", json!({})).await;
    assert_eq!(gateway.get_client_status(&guid).await.unwrap(), ClientStatus::Online);
    receipt(gateway.send(&guid, &text("S:1", "托管")).await);
    gateway.stop_client(&guid).await.unwrap();
    gateway.restore_client(&guid, &RestoreClient::default()).await.unwrap();
    assert_eq!(gateway.get_client_status(&guid).await.unwrap(), ClientStatus::Online);

    // The ledger shows the inner path and body, so without the keys.
    let ledger = simulator.ledger().await;
    assert_eq!(ledger[0]["path"], json!("/msg/send_text"));
    assert_eq!(
        ledger[0]["body"],
        json!({"guid": guid, "conversation_id": "S:1", "content": "托管"})
    );
}

#[tokio::test]
async fn faults_match_the_inner_path_and_guid() {
    let simulator = TestSimulator::start().await;
    let gateway = hosted(&simulator);
    let guid = gateway.create_client(&CreateClient::default()).await.unwrap();
    simulator
        .fault(json!({"guid": guid, "path": "/client/get_client_status", "error_code": 1014, "count": 1}))
        .await;
    assert_eq!(gateway.get_client_status(&guid).await, Err(CallError::NotReady));
    gateway.get_client_status(&guid).await.unwrap();
}

#[tokio::test]
async fn the_hosted_path_wants_its_keys() {
    let simulator = TestSimulator::start().await;
    let body = json!({"path": "/client/all_clients", "data": {}});
    let (status, answer) = simulator.post("/open/GuidRequest", &body).await;
    assert_eq!(status, 200);
    assert_ne!(answer["error_code"], json!(0));
}

#[test]
fn the_secret_does_not_show_in_debug() {
    let keys = HostedKeys {
        app_key: "key".to_owned(),
        app_secret: "geheim".to_owned(),
    };
    assert!(!format!("{keys:?}").contains("geheim"));
}

#[test]
fn an_address_that_is_not_http_is_refused() {
    for address in ["ftp://example.com/", "data:text/plain,x", "mailto:somebody@example.com"] {
        let config = InstanceConfig::new(address.parse().unwrap());
        assert!(
            matches!(InstanceGateway::new(config), Err(InstanceConfigError::BadBaseUrl)),
            "{address}"
        );
    }
}

#[test]
fn an_https_gateway_needs_a_build_that_speaks_tls() {
    let config = InstanceConfig::new("https://gateway.example.com/".parse().unwrap());
    let refused = matches!(InstanceGateway::new(config), Err(InstanceConfigError::NoTls));
    assert_eq!(refused, cfg!(not(feature = "tls")));
}
