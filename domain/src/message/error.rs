//! Why a command was refused.

use super::status::MessageStatus;

/// Each variant has its own problem code at the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("there is no such message")]
    NotFound,
    #[error("the message exists already")]
    AlreadyExists,
    #[error("{command} is not possible while the message is {}", status.as_str())]
    WrongStatus {
        status: MessageStatus,
        command: &'static str,
    },
    #[error("the message is at attempt {current}, not {given}")]
    AttemptOver { given: u32, current: u32 },
    #[error("a message planned for {0} is not started before")]
    TooEarly(chrono::DateTime<chrono::Utc>),
}
