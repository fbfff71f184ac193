//! Aggregates: commands, events, errors, `decide` and `apply`. No I/O, no clock, no random: time and ids come in with
//! the command.

pub mod account;
pub mod aggregate;
pub mod claim;
pub mod conversation;
pub mod field_change;
pub mod ids;
pub mod log_order;
pub mod message;
pub mod metadata;
pub mod quota;
pub mod sealed;
pub mod tenant;
#[cfg(test)]
mod tests;

pub use aggregate::LogAggregate;
pub use claim::{Claim, ClaimChange, ClaimKind};
pub use field_change::FieldChange;
pub use ids::{AccountId, BatchId, ConversationId, InvalidWecomConversationId, LoginAttemptId, MessageId, TenantId};
pub use ids::{WecomConversationId, WecomConversationKind};
pub use log_order::LogOrder;
pub use metadata::{ActorType, Metadata};
pub use quota::{Quota, QuotaChange, QuotaKind};
pub use sealed::Sealed;
