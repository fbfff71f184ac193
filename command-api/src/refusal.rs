//! Every way a command can fail, as the problem that the caller is told. No `_` arm: a new error must choose its code.

use axum::http::StatusCode;
use chrono::TimeDelta;
use weft_domain::ClaimKind;
use weft_domain::account::{AccountError, AccountStatus};
use weft_domain::message::{MessageError, MessageStatus};
use weft_log_writer::seal::SealError;
use weft_log_writer::{ExecuteError, QuotaExceeded};
use weft_platform::http::{Problem, RateLimit};
use weft_platform::keys::KeysError;

pub(crate) fn account_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "account.not_found", AccountError::NotFound)
}

pub(crate) fn message_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "message.not_found", MessageError::NotFound)
}

/// What an account that takes no messages is to who wants to send from it.
pub(crate) fn closed_account(status: AccountStatus) -> Problem {
    match status {
        AccountStatus::Deleted => account_not_found(),
        status => Problem::new(StatusCode::CONFLICT, "account.wrong_status", account_is(status)),
    }
}

/// What an aggregate's refusal means to a caller.
pub(crate) trait Refusal {
    fn problem(self) -> Problem;
}

impl Refusal for AccountError {
    fn problem(self) -> Problem {
        let wrong_status = |detail: String| Problem::new(StatusCode::CONFLICT, "account.wrong_status", detail);
        match self {
            // Deleted between the look at it and the command.
            Self::NotFound
            | Self::WrongStatus {
                status: AccountStatus::Deleted,
                ..
            } => account_not_found(),
            Self::WrongStatus { status, .. } => wrong_status(account_is(status)),
            Self::TooManyQrCodes { .. } => wrong_status(self.to_string()),
            Self::LoginAttemptOver => Problem::new(StatusCode::CONFLICT, "account.login_attempt_over", self),
            Self::AlreadyExists => defect(&self),
        }
    }
}

impl Refusal for MessageError {
    fn problem(self) -> Problem {
        match self {
            Self::NotFound => message_not_found(),
            Self::WrongStatus { status, .. } => {
                Problem::new(StatusCode::CONFLICT, "message.wrong_status", message_is(status))
            }
            Self::AttemptOver { .. } | Self::TooEarly(_) => {
                Problem::new(StatusCode::CONFLICT, "message.wrong_status", self)
            }
            Self::AlreadyExists => defect(&self),
        }
    }
}

/// The status that an account is in, and what its user can do in it (`docs/account-states.md`).
pub(crate) fn account_is(status: AccountStatus) -> String {
    use AccountStatus as S;
    let possible = match status {
        S::Created | S::LoggedOut | S::Offline | S::Error | S::NetworkError | S::AuthError => {
            "log it in, disable or delete it"
        }
        S::LoggingIn => "wait for its login code, cancel the login, or disable it",
        S::WaitingForQrcodeScan => "scan its login code, cancel the login, or disable it",
        S::WaitingForConfirmation => "confirm the login on the phone, cancel the login, or disable it",
        S::WaitingForVerification => "send the verification code, cancel the login, or disable it",
        S::Online => "log it out, or disable it",
        S::RateLimited => "wait until WeCom lifts the restriction, log it out, or disable it",
        S::Recovering => "wait, log it in, or disable it",
        S::Disabled => "enable or delete it",
        S::Deleted => "create another one",
    };
    format!(
        "not possible while the account is {}; now you can: {possible}",
        status.as_str()
    )
}

/// The status that a message is in, and what its user can do in it.
fn message_is(status: MessageStatus) -> String {
    use MessageStatus as S;
    let possible = match status {
        S::Pending => "cancel it",
        S::Sending => "wait for its outcome",
        S::Sent | S::Delivered => "nothing, it has reached WeCom",
        S::Failed | S::Cancelled | S::Revoked => "send it again as a new message",
        S::Unknown => "resolve it as sent, failed or resend",
    };
    format!(
        "not possible while the message is {}; now you can: {possible}",
        status.as_str()
    )
}

impl Refusal for std::convert::Infallible {
    fn problem(self) -> Problem {
        match self {}
    }
}

/// The problem that an executor's error is.
pub(crate) fn problem_of<E: Refusal>(error: ExecuteError<E>) -> Problem {
    match error {
        ExecuteError::Domain(error) => error.problem(),
        ExecuteError::VersionMismatch { current } => Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "version.mismatch",
            format!("If-Match does not name the present version, \"{current}\""),
        ),
        ExecuteError::ClaimTaken(claim) => match claim.kind {
            ClaimKind::AccountName => Problem::new(
                StatusCode::CONFLICT,
                "account.name_taken",
                "another account of the tenant has this name",
            ),
            // No command of a caller claims these.
            ClaimKind::InstanceGuid | ClaimKind::TenantCode => defect(&claim.kind.as_str()),
        },
        ExecuteError::QuotaExceeded(exceeded) => quota_problem(&exceeded),
        ExecuteError::AccountClosed(status) => closed_account(status),
        ExecuteError::Overloaded => overloaded(),
        ExecuteError::EventTooLarge => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request.too_large",
            "what this request says is too large to be stored as one event",
        ),
        ExecuteError::KeyReused => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency.key_reused",
            "this Idempotency-Key was used before with another body",
        ),
        ExecuteError::KeyInProgress => Problem::new(
            StatusCode::CONFLICT,
            "idempotency.in_progress",
            "the first request with this Idempotency-Key has not ended",
        )
        .with_retry_after(1),
        ExecuteError::Contended => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "log.contended",
            "other commands kept coming first; nothing was changed: try again",
        )
        .with_retry_after(1),
        ExecuteError::Unavailable(reason) => {
            tracing::warn!(%reason, "the log is unavailable");
            Problem::log_unavailable()
        }
        ExecuteError::Corrupt(reason) => defect(&reason),
    }
}

/// More is asked than can be done.
pub(crate) fn overloaded() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "log.unavailable",
        "more is asked than can be done; nothing was changed: try again, a POST with the same Idempotency-Key",
    )
    .with_retry_after(1)
}

/// 429, with when there is room again.
fn quota_problem(exceeded: &QuotaExceeded) -> Problem {
    let seconds = |length: TimeDelta| u64::try_from(length.num_seconds()).unwrap_or_default();
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota.exceeded", exceeded).with_rate_limit(RateLimit {
        policy: exceeded.kind.as_str(),
        limit: exceeded.limit,
        window: exceeded.day.map(|(start, end)| seconds(end - start)),
    });
    match exceeded.day {
        Some((_, end)) => problem.with_retry_after(seconds(end - exceeded.asked_at).max(1)),
        None => problem,
    }
}

/// The problem of sealing or opening an account's or message's data.
pub(crate) fn seal_problem(error: SealError) -> Problem {
    match error {
        SealError::Keys(error) => keys_problem(error),
        SealError::Shape(error) => defect(&error),
    }
}

/// Without keys no command that brings personal data can be carried out.
pub(crate) fn keys_problem(error: KeysError) -> Problem {
    match error {
        KeysError::Unavailable(reason) => {
            tracing::warn!(%reason, "the keys are unavailable");
            Problem::log_unavailable()
        }
        // Whose key is gone was deleted.
        KeysError::Destroyed(_) => account_not_found(),
        KeysError::Url(_)
        | KeysError::MasterKey
        | KeysError::WrongMasterKey(_)
        | KeysError::NoAccess
        | KeysError::Cipher => defect(&error),
    }
}

/// An error of ours: logged here, once.
pub(crate) fn defect(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "a command failed");
    Problem::internal()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: ExecuteError<AccountError>) -> (u16, &'static str, Option<u64>) {
        let problem = problem_of(error);
        (problem.status.as_u16(), problem.code, problem.retry_after)
    }

    #[test]
    fn errors_have_the_contract_s_status_and_code() {
        let claim = weft_domain::Claim::tenant_code("x");
        assert_eq!(
            told(ExecuteError::VersionMismatch { current: 3 }),
            (412, "version.mismatch", None)
        );
        assert_eq!(told(ExecuteError::KeyReused), (422, "idempotency.key_reused", None));
        assert_eq!(
            told(ExecuteError::KeyInProgress),
            (409, "idempotency.in_progress", Some(1))
        );
        assert_eq!(told(ExecuteError::Contended), (503, "log.contended", Some(1)));
        assert_eq!(
            told(ExecuteError::Unavailable("down".to_owned())),
            (503, "log.unavailable", Some(1))
        );
        assert_eq!(told(ExecuteError::EventTooLarge), (413, "request.too_large", None));
        assert_eq!(told(ExecuteError::ClaimTaken(claim)), (500, "internal", None));
        assert_eq!(
            told(ExecuteError::Domain(AccountError::LoginAttemptOver)).1,
            "account.login_attempt_over"
        );
    }

    #[test]
    fn what_was_deleted_meanwhile_is_not_found() {
        let error = AccountError::WrongStatus {
            status: AccountStatus::Deleted,
            command: "Disable",
        };
        assert_eq!(told(ExecuteError::Domain(error)).0, 404);
    }

    #[test]
    fn a_wrong_status_is_told_without_the_names_of_our_commands() {
        for status in AccountStatus::ALL {
            let problem = AccountError::WrongStatus {
                status,
                command: "RecordQrCode",
            }
            .problem();
            assert!(!problem.detail.contains("RecordQrCode"), "{}", problem.detail);
            let deleted = status == AccountStatus::Deleted;
            assert!(
                deleted
                    || problem
                        .detail
                        .contains(&format!("is {}; now you can: ", status.as_str()))
            );
        }
        let status = MessageStatus::Unknown;
        let problem = MessageError::WrongStatus {
            status,
            command: "MarkUnknown",
        }
        .problem();
        assert_eq!(
            problem.detail,
            "not possible while the message is unknown; now you can: resolve it as sent, failed or resend"
        );
    }

    #[test]
    fn our_own_errors_are_not_shown() {
        let problem = problem_of::<AccountError>(ExecuteError::Corrupt("select secret".to_owned()));
        assert!(!problem.detail.contains("secret"));
    }
}
