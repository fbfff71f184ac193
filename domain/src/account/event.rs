//! What happened to an account.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::config::AccountConfig;
use super::status::{AccountStatus, GatewayKind, SessionLossCause};
use crate::aggregate::domain_event;
use crate::{FieldChange, LoginAttemptId, Sealed, TenantId};

/// The reason of an account whose instance could not be created.
const INSTANCE_FAILED: &str = "instance_failed";

/// Who is logged in, as WeCom tells it. Always sealed in events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    pub user_id: Option<String>,
    pub name: Option<String>,
    pub real_name: Option<String>,
    pub corp_id: Option<String>,
    pub corp_short_name: Option<String>,
    pub corp_full_name: Option<String>,
    pub gender: Option<i32>,
    pub avatar: Option<String>,
}

/// Events of an account's stream. `at` is when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum AccountEvent {
    AccountCreated {
        tenant_id: TenantId,
        account_name: String,
        phone: Option<Sealed<String>>,
        email: Option<Sealed<String>>,
        /// The Weft user this account is bound to.
        user_id: Option<String>,
        gateway: GatewayKind,
        config: AccountConfig,
        at: DateTime<Utc>,
    },
    AccountUpdated {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account_name: Option<String>,
        #[serde(default, skip_serializing_if = "FieldChange::is_unchanged")]
        phone: FieldChange<Sealed<String>>,
        #[serde(default, skip_serializing_if = "FieldChange::is_unchanged")]
        email: FieldChange<Sealed<String>>,
        #[serde(default, skip_serializing_if = "FieldChange::is_unchanged")]
        user_id: FieldChange<String>,
        /// The complete settings after the change.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<AccountConfig>,
        at: DateTime<Utc>,
    },
    /// A WeCom instance runs for this account.
    InstanceCreated {
        guid: String,
        at: DateTime<Utc>,
    },
    /// The instance could not be created; the login tries again.
    InstanceFailed {
        error_message: String,
        at: DateTime<Utc>,
    },
    InstanceRemoved {
        guid: String,
        at: DateTime<Utc>,
    },
    LoginStarted {
        attempt: LoginAttemptId,
        /// An account that lost its session is restored first, without a code.
        restore_first: bool,
        at: DateTime<Utc>,
    },
    QrCodeIssued {
        attempt: LoginAttemptId,
        /// 0 for the first code of the attempt, then one more per refresh.
        refresh: u8,
        /// What the code encodes; a login credential, so it is sealed too.
        content: Sealed<String>,
        expires_at: DateTime<Utc>,
        at: DateTime<Utc>,
    },
    QrCodeScanned {
        attempt: LoginAttemptId,
        at: DateTime<Utc>,
    },
    QrCodeExpired {
        attempt: LoginAttemptId,
        at: DateTime<Utc>,
    },
    LoginRejected {
        attempt: LoginAttemptId,
        at: DateTime<Utc>,
    },
    VerificationRequired {
        attempt: LoginAttemptId,
        at: DateTime<Utc>,
    },
    /// A person typed a code; the login worker passes it on.
    VerificationCodeSubmitted {
        attempt: LoginAttemptId,
        code: Sealed<String>,
        at: DateTime<Utc>,
    },
    VerificationFailed {
        attempt: LoginAttemptId,
        /// Wrong codes so far, 1 to 3; the third ends the attempt.
        failures: u8,
        at: DateTime<Utc>,
    },
    LoginConfirmed {
        attempt: LoginAttemptId,
        at: DateTime<Utc>,
    },
    LoginFailed {
        attempt: LoginAttemptId,
        /// Stable word, such as `instance_unavailable`.
        reason: String,
        error_message: Option<String>,
        at: DateTime<Utc>,
    },
    LoginTimedOut {
        attempt: LoginAttemptId,
        at: DateTime<Utc>,
    },
    LoginCancelled {
        attempt: LoginAttemptId,
        at: DateTime<Utc>,
    },
    /// WeCom told who is logged in.
    ProfileUpdated {
        attempt: Option<LoginAttemptId>,
        user_info: Sealed<UserInfo>,
        at: DateTime<Utc>,
    },
    SessionLost {
        cause: SessionLossCause,
        error_message: Option<String>,
        at: DateTime<Utc>,
    },
    /// The session lives again without a new code.
    SessionRestored {
        at: DateTime<Utc>,
    },
    AccountRestricted {
        /// When the cool-down ends and the next send probes.
        until: DateTime<Utc>,
        /// Cool-downs in a row, from 1.
        cooldown: u32,
        at: DateTime<Utc>,
    },
    RestrictionLifted {
        at: DateTime<Utc>,
    },
    SignedOutRemotely {
        /// `signed_out` or `other_device`.
        reason: String,
        error_message: Option<String>,
        at: DateTime<Utc>,
    },
    LoggedOut {
        at: DateTime<Utc>,
    },
    WentOffline {
        at: DateTime<Utc>,
    },
    RecoveryStarted {
        strategy: String,
        attempt: u32,
        at: DateTime<Utc>,
    },
    Recovered {
        at: DateTime<Utc>,
    },
    RecoveryFailed {
        attempts_left: u32,
        error_message: Option<String>,
        /// The error status it came from, or offline when no attempt is left.
        status: AccountStatus,
        at: DateTime<Utc>,
    },
    AccountDisabled {
        reason: String,
        at: DateTime<Utc>,
    },
    AccountEnabled {
        at: DateTime<Utc>,
    },
    AccountDeleted {
        at: DateTime<Utc>,
    },
}

domain_event!(AccountEvent {
    AccountCreated => "1",
    AccountUpdated => "1",
    InstanceCreated => "1",
    InstanceFailed => "1",
    InstanceRemoved => "1",
    LoginStarted => "1",
    QrCodeIssued => "1",
    QrCodeScanned => "1",
    QrCodeExpired => "1",
    LoginRejected => "1",
    VerificationRequired => "1",
    VerificationCodeSubmitted => "1",
    VerificationFailed => "1",
    LoginConfirmed => "1",
    LoginFailed => "1",
    LoginTimedOut => "1",
    LoginCancelled => "1",
    ProfileUpdated => "1",
    SessionLost => "1",
    SessionRestored => "1",
    AccountRestricted => "1",
    RestrictionLifted => "1",
    SignedOutRemotely => "1",
    LoggedOut => "1",
    WentOffline => "1",
    RecoveryStarted => "1",
    Recovered => "1",
    RecoveryFailed => "1",
    AccountDisabled => "1",
    AccountEnabled => "1",
    AccountDeleted => "1",
});

impl AccountEvent {
    /// When it happened.
    pub const fn at(&self) -> DateTime<Utc> {
        match self {
            Self::AccountCreated { at, .. }
            | Self::AccountUpdated { at, .. }
            | Self::InstanceCreated { at, .. }
            | Self::InstanceFailed { at, .. }
            | Self::InstanceRemoved { at, .. }
            | Self::LoginStarted { at, .. }
            | Self::QrCodeIssued { at, .. }
            | Self::QrCodeScanned { at, .. }
            | Self::QrCodeExpired { at, .. }
            | Self::LoginRejected { at, .. }
            | Self::VerificationRequired { at, .. }
            | Self::VerificationCodeSubmitted { at, .. }
            | Self::VerificationFailed { at, .. }
            | Self::LoginConfirmed { at, .. }
            | Self::LoginFailed { at, .. }
            | Self::LoginTimedOut { at, .. }
            | Self::LoginCancelled { at, .. }
            | Self::ProfileUpdated { at, .. }
            | Self::SessionLost { at, .. }
            | Self::SessionRestored { at, .. }
            | Self::AccountRestricted { at, .. }
            | Self::RestrictionLifted { at, .. }
            | Self::SignedOutRemotely { at, .. }
            | Self::LoggedOut { at, .. }
            | Self::WentOffline { at, .. }
            | Self::RecoveryStarted { at, .. }
            | Self::Recovered { at, .. }
            | Self::RecoveryFailed { at, .. }
            | Self::AccountDisabled { at, .. }
            | Self::AccountEnabled { at, .. }
            | Self::AccountDeleted { at, .. } => *at,
        }
    }

    /// The status that this event leads to from `before`; `None` when the event leaves the status as it is. Shared by
    /// the aggregate and by every projection, so that they cannot differ.
    pub fn status_after(&self, before: Option<AccountStatus>) -> Option<AccountStatus> {
        use AccountStatus as S;
        match self {
            Self::AccountCreated { .. } => Some(S::Created),
            Self::LoginStarted { .. } => Some(S::LoggingIn),
            Self::QrCodeIssued { .. } => Some(S::WaitingForQrcodeScan),
            Self::QrCodeScanned { .. } => Some(S::WaitingForConfirmation),
            Self::VerificationRequired { .. } => Some(S::WaitingForVerification),
            Self::QrCodeExpired { .. }
            | Self::LoginRejected { .. }
            | Self::LoginFailed { .. }
            | Self::LoginTimedOut { .. } => Some(S::Error),
            Self::VerificationFailed { failures, .. } => {
                (*failures >= super::MAX_VERIFICATION_FAILURES).then_some(S::Error)
            }
            Self::LoginConfirmed { .. }
            | Self::SessionRestored { .. }
            | Self::RestrictionLifted { .. }
            | Self::Recovered { .. } => Some(S::Online),
            Self::LoginCancelled { .. }
            | Self::SignedOutRemotely { .. }
            | Self::WentOffline { .. }
            | Self::AccountEnabled { .. } => Some(S::Offline),
            Self::SessionLost { cause, .. } => Some(cause.status()),
            Self::AccountRestricted { .. } => Some(S::RateLimited),
            Self::LoggedOut { .. } => Some(S::LoggedOut),
            Self::RecoveryStarted { .. } => Some(S::Recovering),
            Self::RecoveryFailed { status, .. } => Some(*status),
            Self::AccountDisabled { .. } => Some(S::Disabled),
            Self::AccountDeleted { .. } => Some(S::Deleted),
            Self::AccountUpdated { .. }
            | Self::InstanceCreated { .. }
            | Self::InstanceFailed { .. }
            | Self::InstanceRemoved { .. }
            | Self::VerificationCodeSubmitted { .. }
            | Self::ProfileUpdated { .. } => None,
        }
        .filter(|after| Some(*after) != before)
    }

    /// Why the status is what it is after this event, as a stable word or the person's own text.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::QrCodeExpired { .. } => Some("qrcode_expired"),
            Self::LoginRejected { .. } => Some("login_rejected"),
            Self::VerificationFailed { .. } => Some("verification_failed"),
            Self::LoginTimedOut { .. } => Some("login_timed_out"),
            Self::LoginCancelled { .. } => Some("login_cancelled"),
            Self::SessionLost { cause, .. } => Some(match cause {
                SessionLossCause::Network => "network",
                SessionLossCause::Auth => "auth",
                SessionLossCause::Other => "other",
            }),
            Self::AccountRestricted { .. } => Some("restricted"),
            Self::LoginFailed { reason, .. }
            | Self::SignedOutRemotely { reason, .. }
            | Self::AccountDisabled { reason, .. } => Some(reason),
            Self::InstanceFailed { .. } => Some(INSTANCE_FAILED),
            Self::RecoveryFailed { .. } => Some("recovery_failed"),
            _ => None,
        }
    }

    /// Whether reason and error message of an account, `reason` until now, are this event's from here on, or nothing where
    /// it has none. Shared as `status_after` is.
    pub fn replaces_reason(&self, before: Option<AccountStatus>, reason: Option<&str>) -> bool {
        let mended = matches!(self, Self::InstanceCreated { .. }) && reason == Some(INSTANCE_FAILED);
        mended || self.reason().is_some() || self.status_after(before).is_some()
    }

    /// What the other side said about it, if anything.
    pub fn error_message(&self) -> Option<&str> {
        match self {
            Self::LoginFailed { error_message, .. }
            | Self::SessionLost { error_message, .. }
            | Self::SignedOutRemotely { error_message, .. }
            | Self::RecoveryFailed { error_message, .. } => error_message.as_deref(),
            Self::InstanceFailed { error_message, .. } => Some(error_message),
            _ => None,
        }
    }
}
