//! What may be asked of a message.

use chrono::{DateTime, Utc};

use super::MessageContent;
use super::event::{CancelCause, Receipt, ResolvedBy, ResolvedOutcome};
use super::status::MessageType;
use crate::{AccountId, BatchId, Sealed, TenantId, WecomConversationId};

/// A message as accepted from a caller; its account is resolved and known to take messages.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptMessage {
    pub account_id: AccountId,
    pub tenant_id: TenantId,
    pub conversation_id: WecomConversationId,
    pub message_type: MessageType,
    pub content: Sealed<MessageContent>,
    pub priority: u8,
    pub scheduled_time: Option<DateTime<Utc>>,
    pub batch_id: Option<BatchId>,
    pub batch_index: Option<u32>,
    pub callback_url: Option<String>,
    pub client_reference: Option<String>,
    pub now: DateTime<Utc>,
}

/// Commands of callers and of the dispatch worker. `attempt` counts from 1.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageCommand {
    Accept(Box<AcceptMessage>),
    StartAttempt {
        now: DateTime<Utc>,
    },
    RecordSent {
        attempt: u32,
        receipt: Receipt,
        now: DateTime<Utc>,
    },
    RecordRefused {
        attempt: u32,
        error_code: String,
        error_message: Option<String>,
        now: DateTime<Utc>,
    },
    ScheduleRetry {
        attempt: u32,
        error_code: String,
        error_message: Option<String>,
        retry_at: DateTime<Utc>,
        now: DateTime<Utc>,
    },
    MarkUnknown {
        attempt: u32,
        error_message: Option<String>,
        now: DateTime<Utc>,
    },
    Resolve {
        outcome: ResolvedOutcome,
        by: ResolvedBy,
        reason: Option<String>,
        receipt: Option<Receipt>,
        now: DateTime<Utc>,
    },
    RecordDelivered {
        now: DateTime<Utc>,
    },
    RecordRead {
        now: DateTime<Utc>,
    },
    Cancel {
        cause: CancelCause,
        now: DateTime<Utc>,
    },
}

impl MessageCommand {
    /// The command's name, as errors show it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accept(_) => "Accept",
            Self::StartAttempt { .. } => "StartAttempt",
            Self::RecordSent { .. } => "RecordSent",
            Self::RecordRefused { .. } => "RecordRefused",
            Self::ScheduleRetry { .. } => "ScheduleRetry",
            Self::MarkUnknown { .. } => "MarkUnknown",
            Self::Resolve { .. } => "Resolve",
            Self::RecordDelivered { .. } => "RecordDelivered",
            Self::RecordRead { .. } => "RecordRead",
            Self::Cancel { .. } => "Cancel",
        }
    }
}
