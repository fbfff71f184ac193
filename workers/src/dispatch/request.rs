//! A message's content as the gateway sends it.

use weft_domain::message::{AtContent, FileContent, ImageContent, MessageContent};
use weft_platform::keys::KeyStore;
use weft_wecom::gateway::{CdnFile, MENTION_ALL, MENTION_MARK, SendBody, SendRequest, UploadKind};

const DIGEST_CONTEXT: &str = "weft.sent-content.v1";

/// The keyed hash under which a send and its sync callback have equal content. Never compared in plain text, because
/// it is kept.
pub(crate) fn content_digest(keys: &KeyStore, content_key: &str) -> [u8; 32] {
    keys.keyed_hash(DIGEST_CONTEXT, content_key.as_bytes())
}

/// What has to be uploaded before the message can be sent.
pub(super) fn upload_of(content: &MessageContent) -> Option<(UploadKind, &str)> {
    match content {
        MessageContent::Image(ImageContent::Url(image)) => Some((UploadKind::Image, &image.url)),
        MessageContent::File(FileContent::Url(file)) => Some((UploadKind::File, &file.url)),
        MessageContent::Miniprogram(program) => program.cover_url.as_deref().map(|url| (UploadKind::Image, url)),
        MessageContent::Text(_)
        | MessageContent::Image(ImageContent::Uploaded(_))
        | MessageContent::File(FileContent::Uploaded(_))
        | MessageContent::Link(_)
        | MessageContent::At(_) => None,
    }
}

/// The request; `uploaded` is what came of `upload_of`, `None` where that was `None`.
pub(super) fn request(conversation_id: &str, content: MessageContent, uploaded: Option<CdnFile>) -> SendRequest {
    let body = match content {
        MessageContent::Text(text) => SendBody::Text { content: text.text },
        MessageContent::At(at) => mention(at),
        MessageContent::Image(ImageContent::Url(_)) => SendBody::Image {
            file: uploaded.unwrap_or_default(),
            width: 0,
            height: 0,
            is_hd: false,
        },
        MessageContent::Image(ImageContent::Uploaded(image)) => SendBody::Image {
            file: CdnFile {
                file_id: image.file_id,
                size: image.size,
                aes_key: image.aes_key,
                md5: image.md5,
            },
            width: image.width.unwrap_or_default(),
            height: image.height.unwrap_or_default(),
            is_hd: false,
        },
        MessageContent::File(FileContent::Url(file)) => SendBody::File {
            file: uploaded.unwrap_or_default(),
            file_name: file.name,
        },
        MessageContent::File(FileContent::Uploaded(file)) => SendBody::File {
            file: CdnFile {
                file_id: file.file_id,
                size: file.size,
                aes_key: file.aes_key,
                md5: file.md5,
            },
            file_name: file.name,
        },
        MessageContent::Link(link) => SendBody::Link {
            title: link.title,
            description: link.description.unwrap_or_default(),
            url: link.url,
            image_url: link.image_url.unwrap_or_default(),
        },
        MessageContent::Miniprogram(program) => SendBody::Weapp {
            username: program.username,
            appid: program.appid,
            appname: program.appname,
            appicon: program.appicon.unwrap_or_default(),
            title: program.title,
            page_path: program.page_path,
            cover: uploaded,
        },
    };
    SendRequest {
        conversation_id: conversation_id.to_owned(),
        body,
    }
}

/// A text without marks gets one per mention in front of it.
fn mention(at: AtContent) -> SendBody {
    let at_list = if at.mention_all {
        vec![MENTION_ALL.to_owned()]
    } else {
        at.mentions
    };
    let content = if at.text.contains(MENTION_MARK) {
        at.text
    } else {
        format!("{}{}", MENTION_MARK.repeat(at_list.len()), at.text)
    };
    SendBody::RoomAt { content, at_list }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weft_domain::message::MessageType;

    use super::*;

    fn content(kind: MessageType, value: serde_json::Value) -> MessageContent {
        MessageContent::from_value(kind, value).unwrap()
    }

    #[test]
    fn a_mention_without_marks_gets_one_per_person_in_front() {
        let at = content(MessageType::At, json!({"text": "开会", "mentions": ["a", "b"]}));
        assert_eq!(
            request("R:1", at, None).body,
            SendBody::RoomAt {
                content: "{$@}{$@}开会".to_owned(),
                at_list: vec!["a".to_owned(), "b".to_owned()]
            }
        );
    }

    #[test]
    fn a_mention_that_places_its_marks_is_left_alone() {
        let at = content(MessageType::At, json!({"text": "请 {$@} 看", "mention_all": true}));
        assert_eq!(
            request("R:1", at, None).body,
            SendBody::RoomAt {
                content: "请 {$@} 看".to_owned(),
                at_list: vec!["0".to_owned()]
            }
        );
    }

    #[test]
    fn only_contents_by_address_are_uploaded() {
        let by_url = content(MessageType::Image, json!({"url": "https://a.example/1.png"}));
        assert_eq!(upload_of(&by_url), Some((UploadKind::Image, "https://a.example/1.png")));
        let stored = json!({"file_id": "f", "aes_key": "k", "md5": "m", "size": 3});
        assert_eq!(upload_of(&content(MessageType::Image, stored)), None);
        assert_eq!(upload_of(&content(MessageType::Text, json!({"text": "甲"}))), None);
    }
}
