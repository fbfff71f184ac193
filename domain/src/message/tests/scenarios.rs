//! Given, when, then: what the matrix cannot show, because it is in the events' fields or in the state after them.

use cqrs_es::test::TestFramework;

use super::super::{
    ACCOUNT_DELETED, CancelCause, Message, MessageCommand as C, MessageError, MessageEvent as E, MessageStatus as S,
    OUTCOME_UNKNOWN, ResolvedBy, ResolvedOutcome,
};
use super::cases::{accept, given, receipt, refused, resolve, retry, sent, start, story, unknown};
use crate::LogAggregate;
use crate::tests::fixtures::{account, at, conversation};
use crate::tests::matrix::fold;

fn message() -> TestFramework<Message> {
    TestFramework::with(())
}

fn state(commands: impl IntoIterator<Item = C>) -> Message {
    fold(story(commands))
}

#[test]
fn a_time_in_the_past_is_kept_and_means_now() {
    for planned in [None, Some(at(-5)), Some(at(0))] {
        let accepted = story([accept(planned, at(0))]);
        assert!(
            matches!(accepted[..], [E::MessageAccepted { scheduled_time, .. }] if scheduled_time == planned),
            "{accepted:?}"
        );
        message()
            .given(accepted)
            .when(start(at(0)))
            .then_expect_events(vec![E::AttemptStarted {
                account_id: account(1),
                attempt: 1,
                at: at(0),
            }]);
    }
}

#[test]
fn a_planned_message_never_starts_early() {
    let planned = || message().given(given("pending:planned_later"));
    planned()
        .when(start(at(59)))
        .then_expect_error(MessageError::TooEarly(at(60)));
    planned()
        .when(start(at(60)))
        .then_expect_events(vec![E::AttemptStarted {
            account_id: account(1),
            attempt: 1,
            at: at(60),
        }]);
}

#[test]
fn a_rival_worker_that_starts_the_same_message_is_refused() {
    message()
        .given(given("sending"))
        .when(start(at(2)))
        .then_expect_error(MessageError::WrongStatus {
            status: S::Sending,
            command: "StartAttempt",
        });
}

#[test]
fn a_report_about_an_earlier_attempt_is_refused() {
    let second = || story([accept(None, at(0)), start(at(1)), retry(1, at(2)), start(at(900))]);
    for late in [
        sent(1, at(901)),
        refused(1, at(901)),
        retry(1, at(901)),
        unknown(1, at(901)),
    ] {
        message()
            .given(second())
            .when(late)
            .then_expect_error(MessageError::AttemptOver { given: 1, current: 2 });
    }
}

#[test]
fn a_sent_message_names_its_conversation_and_its_receipt() {
    message()
        .given(given("sending"))
        .when(sent(1, at(3)))
        .then_expect_events(vec![E::MessageSent {
            account_id: account(1),
            conversation_id: conversation("S:1688850000001"),
            attempt: 1,
            receipt: receipt(),
            at: at(3),
        }]);
}

#[test]
fn a_reply_that_comes_after_all_settles_an_unknown_message() {
    let settled = state([accept(None, at(0)), start(at(1)), unknown(1, at(12)), sent(1, at(13))]);
    assert_eq!(settled.status, Some(S::Sent));
    assert_eq!((settled.error_code, settled.error_message), (None, None));
}

#[test]
fn an_unknown_message_is_never_attempted_again_by_itself() {
    let unknown: Message = fold(given("unknown"));
    assert_eq!(unknown.error_code.as_deref(), Some(OUTCOME_UNKNOWN));
    assert!(unknown.decide(start(at(10_000))).is_err());
    assert!(unknown.decide(retry(1, at(10_000))).is_err());
}

#[test]
fn a_message_settled_by_a_callback_keeps_the_receipt_and_may_be_told_twice() {
    let by_callback = || C::Resolve {
        outcome: ResolvedOutcome::Sent,
        by: ResolvedBy::Callback,
        reason: None,
        receipt: Some(receipt()),
        now: at(14),
    };
    let settled = state([accept(None, at(0)), start(at(1)), unknown(1, at(12)), by_callback()]);
    assert_eq!(settled.receipt, Some(receipt()));
    assert_eq!(settled.decide(by_callback()), Ok(vec![]));
}

#[test]
fn a_resolution_is_no_repetition_once_the_message_was_tried_again() {
    let resend = || resolve(ResolvedOutcome::Resend, at(20));
    let history = || {
        vec![
            accept(None, at(0)),
            start(at(1)),
            unknown(1, at(12)),
            resend(),
            start(at(21)),
        ]
    };
    let again = state([history(), vec![retry(2, at(22))]].concat());
    assert!(
        again.decide(resend()).is_err(),
        "it was the second attempt that was put back"
    );
    let failed = state([history(), vec![refused(2, at(22))]].concat());
    assert!(
        failed.decide(resolve(ResolvedOutcome::Failed, at(23))).is_err(),
        "WeCom refused it, no person did"
    );
}

#[test]
fn a_message_that_an_operator_gives_up_stays_marked_as_unknown() {
    let given_up: Message = fold(given("failed:resolved"));
    assert_eq!(given_up.error_code.as_deref(), Some(OUTCOME_UNKNOWN));
    assert_eq!(given_up.error_message.as_deref(), Some("电话确认"));
}

#[test]
fn retries_are_counted_and_forgotten_errors_cleared() {
    let retried = state([accept(None, at(0)), start(at(1)), retry(1, at(2))]);
    assert_eq!((retried.retry_count, retried.retry_at), (1, Some(at(902))));
    assert_eq!(retried.error_code.as_deref(), Some("wecom.-4048"));
    let at_last = state([
        accept(None, at(0)),
        start(at(1)),
        retry(1, at(2)),
        start(at(902)),
        sent(2, at(903)),
    ]);
    assert_eq!((at_last.retry_count, at_last.retry_at, at_last.attempt), (1, None, 2));
    assert_eq!(at_last.error_code, None);
}

#[test]
fn who_read_a_message_has_it() {
    let read = state([
        accept(None, at(0)),
        start(at(1)),
        sent(1, at(2)),
        C::RecordRead { now: at(9) },
    ]);
    assert_eq!(
        (read.status, read.delivered_at, read.read_at),
        (Some(S::Delivered), Some(at(9)), Some(at(9)))
    );
}

#[test]
fn a_message_cancelled_with_its_account_says_so() {
    let cancel = C::Cancel {
        cause: CancelCause::AccountDeleted,
        now: at(5),
    };
    assert_eq!(
        state([accept(None, at(0)), cancel]).error_code.as_deref(),
        Some(ACCOUNT_DELETED)
    );
    let by_a_person = state([
        accept(None, at(0)),
        C::Cancel {
            cause: CancelCause::Requested,
            now: at(5),
        },
    ]);
    assert_eq!(by_a_person.error_code, None);
}

#[test]
fn a_message_claims_nothing_and_travels_in_the_lane_of_its_account() {
    let events = given("pending");
    assert_eq!(Message::default().claims(&events), []);
    assert_eq!(Message::partition_key("a message", &events[0]), account(1).to_string());
}

#[test]
fn every_status_but_those_on_the_way_has_ended() {
    let ended: Vec<_> = S::ALL.into_iter().filter(|status| status.has_ended()).collect();
    assert_eq!(ended, [S::Sent, S::Delivered, S::Failed, S::Cancelled, S::Revoked]);
    for status in S::ALL {
        assert_eq!(S::parse(status.as_str()), Some(status));
    }
    assert_eq!(S::parse("read"), None);
}
