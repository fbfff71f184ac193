//! `Conversation`.

use async_graphql::{ID, Object, Result};

use super::account::Account;
use super::enums::ConversationType;
use super::reader::Reader;
use crate::timestamp::Timestamp;
use crate::views::conversations::OpenedConversation;

/// A conversation of an account with a person or a group.
pub(crate) struct Conversation {
    shown: OpenedConversation,
    reader: Reader,
}

impl Conversation {
    pub(crate) fn new(shown: OpenedConversation, reader: &Reader) -> Self {
        Self {
            shown,
            reader: reader.clone(),
        }
    }
}

/// A conversation of an account with a person or a group.
#[Object]
impl Conversation {
    async fn id(&self) -> ID {
        self.shown.row.id.into()
    }

    async fn account(&self) -> Result<Option<Account>> {
        let row = self.reader.account(self.shown.row.account_id).await?;
        Ok(row.map(|row| Account::new(row, &self.reader)))
    }

    /// WeCom's id: `S:` a person, `R:` a group.
    async fn conversation_id(&self) -> &str {
        &self.shown.row.conversation_id
    }

    /// Masked without the permission to read personal data.
    async fn name(&self) -> Option<&str> {
        self.shown.name.as_deref()
    }

    async fn r#type(&self) -> ConversationType {
        self.shown.row.conversation_type.into()
    }

    async fn avatar_url(&self) -> Option<&str> {
        self.shown.avatar_url.as_deref()
    }

    async fn member_count(&self) -> Option<i64> {
        self.shown.row.member_count
    }

    async fn last_msg_time(&self) -> Option<Timestamp> {
        self.shown.row.last_msg_time.map(Timestamp)
    }

    /// Masked without the permission to read personal data.
    async fn last_msg_content(&self) -> Option<&str> {
        self.shown.last_content.as_deref()
    }

    async fn unread_count(&self) -> i64 {
        self.shown.row.unread_count
    }

    async fn is_active(&self) -> bool {
        self.shown.row.is_active
    }

    async fn is_pinned(&self) -> bool {
        self.shown.row.is_pinned
    }

    async fn tags(&self) -> &[String] {
        &self.shown.row.tags
    }

    /// Whether events are missing here, because a stream that they belong to was put aside: an operator is asked to mend it.
    async fn is_incomplete(&self) -> bool {
        self.shown.row.is_incomplete
    }

    async fn created_at(&self) -> Timestamp {
        Timestamp(self.shown.row.created_at)
    }

    async fn updated_at(&self) -> Timestamp {
        Timestamp(self.shown.row.updated_at)
    }
}
