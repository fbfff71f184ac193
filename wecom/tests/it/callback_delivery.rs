use std::time::{Duration, Instant};

use serde_json::json;
use weft_wecom::callbacks::CallbackEvent;
use weft_wecom::gateway::Gateway;

use crate::support::{Arrival, Inbox, TestSimulator, receipt};

/// The contents told by sync callbacks, in order.
fn contents(arrivals: &[Arrival]) -> Vec<String> {
    let messages = arrivals.iter().flat_map(|arrival| match &arrival.callback.event {
        CallbackEvent::MessageSync(synced) => synced.messages.clone(),
        _ => Vec::new(),
    });
    messages.map(|message| message.content_key()).collect()
}

#[tokio::test]
async fn a_callback_is_repeated_each_second_until_it_is_taken() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    inbox.answer_with(503);
    simulator.act(&guid, "session_timeout", json!({})).await;
    let arrivals = inbox.wait_until(|arrivals| arrivals.len() >= 3).await;
    for pair in arrivals.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(
            (Duration::from_millis(900)..Duration::from_secs(3)).contains(&gap),
            "{gap:?}"
        );
    }
    inbox.answer_with(204);
    let taken = inbox.wait_until(|now| now.len() > arrivals.len()).await;
    assert!(taken.iter().all(|arrival| arrival.callback.notify_type == 11007));
    // Done: the next callback of this client comes at once, and alone.
    simulator.gateway.set_notify_url(&guid, &inbox.url).await.unwrap();
    simulator.gateway.get_login_qrcode(&guid).await.unwrap();
    let before = inbox.arrivals().len();
    simulator.act(&guid, "scan", json!({})).await;
    let after = inbox.wait_until(|arrivals| arrivals.len() > before).await;
    assert_eq!(after.last().unwrap().callback.notify_type, 11002);
}

#[tokio::test]
async fn a_callback_is_not_repeated_where_nobody_lives() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    inbox.answer_with(404);
    receipt(simulator.send_text(&guid, "S:1", "一").await);
    inbox.wait_until(|arrivals| arrivals.len() == 1).await;
    receipt(simulator.send_text(&guid, "S:1", "二").await);
    let arrivals = inbox.wait_until(|arrivals| arrivals.len() == 2).await;
    assert_eq!(contents(&arrivals), ["一", "二"]);
}

#[tokio::test]
async fn messages_that_waited_come_in_order() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    inbox.answer_with(500);
    let expected: Vec<_> = (0..250).map(|index| format!("第{index}条")).collect();
    for content in &expected {
        receipt(simulator.send_text(&guid, "S:1", content).await);
    }
    simulator.act(&guid, "logout", json!({})).await;
    inbox.wait_until(|arrivals| arrivals.len() >= 2).await;
    inbox.clear();
    inbox.answer_with(200);
    let arrivals = inbox
        .wait_until(|arrivals| arrivals.last().is_some_and(|last| last.callback.notify_type == 11004))
        .await;
    assert_eq!(contents(&arrivals), expected);
    assert!(
        arrivals.len() < 10,
        "backlogs are told in few callbacks: {}",
        arrivals.len()
    );
}

#[tokio::test]
async fn a_client_whose_url_does_not_answer_holds_up_only_itself() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let deaf = simulator.online_client(&inbox).await;
    let fine = simulator.online_client(&inbox).await;
    // Takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}/", silent.local_addr().unwrap());
    simulator.gateway.set_notify_url(&deaf, &silent_url).await.unwrap();
    receipt(simulator.send_text(&deaf, "S:1", "无人听").await);
    let started = Instant::now();
    for index in 0..20 {
        receipt(simulator.send_text(&fine, "S:1", &index.to_string()).await);
    }
    inbox.wait_until(|arrivals| contents(arrivals).len() == 20).await;
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_callback_goes_to_the_url_that_was_set_when_it_happened() {
    let (simulator, old, new) = (TestSimulator::start().await, Inbox::open().await, Inbox::open().await);
    let guid = simulator.online_client(&old).await;
    old.answer_with(500);
    receipt(simulator.send_text(&guid, "S:1", "旧").await);
    old.wait_until(|arrivals| !arrivals.is_empty()).await;
    simulator.gateway.set_notify_url(&guid, &new.url).await.unwrap();
    receipt(simulator.send_text(&guid, "S:1", "新").await);
    old.answer_with(200);
    let arrivals = new.wait_until(|arrivals| !arrivals.is_empty()).await;
    assert_eq!(contents(&arrivals), ["新"]);
    assert!(contents(&old.arrivals()).iter().all(|content| content == "旧"));
}

#[tokio::test]
async fn a_dropped_callback_never_comes() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    simulator
        .fault(json!({"guid": guid, "callback": "drop", "notify_type": 11013, "count": 1}))
        .await;
    receipt(simulator.send_text(&guid, "S:1", "丢").await);
    receipt(simulator.send_text(&guid, "S:1", "到").await);
    let arrivals = inbox.wait_until(|arrivals| !arrivals.is_empty()).await;
    assert_eq!(contents(&arrivals), ["到"]);
}

#[tokio::test]
async fn a_duplicated_callback_comes_twice() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    simulator.fault(json!({"callback": "duplicate", "count": 1})).await;
    receipt(simulator.send_text(&guid, "S:1", "双").await);
    let arrivals = inbox.wait_until(|arrivals| arrivals.len() == 2).await;
    assert_eq!(arrivals[0].callback, arrivals[1].callback);
}

#[tokio::test]
async fn a_delayed_callback_is_overtaken() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    simulator
        .fault(json!({"callback": "delay", "delay_ms": 400, "notify_type": 11013, "count": 1}))
        .await;
    let started = Instant::now();
    receipt(simulator.send_text(&guid, "S:1", "先").await);
    receipt(simulator.send_text(&guid, "S:1", "后").await);
    let arrivals = inbox.wait_until(|arrivals| contents(arrivals).len() == 2).await;
    assert_eq!(contents(&arrivals), ["后", "先"]);
    assert!(arrivals.last().unwrap().at - started >= Duration::from_millis(400));
}
