//! Content in the forms of the REST contract.

use serde_json::json;

use super::super::{MessageContent, MessageType};

#[test]
fn content_of_every_form_is_read_and_written_as_it_came() {
    let uploaded = json!({"file_id": "f", "aes_key": "k", "md5": "m", "size": 7});
    let named = json!({"file_id": "f", "aes_key": "k", "md5": "m", "size": 7, "name": "报价.pdf"});
    let program = json!({"username": "gh_1@app", "appid": "wx1", "appname": "商城", "title": "新品", "page_path": "p"});
    for (kind, value) in [
        (MessageType::Text, json!({"text": "您好"})),
        (MessageType::Image, json!({"url": "https://cdn.example/a.png"})),
        (MessageType::Image, uploaded),
        (
            MessageType::File,
            json!({"url": "https://cdn.example/a.pdf", "name": "报价.pdf"}),
        ),
        (MessageType::File, named),
        (
            MessageType::Link,
            json!({"title": "活动", "url": "https://example.com"}),
        ),
        (MessageType::Miniprogram, program),
        (MessageType::At, json!({"text": "请看", "mentions": ["1688"]})),
        (MessageType::At, json!({"text": "请看", "mention_all": true})),
    ] {
        let content = MessageContent::from_value(kind, value.clone()).unwrap();
        assert_eq!(content.kind(), kind);
        assert_eq!(serde_json::to_value(&content).unwrap(), value);
    }
}

#[test]
fn content_of_another_form_or_with_an_unknown_field_is_not_read() {
    for (kind, value) in [
        (MessageType::Text, json!({})),
        (MessageType::Text, json!({"text": "a", "bold": true})),
        (
            MessageType::Image,
            json!({"url": "https://cdn.example/a.png", "file_id": "f"}),
        ),
        (MessageType::File, json!({"url": "https://cdn.example/a.pdf"})),
        (MessageType::Link, json!({"title": "活动"})),
        (MessageType::At, json!({"text": "a", "mentions": "1688"})),
        (MessageType::Miniprogram, json!("a")),
    ] {
        assert!(
            MessageContent::from_value(kind, value.clone()).is_err(),
            "{kind:?} {value}"
        );
    }
}
