//! Every transition of an account: what a command does in each status. `docs/account-states.md` is generated from here.

use AccountStatus as S;

use super::aggregate::Account;
use super::command::AccountCommand as C;
use super::error::AccountError;
use super::event::AccountEvent as E;
use super::status::AccountStatus;
use super::{MAX_QR_CODE_REFRESHES, MAX_VERIFICATION_FAILURES};

type Decision = Result<Vec<E>, AccountError>;

#[allow(clippy::unnecessary_wraps)] // An answer of `decide`, as `one` is.
fn already_true() -> Decision {
    Ok(Vec::new())
}

#[allow(clippy::unnecessary_wraps)]
fn one(event: E) -> Decision {
    Ok(vec![event])
}

pub(super) fn decide(account: &Account, command: C) -> Decision {
    let Some(status) = account.status else {
        return match command {
            C::Create {
                tenant_id,
                account_name,
                phone,
                email,
                user_id,
                gateway,
                config,
                now: at,
            } => one(E::AccountCreated {
                tenant_id,
                account_name,
                phone,
                email,
                user_id,
                gateway,
                config,
                at,
            }),
            _ => Err(AccountError::NotFound),
        };
    };
    if let Some(attempt) = command.attempt()
        && account.login.as_ref().map(|login| login.attempt) != Some(attempt)
    {
        return Err(AccountError::LoginAttemptOver);
    }
    let wrong_status = AccountError::WrongStatus {
        status,
        command: command.name(),
    };
    match command {
        C::Create { .. } => Err(AccountError::AlreadyExists),
        C::Update {
            account_name,
            phone,
            email,
            user_id,
            config,
            config_defaults,
            now: at,
        } => {
            if status == S::Deleted {
                return Err(wrong_status);
            }
            let config = config.merged_into(&account.config, &config_defaults);
            let config = (config != account.config).then_some(config);
            let account_name = account_name.filter(|name| *name != account.account_name);
            let phone = phone.unless_already(account.phone.as_ref());
            let email = email.unless_already(account.email.as_ref());
            let user_id = user_id.unless_already(account.user_id.as_ref());
            let unchanged = account_name.is_none()
                && phone.is_unchanged()
                && email.is_unchanged()
                && user_id.is_unchanged()
                && config.is_none();
            if unchanged {
                return already_true();
            }
            one(E::AccountUpdated {
                account_name,
                phone,
                email,
                user_id,
                config,
                at,
            })
        }
        C::RecordInstance { guid, now: at } => match status {
            S::Deleted => Err(wrong_status),
            _ if account.guid.as_ref() == Some(&guid) => already_true(),
            _ => one(E::InstanceCreated { guid, at }),
        },
        C::RecordInstanceFailure { error_message, now: at } => match status {
            S::Deleted => Err(wrong_status),
            _ if account.guid.is_some() => already_true(),
            _ if account.error_message.as_ref() == Some(&error_message) => already_true(),
            _ => one(E::InstanceFailed { error_message, at }),
        },
        C::RecordInstanceRemoved { now: at } => match account.guid.clone() {
            None => already_true(),
            // Also of a deleted account: its instance is removed after it.
            Some(guid) => one(E::InstanceRemoved { guid, at }),
        },
        C::StartLogin { attempt, now: at } => match status {
            S::Created | S::Offline | S::LoggedOut | S::Error | S::NetworkError | S::AuthError | S::Recovering => {
                one(E::LoginStarted {
                    attempt,
                    restore_first: account.may_resume,
                    at,
                })
            }
            S::LoggingIn
            | S::WaitingForQrcodeScan
            | S::WaitingForConfirmation
            | S::WaitingForVerification
            | S::Online => already_true(),
            S::RateLimited | S::Disabled | S::Deleted => Err(wrong_status),
        },
        C::IssueQrCode {
            attempt,
            content,
            expires_at,
            now: at,
        } => match status {
            S::LoggingIn => one(E::QrCodeIssued {
                attempt,
                refresh: 0,
                content,
                expires_at,
                at,
            }),
            S::WaitingForQrcodeScan => {
                let shown = account.login.as_ref().and_then(|login| login.qr_code.as_ref());
                let refreshes = shown.map_or(0, |code| code.refresh);
                if shown.is_some_and(|code| code.expires_at == expires_at) {
                    return already_true();
                }
                if refreshes >= MAX_QR_CODE_REFRESHES {
                    return Err(AccountError::TooManyQrCodes { refreshes });
                }
                one(E::QrCodeIssued {
                    attempt,
                    refresh: refreshes + 1,
                    content,
                    expires_at,
                    at,
                })
            }
            _ => Err(wrong_status),
        },
        C::RecordScan { attempt, now: at } => match status {
            S::WaitingForQrcodeScan => one(E::QrCodeScanned { attempt, at }),
            // Told twice, or after what only comes later.
            S::WaitingForConfirmation | S::WaitingForVerification | S::Online | S::RateLimited => already_true(),
            _ => Err(wrong_status),
        },
        C::ExpireQrCode { attempt, now: at } => match status {
            S::WaitingForQrcodeScan => one(E::QrCodeExpired { attempt, at }),
            S::Error if account.reason.as_deref() == Some("qrcode_expired") => already_true(),
            _ => Err(wrong_status),
        },
        C::RejectLogin { attempt, now: at } => match status {
            S::WaitingForConfirmation => one(E::LoginRejected { attempt, at }),
            // The scan's callback was lost.
            S::LoggingIn | S::WaitingForQrcodeScan | S::WaitingForVerification => one(E::LoginFailed {
                attempt,
                reason: "login_rejected".to_owned(),
                error_message: None,
                at,
            }),
            S::Error if account.reason.as_deref() == Some("login_rejected") => already_true(),
            _ => Err(wrong_status),
        },
        C::RequireVerification { attempt, now: at } => match status {
            S::LoggingIn | S::WaitingForQrcodeScan | S::WaitingForConfirmation => {
                one(E::VerificationRequired { attempt, at })
            }
            S::WaitingForVerification | S::Online | S::RateLimited => already_true(),
            _ => Err(wrong_status),
        },
        C::SubmitVerificationCode { attempt, code, now: at } => match (status, &account.login) {
            (S::WaitingForVerification, Some(login)) if login.submitted_code.as_ref() == Some(&code) => already_true(),
            (S::WaitingForVerification, _) => one(E::VerificationCodeSubmitted { attempt, code, at }),
            _ => Err(wrong_status),
        },
        C::RecordVerificationFailure { attempt, now: at } => match (status, &account.login) {
            (S::WaitingForVerification, Some(login)) if login.submitted_code.is_some() => {
                let failures = (login.verification_failures + 1).min(MAX_VERIFICATION_FAILURES);
                one(E::VerificationFailed { attempt, failures, at })
            }
            (S::WaitingForVerification, _) => already_true(),
            (S::Error, _) if account.reason.as_deref() == Some("verification_failed") => already_true(),
            _ => Err(wrong_status),
        },
        C::ConfirmLogin { attempt, now: at } => match status {
            S::LoggingIn | S::WaitingForQrcodeScan | S::WaitingForConfirmation | S::WaitingForVerification => {
                one(E::LoginConfirmed { attempt, at })
            }
            S::Online | S::RateLimited => already_true(),
            _ => Err(wrong_status),
        },
        C::FailLogin {
            attempt,
            reason,
            error_message,
            now: at,
        } => match status {
            S::LoggingIn | S::WaitingForQrcodeScan | S::WaitingForConfirmation | S::WaitingForVerification => {
                one(E::LoginFailed {
                    attempt,
                    reason,
                    error_message,
                    at,
                })
            }
            S::Error => already_true(),
            _ => Err(wrong_status),
        },
        C::TimeOutLogin { attempt, now: at } => match status {
            S::LoggingIn | S::WaitingForQrcodeScan | S::WaitingForConfirmation | S::WaitingForVerification => {
                one(E::LoginTimedOut { attempt, at })
            }
            S::Error => already_true(),
            _ => Err(wrong_status),
        },
        C::CancelLogin { now: at } => match (status.is_login_running(), &account.login) {
            (true, Some(login)) => one(E::LoginCancelled {
                attempt: login.attempt,
                at,
            }),
            _ => Err(wrong_status),
        },
        C::RecordProfile { user_info, now: at } => match &account.login {
            Some(login) if status != S::Deleted => {
                if login.has_profile {
                    return already_true();
                }
                one(E::ProfileUpdated {
                    attempt: Some(login.attempt),
                    user_info,
                    at,
                })
            }
            // Nobody can be logged in before the first login.
            _ => Err(wrong_status),
        },
        C::LoseSession {
            cause,
            error_message,
            now: at,
        } => match status {
            S::Online | S::RateLimited => one(E::SessionLost {
                cause,
                error_message,
                at,
            }),
            S::Error | S::NetworkError | S::AuthError if status == cause.status() => already_true(),
            _ => Err(wrong_status),
        },
        C::RestoreSession { now: at } => match status {
            S::LoggingIn | S::Error | S::NetworkError | S::AuthError | S::Offline | S::Recovering => {
                one(E::SessionRestored { at })
            }
            S::Online | S::RateLimited => already_true(),
            _ => Err(wrong_status),
        },
        C::Restrict { until, now: at } => match status {
            S::Online => one(E::AccountRestricted { until, cooldown: 1, at }),
            // The probe after a cool-down was refused again.
            S::RateLimited if account.restricted_until.is_some_and(|end| end <= at) => one(E::AccountRestricted {
                until,
                cooldown: account.cooldown + 1,
                at,
            }),
            S::RateLimited => already_true(),
            _ => Err(wrong_status),
        },
        C::LiftRestriction { now: at } => match status {
            S::RateLimited => one(E::RestrictionLifted { at }),
            S::Online => already_true(),
            _ => Err(wrong_status),
        },
        C::RecordRemoteSignOut {
            reason,
            error_message,
            now: at,
        } => match status {
            S::Online | S::RateLimited => one(E::SignedOutRemotely {
                reason,
                error_message,
                at,
            }),
            S::Offline | S::LoggedOut => already_true(),
            _ => Err(wrong_status),
        },
        C::LogOut { now: at } => match status {
            S::Online | S::RateLimited => one(E::LoggedOut { at }),
            S::LoggedOut => already_true(),
            _ => Err(wrong_status),
        },
        C::GoOffline { now: at } => match status {
            S::Error | S::NetworkError | S::AuthError => one(E::WentOffline { at }),
            S::Offline => already_true(),
            _ => Err(wrong_status),
        },
        C::StartRecovery { strategy, now: at } => match status {
            S::Error | S::NetworkError | S::AuthError => one(E::RecoveryStarted {
                strategy,
                attempt: account.recovery_attempt + 1,
                at,
            }),
            S::Recovering => already_true(),
            _ => Err(wrong_status),
        },
        C::CompleteRecovery { now: at } => match status {
            S::Recovering => one(E::Recovered { at }),
            S::Online => already_true(),
            _ => Err(wrong_status),
        },
        C::FailRecovery {
            attempts_left,
            error_message,
            now: at,
        } => match status {
            S::Recovering => {
                let back = account.recovering_from.unwrap_or(S::Error);
                let status = if attempts_left == 0 { S::Offline } else { back };
                one(E::RecoveryFailed {
                    attempts_left,
                    error_message,
                    status,
                    at,
                })
            }
            S::Error | S::NetworkError | S::AuthError if attempts_left > 0 => already_true(),
            S::Offline if attempts_left == 0 => already_true(),
            _ => Err(wrong_status),
        },
        C::Disable { reason, now: at } => match status {
            S::Disabled => already_true(),
            S::Deleted => Err(wrong_status),
            _ => one(E::AccountDisabled { reason, at }),
        },
        C::Enable { now: at } => match status {
            S::Disabled => one(E::AccountEnabled { at }),
            S::Deleted => Err(wrong_status),
            _ => already_true(),
        },
        C::Delete { now: at } => match status {
            S::Created | S::Offline | S::LoggedOut | S::Error | S::NetworkError | S::AuthError | S::Disabled => {
                one(E::AccountDeleted { at })
            }
            S::Deleted => already_true(),
            _ => Err(wrong_status),
        },
    }
}
