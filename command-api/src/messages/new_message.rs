//! One message to accept, alone or in a batch.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use weft_domain::message::{AcceptMessage, DEFAULT_PRIORITY, MessageContent, MessageType, PRIORITY_RANGE};
use weft_domain::{AccountId, BatchId, ConversationId, Sealed, TenantId, WecomConversationId, WecomConversationKind};
use weft_log_writer::seal::ContentToSeal;
use weft_platform::http::{Fields, Node};

use super::content::{self, ContentForm};

/// How far ahead a message may be planned.
const MAX_DAYS_AHEAD: i64 = 90;

/// What a message to send says, checked. (Serialised only by its contract: that is how it is flattened into a form.)
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewMessage)]
pub(crate) struct NewMessage {
    /// `S:` (a person) or `R:` (a group) and 1 to 98 visible characters.
    #[schema(value_type = String, pattern = "^[SR]:\\S{1,98}$", example = "S:1688850000000001")]
    conversation_id: WecomConversationId,
    #[schema(value_type = TypeForm)]
    message_type: MessageType,
    #[schema(value_type = ContentForm)]
    content: MessageContent,
    /// When to send it, at most 90 days ahead; a time in the past means now.
    send_time: Option<DateTime<Utc>>,
    /// 10 first.
    #[schema(minimum = 1, maximum = 10, default = 5)]
    priority: Option<u8>,
    #[schema(max_length = 2_048)]
    callback_url: Option<String>,
    /// The caller's own name for it; lists can be filtered by it.
    #[schema(min_length = 1, max_length = 100)]
    client_reference: Option<String>,
}

/// What a message is; decides the form of its content.
#[derive(ToSchema)]
#[schema(as = MessageType, rename_all = "snake_case")]
#[expect(dead_code, reason = "the contract's form of the domain's words")]
enum TypeForm {
    Text,
    Image,
    File,
    Link,
    Miniprogram,
    At,
}

impl NewMessage {
    /// Reads the fields of one message; others of the same object are the caller's.
    pub(super) fn read(fields: &mut Fields, now: DateTime<Utc>) -> Option<Self> {
        let conversation_id: Option<WecomConversationId> = fields.required("conversation_id", |node| {
            node.parsed("S: or R: and 1 to 98 visible characters", |text| text.parse().ok())
        });
        let message_type = fields.required("message_type", |node| {
            node.word("text, image, file, link, miniprogram, at", MessageType::parse)
        });
        // Without a type only its presence can be checked.
        let content = fields.required("content", |node| match message_type {
            Some(kind) => content::read(kind, node).map(Some),
            None => Some(None),
        });
        let send_time = fields.optional("send_time", |node| send_time(node, now));
        let priority = fields.optional("priority", |node| {
            let range = i64::from(*PRIORITY_RANGE.start())..=i64::from(*PRIORITY_RANGE.end());
            node.integer(range).and_then(|priority| u8::try_from(priority).ok())
        });
        let callback_url = fields.optional("callback_url", Node::url);
        let client_reference = fields.optional("client_reference", |node| node.line(1..=100));
        if let (Some(MessageType::At), Some(conversation)) = (message_type, &conversation_id)
            && conversation.kind() == WecomConversationKind::Private
        {
            return fields.refuse(
                "conversation_id",
                "out_of_range",
                "must be a group (R:) for message_type at",
            );
        }
        Some(Self {
            conversation_id: conversation_id?,
            message_type: message_type?,
            content: content??,
            send_time,
            priority,
            callback_url,
            client_reference,
        })
    }

    /// What to seal, for a message of this account accepted at `now`.
    pub(super) fn to_seal(
        &self,
        tenant_id: TenantId,
        account_id: AccountId,
        now: DateTime<Utc>,
    ) -> ContentToSeal<'_, MessageContent> {
        ContentToSeal {
            tenant_id,
            conversation: ConversationId::of(account_id, &self.conversation_id),
            at: now,
            value: &self.content,
        }
    }

    /// The command, with the content sealed.
    pub(super) fn accept(
        self,
        tenant_id: TenantId,
        account_id: AccountId,
        content: Sealed<MessageContent>,
        batch: Option<(BatchId, u32)>,
        now: DateTime<Utc>,
    ) -> AcceptMessage {
        AcceptMessage {
            account_id,
            tenant_id,
            conversation_id: self.conversation_id,
            message_type: self.message_type,
            content,
            priority: self.priority.unwrap_or(DEFAULT_PRIORITY),
            scheduled_time: self.send_time,
            batch_id: batch.map(|(id, _)| id),
            batch_index: batch.map(|(_, index)| index),
            callback_url: self.callback_url,
            client_reference: self.client_reference,
            now,
        }
    }
}

fn send_time(node: Node, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let time = node.time_until(now + TimeDelta::days(MAX_DAYS_AHEAD), "at most 90 days ahead")?;
    // Whole milliseconds are stored; rounding up never starts it early.
    let floor = time.trunc_subsecs(3);
    Some(if floor < time {
        floor + TimeDelta::milliseconds(1)
    } else {
        floor
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use weft_platform::http::read_object;

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-01-31T08:00:00Z".parse().unwrap()
    }

    fn message(changes: &Value) -> Value {
        let mut message = json!({
            "conversation_id": "S:1688850000000001",
            "message_type": "text",
            "content": {"text": "你好"},
        });
        message
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        message
    }

    fn errors(changes: &Value) -> Vec<(String, &'static str)> {
        let read = read_object(message(changes), |fields| NewMessage::read(fields, now()));
        let listed = read.err().unwrap_or_default();
        listed.into_iter().map(|error| (error.pointer, error.code)).collect()
    }

    #[test]
    fn every_wrong_field_is_listed() {
        let listed = errors(&json!({
            "conversation_id": "X:1",
            "message_type": "fax",
            "content": null,
            "send_time": "2026-05-02T08:00:01Z",
            "priority": 11,
            "callback_url": "a",
            "client_reference": "x".repeat(101),
            "template_id": "t",
        }));
        let expected = [
            ("/conversation_id", "format"),
            ("/message_type", "out_of_range"),
            ("/content", "missing"),
            ("/send_time", "out_of_range"),
            ("/priority", "out_of_range"),
            ("/callback_url", "format"),
            ("/client_reference", "too_long"),
            ("/template_id", "unknown"),
        ];
        assert_eq!(listed, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    }

    #[test]
    fn mentions_need_a_group() {
        let at = json!({"message_type": "at", "content": {"text": "早", "mention_all": true}});
        assert_eq!(errors(&at), [("/conversation_id".to_owned(), "out_of_range")]);
        let in_group =
            json!({"conversation_id": "R:1", "message_type": "at", "content": {"text": "早", "mention_all": true}});
        assert_eq!(errors(&in_group), []);
    }

    #[test]
    fn a_planned_time_is_rounded_up_to_whole_milliseconds() {
        let planned = message(&json!({"send_time": "2026-01-31T16:00:00.0000001+08:00"}));
        let read = read_object(planned, |fields| NewMessage::read(fields, now())).unwrap();
        assert_eq!(read.send_time, Some(now() + TimeDelta::milliseconds(1)));
        assert_eq!(errors(&json!({"send_time": "2026-05-01T08:00:00Z"})), []);
        assert_eq!(errors(&json!({"send_time": "1999-01-01T00:00:00Z"})), []);
    }
}
