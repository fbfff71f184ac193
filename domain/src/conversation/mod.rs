//! A conversation as one account sees it: what comes in, and how people file it.

mod aggregate;
mod command;
mod event;
#[cfg(test)]
mod tests;

pub use aggregate::{Conversation, ConversationError};
pub use command::ConversationCommand;
pub use event::{ConversationEvent, IncomingContent, Sender};
