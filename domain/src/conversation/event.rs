//! What happened in a conversation.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{AccountId, Sealed, TenantId, WecomConversationId};

/// What came in. Always sealed in events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncomingContent {
    /// WeCom's `msg_type`.
    pub msg_type: i64,
    pub content: serde_json::Value,
}

/// Who wrote. Always sealed in events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    pub id: String,
    pub name: Option<String>,
}

/// Events of a conversation's stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum ConversationEvent {
    /// The conversation was seen for the first time.
    ConversationOpened {
        account_id: AccountId,
        tenant_id: TenantId,
        conversation_id: WecomConversationId,
        at: DateTime<Utc>,
    },
    MessageReceived {
        account_id: AccountId,
        conversation_id: WecomConversationId,
        /// WeCom's id of the message; unique only inside one account.
        wework_msg_id: String,
        sender: Sealed<Sender>,
        content: Sealed<IncomingContent>,
        /// WeCom's own time of the message, whole seconds.
        sent_at: DateTime<Utc>,
        at: DateTime<Utc>,
    },
    ConversationRenamed {
        account_id: AccountId,
        conversation_id: WecomConversationId,
        name: Sealed<String>,
        at: DateTime<Utc>,
    },
    ConversationPinned {
        account_id: AccountId,
        conversation_id: WecomConversationId,
        at: DateTime<Utc>,
    },
    ConversationUnpinned {
        account_id: AccountId,
        conversation_id: WecomConversationId,
        at: DateTime<Utc>,
    },
    ConversationTagged {
        account_id: AccountId,
        conversation_id: WecomConversationId,
        /// All tags after the change, sorted.
        tags: Vec<String>,
        at: DateTime<Utc>,
    },
    /// Everything received up to now was read by an operator.
    ConversationMarkedRead {
        account_id: AccountId,
        conversation_id: WecomConversationId,
        at: DateTime<Utc>,
    },
}

domain_event!(ConversationEvent {
    ConversationOpened => "1",
    MessageReceived => "1",
    ConversationRenamed => "1",
    ConversationPinned => "1",
    ConversationUnpinned => "1",
    ConversationTagged => "1",
    ConversationMarkedRead => "1",
});

impl ConversationEvent {
    pub const fn at(&self) -> DateTime<Utc> {
        match self {
            Self::ConversationOpened { at, .. }
            | Self::MessageReceived { at, .. }
            | Self::ConversationRenamed { at, .. }
            | Self::ConversationPinned { at, .. }
            | Self::ConversationUnpinned { at, .. }
            | Self::ConversationTagged { at, .. }
            | Self::ConversationMarkedRead { at, .. } => *at,
        }
    }

    pub const fn conversation(&self) -> (AccountId, &WecomConversationId) {
        match self {
            Self::ConversationOpened {
                account_id,
                conversation_id,
                ..
            }
            | Self::MessageReceived {
                account_id,
                conversation_id,
                ..
            }
            | Self::ConversationRenamed {
                account_id,
                conversation_id,
                ..
            }
            | Self::ConversationPinned {
                account_id,
                conversation_id,
                ..
            }
            | Self::ConversationUnpinned {
                account_id,
                conversation_id,
                ..
            }
            | Self::ConversationTagged {
                account_id,
                conversation_id,
                ..
            }
            | Self::ConversationMarkedRead {
                account_id,
                conversation_id,
                ..
            } => (*account_id, conversation_id),
        }
    }
}
