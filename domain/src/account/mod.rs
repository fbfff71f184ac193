//! A WeCom account: its login, its session, its settings.

mod aggregate;
mod command;
mod config;
mod decide;
mod error;
mod event;
mod status;
#[cfg(test)]
mod tests;

pub use aggregate::{Account, Login, QrCode};
pub use command::AccountCommand;
pub use config::{AccountConfig, AccountConfigChange, QuietHours};
pub use error::AccountError;
pub use event::{AccountEvent, UserInfo};
pub use status::{AccountStatus, GatewayKind, SessionLossCause};

/// Wrong verification codes that end a login attempt.
pub const MAX_VERIFICATION_FAILURES: u8 = 3;
/// Times one attempt's login code may be refreshed.
pub const MAX_QR_CODE_REFRESHES: u8 = 3;
