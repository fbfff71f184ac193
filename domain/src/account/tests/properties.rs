//! What holds for every sequence of commands, also for those nobody thought of.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Account, AccountCommand as C, AccountError, AccountEvent as E, AccountStatus};
use super::cases::cases;
use crate::tests::fixtures::{at, attempt};
use crate::tests::matrix::{Worded, fold};
use crate::{Claim, ClaimChange, LogAggregate, LoginAttemptId};

/// The design's transitions: an event, the statuses it may happen in, those it may lead to. Events that are not here
/// leave the status as it is.
const TRANSITIONS: &[(&str, &str, &str)] = &[
    ("AccountCreated", "none", "created"),
    (
        "LoginStarted",
        "created offline logged_out error network_error auth_error recovering",
        "logging_in",
    ),
    ("QrCodeIssued", "logging_in", "waiting_for_qrcode_scan"),
    (
        "SessionRestored",
        "logging_in error network_error auth_error offline recovering",
        "online",
    ),
    ("QrCodeScanned", "waiting_for_qrcode_scan", "waiting_for_confirmation"),
    ("QrCodeExpired", "waiting_for_qrcode_scan", "error"),
    ("LoginRejected", "waiting_for_confirmation", "error"),
    ("LoginConfirmed", LOGIN, "online"),
    (
        "VerificationRequired",
        "logging_in waiting_for_qrcode_scan waiting_for_confirmation",
        "waiting_for_verification",
    ),
    ("LoginFailed", LOGIN, "error"),
    ("LoginTimedOut", LOGIN, "error"),
    ("LoginCancelled", LOGIN, "offline"),
    ("VerificationFailed", "waiting_for_verification", "error"),
    ("SessionLost", "online rate_limited", "network_error auth_error error"),
    ("AccountRestricted", "online", "rate_limited"),
    ("SignedOutRemotely", "online rate_limited", "offline"),
    ("LoggedOut", "online rate_limited", "logged_out"),
    ("RestrictionLifted", "rate_limited", "online"),
    ("RecoveryStarted", "error network_error auth_error", "recovering"),
    ("WentOffline", "error network_error auth_error", "offline"),
    ("Recovered", "recovering", "online"),
    ("RecoveryFailed", "recovering", "error network_error auth_error offline"),
    (
        "AccountDisabled",
        "created logging_in waiting_for_qrcode_scan waiting_for_confirmation waiting_for_verification online error \
         network_error auth_error rate_limited recovering offline logged_out",
        "disabled",
    ),
    ("AccountEnabled", "disabled", "offline"),
    (
        "AccountDeleted",
        "created offline logged_out error network_error auth_error disabled",
        "deleted",
    ),
];

const LOGIN: &str = "logging_in waiting_for_qrcode_scan waiting_for_confirmation waiting_for_verification";

fn is_allowed(event: &str, from: &str, to: &str) -> bool {
    let named = |list: &str, status: &str| list.split_whitespace().any(|word| word == status);
    let mut rows = TRANSITIONS.iter().filter(|row| row.0 == event);
    from == to || rows.any(|(_, froms, tos)| named(froms, from) && named(tos, to))
}

/// One thing asked: which case, whether to prefer one that has an effect, of which attempt, how much later.
type Step = (prop::sample::Index, bool, u8, u16);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(
        (
            any::<prop::sample::Index>(),
            prop::bool::weighted(0.7),
            0_u8..10,
            0_u16..400,
        ),
        1..120,
    )
}

/// The command with the account's newest attempt, or sometimes with another one.
fn with_attempt(command: C, state: &Account, which: u8, fresh: u128) -> C {
    let newest = state.login.as_ref().map_or(attempt(1), |login| login.attempt);
    let wanted = if which == 0 { attempt(1) } else { newest };
    let mut command = command;
    set_attempt(&mut command, wanted, attempt(100 + fresh));
    command
}

fn set_attempt(command: &mut C, of_login: LoginAttemptId, of_start: LoginAttemptId) {
    match command {
        C::StartLogin { attempt, .. } => *attempt = of_start,
        C::IssueQrCode { attempt, .. }
        | C::RecordScan { attempt, .. }
        | C::ExpireQrCode { attempt, .. }
        | C::RejectLogin { attempt, .. }
        | C::RequireVerification { attempt, .. }
        | C::SubmitVerificationCode { attempt, .. }
        | C::RecordVerificationFailure { attempt, .. }
        | C::ConfirmLogin { attempt, .. }
        | C::FailLogin { attempt, .. }
        | C::TimeOutLogin { attempt, .. } => *attempt = of_login,
        _ => {}
    }
}

/// What was asked, in what state, and what came of it.
struct Asked {
    before: Account,
    command: C,
    decided: Result<Vec<E>, AccountError>,
}

fn ends(command: &C) -> bool {
    use C::{CancelLogin, ConfirmLogin, Delete, Disable, FailLogin, LogOut, RejectLogin, TimeOutLogin};
    matches!(
        command,
        Delete { .. }
            | Disable { .. }
            | LogOut { .. }
            | CancelLogin { .. }
            | ConfirmLogin { .. }
            | FailLogin { .. }
            | RejectLogin { .. }
            | TimeOutLogin { .. }
    )
}

/// Asks one thing after the other, applying what is decided.
fn walk(steps: &[Step]) -> Vec<Asked> {
    let cases = cases();
    let mut state = Account::default();
    let mut now = at(0);
    let mut walked = Vec::new();
    for (number, (index, effective, which, later)) in steps.iter().enumerate() {
        now += TimeDelta::seconds(i64::from(*later));
        let ask = |case: &crate::tests::matrix::Case<C>| with_attempt((case.ask)(now), &state, *which, number as u128);
        let fruitful: Vec<C> = cases
            .iter()
            .map(ask)
            .filter(|command| state.decide(command.clone()).is_ok_and(|events| !events.is_empty()))
            // What ends a story is rare, or most of them would be short.
            .filter(|command| *which > 7 || !ends(command))
            .collect();
        let command = if *effective && !fruitful.is_empty() {
            index.get(&fruitful).clone()
        } else {
            ask(index.get(&cases))
        };
        let decided = state.decide(command.clone());
        let before = state.clone();
        for event in decided.iter().flatten() {
            state.fold(event.clone());
        }
        walked.push(Asked {
            before,
            command,
            decided,
        });
    }
    walked
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_commands_reaches_an_undefined_status(steps in steps()) {
        for asked in walk(&steps) {
            let mut state = asked.before;
            for event in asked.decided.into_iter().flatten() {
                let from = state.status_word();
                let after = event.status_after(state.status);
                let (name, status) = (event.name(), state.status);
                state.fold(event);
                prop_assert_eq!(state.status, after.or(status), "{} in {}", name, from);
                prop_assert!(is_allowed(name, from, state.status_word()), "{} in {} led to {}", name, from, state.status_word());
            }
        }
    }

    #[test]
    fn a_repeated_command_emits_nothing(steps in steps()) {
        for asked in walk(&steps) {
            let Ok(events) = asked.decided else { continue };
            let mut state = asked.before;
            for event in events {
                state.fold(event);
            }
            let again = state.decide(asked.command.clone());
            prop_assert!(again.as_ref().map_or(true, Vec::is_empty), "{:?} again: {:?}", asked.command, again);
        }
    }

    #[test]
    fn folding_the_stored_events_gives_the_state_that_was_decided_upon(steps in steps()) {
        let walked = walk(&steps);
        let mut events = Vec::new();
        for asked in &walked {
            let stored: Account = fold(events.iter().cloned());
            prop_assert_eq!(&stored, &asked.before);
            events.extend(asked.decided.iter().flatten().map(|event| {
                let stored = serde_json::to_value(event).unwrap();
                let read: E = serde_json::from_value(stored).unwrap();
                assert_eq!(&read, event);
                read
            }));
        }
        let state: Account = fold(events);
        let snapshot: Account = serde_json::from_value(serde_json::to_value(&state).unwrap()).unwrap();
        prop_assert_eq!(snapshot, state);
    }

    #[test]
    fn an_account_holds_just_the_claims_of_its_name_and_its_instance(steps in steps()) {
        let mut held = BTreeSet::new();
        for asked in walk(&steps) {
            let events = asked.decided.unwrap_or_default();
            for change in asked.before.claims(&events) {
                match change {
                    ClaimChange::Take(claim) => prop_assert!(held.insert(claim.clone()), "{:?} taken twice", claim),
                    ClaimChange::Release(claim) => prop_assert!(held.remove(&claim), "{:?} was not held", claim),
                }
            }
            let mut state = asked.before;
            for event in events {
                state.fold(event);
            }
            let lives = state.status != Some(AccountStatus::Deleted);
            let name = state.tenant_id.filter(|_| lives).map(|tenant| Claim::account_name(tenant, &state.account_name));
            let guid = state.guid.as_deref().filter(|_| lives).map(Claim::instance_guid);
            prop_assert_eq!(&held, &name.into_iter().chain(guid).collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn what_a_login_leaves_behind_fits_the_status(steps in steps()) {
        for Asked { before: account, .. } in walk(&steps) {
            let status = account.status;
            let is = |wanted: AccountStatus| status == Some(wanted);
            prop_assert_eq!(
                account.online_since.is_some(),
                is(AccountStatus::Online) || is(AccountStatus::RateLimited),
                "online_since in {:?}", status
            );
            prop_assert_eq!(account.restricted_until.is_some(), is(AccountStatus::RateLimited));
            prop_assert_eq!(account.cooldown > 0, is(AccountStatus::RateLimited));
            if status.is_some_and(AccountStatus::is_login_running) {
                prop_assert!(account.running_attempt().is_some());
            } else {
                prop_assert!(account.running_attempt().is_none());
            }
        }
    }
}

#[test]
fn the_walks_make_every_transition_of_the_design() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut made = BTreeSet::new();
    for _ in 0..1_000 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        for asked in walk(&steps) {
            let mut state = asked.before;
            for event in asked.decided.into_iter().flatten() {
                let (name, from) = (event.name(), state.status_word());
                state.fold(event);
                if from != state.status_word() {
                    made.insert((name, from, state.status_word()));
                }
            }
        }
    }
    let mut missing = Vec::new();
    for (event, froms, tos) in TRANSITIONS {
        for from in froms.split_whitespace() {
            for to in tos.split_whitespace() {
                if !made.contains(&(*event, from, to)) {
                    missing.push(format!("{event}: {from} → {to}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

#[test]
fn a_planted_transition_is_not_allowed() {
    assert!(is_allowed("LogOut", "online", "online"));
    assert!(!is_allowed("LoggedOut", "created", "logged_out"));
    assert!(!is_allowed("AccountUpdated", "online", "offline"));
}
