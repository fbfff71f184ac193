//! What happened to a message.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::status::{MessageStatus, MessageType};
use super::{ACCOUNT_DELETED, MessageContent, OUTCOME_UNKNOWN};
use crate::aggregate::domain_event;
use crate::{AccountId, BatchId, Sealed, TenantId, WecomConversationId};

/// WeCom's own names for a message that it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Receipt {
    /// `msg_data.id`; unique only inside one account.
    pub wework_msg_id: String,
    /// The callback's `appinfo`, that is the reply's base64 decoded.
    pub appinfo: Option<String>,
    /// WeCom's own time of the send, whole seconds.
    pub wework_send_time: Option<DateTime<Utc>>,
}

/// How an unknown outcome was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResolvedOutcome {
    Sent,
    Failed,
    /// It goes back to pending and is sent again.
    Resend,
}

/// Who settled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResolvedBy {
    /// A sync callback that can only be this message's.
    Callback,
    /// A person.
    Operator,
}

/// Why a message is not sent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CancelCause {
    /// Somebody asked for it.
    Requested,
    AccountDeleted,
}

impl CancelCause {
    /// The message's `error_code`; `None` where nothing went wrong.
    pub const fn error_code(self) -> Option<&'static str> {
        match self {
            Self::Requested => None,
            Self::AccountDeleted => Some(ACCOUNT_DELETED),
        }
    }
}

/// Events of a message's stream. Every one names the account, whose lane they share on Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum MessageEvent {
    MessageAccepted {
        account_id: AccountId,
        tenant_id: TenantId,
        conversation_id: WecomConversationId,
        message_type: MessageType,
        content: Sealed<MessageContent>,
        priority: u8,
        /// When it is asked to be sent; absent: now.
        scheduled_time: Option<DateTime<Utc>>,
        batch_id: Option<BatchId>,
        /// Place in its batch, from 0.
        batch_index: Option<u32>,
        callback_url: Option<String>,
        client_reference: Option<String>,
        at: DateTime<Utc>,
    },
    /// Committed before a byte is written to WeCom.
    AttemptStarted {
        account_id: AccountId,
        attempt: u32,
        at: DateTime<Utc>,
    },
    MessageSent {
        account_id: AccountId,
        conversation_id: WecomConversationId,
        attempt: u32,
        receipt: Receipt,
        at: DateTime<Utc>,
    },
    MessageDelivered {
        account_id: AccountId,
        at: DateTime<Utc>,
    },
    MessageRead {
        account_id: AccountId,
        at: DateTime<Utc>,
    },
    MessageFailed {
        account_id: AccountId,
        error_code: String,
        error_message: Option<String>,
        at: DateTime<Utc>,
    },
    MessageCancelled {
        account_id: AccountId,
        cause: CancelCause,
        at: DateTime<Utc>,
    },
    /// The attempt certainly did not send; it will be tried again.
    RetryScheduled {
        account_id: AccountId,
        attempt: u32,
        error_code: String,
        error_message: Option<String>,
        retry_at: DateTime<Utc>,
        at: DateTime<Utc>,
    },
    /// The attempt may have sent. Never tried again without knowing.
    OutcomeUnknown {
        account_id: AccountId,
        attempt: u32,
        error_message: Option<String>,
        at: DateTime<Utc>,
    },
    OutcomeResolved {
        account_id: AccountId,
        conversation_id: WecomConversationId,
        outcome: ResolvedOutcome,
        by: ResolvedBy,
        /// What the operator said.
        reason: Option<String>,
        receipt: Option<Receipt>,
        at: DateTime<Utc>,
    },
}

domain_event!(MessageEvent {
    MessageAccepted => "1",
    AttemptStarted => "1",
    MessageSent => "1",
    MessageDelivered => "1",
    MessageRead => "1",
    MessageFailed => "1",
    MessageCancelled => "2",
    RetryScheduled => "1",
    OutcomeUnknown => "1",
    OutcomeResolved => "1",
});

impl MessageEvent {
    /// When it happened.
    pub const fn at(&self) -> DateTime<Utc> {
        match self {
            Self::MessageAccepted { at, .. }
            | Self::AttemptStarted { at, .. }
            | Self::MessageSent { at, .. }
            | Self::MessageDelivered { at, .. }
            | Self::MessageRead { at, .. }
            | Self::MessageFailed { at, .. }
            | Self::MessageCancelled { at, .. }
            | Self::RetryScheduled { at, .. }
            | Self::OutcomeUnknown { at, .. }
            | Self::OutcomeResolved { at, .. } => *at,
        }
    }

    pub const fn account_id(&self) -> AccountId {
        match self {
            Self::MessageAccepted { account_id, .. }
            | Self::AttemptStarted { account_id, .. }
            | Self::MessageSent { account_id, .. }
            | Self::MessageDelivered { account_id, .. }
            | Self::MessageRead { account_id, .. }
            | Self::MessageFailed { account_id, .. }
            | Self::MessageCancelled { account_id, .. }
            | Self::RetryScheduled { account_id, .. }
            | Self::OutcomeUnknown { account_id, .. }
            | Self::OutcomeResolved { account_id, .. } => *account_id,
        }
    }

    /// The status that this event leads to; `None` when it leaves the status as it is. Shared by the aggregate and by
    /// every projection, so that they cannot differ.
    pub const fn status_after(&self) -> Option<MessageStatus> {
        match self {
            Self::MessageAccepted { .. } | Self::RetryScheduled { .. } => Some(MessageStatus::Pending),
            Self::AttemptStarted { .. } => Some(MessageStatus::Sending),
            Self::MessageSent { .. } => Some(MessageStatus::Sent),
            Self::MessageDelivered { .. } => Some(MessageStatus::Delivered),
            Self::MessageFailed { .. } => Some(MessageStatus::Failed),
            Self::MessageCancelled { .. } => Some(MessageStatus::Cancelled),
            Self::OutcomeUnknown { .. } => Some(MessageStatus::Unknown),
            Self::OutcomeResolved { outcome, .. } => Some(match outcome {
                ResolvedOutcome::Sent => MessageStatus::Sent,
                ResolvedOutcome::Failed => MessageStatus::Failed,
                ResolvedOutcome::Resend => MessageStatus::Pending,
            }),
            Self::MessageRead { .. } => None,
        }
    }

    /// `error_code` and `error_message` after this event: `None` leaves them, `Some((None, None))` clears them.
    pub fn error_after(&self) -> Option<(Option<&str>, Option<&str>)> {
        match self {
            Self::MessageFailed {
                error_code,
                error_message,
                ..
            }
            | Self::RetryScheduled {
                error_code,
                error_message,
                ..
            } => Some((Some(error_code), error_message.as_deref())),
            Self::MessageCancelled { cause, .. } => Some((cause.error_code(), None)),
            Self::OutcomeUnknown { error_message, .. } => Some((Some(OUTCOME_UNKNOWN), error_message.as_deref())),
            Self::OutcomeResolved {
                outcome: ResolvedOutcome::Failed,
                reason,
                ..
            } => Some((Some(OUTCOME_UNKNOWN), reason.as_deref())),
            Self::MessageSent { .. } | Self::MessageDelivered { .. } | Self::OutcomeResolved { .. } => {
                Some((None, None))
            }
            Self::MessageAccepted { .. } | Self::AttemptStarted { .. } | Self::MessageRead { .. } => None,
        }
    }
}
