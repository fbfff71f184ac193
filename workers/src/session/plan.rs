//! What is next for an account: a pure function of the account, the job's memory and the time.

use chrono::{DateTime, TimeDelta, Utc};
use weft_domain::account::{Account, AccountStatus, GatewayKind, Login};
use weft_domain::{LoginAttemptId, Sealed};
use weft_platform::config::LoginSection;

use super::data::SessionData;

/// Times a profile is asked for before the account goes without.
const PROFILE_TRIES: u32 = 8;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing before the next event.
    Idle,
    CreateInstance,
    /// The account was deleted: its personal key goes, then its instance.
    RemoveInstance(Option<String>),
    LogOut(String),
    Login(LoginStep),
    FetchProfile(String),
    OpenConversations(String),
}

/// A step of the running login attempt at the instance `guid`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LoginStep {
    pub(super) attempt: LoginAttemptId,
    pub(super) guid: String,
    pub(super) act: LoginAct,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum LoginAct {
    SetNotifyUrl,
    /// A session may still be alive, or come back to life.
    LookForSession {
        restore: bool,
    },
    FetchCode,
    /// How far the scan has come; `expired`: the code's time is over by our clock.
    Poll {
        expired: bool,
    },
    PassCodeOn(Sealed<String>),
    /// The gateway has not brought the login forward in its time.
    GiveUp,
    /// The account's gateway knows no login by code.
    Unsupported,
    TimeOut,
}

pub(super) fn plan(account: &Account, data: &SessionData, now: DateTime<Utc>, config: &LoginSection) -> Step {
    use AccountStatus as S;
    let Some(status) = account.status else {
        return Step::Idle;
    };
    if status == S::Deleted {
        return if data.removed {
            Step::Idle
        } else {
            Step::RemoveInstance(account.guid.clone())
        };
    }
    if account.gateway == GatewayKind::Official {
        // Nothing to run for it, and no code to log it in by.
        return match account.running_attempt() {
            Some(attempt) => Step::Login(LoginStep {
                attempt,
                guid: String::new(),
                act: LoginAct::Unsupported,
            }),
            None => Step::Idle,
        };
    }
    match status {
        S::LoggingIn | S::WaitingForQrcodeScan | S::WaitingForConfirmation | S::WaitingForVerification => {
            match &account.login {
                Some(login) => login_step(account, login, status, data, now, config),
                None => Step::Idle,
            }
        }
        // Made right after the account, and again whenever it is missing.
        S::Created if account.guid.is_none() => Step::CreateInstance,
        S::LoggedOut => match (&account.guid, &account.login) {
            (Some(guid), Some(login)) if data.logged_out != Some(login.attempt) => Step::LogOut(guid.clone()),
            _ => Step::Idle,
        },
        S::Online | S::RateLimited => match (&account.guid, &account.login) {
            (Some(guid), Some(login)) if !login.has_profile && data.profile_failures < PROFILE_TRIES => {
                Step::FetchProfile(guid.clone())
            }
            (Some(guid), Some(login)) if data.listed != Some(login.attempt) => Step::OpenConversations(guid.clone()),
            _ => Step::Idle,
        },
        S::Created
        | S::Error
        | S::NetworkError
        | S::AuthError
        | S::Recovering
        | S::Offline
        | S::Disabled
        | S::Deleted => Step::Idle,
    }
}

fn login_step(
    account: &Account,
    login: &Login,
    status: AccountStatus,
    data: &SessionData,
    now: DateTime<Utc>,
    config: &LoginSection,
) -> Step {
    use AccountStatus as S;
    let patience = TimeDelta::seconds(config.confirm_timeout_seconds as i64);
    let attempt = login.attempt;
    if status == S::LoggingIn && now - login.started_at > patience {
        let guid = account.guid.clone().unwrap_or_default();
        return Step::Login(LoginStep {
            attempt,
            guid,
            act: LoginAct::GiveUp,
        });
    }
    let Some(guid) = account.guid.clone() else {
        return Step::CreateInstance;
    };
    let step = |act| {
        Step::Login(LoginStep {
            attempt,
            guid: guid.clone(),
            act,
        })
    };
    if data.notified != Some(attempt) {
        return step(LoginAct::SetNotifyUrl);
    }
    let waited_long = data.since.is_some_and(|since| now - since > patience);
    match status {
        S::LoggingIn if data.looked_for_session != Some(attempt) => step(LoginAct::LookForSession {
            restore: login.restore_first,
        }),
        S::LoggingIn => step(LoginAct::FetchCode),
        S::WaitingForQrcodeScan => {
            let expired = login.qr_code.as_ref().is_none_or(|code| code.expires_at <= now);
            step(LoginAct::Poll { expired })
        }
        S::WaitingForVerification => match &login.submitted_code {
            Some(code) if data.passed_on.as_ref() != Some(&code.nonce) => step(LoginAct::PassCodeOn(code.clone())),
            _ if waited_long => step(LoginAct::TimeOut),
            _ => step(LoginAct::Poll { expired: false }),
        },
        _ if waited_long => step(LoginAct::TimeOut),
        _ => step(LoginAct::Poll { expired: false }),
    }
}

#[cfg(test)]
mod tests {
    use weft_domain::account::QrCode;

    use super::*;

    const ATTEMPT: LoginAttemptId = LoginAttemptId(uuid::Uuid::from_u128(7));

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn sealed(nonce: &str) -> Sealed<String> {
        Sealed::new(
            "account:1".to_owned(),
            "subject".to_owned(),
            nonce.to_owned(),
            String::new(),
        )
    }

    fn account(status: AccountStatus) -> Account {
        Account {
            status: Some(status),
            guid: Some("g".to_owned()),
            login: Some(Login {
                attempt: ATTEMPT,
                restore_first: false,
                started_at: at(0),
                qr_code: None,
                verification_failures: 0,
                submitted_code: None,
                has_profile: false,
            }),
            ..Account::default()
        }
    }

    fn next(account: &Account, data: &SessionData, second: i64) -> Step {
        plan(account, data, at(second), &LoginSection::default())
    }

    fn act(step: Step) -> LoginAct {
        match step {
            Step::Login(step) => step.act,
            other => panic!("{other:?} is no step of a login"),
        }
    }

    #[test]
    fn a_new_account_gets_an_instance_and_nothing_else() {
        let mut created = account(AccountStatus::Created);
        created.login = None;
        assert_eq!(next(&created, &SessionData::default(), 1), Step::Idle);
        created.guid = None;
        assert_eq!(next(&created, &SessionData::default(), 1), Step::CreateInstance);
    }

    #[test]
    fn a_login_sets_its_own_notify_url_then_looks_for_a_session_then_asks_for_a_code() {
        let account = account(AccountStatus::LoggingIn);
        let mut data = SessionData::default();
        assert_eq!(act(next(&account, &data, 1)), LoginAct::SetNotifyUrl);
        data.notified = Some(ATTEMPT);
        assert_eq!(
            act(next(&account, &data, 1)),
            LoginAct::LookForSession { restore: false }
        );
        data.looked_for_session = Some(ATTEMPT);
        assert_eq!(act(next(&account, &data, 1)), LoginAct::FetchCode);
        assert_eq!(act(next(&account, &data, 121)), LoginAct::GiveUp);
    }

    #[test]
    fn a_new_attempt_does_not_trust_what_an_earlier_one_did() {
        let account = account(AccountStatus::LoggingIn);
        let earlier = Some(LoginAttemptId(uuid::Uuid::from_u128(6)));
        let data = SessionData {
            notified: earlier,
            looked_for_session: earlier,
            ..SessionData::default()
        };
        assert_eq!(act(next(&account, &data, 1)), LoginAct::SetNotifyUrl);
    }

    #[test]
    fn a_shown_code_is_polled_until_its_time_is_over() {
        let mut account = account(AccountStatus::WaitingForQrcodeScan);
        let data = SessionData {
            notified: Some(ATTEMPT),
            since: Some(at(0)),
            ..SessionData::default()
        };
        if let Some(login) = &mut account.login {
            login.qr_code = Some(QrCode {
                content: sealed("q"),
                refresh: 0,
                expires_at: at(120),
            });
        }
        assert_eq!(act(next(&account, &data, 119)), LoginAct::Poll { expired: false });
        assert_eq!(act(next(&account, &data, 120)), LoginAct::Poll { expired: true });
    }

    #[test]
    fn a_typed_code_is_passed_on_once() {
        let mut account = account(AccountStatus::WaitingForVerification);
        let mut data = SessionData {
            notified: Some(ATTEMPT),
            since: Some(at(0)),
            ..SessionData::default()
        };
        assert_eq!(act(next(&account, &data, 1)), LoginAct::Poll { expired: false });
        if let Some(login) = &mut account.login {
            login.submitted_code = Some(sealed("n1"));
        }
        assert_eq!(act(next(&account, &data, 1)), LoginAct::PassCodeOn(sealed("n1")));
        data.passed_on = Some("n1".to_owned());
        assert_eq!(act(next(&account, &data, 2)), LoginAct::Poll { expired: false });
        assert_eq!(act(next(&account, &data, 121)), LoginAct::TimeOut);
    }

    #[test]
    fn a_deleted_account_is_cleaned_up_once_and_a_disabled_one_left_alone() {
        let mut data = SessionData::default();
        let mut deleted = account(AccountStatus::Deleted);
        assert_eq!(next(&deleted, &data, 1), Step::RemoveInstance(Some("g".to_owned())));
        // The event is there, what the job remembered is not.
        deleted.guid = None;
        assert_eq!(next(&deleted, &data, 1), Step::RemoveInstance(None));
        data.removed = true;
        assert_eq!(next(&deleted, &data, 1), Step::Idle);
        assert_eq!(next(&account(AccountStatus::Disabled), &data, 1), Step::Idle);
    }
}
