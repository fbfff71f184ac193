//! Every command of an account, as the tests ask it.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::{AccountCommand as C, AccountConfig, AccountConfigChange, GatewayKind, SessionLossCause};
use crate::tests::fixtures::{attempt, sealed_of_account, tenant};
use crate::tests::matrix::Case;
use crate::{FieldChange, LoginAttemptId};

/// The instance and the login attempt that the situations know.
pub(super) const GUID: &str = "guid-1";
pub(super) const OTHER_GUID: &str = "guid-2";

pub(super) fn running() -> LoginAttemptId {
    attempt(1)
}

pub(super) fn create(now: DateTime<Utc>) -> C {
    C::Create {
        tenant_id: tenant(1),
        account_name: "华东客服".to_owned(),
        phone: Some(sealed_of_account("phone")),
        email: None,
        user_id: None,
        gateway: GatewayKind::Instance,
        config: AccountConfig::default(),
        now,
    }
}

pub(super) fn update(account_name: Option<&str>, now: DateTime<Utc>) -> C {
    C::Update {
        account_name: account_name.map(str::to_owned),
        phone: FieldChange::Unchanged,
        email: FieldChange::Unchanged,
        user_id: FieldChange::Unchanged,
        config: AccountConfigChange::default(),
        config_defaults: AccountConfig::default(),
        now,
    }
}

pub(super) fn issue_code(attempt: LoginAttemptId, code: &str, expires_at: DateTime<Utc>, now: DateTime<Utc>) -> C {
    C::IssueQrCode {
        attempt,
        content: sealed_of_account(code),
        expires_at,
        now,
    }
}

pub(super) fn lose_session(cause: SessionLossCause, now: DateTime<Utc>) -> C {
    C::LoseSession {
        cause,
        error_message: Some("no answer".to_owned()),
        now,
    }
}

pub(super) fn fail_recovery(attempts_left: u32, now: DateTime<Utc>) -> C {
    C::FailRecovery {
        attempts_left,
        error_message: None,
        now,
    }
}

/// When the code that the situations show expires.
pub(super) fn shown_until() -> DateTime<Utc> {
    crate::tests::fixtures::at(120)
}

/// Every command, and every variant of one whose outcome differs.
pub(super) fn cases() -> Vec<Case<C>> {
    macro_rules! case {
        ($name:literal, $ask:expr) => {
            Case {
                name: $name,
                ask: $ask,
            }
        };
    }
    vec![
        case!("Create", create),
        case!("Update [another name]", |now| update(Some("华南客服"), now)),
        case!("Update [as it is]", |now| update(Some("华东客服"), now)),
        case!("RecordInstance [the same]", |now| C::RecordInstance {
            guid: GUID.to_owned(),
            now
        }),
        case!("RecordInstance [another]", |now| C::RecordInstance {
            guid: OTHER_GUID.to_owned(),
            now
        }),
        case!("RecordInstanceFailure", |now| C::RecordInstanceFailure {
            error_message: "no capacity".to_owned(),
            now
        }),
        case!("RecordInstanceRemoved", |now| C::RecordInstanceRemoved { now }),
        case!("StartLogin", |now| C::StartLogin {
            attempt: attempt(2),
            now
        }),
        case!("IssueQrCode [a new one]", |now| issue_code(
            running(),
            "code-new",
            now + TimeDelta::seconds(1_000),
            now
        )),
        case!("IssueQrCode [the shown one]", |now| issue_code(
            running(),
            "code-1",
            shown_until(),
            now
        )),
        case!("RecordScan", |now| C::RecordScan {
            attempt: running(),
            now
        }),
        case!("ExpireQrCode", |now| C::ExpireQrCode {
            attempt: running(),
            now
        }),
        case!("RejectLogin", |now| C::RejectLogin {
            attempt: running(),
            now
        }),
        case!("RequireVerification", |now| C::RequireVerification {
            attempt: running(),
            now
        }),
        case!("SubmitVerificationCode [a new one]", |now| {
            C::SubmitVerificationCode {
                attempt: running(),
                code: sealed_of_account("verify-new"),
                now,
            }
        }),
        case!("SubmitVerificationCode [the waiting one]", |now| {
            C::SubmitVerificationCode {
                attempt: running(),
                code: sealed_of_account("verify-1"),
                now,
            }
        }),
        case!("RecordVerificationFailure", |now| C::RecordVerificationFailure {
            attempt: running(),
            now
        }),
        case!("ConfirmLogin", |now| C::ConfirmLogin {
            attempt: running(),
            now
        }),
        case!("FailLogin", |now| C::FailLogin {
            attempt: running(),
            reason: "login_failed".to_owned(),
            error_message: None,
            now,
        }),
        case!("TimeOutLogin", |now| C::TimeOutLogin {
            attempt: running(),
            now
        }),
        case!("CancelLogin", |now| C::CancelLogin { now }),
        case!("RecordProfile", |now| C::RecordProfile {
            user_info: sealed_of_account("profile"),
            now
        }),
        case!("LoseSession [network]", |now| lose_session(
            SessionLossCause::Network,
            now
        )),
        case!("LoseSession [auth]", |now| lose_session(SessionLossCause::Auth, now)),
        case!("LoseSession [other]", |now| lose_session(SessionLossCause::Other, now)),
        case!("RestoreSession", |now| C::RestoreSession { now }),
        case!("Restrict", |now| C::Restrict {
            until: now + TimeDelta::seconds(900),
            now
        }),
        case!("LiftRestriction", |now| C::LiftRestriction { now }),
        case!("RecordRemoteSignOut", |now| C::RecordRemoteSignOut {
            reason: "other_device".to_owned(),
            error_message: None,
            now,
        }),
        case!("LogOut", |now| C::LogOut { now }),
        case!("GoOffline", |now| C::GoOffline { now }),
        case!("StartRecovery", |now| C::StartRecovery {
            strategy: "restart".to_owned(),
            now
        }),
        case!("CompleteRecovery", |now| C::CompleteRecovery { now }),
        case!("FailRecovery [attempts left]", |now| fail_recovery(2, now)),
        case!("FailRecovery [none left]", |now| fail_recovery(0, now)),
        case!("Disable", |now| C::Disable {
            reason: "维护".to_owned(),
            now
        }),
        case!("Enable", |now| C::Enable { now }),
        case!("Delete", |now| C::Delete { now }),
    ]
}
