//! A message to send: accepted, attempted, sent, delivered, read.

mod aggregate;
mod command;
mod content;
mod decide;
mod error;
mod event;
mod status;
#[cfg(test)]
mod tests;

pub use aggregate::{Accepted, Message};
pub use command::{AcceptMessage, MessageCommand};
pub use content::{
    AtContent, FileContent, FileUrl, ImageContent, ImageUrl, LinkContent, MessageContent, MiniprogramContent,
    TextContent, UploadedFile, UploadedImage,
};
pub use error::MessageError;
pub use event::{CancelCause, MessageEvent, Receipt, ResolvedBy, ResolvedOutcome};
pub use status::{MessageStatus, MessageType};

/// Highest and lowest priority, and the usual one.
pub const PRIORITY_RANGE: std::ops::RangeInclusive<u8> = 1..=10;
pub const DEFAULT_PRIORITY: u8 = 5;
/// `error_code` while an attempt's outcome is not known.
pub const OUTCOME_UNKNOWN: &str = "message.outcome_unknown";
/// `error_code` of a message whose account was deleted before it was sent.
pub const ACCOUNT_DELETED: &str = "account.deleted";
