//! `Message`.

use std::sync::Arc;

use async_graphql::{ID, Json, Object, Result};
use serde_json::Value;

use super::account::Account;
use super::enums::{MessageStatus, MessageType};
use super::reader::Reader;
use crate::timestamp::Timestamp;
use crate::views::messages::MessageRow;

/// A message to one conversation.
pub(crate) struct Message {
    row: Arc<MessageRow>,
    stale: bool,
    reader: Reader,
}

impl Message {
    pub(crate) fn new(row: Arc<MessageRow>, reader: &Reader) -> Self {
        Self {
            row,
            stale: false,
            reader: reader.clone(),
        }
    }

    /// The same, pushed to a subscriber.
    pub(crate) fn pushed(mut self, stale: bool) -> Self {
        self.stale = stale;
        self
    }
}

/// A message to one conversation.
#[Object]
impl Message {
    async fn id(&self) -> ID {
        self.row.id.into()
    }

    /// The account that sends it.
    async fn account(&self) -> Result<Option<Account>> {
        let row = self.reader.account(self.row.account_id).await?;
        Ok(row.map(|row| Account::new(row, &self.reader)))
    }

    /// WeCom's id: `S:` a person, `R:` a group.
    async fn conversation_id(&self) -> &str {
        &self.row.conversation_id
    }

    async fn r#type(&self) -> MessageType {
        self.row.message_type.into()
    }

    /// As the type has it; empty when it was forgotten.
    async fn content(&self) -> Json<Value> {
        Json(
            self.row
                .content
                .clone()
                .unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        )
    }

    async fn status(&self) -> MessageStatus {
        self.row.status.into()
    }

    /// 1 to 10, 10 first.
    async fn priority(&self) -> i64 {
        self.row.priority
    }

    /// When it was asked to be sent, a time in the past meaning at once; null: no time was given.
    async fn scheduled_time(&self) -> Option<Timestamp> {
        self.row.scheduled_time.map(Timestamp)
    }

    /// When WeCom took it.
    async fn send_time(&self) -> Option<Timestamp> {
        self.row.send_time.map(Timestamp)
    }

    /// When WeCom confirmed its delivery.
    async fn callback_time(&self) -> Option<Timestamp> {
        self.row.callback_time.map(Timestamp)
    }

    async fn read_time(&self) -> Option<Timestamp> {
        self.row.read_time.map(Timestamp)
    }

    async fn wework_msg_id(&self) -> Option<&str> {
        self.row.wework_msg_id.as_deref()
    }

    async fn batch_id(&self) -> Option<ID> {
        self.row.batch_id.map(Into::into)
    }

    async fn retry_count(&self) -> i64 {
        self.row.retry_count
    }

    async fn error_code(&self) -> Option<&str> {
        self.row.error_code.as_deref()
    }

    async fn error_message(&self) -> Option<&str> {
        self.row.error_message.as_deref()
    }

    async fn created_at(&self) -> Timestamp {
        Timestamp(self.row.created_at)
    }

    /// Only ever true in a subscription: the view is behind what has happened; the current state follows.
    async fn stale(&self) -> bool {
        self.stale
    }
}
