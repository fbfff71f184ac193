//! What may be asked of an account.

use chrono::{DateTime, Utc};

use super::config::{AccountConfig, AccountConfigChange};
use super::event::UserInfo;
use super::status::{GatewayKind, SessionLossCause};
use crate::{FieldChange, LoginAttemptId, Sealed, TenantId};

/// Commands of operators, integrators and workers. `now` is when it is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum AccountCommand {
    Create {
        tenant_id: TenantId,
        account_name: String,
        phone: Option<Sealed<String>>,
        email: Option<Sealed<String>>,
        user_id: Option<String>,
        gateway: GatewayKind,
        config: AccountConfig,
        now: DateTime<Utc>,
    },
    Update {
        account_name: Option<String>,
        phone: FieldChange<Sealed<String>>,
        email: FieldChange<Sealed<String>>,
        user_id: FieldChange<String>,
        config: AccountConfigChange,
        /// What a key is reset to.
        config_defaults: AccountConfig,
        now: DateTime<Utc>,
    },
    RecordInstance {
        guid: String,
        now: DateTime<Utc>,
    },
    RecordInstanceFailure {
        error_message: String,
        now: DateTime<Utc>,
    },
    RecordInstanceRemoved {
        now: DateTime<Utc>,
    },
    StartLogin {
        attempt: LoginAttemptId,
        now: DateTime<Utc>,
    },
    IssueQrCode {
        attempt: LoginAttemptId,
        content: Sealed<String>,
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    },
    RecordScan {
        attempt: LoginAttemptId,
        now: DateTime<Utc>,
    },
    ExpireQrCode {
        attempt: LoginAttemptId,
        now: DateTime<Utc>,
    },
    RejectLogin {
        attempt: LoginAttemptId,
        now: DateTime<Utc>,
    },
    RequireVerification {
        attempt: LoginAttemptId,
        now: DateTime<Utc>,
    },
    SubmitVerificationCode {
        attempt: LoginAttemptId,
        code: Sealed<String>,
        now: DateTime<Utc>,
    },
    RecordVerificationFailure {
        attempt: LoginAttemptId,
        now: DateTime<Utc>,
    },
    ConfirmLogin {
        attempt: LoginAttemptId,
        now: DateTime<Utc>,
    },
    FailLogin {
        attempt: LoginAttemptId,
        reason: String,
        error_message: Option<String>,
        now: DateTime<Utc>,
    },
    TimeOutLogin {
        attempt: LoginAttemptId,
        now: DateTime<Utc>,
    },
    CancelLogin {
        now: DateTime<Utc>,
    },
    RecordProfile {
        user_info: Sealed<UserInfo>,
        now: DateTime<Utc>,
    },
    LoseSession {
        cause: SessionLossCause,
        error_message: Option<String>,
        now: DateTime<Utc>,
    },
    RestoreSession {
        now: DateTime<Utc>,
    },
    Restrict {
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    },
    LiftRestriction {
        now: DateTime<Utc>,
    },
    RecordRemoteSignOut {
        reason: String,
        error_message: Option<String>,
        now: DateTime<Utc>,
    },
    LogOut {
        now: DateTime<Utc>,
    },
    GoOffline {
        now: DateTime<Utc>,
    },
    StartRecovery {
        strategy: String,
        now: DateTime<Utc>,
    },
    CompleteRecovery {
        now: DateTime<Utc>,
    },
    FailRecovery {
        attempts_left: u32,
        error_message: Option<String>,
        now: DateTime<Utc>,
    },
    Disable {
        reason: String,
        now: DateTime<Utc>,
    },
    Enable {
        now: DateTime<Utc>,
    },
    Delete {
        now: DateTime<Utc>,
    },
}

impl AccountCommand {
    /// The command's name, as errors and the matrix show it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "Create",
            Self::Update { .. } => "Update",
            Self::RecordInstance { .. } => "RecordInstance",
            Self::RecordInstanceFailure { .. } => "RecordInstanceFailure",
            Self::RecordInstanceRemoved { .. } => "RecordInstanceRemoved",
            Self::StartLogin { .. } => "StartLogin",
            Self::IssueQrCode { .. } => "IssueQrCode",
            Self::RecordScan { .. } => "RecordScan",
            Self::ExpireQrCode { .. } => "ExpireQrCode",
            Self::RejectLogin { .. } => "RejectLogin",
            Self::RequireVerification { .. } => "RequireVerification",
            Self::SubmitVerificationCode { .. } => "SubmitVerificationCode",
            Self::RecordVerificationFailure { .. } => "RecordVerificationFailure",
            Self::ConfirmLogin { .. } => "ConfirmLogin",
            Self::FailLogin { .. } => "FailLogin",
            Self::TimeOutLogin { .. } => "TimeOutLogin",
            Self::CancelLogin { .. } => "CancelLogin",
            Self::RecordProfile { .. } => "RecordProfile",
            Self::LoseSession { .. } => "LoseSession",
            Self::RestoreSession { .. } => "RestoreSession",
            Self::Restrict { .. } => "Restrict",
            Self::LiftRestriction { .. } => "LiftRestriction",
            Self::RecordRemoteSignOut { .. } => "RecordRemoteSignOut",
            Self::LogOut { .. } => "LogOut",
            Self::GoOffline { .. } => "GoOffline",
            Self::StartRecovery { .. } => "StartRecovery",
            Self::CompleteRecovery { .. } => "CompleteRecovery",
            Self::FailRecovery { .. } => "FailRecovery",
            Self::Disable { .. } => "Disable",
            Self::Enable { .. } => "Enable",
            Self::Delete { .. } => "Delete",
        }
    }

    /// The login attempt a command speaks of, if it speaks of one that must be the running one.
    pub const fn attempt(&self) -> Option<LoginAttemptId> {
        match self {
            Self::IssueQrCode { attempt, .. }
            | Self::RecordScan { attempt, .. }
            | Self::ExpireQrCode { attempt, .. }
            | Self::RejectLogin { attempt, .. }
            | Self::RequireVerification { attempt, .. }
            | Self::SubmitVerificationCode { attempt, .. }
            | Self::RecordVerificationFailure { attempt, .. }
            | Self::ConfirmLogin { attempt, .. }
            | Self::FailLogin { attempt, .. }
            | Self::TimeOutLogin { attempt, .. } => Some(*attempt),
            _ => None,
        }
    }
}
