use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_wecom::callbacks::{CallbackEvent, CallbackMessage, MsgType};
use weft_wecom::codes;
use weft_wecom::gateway::{
    CdnFile, Gateway, MENTION_ALL, RejectClass, SendBody, SendOutcome, SendRequest, SessionPage, UploadKind,
};

use crate::support::{Inbox, Options, TestSimulator, receipt, text};

fn synced(event: &CallbackEvent) -> &CallbackMessage {
    match event {
        CallbackEvent::MessageSync(synced) if synced.messages.len() == 1 => &synced.messages[0],
        other => panic!("no single synced message: {other:?}"),
    }
}

fn every_type(conversation_id: &str, file: &CdnFile) -> Vec<(SendRequest, MsgType)> {
    let bodies = vec![
        (
            SendBody::Text {
                content: "您好，您的订单已发货。😊\n\"单号\" 42".to_owned(),
            },
            MsgType::Text,
        ),
        (
            SendBody::Image {
                file: file.clone(),
                width: 640,
                height: 480,
                is_hd: true,
            },
            MsgType::Image,
        ),
        (
            SendBody::File {
                file: file.clone(),
                file_name: "报价单.pdf".to_owned(),
            },
            MsgType::File,
        ),
        (
            SendBody::Link {
                title: "新品上市".to_owned(),
                description: "点击查看".to_owned(),
                url: "https://example.com/new".to_owned(),
                image_url: String::new(),
            },
            MsgType::Link,
        ),
        (
            SendBody::Weapp {
                username: "gh_0123456789ab@app".to_owned(),
                appid: "wx0123456789abcdef".to_owned(),
                appname: "商城".to_owned(),
                appicon: String::new(),
                title: "今日特价".to_owned(),
                page_path: "pages/index.html".to_owned(),
                cover: Some(file.clone()),
            },
            MsgType::MiniProgram,
        ),
    ];
    let request = |body| SendRequest {
        conversation_id: conversation_id.to_owned(),
        body,
    };
    bodies
        .into_iter()
        .map(|(body, msg_type)| (request(body), msg_type))
        .collect()
}

#[tokio::test]
async fn every_type_is_sent_entered_in_the_ledger_and_synced() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let (guid, gateway) = (simulator.online_client(&inbox).await, &simulator.gateway);
    let file = gateway
        .cdn_c2c_upload(&guid, UploadKind::Image, "https://example.com/a.png")
        .await
        .unwrap();
    assert!(file.size > 0 && !file.aes_key.is_empty() && file.md5.len() == 32);

    let mut requests = every_type("S:7881300001", &file);
    requests.extend(every_type("R:10850001", &file));
    let at_list = vec!["1688850000000001".to_owned(), MENTION_ALL.to_owned()];
    let at = SendBody::RoomAt {
        content: "{$@}{$@} 开会了".to_owned(),
        at_list,
    };
    requests.push((
        SendRequest {
            conversation_id: "R:10850001".to_owned(),
            body: at,
        },
        MsgType::Text,
    ));

    let mut receipts = Vec::new();
    for (request, _) in &requests {
        receipts.push(receipt(gateway.send(&guid, request).await));
    }
    let ledger = simulator.ledger().await;
    assert_eq!(ledger.len(), requests.len());
    // Callbacks may be told several at once where they wait behind one another.
    let messages = |arrivals: &[crate::support::Arrival]| -> Vec<CallbackMessage> {
        arrivals
            .iter()
            .flat_map(|arrival| match &arrival.callback.event {
                CallbackEvent::MessageSync(synced) => synced.messages.clone(),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let arrivals = inbox
        .wait_until(|arrivals| messages(arrivals).len() == requests.len())
        .await;
    let messages = messages(&arrivals);
    for (index, (request, msg_type)) in requests.iter().enumerate() {
        let (receipt, entry, message) = (&receipts[index], &ledger[index], &messages[index]);
        assert_eq!(entry["seq"], json!(index + 1));
        assert_eq!(entry["guid"], json!(guid));
        assert_eq!(entry["path"], json!(request.path()));
        assert_eq!(entry["conversation_id"], json!(request.conversation_id));
        assert_eq!(entry["effective"], json!(true));
        assert_eq!(entry["body"]["guid"], json!(guid));
        assert_eq!(entry["answer"]["data"]["msg_data"]["id"], json!(receipt.msg_id));
        assert_eq!(
            weft_wecom::content::content_key(&entry["content"]),
            request.content_key()
        );

        assert_eq!(message.content_key(), request.content_key());
        assert_eq!(message.conversation_id().as_ref(), Some(&request.conversation_id));
        assert_eq!(message.appinfo, receipt.appinfo_decoded);
        assert_ne!(message.appinfo, receipt.appinfo);
        assert_eq!((&message.id, message.seq), (&receipt.msg_id, receipt.seq));
        assert_eq!(message.sendtime, receipt.sendtime);
        assert_eq!(message.sender, receipt.sender);
        assert!(message.is_own && !message.send_failed());
        assert_eq!(message.msg_type, *msg_type);
    }
    assert_eq!(messages.last().unwrap().at_list, ["1688850000000001", "0"]);

    let sessions = gateway.get_session_list(&guid, "0", 100).await.unwrap();
    let expected = ["S:7881300001".to_owned(), "R:10850001".to_owned()];
    assert_eq!(
        sessions,
        SessionPage {
            conversation_ids: expected.into(),
            next_seq: "2".to_owned()
        }
    );
    let rest = gateway.get_session_list(&guid, "1", 1).await.unwrap();
    assert_eq!(
        (rest.conversation_ids, rest.next_seq.as_str()),
        (vec!["R:10850001".to_owned()], "2")
    );
}

#[tokio::test]
async fn the_sync_callback_follows_within_500_ms() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    simulator.fault(json!({"latency_ms": 1500, "count": 1})).await;
    let started = Instant::now();
    let sending = simulator.send_text(&guid, "S:1", "迟");
    let (outcome, arrivals) = tokio::join!(sending, inbox.wait_until(|arrivals| !arrivals.is_empty()));
    assert!(started.elapsed() >= Duration::from_millis(1500));
    let delay = arrivals[0].at - started;
    assert!(delay < Duration::from_millis(500), "{delay:?}");
    assert_eq!(
        synced(&arrivals[0].callback.event).appinfo,
        receipt(outcome).appinfo_decoded
    );
}

#[tokio::test]
async fn refusals_by_rule_are_permanent_and_not_effective() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    for (conversation_id, expected) in [
        ("S:0123", codes::BAD_CONVERSATION_ID),
        ("R:0123", codes::BAD_CONVERSATION_ID),
        ("7881300001", codes::BAD_CONVERSATION_ID),
        ("S:", codes::BAD_CONVERSATION_ID),
        ("S:9123", codes::NO_EXTERNAL_PERMISSION),
    ] {
        let outcome = simulator.send_text(&guid, conversation_id, "x").await;
        let SendOutcome::Rejected { class, code, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((class, code), (RejectClass::Permanent, expected), "{conversation_id}");
    }
    // A room may begin with 9.
    receipt(simulator.send_text(&guid, "R:9123", "x").await);
    let effective: Vec<_> = simulator
        .ledger()
        .await
        .iter()
        .map(|entry| entry["effective"] == json!(true))
        .collect();
    assert_eq!(effective, [false, false, false, false, false, true]);
    let arrivals = inbox.wait_until(|arrivals| !arrivals.is_empty()).await;
    assert_eq!(synced(&arrivals[0].callback.event).conversation_id().unwrap(), "R:9123");
}

#[tokio::test]
async fn mentions_go_to_rooms_only() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    let body = SendBody::RoomAt {
        content: "{$@}".to_owned(),
        at_list: vec![MENTION_ALL.to_owned()],
    };
    let request = SendRequest {
        conversation_id: "S:1".to_owned(),
        body,
    };
    let outcome = simulator.gateway.send(&guid, &request).await;
    assert!(
        matches!(
            outcome,
            SendOutcome::Rejected {
                class: RejectClass::Permanent,
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_restricted_account_is_throttled_until_it_is_lifted() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    let client = simulator.act(&guid, "restrict", json!({})).await;
    assert_eq!(client["restricted"], true);
    for _ in 0..2 {
        let outcome = simulator.send_text(&guid, "S:1", "x").await;
        assert_eq!(outcome, SendOutcome::Throttled { retry_after: None });
    }
    let client = simulator.act(&guid, "lift", json!({})).await;
    assert_eq!(client["restricted"], false);
    receipt(simulator.send_text(&guid, "S:1", "x").await);
    let effective: Vec<_> = simulator
        .ledger()
        .await
        .iter()
        .map(|entry| entry["effective"].clone())
        .collect();
    assert_eq!(effective, [false, false, true].map(Value::from));
}

#[tokio::test]
async fn nobody_sends_through_a_client_that_is_not_online() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.client(&inbox).await;
    assert_eq!(simulator.send_text(&guid, "S:1", "x").await, SendOutcome::NotReady);
    let outcome = simulator.send_text("no-such-guid", "S:1", "x").await;
    assert!(
        matches!(
            outcome,
            SendOutcome::Rejected {
                class: RejectClass::InstanceGone,
                ..
            }
        ),
        "{outcome:?}"
    );
    let ledger = simulator.ledger().await;
    assert_eq!(ledger.len(), 2);
    assert!(ledger.iter().all(|entry| entry["effective"] == json!(false)));
}

#[tokio::test]
async fn the_ids_of_two_accounts_collide_but_their_appinfos_do_not() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let (first, second) = (
        simulator.online_client(&inbox).await,
        simulator.online_client(&inbox).await,
    );
    let one = receipt(simulator.send_text(&first, "S:1", "x").await);
    let other = receipt(simulator.send_text(&second, "S:1", "x").await);
    let again = receipt(simulator.send_text(&first, "S:1", "x").await);
    assert_eq!((&one.msg_id, one.seq), (&other.msg_id, other.seq));
    assert_ne!(one.appinfo_decoded, other.appinfo_decoded);
    assert_ne!(one.msg_id, again.msg_id);
}

#[tokio::test]
async fn read_reports_name_the_message_that_was_read() {
    let options = Options {
        read_after: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let (simulator, inbox) = (TestSimulator::start_with(options).await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    let sent = receipt(simulator.send_text(&guid, "S:7881300001", "在吗").await);
    let events = inbox.wait_for_types(&[11013, 11010]).await;
    let CallbackEvent::Message(message) = &events[1] else {
        panic!("{events:?}")
    };
    let report = message.read_report().unwrap();
    assert_eq!(
        (report.msg_ids, report.appinfos),
        (vec![sent.msg_id.clone()], vec![sent.appinfo_decoded])
    );
    assert_eq!(report.reader, "7881300001");
    assert!(report.read_at >= sent.sendtime);
    assert_eq!(message.conversation_id().as_deref(), Some("S:7881300001"));
    assert_ne!(message.id, sent.msg_id);
}

#[tokio::test]
async fn without_read_after_nothing_is_reported_read() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    receipt(simulator.send_text(&guid, "S:1", "一").await);
    receipt(simulator.send_text(&guid, "S:1", "二").await);
    simulator.act(&guid, "logout", json!({})).await;
    inbox.wait_for(|callback| callback.notify_type == 11004).await;
    assert!(!inbox.types().contains(&11010));
}

#[tokio::test]
async fn an_incoming_message_is_told() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    for conversation_id in ["S:7881300001", "R:10850001"] {
        let incoming = json!({
            "conversation_id": conversation_id, "sender": "7881300001", "sender_name": "王芳", "content": "你好",
        });
        simulator.act(&guid, "incoming", incoming).await;
    }
    let events = inbox.wait_for_types(&[11010, 11010]).await;
    let mut ids = Vec::new();
    for (event, conversation_id) in events.iter().zip(["S:7881300001", "R:10850001"]) {
        let CallbackEvent::Message(message) = event else {
            panic!("{event:?}")
        };
        assert_eq!(message.conversation_id().as_deref(), Some(conversation_id));
        assert_eq!((message.sender_name.as_str(), message.is_own), ("王芳", false));
        assert_eq!((&message.content, message.msg_type), (&json!("你好"), MsgType::Text));
        ids.push(message.id.clone());
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_sent_message_can_be_revoked_and_no_other() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    let sent = receipt(simulator.send_text(&guid, "S:1", "错").await);
    simulator.gateway.revoke_msg(&guid, "S:1", &sent.msg_id).await.unwrap();
    assert!(simulator.gateway.revoke_msg(&guid, "S:1", "424242").await.is_err());
    let messages = inbox
        .wait_for(|callback| match &callback.event {
            CallbackEvent::MessageSync(synced) => synced
                .messages
                .iter()
                .any(|message| message.msg_type == MsgType::Revoke),
            _ => false,
        })
        .await;
    let CallbackEvent::MessageSync(synced) = messages.event else {
        unreachable!()
    };
    let revoke = synced.messages.last().unwrap();
    assert_eq!(revoke.content["msgid"], json!(sent.msg_id));
}

#[tokio::test]
async fn the_ledger_is_read_page_by_page() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let (first, second) = (
        simulator.online_client(&inbox).await,
        simulator.online_client(&inbox).await,
    );
    for index in 0..6 {
        let guid = if index % 2 == 0 { &first } else { &second };
        receipt(
            simulator
                .gateway
                .send(guid, &text("S:1", &format!("第{index}条")))
                .await,
        );
    }
    let contents = |page: Value| -> Vec<Value> {
        page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["content"].clone())
            .collect()
    };
    let page = simulator.get("/_sim/ledger?after=1&limit=3").await;
    assert_eq!(contents(page), ["第1条", "第2条", "第3条"].map(Value::from));
    let page = simulator
        .get(&format!("/_sim/ledger?guid={second}&after=2&limit=1000"))
        .await;
    assert_eq!(contents(page), ["第3条", "第5条"].map(Value::from));
    assert!(contents(simulator.get("/_sim/ledger?guid=nobody").await).is_empty());
    assert!(contents(simulator.get("/_sim/ledger?after=6").await).is_empty());
}

#[tokio::test]
async fn a_send_that_lacks_a_field_is_refused() {
    let (simulator, inbox) = (TestSimulator::start().await, Inbox::open().await);
    let guid = simulator.online_client(&inbox).await;
    for (path, body) in [
        ("/msg/send_text", json!({"guid": guid, "conversation_id": "S:1"})),
        (
            "/msg/send_text",
            json!({"guid": guid, "conversation_id": "S:1", "content": 7}),
        ),
        (
            "/msg/send_image",
            json!({"guid": guid, "conversation_id": "S:1", "file_id": "x"}),
        ),
        (
            "/msg/send_room_at",
            json!({"guid": guid, "conversation_id": "R:1", "content": "x", "at_list": []}),
        ),
    ] {
        let (status, answer) = simulator.post(path, &body).await;
        assert_eq!(status, 200);
        assert_ne!(answer["error_code"], json!(0), "{path} {body}");
    }
    assert!(
        simulator
            .ledger()
            .await
            .iter()
            .all(|entry| entry["effective"] == json!(false))
    );
}
