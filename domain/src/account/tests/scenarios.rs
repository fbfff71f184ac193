//! Given, when, then: what the matrix cannot show, because it is in the events' fields or in the state after them.

use chrono::TimeDelta;
use cqrs_es::test::TestFramework;

use super::super::{
    Account, AccountCommand as C, AccountConfig, AccountConfigChange, AccountError, AccountEvent as E, AccountStatus,
    SessionLossCause,
};
use super::cases::{create, fail_recovery, issue_code, lose_session, running, shown_until, update};
use super::situations::given;
use crate::tests::fixtures::{at, attempt, sealed_of_account, tenant};
use crate::tests::matrix::fold;
use crate::{FieldChange, LogAggregate};

fn account() -> TestFramework<Account> {
    TestFramework::with(())
}

fn state(name: &str, then: impl IntoIterator<Item = C>) -> Account {
    let mut state: Account = fold(given(name));
    for command in then {
        for event in state.decide(command).unwrap() {
            state.fold(event);
        }
    }
    state
}

#[test]
fn a_new_account_is_created_with_everything_it_was_given() {
    account()
        .given_no_previous_events()
        .when(create(at(0)))
        .then_expect_events(vec![E::AccountCreated {
            tenant_id: tenant(1),
            account_name: "华东客服".to_owned(),
            phone: Some(sealed_of_account("phone")),
            email: None,
            user_id: None,
            gateway: super::super::GatewayKind::Instance,
            config: AccountConfig::default(),
            at: at(0),
        }]);
}

#[test]
fn a_refusal_names_the_status_and_the_command() {
    account()
        .given(given("deleted"))
        .when(C::StartLogin {
            attempt: attempt(2),
            now: at(50),
        })
        .then_expect_error(AccountError::WrongStatus {
            status: AccountStatus::Deleted,
            command: "StartLogin",
        });
    account()
        .given(given("waiting_for_qrcode_scan"))
        .when(C::LogOut { now: at(50) })
        .then_expect_error_message("LogOut is not possible while the account is waiting_for_qrcode_scan");
}

#[test]
fn an_update_says_only_what_changes() {
    let command = C::Update {
        account_name: Some("华东客服".to_owned()),
        phone: FieldChange::Set(sealed_of_account("other-phone")),
        email: FieldChange::Cleared,
        user_id: FieldChange::Set("u-7".to_owned()),
        config: AccountConfigChange {
            daily_limit: FieldChange::Set(1_000),
            ..AccountConfigChange::default()
        },
        config_defaults: AccountConfig::default(),
        now: at(50),
    };
    account()
        .given(given("created"))
        .when(command)
        .then_expect_events(vec![E::AccountUpdated {
            account_name: None,
            phone: FieldChange::Set(sealed_of_account("other-phone")),
            // There was none, and the limit was 1,000.
            email: FieldChange::Unchanged,
            user_id: FieldChange::Set("u-7".to_owned()),
            config: None,
            at: at(50),
        }]);
}

#[test]
fn settings_change_key_by_key_and_null_resets_a_key_to_its_default() {
    let change = |config| C::Update {
        account_name: None,
        phone: FieldChange::Unchanged,
        email: FieldChange::Unchanged,
        user_id: FieldChange::Unchanged,
        config,
        config_defaults: AccountConfig {
            send_interval_ms: 250,
            ..AccountConfig::default()
        },
        now: at(50),
    };
    let set = change(AccountConfigChange {
        daily_limit: FieldChange::Set(5),
        maintenance_mode: FieldChange::Set(true),
        callback_url: FieldChange::Set("https://crm.example/hook".to_owned()),
        ..AccountConfigChange::default()
    });
    let reset = change(AccountConfigChange {
        send_interval_ms: FieldChange::Cleared,
        callback_url: FieldChange::Cleared,
        ..AccountConfigChange::default()
    });
    let config = state("created", [set, reset]).config;
    let expected = AccountConfig {
        send_interval_ms: 250,
        daily_limit: 5,
        maintenance_mode: true,
        ..AccountConfig::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn a_cleared_phone_is_gone_and_clearing_it_again_is_nothing() {
    let clear = || C::Update {
        account_name: None,
        phone: FieldChange::Cleared,
        email: FieldChange::Unchanged,
        user_id: FieldChange::Unchanged,
        config: AccountConfigChange::default(),
        config_defaults: AccountConfig::default(),
        now: at(50),
    };
    let cleared = state("created", [clear()]);
    assert_eq!(cleared.phone, None);
    assert_eq!(cleared.decide(clear()), Ok(vec![]));
}

#[test]
fn a_login_of_an_account_that_may_have_a_session_restores_it_first() {
    let restores_first = |name: &str| match fold::<Account>(given(name))
        .decide(C::StartLogin {
            attempt: attempt(2),
            now: at(90),
        })
        .unwrap()[..]
    {
        [E::LoginStarted { restore_first, .. }] => restore_first,
        ref other => panic!("{other:?}"),
    };
    for name in [
        "network_error",
        "auth_error",
        "error",
        "recovering",
        "offline",
        "offline:recovery_failed",
    ] {
        assert!(restores_first(name), "{name}");
    }
    for name in [
        "created",
        "logged_out",
        "offline:signed_out",
        "error:qrcode_expired",
        "error:login_rejected",
    ] {
        assert!(!restores_first(name), "{name}");
    }
}

#[test]
fn an_enabled_account_that_was_online_is_restored_without_a_code() {
    let enabled = state("disabled", [C::Enable { now: at(50) }]);
    assert!(enabled.may_resume);
}

#[test]
fn a_login_code_gives_the_old_session_up_and_so_does_another_instance() {
    let login = C::StartLogin {
        attempt: attempt(2),
        now: at(50),
    };
    let asked = state(
        "network_error",
        [login.clone(), issue_code(attempt(2), "code-2", at(170), at(51))],
    );
    assert!(!asked.may_resume);
    let replaced = state(
        "network_error",
        [C::RecordInstance {
            guid: "guid-2".to_owned(),
            now: at(50),
        }],
    );
    assert!(!replaced.may_resume);
    let removed = state("network_error", [C::RecordInstanceRemoved { now: at(50) }]);
    assert!(!removed.may_resume);
}

#[test]
fn a_login_code_is_valid_until_it_expires_or_is_scanned() {
    let waiting = state("waiting_for_qrcode_scan", []);
    assert!(
        waiting
            .valid_qr_code(shown_until() - TimeDelta::milliseconds(1))
            .is_some()
    );
    assert!(waiting.valid_qr_code(shown_until()).is_none());
    assert!(state("waiting_for_confirmation", []).valid_qr_code(at(10)).is_none());
    assert!(state("created", []).valid_qr_code(at(10)).is_none());
}

#[test]
fn a_login_code_is_refreshed_three_times_and_no_more() {
    let mut waiting = state("logging_in", []);
    for refresh in 0..=3 {
        let asked = issue_code(running(), "code", at(200 + i64::from(refresh)), at(100));
        match waiting.decide(asked).unwrap()[..] {
            [ref event @ E::QrCodeIssued { refresh: counted, .. }] if counted == refresh => waiting.fold(event.clone()),
            ref other => panic!("{other:?}"),
        }
    }
    let refused = waiting.decide(issue_code(running(), "code", at(300), at(100)));
    assert_eq!(refused, Err(AccountError::TooManyQrCodes { refreshes: 3 }));
}

#[test]
fn wrong_verification_codes_are_counted_and_the_third_ends_the_login() {
    let submit = |code: &str| C::SubmitVerificationCode {
        attempt: running(),
        code: sealed_of_account(code),
        now: at(50),
    };
    let fail = || C::RecordVerificationFailure {
        attempt: running(),
        now: at(51),
    };
    let mut account = state("waiting_for_verification", []);
    for failures in 1..=3 {
        account.fold(account.decide(submit(&format!("try-{failures}"))).unwrap().remove(0));
        let event = account.decide(fail()).unwrap().remove(0);
        assert_eq!(
            event,
            E::VerificationFailed {
                attempt: running(),
                failures,
                at: at(51)
            }
        );
        account.fold(event);
        assert_eq!(account.reason.as_deref(), Some("verification_failed"));
        assert_eq!(account.login.as_ref().unwrap().verification_failures, failures);
        let expected = if failures < 3 {
            AccountStatus::WaitingForVerification
        } else {
            AccountStatus::Error
        };
        assert_eq!(account.status, Some(expected));
        // The gateway's answer told twice counts once.
        assert_eq!(account.decide(fail()), Ok(vec![]));
    }
    let refused = account.decide(submit("try-4"));
    assert!(matches!(refused, Err(AccountError::WrongStatus { .. })), "{refused:?}");
}

#[test]
fn a_login_can_be_cancelled_in_every_login_status_and_in_no_other() {
    for status in AccountStatus::ALL {
        let decided = fold::<Account>(given(status.as_str())).decide(C::CancelLogin { now: at(50) });
        if status.is_login_running() {
            assert_eq!(
                decided,
                Ok(vec![E::LoginCancelled {
                    attempt: running(),
                    at: at(50)
                }]),
                "{status:?}"
            );
        } else {
            assert_eq!(
                decided,
                Err(AccountError::WrongStatus {
                    status,
                    command: "CancelLogin"
                }),
                "{status:?}"
            );
        }
    }
}

#[test]
fn the_callbacks_of_an_earlier_attempt_change_nothing() {
    let login = C::StartLogin {
        attempt: attempt(2),
        now: at(50),
    };
    let again = || state("error:qrcode_expired", [login.clone()]);
    let late = again().decide(C::ConfirmLogin {
        attempt: running(),
        now: at(51),
    });
    assert_eq!(late, Err(AccountError::LoginAttemptOver));
    let own = again().decide(C::ConfirmLogin {
        attempt: attempt(2),
        now: at(51),
    });
    assert_eq!(
        own,
        Ok(vec![E::LoginConfirmed {
            attempt: attempt(2),
            at: at(51)
        }])
    );
}

#[test]
fn a_lost_callback_strands_no_account() {
    // Neither the scan nor the question for a code was heard of.
    for name in [
        "logging_in",
        "waiting_for_qrcode_scan",
        "waiting_for_confirmation",
        "waiting_for_verification",
    ] {
        let online = state(
            name,
            [C::ConfirmLogin {
                attempt: running(),
                now: at(50),
            }],
        );
        assert_eq!(online.status, Some(AccountStatus::Online), "{name}");
        assert_eq!(online.last_login_time, Some(at(50)), "{name}");
    }
}

#[test]
fn a_rejection_before_its_scan_was_heard_of_has_the_same_reason() {
    let reject = || C::RejectLogin {
        attempt: running(),
        now: at(50),
    };
    for name in ["waiting_for_confirmation", "waiting_for_qrcode_scan", "logging_in"] {
        let rejected = state(name, [reject()]);
        assert_eq!(rejected.reason.as_deref(), Some("login_rejected"), "{name}");
        assert_eq!(rejected.decide(reject()), Ok(vec![]), "{name}");
    }
}

#[test]
fn logins_without_success_are_counted_until_one_succeeds() {
    let login = |number| C::StartLogin {
        attempt: attempt(number),
        now: at(50),
    };
    let fail = |number| C::TimeOutLogin {
        attempt: attempt(number),
        now: at(51),
    };
    let failed = state("created", [login(1), fail(1), login(2), fail(2), login(3)]);
    assert_eq!(failed.login_retry_count, 3);
    assert_eq!(state("online", []).login_retry_count, 0);
}

#[test]
fn a_session_lost_by_each_cause_goes_to_its_own_status_with_its_reason() {
    for (cause, status, reason) in [
        (SessionLossCause::Network, AccountStatus::NetworkError, "network"),
        (SessionLossCause::Auth, AccountStatus::AuthError, "auth"),
        (SessionLossCause::Other, AccountStatus::Error, "other"),
    ] {
        let lost = state("online", [lose_session(cause, at(50))]);
        assert_eq!((lost.status, lost.reason.as_deref()), (Some(status), Some(reason)));
        assert_eq!(lost.error_message.as_deref(), Some("no answer"));
        assert_eq!(lost.online_since, None);
        let restored = state(status.as_str(), [C::RestoreSession { now: at(60) }]);
        assert_eq!(
            (restored.reason, restored.error_message, restored.online_since),
            (None, None, Some(at(60)))
        );
    }
}

#[test]
fn a_restricted_account_keeps_its_session_and_counts_its_cool_downs() {
    let online_since = state("online", []).online_since;
    let restrict = |until, now| C::Restrict { until, now };
    let once = state("online", [restrict(at(900), at(50))]);
    assert_eq!(
        (once.cooldown, once.restricted_until, once.online_since),
        (1, Some(at(900)), online_since)
    );
    // Other sends of the same cool-down are refused by WeCom too; that is not another cool-down.
    assert_eq!(once.decide(restrict(at(950), at(60))), Ok(vec![]));
    let twice = state("online", [restrict(at(900), at(50)), restrict(at(4_500), at(900))]);
    assert_eq!((twice.cooldown, twice.restricted_until), (2, Some(at(4_500))));
    let lifted = state(
        "online",
        [restrict(at(900), at(50)), C::LiftRestriction { now: at(901) }],
    );
    assert_eq!(
        (lifted.cooldown, lifted.restricted_until, lifted.online_since),
        (0, None, online_since)
    );
}

#[test]
fn a_failed_recovery_goes_back_to_the_error_it_came_from_until_no_attempt_is_left() {
    let recover = || C::StartRecovery {
        strategy: "restart".to_owned(),
        now: at(50),
    };
    for name in ["error", "network_error", "auth_error"] {
        let back = state(name, [recover(), fail_recovery(1, at(51))]);
        assert_eq!(back.status.map(AccountStatus::as_str), Some(name));
        assert_eq!(back.recovery_attempt, 1);
        let over = state(
            name,
            [recover(), fail_recovery(1, at(51)), recover(), fail_recovery(0, at(53))],
        );
        assert_eq!((over.status, over.recovery_attempt), (Some(AccountStatus::Offline), 2));
    }
}

#[test]
fn recovery_attempts_are_counted_anew_once_the_account_was_online() {
    let recover = || C::StartRecovery {
        strategy: "restart".to_owned(),
        now: at(50),
    };
    let restored = C::RestoreSession { now: at(51) };
    let lost = lose_session(SessionLossCause::Network, at(52));
    let again = state("network_error", [recover(), restored, lost, recover()]);
    assert_eq!(again.recovery_attempt, 1);
}

#[test]
fn the_profile_is_taken_once_per_login() {
    let profile = |text: &str| C::RecordProfile {
        user_info: sealed_of_account(text),
        now: at(50),
    };
    let known = state("online", [profile("profile")]);
    assert_eq!(known.user_info, Some(sealed_of_account("profile")));
    assert_eq!(known.decide(profile("again")), Ok(vec![]));
    let next = state(
        "online",
        [
            profile("profile"),
            C::LogOut { now: at(51) },
            C::StartLogin {
                attempt: attempt(2),
                now: at(52),
            },
        ],
    );
    assert_eq!(next.decide(profile("again")).map(|events| events.len()), Ok(1));
}

#[test]
fn an_instance_that_cannot_be_created_is_shown_once_per_fault() {
    let fail = |text: &str| C::RecordInstanceFailure {
        error_message: text.to_owned(),
        now: at(50),
    };
    let failed = state("created", [fail("no capacity")]);
    assert_eq!(failed.reason.as_deref(), Some("instance_failed"));
    assert_eq!(failed.status, Some(AccountStatus::Created));
    assert_eq!(failed.decide(fail("no capacity")), Ok(vec![]));
    assert_eq!(failed.decide(fail("no licence")).map(|events| events.len()), Ok(1));
}

#[test]
fn an_instance_that_is_made_after_all_ends_the_reason_of_its_failure_and_no_other() {
    let failure = C::RecordInstanceFailure {
        error_message: "no capacity".to_owned(),
        now: at(50),
    };
    let made = C::RecordInstance {
        guid: "guid-2".to_owned(),
        now: at(51),
    };
    let mended = state("created", [failure, made.clone()]);
    assert_eq!((mended.reason, mended.error_message), (None, None));
    let lost = state("network_error", [made]);
    assert_eq!(lost.reason.as_deref(), Some("network"));
}

#[test]
fn a_deleted_account_knows_its_instance_until_that_is_removed() {
    let deleted = state("deleted:instance_not_removed", []);
    assert_eq!(deleted.guid.as_deref(), Some("guid-1"));
    account()
        .given(given("deleted:instance_not_removed"))
        .when(C::RecordInstanceRemoved { now: at(50) })
        .then_expect_events(vec![E::InstanceRemoved {
            guid: "guid-1".to_owned(),
            at: at(50),
        }]);
}

#[test]
fn a_new_name_that_is_the_old_one_is_no_change() {
    account()
        .given(given("online"))
        .when(update(Some("华东客服"), at(50)))
        .then_expect_events(vec![]);
}

#[test]
fn a_status_is_read_by_its_name_and_by_the_requirements_short_names() {
    for status in AccountStatus::ALL {
        assert_eq!(AccountStatus::parse(status.as_str()), Some(status));
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
    for (short, status) in [
        ("waiting_scan", AccountStatus::WaitingForQrcodeScan),
        ("waiting_confirm", AccountStatus::WaitingForConfirmation),
        ("need_verify", AccountStatus::WaitingForVerification),
        ("logging", AccountStatus::LoggingIn),
    ] {
        assert_eq!(AccountStatus::parse(short), Some(status));
    }
    assert_eq!(AccountStatus::parse("asleep"), None);
}
