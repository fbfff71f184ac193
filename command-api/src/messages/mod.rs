//! Commands to messages.

pub(crate) mod answer;
pub(crate) mod batch_send;
pub(crate) mod cancel;
mod content;
mod new_message;
pub(crate) mod resolve;
pub(crate) mod send;
