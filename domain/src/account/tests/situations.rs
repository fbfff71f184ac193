//! Histories that an account may have: at least one per status, made by commands, so each can really happen.

use chrono::TimeDelta;

use super::super::{Account, AccountCommand as C, AccountEvent, AccountStatus, SessionLossCause};
use super::cases::{GUID, create, fail_recovery, issue_code, lose_session, running, shown_until};
use crate::LogAggregate;
use crate::tests::fixtures::{at, attempt, sealed_of_account};
use crate::tests::matrix::{Situation, fold};

/// An account on its way; each step happens one second after the one before and must have an effect.
#[derive(Clone, Default)]
struct Story {
    events: Vec<AccountEvent>,
    steps: i64,
}

impl Story {
    fn then(mut self, ask: impl Fn(chrono::DateTime<chrono::Utc>) -> C) -> Self {
        let command = ask(at(self.steps));
        let state: Account = fold(self.events.iter().cloned());
        let events = state.decide(command.clone()).unwrap();
        assert!(!events.is_empty(), "no step of a story: {command:?}");
        self.events.extend(events);
        self.steps += 1;
        self
    }

    fn created() -> Self {
        Self::default().then(create)
    }

    fn logging_in() -> Self {
        let with_instance = Self::created().then(|now| C::RecordInstance {
            guid: GUID.to_owned(),
            now,
        });
        with_instance.then(|now| C::StartLogin {
            attempt: running(),
            now,
        })
    }

    fn scan() -> Self {
        Self::logging_in().then(|now| issue_code(running(), "code-1", shown_until(), now))
    }

    fn scan_refreshed() -> Self {
        let mut story = Self::logging_in();
        for earlier in (0..=3).rev() {
            story = story.then(|now| issue_code(running(), "code-1", shown_until() - TimeDelta::seconds(earlier), now));
        }
        story
    }

    fn confirm() -> Self {
        Self::scan().then(|now| C::RecordScan {
            attempt: running(),
            now,
        })
    }

    fn verify() -> Self {
        Self::confirm().then(|now| C::RequireVerification {
            attempt: running(),
            now,
        })
    }

    fn code_submitted(self) -> Self {
        self.then(|now| C::SubmitVerificationCode {
            attempt: running(),
            code: sealed_of_account("verify-1"),
            now,
        })
    }

    fn verification_failed(self) -> Self {
        self.code_submitted().then(|now| C::RecordVerificationFailure {
            attempt: running(),
            now,
        })
    }

    fn online() -> Self {
        Self::confirm().then(|now| C::ConfirmLogin {
            attempt: running(),
            now,
        })
    }

    fn lost(cause: SessionLossCause) -> Self {
        Self::online().then(|now| lose_session(cause, now))
    }

    fn rate_limited() -> Self {
        Self::online().then(|now| C::Restrict {
            until: now + TimeDelta::seconds(900),
            now,
        })
    }

    fn offline() -> Self {
        Self::lost(SessionLossCause::Network).then(|now| C::GoOffline { now })
    }

    fn signed_out() -> Self {
        Self::online().then(|now| C::RecordRemoteSignOut {
            reason: "signed_out".to_owned(),
            error_message: None,
            now,
        })
    }

    fn recovering() -> Self {
        Self::lost(SessionLossCause::Auth).then(|now| C::StartRecovery {
            strategy: "restart".to_owned(),
            now,
        })
    }

    fn disabled() -> Self {
        Self::online().then(|now| C::Disable {
            reason: "维护".to_owned(),
            now,
        })
    }

    fn deleted() -> Self {
        Self::disabled().then(|now| C::Delete { now })
    }
}

pub(super) fn situations() -> Vec<Situation<Account>> {
    let at_once = |name, story: Story| Situation {
        name,
        now: at(story.steps),
        history: story.events,
    };
    vec![
        at_once("none", Story::default()),
        at_once("created", Story::created()),
        at_once("logging_in", Story::logging_in()),
        at_once("waiting_for_qrcode_scan", Story::scan()),
        at_once("waiting_for_qrcode_scan:refreshed_3_times", Story::scan_refreshed()),
        at_once("waiting_for_confirmation", Story::confirm()),
        at_once("waiting_for_verification", Story::verify()),
        at_once(
            "waiting_for_verification:code_submitted",
            Story::verify().code_submitted(),
        ),
        at_once(
            "waiting_for_verification:third_code_submitted",
            Story::verify()
                .verification_failed()
                .verification_failed()
                .code_submitted(),
        ),
        at_once("online", Story::online()),
        at_once("error", Story::lost(SessionLossCause::Other)),
        at_once(
            "error:qrcode_expired",
            Story::scan().then(|now| C::ExpireQrCode {
                attempt: running(),
                now,
            }),
        ),
        at_once(
            "error:login_rejected",
            Story::confirm().then(|now| C::RejectLogin {
                attempt: running(),
                now,
            }),
        ),
        at_once(
            "error:verification_failed",
            Story::verify()
                .verification_failed()
                .verification_failed()
                .verification_failed(),
        ),
        at_once("network_error", Story::lost(SessionLossCause::Network)),
        at_once("auth_error", Story::lost(SessionLossCause::Auth)),
        at_once("rate_limited", Story::rate_limited()),
        Situation {
            name: "rate_limited:cooldown_over",
            history: Story::rate_limited().events,
            now: at(1_000),
        },
        at_once("recovering", Story::recovering()),
        at_once("offline", Story::offline()),
        at_once("offline:signed_out", Story::signed_out()),
        at_once(
            "offline:recovery_failed",
            Story::recovering().then(|now| fail_recovery(0, now)),
        ),
        at_once("logged_out", Story::online().then(|now| C::LogOut { now })),
        at_once("disabled", Story::disabled()),
        at_once("deleted", Story::deleted().then(|now| C::RecordInstanceRemoved { now })),
        at_once("deleted:instance_not_removed", Story::deleted()),
    ]
}

/// An account in `name`, as the scenarios start it.
pub(super) fn given(name: &str) -> Vec<AccountEvent> {
    let found = situations().into_iter().find(|situation| situation.name == name);
    found.unwrap_or_else(|| panic!("no such situation: {name}")).history
}

#[test]
fn every_status_has_a_situation_and_is_in_it() {
    for situation in situations() {
        let status = situation.state().status.map_or("none", AccountStatus::as_str);
        assert_eq!(status, situation.status(), "{}", situation.name);
    }
    for status in AccountStatus::ALL {
        assert!(
            situations().iter().any(|situation| situation.name == status.as_str()),
            "{status:?}"
        );
    }
}

#[test]
fn the_login_attempt_of_every_situation_but_the_first_two_is_the_one_the_cases_name() {
    for situation in situations() {
        let attempt = situation.state().login.map(|login| login.attempt);
        let expected = (!["none", "created"].contains(&situation.name)).then(running);
        assert_eq!(attempt, expected, "{}", situation.name);
    }
    assert_ne!(running(), attempt(2));
}
