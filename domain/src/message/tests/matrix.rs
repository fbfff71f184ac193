//! Every cell of status × command, against a table written by hand.

use std::collections::BTreeSet;

use super::super::{Message, MessageError, MessageEvent, MessageStatus};
use super::cases::{cases, given, situations};
use crate::LogAggregate;
use crate::tests::fixtures::at;
use crate::tests::matrix::{Worded, actual, assert_same, expected, fold};

impl Worded for Message {
    fn status_word(&self) -> &'static str {
        self.status.map_or("none", MessageStatus::as_str)
    }

    fn event_words(event: &MessageEvent) -> String {
        event.name().to_owned()
    }

    fn error_word(error: &MessageError) -> &'static str {
        match error {
            MessageError::NotFound => "not_found",
            MessageError::AlreadyExists => "already_exists",
            MessageError::WrongStatus { .. } => "wrong_status",
            MessageError::AttemptOver { .. } => "attempt_over",
            MessageError::TooEarly(_) => "too_early",
        }
    }
}

const EXPECTED: &str = "
Accept           | none                                  | MessageAccepted → pending
Accept           | all                                   | ✗ already_exists
StartAttempt     | pending                               | AttemptStarted → sending
StartAttempt     | pending:planned_later                 | ✗ too_early
RecordSent       | sending unknown                       | MessageSent → sent
RecordSent       | sent delivered                        | –
RecordSent       | pending pending:planned_later         | ✗ attempt_over
RecordSent       | pending:retry pending:resend          | ✗ wrong_status
RecordSent       | cancelled                             | ✗ attempt_over
RecordRefused    | sending                               | MessageFailed → failed
RecordRefused    | failed                                | –
RecordRefused    | pending pending:planned_later         | ✗ attempt_over
RecordRefused    | pending:retry pending:resend          | ✗ wrong_status
RecordRefused    | cancelled                             | ✗ attempt_over
ScheduleRetry    | sending                               | RetryScheduled → pending
ScheduleRetry    | pending pending:planned_later         | ✗ attempt_over
ScheduleRetry    | pending:retry pending:resend          | –
ScheduleRetry    | cancelled                             | ✗ attempt_over
MarkUnknown      | sending                               | OutcomeUnknown → unknown
MarkUnknown      | unknown                               | –
MarkUnknown      | pending pending:planned_later         | ✗ attempt_over
MarkUnknown      | pending:retry pending:resend          | ✗ wrong_status
MarkUnknown      | cancelled                             | ✗ attempt_over
Resolve [sent]   | unknown                               | OutcomeResolved → sent
Resolve [sent]   | sent:resolved                         | –
Resolve [failed] | unknown                               | OutcomeResolved → failed
Resolve [failed] | failed:resolved                       | –
Resolve [resend] | unknown                               | OutcomeResolved → pending
Resolve [resend] | pending:resend                        | –
RecordDelivered  | sent                                  | MessageDelivered → delivered
RecordDelivered  | delivered                             | –
RecordRead       | sent                                  | MessageDelivered + MessageRead → delivered
RecordRead       | delivered                             | MessageRead
RecordRead       | delivered:read                        | –
Cancel           | pending                               | MessageCancelled → cancelled
Cancel           | cancelled                             | –
";

#[test]
fn every_cell_is_what_the_design_says() {
    let expected = expected(EXPECTED, "✗ wrong_status", &situations(), &cases());
    assert_same(&expected, &actual(&situations(), &cases()));
}

#[test]
fn every_status_has_a_situation_and_is_in_it() {
    for situation in situations() {
        assert_eq!(
            situation.state().status_word(),
            situation.status(),
            "{}",
            situation.name
        );
    }
    for status in MessageStatus::ALL
        .into_iter()
        .filter(|status| *status != MessageStatus::Revoked)
    {
        assert!(
            situations().iter().any(|situation| situation.name == status.as_str()),
            "{status:?}"
        );
    }
    let asked: BTreeSet<_> = cases().iter().map(|case| (case.ask)(at(0)).name()).collect();
    assert_eq!(asked.len(), 10, "a new command needs a case, and its rows above");
}

/// No event of today leads to `revoked`; the status is there, so what it refuses is fixed already.
#[test]
fn a_revoked_message_refuses_everything() {
    let mut revoked: Message = fold(given("delivered"));
    revoked.status = Some(MessageStatus::Revoked);
    for case in cases() {
        assert!(revoked.decide((case.ask)(at(10))).is_err(), "{}", case.name);
    }
}
