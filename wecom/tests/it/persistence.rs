use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weft_wecom::gateway::{ClientStatus, CreateClient, Gateway, SendOutcome};
use weft_wecom::simulator::{Simulator, SimulatorConfig, SimulatorError};

use crate::support::{Inbox, PATIENCE, TestSimulator, gateway, receipt, text};

#[tokio::test]
async fn a_restart_keeps_clients_codes_and_ledger() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let (online, waiting) = (simulator.online_client(&inbox).await, simulator.client(&inbox).await);
    simulator.gateway.get_login_qrcode(&waiting).await.unwrap();
    simulator.act(&online, "restrict", json!({})).await;
    let removed = simulator.client(&inbox).await;
    simulator.gateway.remove_client(&removed).await.unwrap();
    simulator.send_text(&online, "S:1", "x").await;
    simulator.act(&online, "lift", json!({})).await;
    let sent = receipt(simulator.send_text(&online, "S:1", "y").await);
    let (clients, ledger) = (simulator.get("/_sim/clients").await, simulator.ledger().await);

    let simulator = simulator.restart().await;
    assert_eq!(simulator.get("/_sim/clients").await, clients);
    assert_eq!(simulator.ledger().await, ledger);
    assert_eq!(
        simulator.gateway.get_client_status(&online).await.unwrap(),
        ClientStatus::Online
    );
    let next = receipt(simulator.send_text(&online, "S:1", "z").await);
    assert!(next.seq > sent.seq && next.msg_id != sent.msg_id && next.appinfo != sent.appinfo);
    assert_eq!(simulator.ledger().await.len(), ledger.len() + 1);
    simulator.act(&waiting, "scan", json!({})).await;
    simulator.act(&waiting, "confirm", json!({})).await;
    let sessions = simulator.gateway.get_session_list(&online, "0", 10).await.unwrap();
    assert_eq!(sessions.conversation_ids, ["S:1"]);
}

#[tokio::test]
async fn a_reset_leaves_nothing_behind() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    receipt(simulator.send_text(&guid, "S:1", "x").await);
    simulator.fault(json!({"error_code": 1})).await;
    assert_eq!(simulator.post("/_sim/reset", &json!({})).await.0, 204);
    let empty = async |simulator: &TestSimulator| {
        assert_eq!(simulator.get("/_sim/clients").await, json!({"clients": []}));
        assert_eq!(simulator.get("/_sim/ledger").await, json!({"entries": []}));
        assert_eq!(simulator.get("/_sim/faults").await, json!({"faults": []}));
    };
    empty(&simulator).await;
    let simulator = simulator.restart().await;
    empty(&simulator).await;
    let guid = simulator.online_client(&inbox).await;
    receipt(simulator.send_text(&guid, "S:1", "x").await);
    assert_eq!(simulator.ledger().await[0]["seq"], json!(1));
}

#[tokio::test]
async fn a_folder_serves_one_simulator_at_a_time() {
    let simulator = TestSimulator::start().await;
    let config = SimulatorConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: simulator.folder(),
        auto_scan: None,
        read_after: None,
    };
    let second = Simulator::start(config, CancellationToken::new()).await;
    assert!(matches!(second, Err(SimulatorError::DataDir(_))), "{second:?}");
}

const CHILD_FOLDER: &str = "WEFT_WECOM_TEST_SIMULATOR_FOLDER";

/// Not a test by itself: the process that the next test kills. Does nothing unless told to.
#[tokio::test]
async fn process_that_is_killed() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else {
        return;
    };
    let config = SimulatorConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: folder.clone().into(),
        auto_scan: None,
        read_after: None,
    };
    let simulator = Simulator::start(config, CancellationToken::new()).await.unwrap();
    let (written, address) = (format!("{folder}/address.new"), format!("{folder}/address"));
    std::fs::write(&written, simulator.base_url()).unwrap();
    std::fs::rename(written, address).unwrap();
    simulator.ended().await;
}

/// Kills the process when the test ends, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start_process(folder: &std::path::Path) -> (Killed, String) {
    let _ = std::fs::remove_file(folder.join("address"));
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["persistence::process_that_is_killed", "--exact", "--test-threads=1"])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let child = Killed(child);
    let started = tokio::time::timeout(PATIENCE, async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            if let Ok(address) = std::fs::read_to_string(folder.join("address")) {
                return address;
            }
            tick.tick().await;
        }
    });
    (child, started.await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_send_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, base_url) = start_process(folder.path()).await;
    let (first, http) = (gateway(&base_url), reqwest::Client::new());
    let act = async |guid: &str, action: &str| {
        let url = format!("{base_url}/_sim/clients/{guid}/{action}");
        assert!(http.post(url).send().await.unwrap().status().is_success());
    };
    let mut guids = Vec::new();
    for _ in 0..8 {
        let guid = first.create_client(&CreateClient::default()).await.unwrap();
        first.get_login_qrcode(&guid).await.unwrap();
        act(&guid, "scan").await;
        act(&guid, "confirm").await;
        guids.push(guid);
    }
    // Every client sends as fast as it can until the process is gone.
    let senders: Vec<_> = guids
        .iter()
        .map(|guid| {
            let (gateway, guid) = (first.clone(), guid.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                for index in 0.. {
                    let content = format!("{guid} {index}");
                    match gateway.send(&guid, &text("S:1", &content)).await {
                        SendOutcome::Sent(_) => taken.push(content),
                        _ => break,
                    }
                }
                taken
            })
        })
        .collect();
    let filling = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while std::fs::metadata(folder.path().join("ledger.ndjson")).unwrap().len() < 400_000 {
            tick.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, filling).await.unwrap();
    // SIGKILL.
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    let mut taken = Vec::new();
    for sender in senders {
        taken.extend(sender.await.unwrap());
    }
    assert!(taken.len() > 200, "{}", taken.len());

    let (_process, base_url) = start_process(folder.path()).await;
    let second = gateway(&base_url);
    for guid in &guids {
        assert_eq!(second.get_client_status(guid).await.unwrap(), ClientStatus::Online);
    }
    let mut entered = std::collections::HashMap::<String, usize>::new();
    let mut after = 0;
    loop {
        let url = format!("{base_url}/_sim/ledger?after={after}");
        let page: Value = http.get(url).send().await.unwrap().json().await.unwrap();
        let entries = page["entries"].as_array().unwrap();
        for entry in entries {
            *entered
                .entry(entry["content"].as_str().unwrap().to_owned())
                .or_default() += 1;
            after = entry["seq"].as_u64().unwrap();
        }
        if entries.is_empty() {
            break;
        }
    }
    for content in &taken {
        assert_eq!(entered.get(content), Some(&1), "{content}");
    }
    // At most the one send of each client that was under way was entered without its answer being read.
    assert!(entered.len() <= taken.len() + guids.len());
    receipt(second.send(&guids[0], &text("S:1", "又来了")).await);
}
