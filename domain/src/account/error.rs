//! Why a command was refused.

use super::status::AccountStatus;

/// Each variant has its own problem code at the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    #[error("there is no such account")]
    NotFound,
    #[error("the account exists already")]
    AlreadyExists,
    #[error("{command} is not possible while the account is {}", status.as_str())]
    WrongStatus {
        status: AccountStatus,
        command: &'static str,
    },
    #[error("the login attempt is over")]
    LoginAttemptOver,
    #[error("the login code was refreshed {refreshes} times already")]
    TooManyQrCodes { refreshes: u8 },
}
