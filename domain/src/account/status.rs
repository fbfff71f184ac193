//! The statuses of an account and of its gateway.

use serde::{Deserialize, Serialize};

/// Where an account stands. The transitions are `decide`'s; `docs/account-states.md` is their table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    Created,
    LoggingIn,
    WaitingForQrcodeScan,
    WaitingForConfirmation,
    WaitingForVerification,
    Online,
    Error,
    NetworkError,
    AuthError,
    RateLimited,
    Recovering,
    Offline,
    LoggedOut,
    Disabled,
    Deleted,
}

impl AccountStatus {
    pub const ALL: [Self; 15] = [
        Self::Created,
        Self::LoggingIn,
        Self::WaitingForQrcodeScan,
        Self::WaitingForConfirmation,
        Self::WaitingForVerification,
        Self::Online,
        Self::Error,
        Self::NetworkError,
        Self::AuthError,
        Self::RateLimited,
        Self::Recovering,
        Self::Offline,
        Self::LoggedOut,
        Self::Disabled,
        Self::Deleted,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::LoggingIn => "logging_in",
            Self::WaitingForQrcodeScan => "waiting_for_qrcode_scan",
            Self::WaitingForConfirmation => "waiting_for_confirmation",
            Self::WaitingForVerification => "waiting_for_verification",
            Self::Online => "online",
            Self::Error => "error",
            Self::NetworkError => "network_error",
            Self::AuthError => "auth_error",
            Self::RateLimited => "rate_limited",
            Self::Recovering => "recovering",
            Self::Offline => "offline",
            Self::LoggedOut => "logged_out",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
        }
    }

    /// Reads a status by its own name or by one of the requirements' short names.
    pub fn parse(text: &str) -> Option<Self> {
        let short = match text {
            "logging" => Some(Self::LoggingIn),
            "waiting_scan" => Some(Self::WaitingForQrcodeScan),
            "waiting_confirm" => Some(Self::WaitingForConfirmation),
            "need_verify" => Some(Self::WaitingForVerification),
            _ => None,
        };
        short.or_else(|| Self::ALL.into_iter().find(|status| status.as_str() == text))
    }

    /// A login attempt is running.
    pub const fn is_login_running(self) -> bool {
        matches!(
            self,
            Self::LoggingIn | Self::WaitingForQrcodeScan | Self::WaitingForConfirmation | Self::WaitingForVerification
        )
    }

    /// New messages may be accepted for it: they wait until it is online.
    pub const fn takes_messages(self) -> bool {
        !matches!(self, Self::Disabled | Self::Deleted)
    }

    /// The session is lost and may come back without a new code.
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::NetworkError | Self::AuthError)
    }
}

/// How an account reaches WeCom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GatewayKind {
    /// A logged-in member account behind the instance protocol.
    #[default]
    Instance,
    /// A corp application behind the official server API.
    Official,
}

impl GatewayKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Official => "official",
        }
    }
}

/// Why a session was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SessionLossCause {
    Network,
    Auth,
    Other,
}

impl SessionLossCause {
    pub const fn status(self) -> AccountStatus {
        match self {
            Self::Network => AccountStatus::NetworkError,
            Self::Auth => AccountStatus::AuthError,
            Self::Other => AccountStatus::Error,
        }
    }
}
