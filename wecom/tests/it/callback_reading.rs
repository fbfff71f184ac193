use chrono::DateTime;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use weft_wecom::callbacks::{Callback, CallbackError, CallbackEvent, MsgType, QrStatus};
use weft_wecom::gateway::{SendBody, SendRequest};

fn read(value: &Value) -> Callback {
    Callback::parse(value.to_string().as_bytes()).unwrap()
}

#[test]
fn every_scan_status_has_its_meaning() {
    use QrStatus::{Authorised, Failed, NeedsCode, None, Other, Refused, Scanned, Succeeded};
    let expected = [
        None,
        Scanned,
        Succeeded,
        Failed,
        Refused,
        Scanned,
        Succeeded,
        Failed,
        Refused,
        Authorised,
        NeedsCode,
        Other(11),
    ];
    for (number, status) in expected.into_iter().enumerate() {
        for data in [
            json!({"status": number}),
            json!({"status": number.to_string(), "vid": 7, "nickname": "甲"}),
        ] {
            let callback = read(&json!({"guid": "g", "notify_type": 11002, "data": data}));
            let CallbackEvent::QrStatus(report) = callback.event else {
                panic!("{callback:?}")
            };
            assert_eq!(report.status, status);
        }
    }
}

#[test]
fn plain_callbacks_need_no_data() {
    for (notify_type, expected) in [
        (11001, CallbackEvent::InstanceReady),
        (11005, CallbackEvent::InitFinished),
        (11009, CallbackEvent::ContactsSynced),
        (11012, CallbackEvent::SafeVerify),
        (2131, CallbackEvent::Unknown),
        (-7, CallbackEvent::Unknown),
    ] {
        let callback = read(&json!({"guid": "g", "notify_type": notify_type}));
        assert_eq!((callback.notify_type, callback.event), (notify_type, expected));
    }
    for notify_type in [11004, 11006, 11007, 11008, 11011] {
        read(&json!({"guid": "g", "notify_type": notify_type, "data": null}));
    }
}

#[test]
fn reasons_are_read_in_their_spellings() {
    for data in [
        json!({"error_code": 7, "error_message": "gone"}),
        json!({"error_code": "7", "error_message": "gone"}),
        json!({"err_code": 7, "err_msg": "gone"}),
    ] {
        let CallbackEvent::Logout(report) = read(&json!({"guid": "g", "notify_type": 11004, "data": data})).event
        else {
            panic!()
        };
        assert_eq!((report.error_code, report.error_message.as_str()), (Some(7), "gone"));
    }
}

#[test]
fn a_message_is_read_with_numbers_as_text_and_text_as_numbers() {
    let plain = json!({
        "seq": 5, "id": "1026377", "appinfo": "CIGA", "sender": "1688850000000001", "receiver": "7881300001",
        "roomid": "0", "sendtime": 1_767_225_600, "sender_name": "王芳", "content_type": 2, "flag": 0,
        "content": "你好", "at_list": [], "send_flag": 1, "msg_type": 2,
    });
    let odd = json!({
        "seq": "5", "id": 1_026_377, "appinfo": "CIGA", "sender": 1_688_850_000_000_001_i64, "receiver": 7_881_300_001_i64,
        "roomid": 0, "sendtime": "1767225600", "sender_name": "王芳", "content_type": "2", "flag": "0",
        "content": "你好", "at_list": null, "send_flag": "1", "msg_type": "2",
    });
    let one = read(&json!({"guid": "g", "notify_type": 11010, "data": plain}));
    let other = read(&json!({"guid": "g", "notify_type": 11010, "data": odd}));
    assert_eq!(one, other);
    let CallbackEvent::Message(message) = one.event else {
        panic!()
    };
    assert!(message.is_own && !message.send_failed());
    assert_eq!(message.msg_type, MsgType::Text);
    assert_eq!(message.conversation_id().as_deref(), Some("S:7881300001"));
}

#[test]
fn the_conversation_is_the_other_side_or_the_room() {
    for (message, expected) in [
        (
            json!({"id": 1, "sender": "me", "receiver": "you", "send_flag": 1}),
            Some("S:you"),
        ),
        (
            json!({"id": 1, "sender": "you", "receiver": "me", "send_flag": 0, "roomid": ""}),
            Some("S:you"),
        ),
        (
            json!({"id": 1, "sender": "you", "receiver": "me", "roomid": 10_850_001}),
            Some("R:10850001"),
        ),
        (
            json!({"id": 1, "sender": "you", "roomid": "R:10850001"}),
            Some("R:10850001"),
        ),
        (json!({"id": 1}), None),
    ] {
        let CallbackEvent::Message(read) = read(&json!({"notify_type": 11010, "data": message})).event else {
            panic!()
        };
        assert_eq!(read.conversation_id().as_deref(), expected, "{message}");
    }
}

#[test]
fn a_failed_send_shows_in_the_flag() {
    for (flag, failed) in [(0, false), (4_194_304, true), (4_194_304 + 16, true), (16, false)] {
        let message = json!({"id": 1, "flag": flag});
        let CallbackEvent::Message(message) = read(&json!({"notify_type": 11010, "data": message})).event else {
            panic!()
        };
        assert_eq!(message.send_failed(), failed);
    }
}

#[test]
fn a_time_outside_of_the_years_2000_to_2199_is_none() {
    for (seconds, expected) in [
        (json!(946_684_800), true),
        (json!("7258118399"), true),
        (json!(946_684_799), false),
        (json!(7_258_118_400_i64), false),
        (json!(-300_000_000_000_i64), false),
        (json!(300_000_000_000_i64), false),
        (json!(i64::MIN), false),
        (json!(1e300), false),
        (json!("soon"), false),
        (json!(null), false),
    ] {
        let content = json!({"msgid": 7, "read_time": seconds});
        let message = json!({"id": "9", "msg_type": 1012, "sendtime": seconds, "content": content});
        let CallbackEvent::Message(message) = read(&json!({"notify_type": 11010, "data": message})).event else {
            panic!()
        };
        assert_eq!(message.sendtime.is_some(), expected, "{seconds}");
        assert_eq!(message.read_report().unwrap().read_at, message.sendtime);
    }
}

/// Replaced by U+FFFD, different people would look like one.
#[test]
fn a_message_whose_ids_no_text_can_hold_is_not_read() {
    for sender in [r"\u0000", r"a\ud800", r"\udc00b", r"\u001b[2J", r"1\n2"] {
        let message = format!(r#"{{"id": "1", "sender": "{sender}", "content": "x"}}"#);
        let one = format!(r#"{{"notify_type": 11010, "data": {message}}}"#);
        assert_eq!(
            Callback::parse(one.as_bytes()),
            Err(CallbackError::BadData { notify_type: 11010 })
        );
        let sync = format!(r#"{{"notify_type": 11013, "data": [{message}, {{"id": "2", "sender": "b"}}]}}"#);
        let CallbackEvent::MessageSync(synced) = Callback::parse(sync.as_bytes()).unwrap().event else {
            panic!()
        };
        assert_eq!((synced.messages.len(), synced.unreadable), (1, 1));
    }
    let name = br#"{"notify_type": 11010, "data": {"id": "1", "sender": "a", "sender_name": "\ud83d"}}"#;
    assert!(Callback::parse(name).is_ok(), "a name is kept with U+FFFD");
}

#[test]
fn one_bad_item_does_not_spoil_a_sync() {
    let data = json!([{"id": "1"}, 7, null, {"content": "no id"}, {"appinfo": "x"}]);
    let CallbackEvent::MessageSync(synced) = read(&json!({"notify_type": 11013, "data": data})).event else {
        panic!()
    };
    assert_eq!((synced.messages.len(), synced.unreadable), (2, 3));
    let CallbackEvent::MessageSync(synced) = read(&json!({"notify_type": 11013, "data": {"id": "1"}})).event else {
        panic!()
    };
    assert_eq!(synced.messages.len(), 1);
}

#[test]
fn read_reports_are_read_in_their_spellings() {
    for content in [
        json!({"msgids": ["7", "8"], "appinfos": ["a", "b"]}),
        json!({"msgids": [7, 8], "appinfos": ["a", "b"]}),
        json!(r#"{"msgids": ["7", "8"], "appinfos": ["a", "b"]}"#),
    ] {
        let message =
            json!({"id": "9", "msg_type": 1012, "sender": "you", "sendtime": 1_767_225_600, "content": content});
        let CallbackEvent::Message(message) = read(&json!({"notify_type": 11010, "data": message})).event else {
            panic!()
        };
        let report = message.read_report().unwrap();
        assert_eq!(
            (report.msg_ids, report.appinfos),
            (vec!["7".into(), "8".into()], vec!["a".into(), "b".into()])
        );
        assert_eq!(
            (report.reader.as_str(), report.read_at),
            ("you", DateTime::from_timestamp(1_767_225_600, 0))
        );
    }
    for message in [
        json!({"id": "9", "msg_type": 1012, "content": {"msgid": 7}}),
        json!({"id": "9", "msg_type": 1012, "content": {"id": "7"}}),
    ] {
        let CallbackEvent::Message(message) = read(&json!({"notify_type": 11010, "data": message})).event else {
            panic!()
        };
        assert_eq!(message.read_report().unwrap().msg_ids, ["7"]);
    }
    for message in [
        json!({"id": "9", "msg_type": 2, "content": {"msgids": ["7"]}}),
        json!({"id": "9", "msg_type": 1012, "content": {}}),
        json!({"id": "9", "msg_type": 1012, "content": "read"}),
    ] {
        let CallbackEvent::Message(message) = read(&json!({"notify_type": 11010, "data": message})).event else {
            panic!()
        };
        assert_eq!(message.read_report(), None);
    }
}

#[test]
fn what_is_no_callback_says_why() {
    for (body, expected) in [
        (&b""[..], CallbackError::NotJson),
        (b"<xml/>", CallbackError::NotJson),
        (b"\xff\xfe", CallbackError::NotJson),
        (b"[]", CallbackError::NotAnObject),
        (b"{}", CallbackError::NoNotifyType),
        (br#"{"notify_type": "soon"}"#, CallbackError::NoNotifyType),
        (br#"{"notify_type": "11007", "data": {}}"#, CallbackError::NoNotifyType),
        (br#"{"notify_type": 11007.5, "data": {}}"#, CallbackError::NoNotifyType),
        (br#"{"notify_type": true, "data": {}}"#, CallbackError::NoNotifyType),
        (
            br#"{"notify_type": 11007, "data": "gone"}"#,
            CallbackError::BadData { notify_type: 11007 },
        ),
        (
            br#"{"notify_type": 11001, "data": [1]}"#,
            CallbackError::BadData { notify_type: 11001 },
        ),
        (
            br#"{"notify_type": 11010, "data": "{\"id\": 1}"}"#,
            CallbackError::BadData { notify_type: 11010 },
        ),
        (
            br#"{"notify_type": 11002}"#,
            CallbackError::BadData { notify_type: 11002 },
        ),
        (
            br#"{"notify_type": 11002, "data": {}}"#,
            CallbackError::BadData { notify_type: 11002 },
        ),
        (
            br#"{"notify_type": 11010, "data": []}"#,
            CallbackError::BadData { notify_type: 11010 },
        ),
        (
            br#"{"notify_type": 11013, "data": 5}"#,
            CallbackError::BadData { notify_type: 11013 },
        ),
    ] {
        assert_eq!(
            Callback::parse(body),
            Err(expected),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn half_an_emoji_costs_itself_and_nothing_else() {
    let body = br#"{"guid": "g", "notify_type": 11013, "data": [
        {"id": "1", "sender_name": "\ud83d\ude00 \ud83d", "content": "\u0000"}, {"id": "2", "appinfo": "x"}]}"#;
    let CallbackEvent::MessageSync(synced) = Callback::parse(body).unwrap().event else {
        panic!()
    };
    assert_eq!((synced.messages.len(), synced.unreadable), (2, 0));
    assert_eq!(synced.messages[0].sender_name, "\u{1f600} \u{fffd}");
    assert_eq!(synced.messages[0].content, json!("\u{fffd}"));
}

#[test]
fn a_send_and_its_echo_have_one_content_key_and_others_have_not() {
    let link = |title: &str| SendRequest {
        conversation_id: "S:1".to_owned(),
        body: SendBody::Link {
            title: title.to_owned(),
            description: String::new(),
            url: "https://example.com".to_owned(),
            image_url: String::new(),
        },
    };
    let echo = json!({"id": 1, "content": link("甲").fields()});
    let CallbackEvent::Message(echo) = read(&json!({"notify_type": 11010, "data": echo})).event else {
        panic!()
    };
    assert_eq!(echo.content_key(), link("甲").content_key());
    assert_ne!(echo.content_key(), link("乙").content_key());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[0-9]{1,25}".prop_map(Value::from),
    ];
    let field = prop_oneof![
        Just("status".to_owned()),
        Just("id".to_owned()),
        Just("appinfo".to_owned()),
        Just("content".to_owned()),
        Just("msgids".to_owned()),
        Just("msg_type".to_owned()),
        Just("roomid".to_owned()),
        Just("sender".to_owned()),
        Just("send_flag".to_owned()),
        Just("at_list".to_owned()),
        Just("flag".to_owned()),
        ".{0,6}",
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((field.clone(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_without_panic(notify_type in prop_oneof![11000_i64..11016, Just(1012), any::<i64>()], data in any_json()) {
        let callback = Callback::from_value(&json!({"guid": "g", "notify_type": notify_type, "data": data}));
        if let Ok(callback) = callback {
            let messages = match callback.event {
                CallbackEvent::Message(message) => vec![*message],
                CallbackEvent::MessageSync(synced) => synced.messages,
                _ => Vec::new(),
            };
            for message in messages {
                let _ = (message.conversation_id(), message.content_key(), message.read_report(), message.send_failed());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Callback::parse(&body);
    }

    #[test]
    fn any_envelope_is_read_without_panic(envelope in any_json()) {
        let _ = Callback::from_value(&envelope);
    }
}
