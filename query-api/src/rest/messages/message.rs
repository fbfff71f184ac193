//! A whole message, as the list and the single answer show it.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::timestamp::Timestamp;
use crate::views::messages::MessageRow;

/// How far a message has come.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::rest) struct MessageStatusAnswer {
    message_id: Uuid,
    status: String,
    /// When WeCom took it.
    #[schema(value_type = Option<DateTime<Utc>>)]
    send_time: Option<Timestamp>,
    /// When it was asked to be sent, a time in the past meaning at once; null: no time was given.
    #[schema(value_type = Option<DateTime<Utc>>)]
    scheduled_time: Option<Timestamp>,
    /// When WeCom confirmed its delivery.
    #[schema(value_type = Option<DateTime<Utc>>)]
    callback_time: Option<Timestamp>,
    #[schema(value_type = Option<DateTime<Utc>>)]
    read_time: Option<Timestamp>,
    wework_msg_id: Option<String>,
    retry_count: i64,
    error_code: Option<String>,
    error_msg: Option<String>,
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "the contract's names")]
pub(in crate::rest) struct Message {
    #[serde(flatten)]
    status: MessageStatusAnswer,
    tenant_id: Uuid,
    account_id: Uuid,
    conversation_id: String,
    message_type: String,
    /// As `message_type` has it; null when it was forgotten.
    content: Option<Value>,
    template_id: Option<Uuid>,
    batch_id: Option<Uuid>,
    priority: i64,
    client_reference: Option<String>,
    #[schema(value_type = DateTime<Utc>)]
    created_at: Timestamp,
    #[schema(value_type = DateTime<Utc>)]
    updated_at: Timestamp,
}

impl From<&MessageRow> for MessageStatusAnswer {
    fn from(row: &MessageRow) -> Self {
        Self {
            message_id: row.id,
            status: row.status.as_str().to_owned(),
            send_time: row.send_time.map(Timestamp),
            scheduled_time: row.scheduled_time.map(Timestamp),
            callback_time: row.callback_time.map(Timestamp),
            read_time: row.read_time.map(Timestamp),
            wework_msg_id: row.wework_msg_id.clone(),
            retry_count: row.retry_count,
            error_code: row.error_code.clone(),
            error_msg: row.error_message.clone(),
        }
    }
}

impl From<MessageRow> for Message {
    fn from(row: MessageRow) -> Self {
        Self {
            status: MessageStatusAnswer::from(&row),
            tenant_id: row.tenant_id,
            account_id: row.account_id,
            conversation_id: row.conversation_id,
            message_type: row.message_type.as_str().to_owned(),
            content: row.content,
            template_id: row.template_id,
            batch_id: row.batch_id,
            priority: row.priority,
            client_reference: row.client_reference,
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
        }
    }
}
