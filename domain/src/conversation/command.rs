//! What may be asked of a conversation.

use chrono::{DateTime, Utc};

use super::event::{IncomingContent, Sender};
use crate::{AccountId, Sealed, TenantId, WecomConversationId};

#[derive(Clone, Debug, PartialEq)]
pub enum ConversationCommand {
    /// A conversation of the account became known (its session list, an incoming message).
    Open {
        account_id: AccountId,
        tenant_id: TenantId,
        conversation_id: WecomConversationId,
        now: DateTime<Utc>,
    },
    /// Opens the conversation too, if nobody has.
    ReceiveMessage {
        account_id: AccountId,
        tenant_id: TenantId,
        conversation_id: WecomConversationId,
        wework_msg_id: String,
        sender: Sealed<Sender>,
        content: Sealed<IncomingContent>,
        sent_at: DateTime<Utc>,
        now: DateTime<Utc>,
    },
    Rename {
        name: Sealed<String>,
        now: DateTime<Utc>,
    },
    Pin {
        now: DateTime<Utc>,
    },
    Unpin {
        now: DateTime<Utc>,
    },
    Tag {
        tags: Vec<String>,
        now: DateTime<Utc>,
    },
    MarkRead {
        now: DateTime<Utc>,
    },
}
