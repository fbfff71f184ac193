//! Every cell of status × command, against the table of the design, written by hand.

use std::collections::BTreeSet;

use super::super::{Account, AccountError, AccountEvent, AccountStatus};
use super::cases::cases;
use super::situations::situations;
use crate::LogAggregate;
use crate::tests::fixtures::attempt;
use crate::tests::matrix::{Worded, actual, assert_same, expected, fold};

impl Worded for Account {
    fn status_word(&self) -> &'static str {
        self.status.map_or("none", AccountStatus::as_str)
    }

    fn event_words(event: &AccountEvent) -> String {
        match event {
            AccountEvent::LoginStarted {
                restore_first: true, ..
            } => "LoginStarted (restores first)".to_owned(),
            _ => event.name().to_owned(),
        }
    }

    fn error_word(error: &AccountError) -> &'static str {
        match error {
            AccountError::NotFound => "not_found",
            AccountError::AlreadyExists => "already_exists",
            AccountError::WrongStatus { .. } => "wrong_status",
            AccountError::LoginAttemptOver => "login_attempt_over",
            AccountError::TooManyQrCodes { .. } => "too_many_qr_codes",
        }
    }
}

/// The design's table of transitions, and what is already true. What is not here is `✗ wrong_status`.
const EXPECTED: &str = "
Create                        | none                                        | AccountCreated → created
Create                        | all                                         | ✗ already_exists
Update [another name]         | all                                         | AccountUpdated
Update [another name]         | deleted                                     | ✗ wrong_status
Update [as it is]             | all                                         | –
Update [as it is]             | deleted                                     | ✗ wrong_status

RecordInstance [the same]     | all                                         | –
RecordInstance [the same]     | created                                     | InstanceCreated
RecordInstance [the same]     | deleted                                     | ✗ wrong_status
RecordInstance [another]      | all                                         | InstanceCreated
RecordInstance [another]      | deleted                                     | ✗ wrong_status
RecordInstanceFailure         | all                                         | –
RecordInstanceFailure         | created                                     | InstanceFailed
RecordInstanceFailure         | deleted                                     | ✗ wrong_status
RecordInstanceRemoved         | all                                         | InstanceRemoved
RecordInstanceRemoved         | created deleted                             | –
RecordInstanceRemoved         | deleted:instance_not_removed                | InstanceRemoved

StartLogin                    | created logged_out                          | LoginStarted → logging_in
StartLogin                    | error network_error auth_error recovering   | LoginStarted (restores first) → logging_in
StartLogin                    | offline                                     | LoginStarted (restores first) → logging_in
StartLogin                    | error:qrcode_expired error:login_rejected   | LoginStarted → logging_in
StartLogin                    | error:verification_failed                   | LoginStarted → logging_in
StartLogin                    | offline:signed_out                          | LoginStarted → logging_in
StartLogin                    | logging_in waiting_for_qrcode_scan          | –
StartLogin                    | waiting_for_confirmation                    | –
StartLogin                    | waiting_for_verification online             | –

IssueQrCode [a new one]       | logging_in                                  | QrCodeIssued → waiting_for_qrcode_scan
IssueQrCode [a new one]       | waiting_for_qrcode_scan                     | QrCodeIssued
IssueQrCode [a new one]       | waiting_for_qrcode_scan:refreshed_3_times   | ✗ too_many_qr_codes
IssueQrCode [a new one]       | created                                     | ✗ login_attempt_over
IssueQrCode [the shown one]   | logging_in                                  | QrCodeIssued → waiting_for_qrcode_scan
IssueQrCode [the shown one]   | waiting_for_qrcode_scan                     | –
IssueQrCode [the shown one]   | created                                     | ✗ login_attempt_over
RecordScan                    | waiting_for_qrcode_scan                     | QrCodeScanned → waiting_for_confirmation
RecordScan                    | waiting_for_confirmation                    | –
RecordScan                    | waiting_for_verification                    | –
RecordScan                    | online rate_limited                         | –
RecordScan                    | created                                     | ✗ login_attempt_over
ExpireQrCode                  | waiting_for_qrcode_scan                     | QrCodeExpired → error
ExpireQrCode                  | error:qrcode_expired                        | –
ExpireQrCode                  | created                                     | ✗ login_attempt_over

RejectLogin                   | waiting_for_confirmation                    | LoginRejected → error
RejectLogin                   | logging_in waiting_for_qrcode_scan          | LoginFailed → error
RejectLogin                   | waiting_for_verification                    | LoginFailed → error
RejectLogin                   | error:login_rejected                        | –
RejectLogin                   | created                                     | ✗ login_attempt_over
RequireVerification           | logging_in waiting_for_qrcode_scan          | VerificationRequired → waiting_for_verification
RequireVerification           | waiting_for_confirmation                    | VerificationRequired → waiting_for_verification
RequireVerification           | waiting_for_verification                    | –
RequireVerification           | online rate_limited                         | –
RequireVerification           | created                                     | ✗ login_attempt_over
SubmitVerificationCode [a new one]       | waiting_for_verification         | VerificationCodeSubmitted
SubmitVerificationCode [a new one]       | created                          | ✗ login_attempt_over
SubmitVerificationCode [the waiting one] | waiting_for_verification         | VerificationCodeSubmitted
SubmitVerificationCode [the waiting one] | waiting_for_verification:code_submitted | –
SubmitVerificationCode [the waiting one] | waiting_for_verification:third_code_submitted | –
SubmitVerificationCode [the waiting one] | created                          | ✗ login_attempt_over
RecordVerificationFailure     | waiting_for_verification                    | –
RecordVerificationFailure     | waiting_for_verification:code_submitted     | VerificationFailed
RecordVerificationFailure     | waiting_for_verification:third_code_submitted | VerificationFailed → error
RecordVerificationFailure     | error:verification_failed                   | –
RecordVerificationFailure     | created                                     | ✗ login_attempt_over

ConfirmLogin                  | logging_in waiting_for_qrcode_scan          | LoginConfirmed → online
ConfirmLogin                  | waiting_for_confirmation                    | LoginConfirmed → online
ConfirmLogin                  | waiting_for_verification                    | LoginConfirmed → online
ConfirmLogin                  | online rate_limited                         | –
ConfirmLogin                  | created                                     | ✗ login_attempt_over
FailLogin                     | logging_in waiting_for_qrcode_scan          | LoginFailed → error
FailLogin                     | waiting_for_confirmation                    | LoginFailed → error
FailLogin                     | waiting_for_verification                    | LoginFailed → error
FailLogin                     | error                                       | –
FailLogin                     | created                                     | ✗ login_attempt_over
TimeOutLogin                  | logging_in waiting_for_qrcode_scan          | LoginTimedOut → error
TimeOutLogin                  | waiting_for_confirmation                    | LoginTimedOut → error
TimeOutLogin                  | waiting_for_verification                    | LoginTimedOut → error
TimeOutLogin                  | error                                       | –
TimeOutLogin                  | created                                     | ✗ login_attempt_over
CancelLogin                   | logging_in waiting_for_qrcode_scan          | LoginCancelled → offline
CancelLogin                   | waiting_for_confirmation                    | LoginCancelled → offline
CancelLogin                   | waiting_for_verification                    | LoginCancelled → offline
RecordProfile                 | all                                         | ProfileUpdated
RecordProfile                 | created deleted                             | ✗ wrong_status

LoseSession [network]         | online rate_limited                         | SessionLost → network_error
LoseSession [network]         | network_error                               | –
LoseSession [auth]            | online rate_limited                         | SessionLost → auth_error
LoseSession [auth]            | auth_error                                  | –
LoseSession [other]           | online rate_limited                         | SessionLost → error
LoseSession [other]           | error                                       | –
RestoreSession                | logging_in error network_error auth_error   | SessionRestored → online
RestoreSession                | offline recovering                          | SessionRestored → online
RestoreSession                | online rate_limited                         | –
Restrict                      | online                                      | AccountRestricted → rate_limited
Restrict                      | rate_limited                                | –
Restrict                      | rate_limited:cooldown_over                  | AccountRestricted
LiftRestriction               | rate_limited                                | RestrictionLifted → online
LiftRestriction               | online                                      | –
RecordRemoteSignOut           | online rate_limited                         | SignedOutRemotely → offline
RecordRemoteSignOut           | offline logged_out                          | –
LogOut                        | online rate_limited                         | LoggedOut → logged_out
LogOut                        | logged_out                                  | –

GoOffline                     | error network_error auth_error              | WentOffline → offline
GoOffline                     | offline                                     | –
StartRecovery                 | error network_error auth_error              | RecoveryStarted → recovering
StartRecovery                 | recovering                                  | –
CompleteRecovery              | recovering                                  | Recovered → online
CompleteRecovery              | online                                      | –
FailRecovery [attempts left]  | recovering                                  | RecoveryFailed → auth_error
FailRecovery [attempts left]  | error network_error auth_error              | –
FailRecovery [none left]      | recovering                                  | RecoveryFailed → offline
FailRecovery [none left]      | offline                                     | –

Disable                       | all                                         | AccountDisabled → disabled
Disable                       | disabled                                    | –
Disable                       | deleted                                     | ✗ wrong_status
Enable                        | all                                         | –
Enable                        | disabled                                    | AccountEnabled → offline
Enable                        | deleted                                     | ✗ wrong_status
Delete                        | created offline logged_out                  | AccountDeleted → deleted
Delete                        | error network_error auth_error disabled     | AccountDeleted → deleted
Delete                        | deleted                                     | –
";

#[test]
fn every_cell_is_what_the_design_says() {
    let expected = expected(EXPECTED, "✗ wrong_status", &situations(), &cases());
    assert_same(&expected, &actual(&situations(), &cases()));
}

#[test]
fn a_command_is_asked_under_each_of_its_names() {
    for case in cases() {
        let command = (case.ask)(crate::tests::fixtures::at(0));
        assert_eq!(case.name.split(' ').next(), Some(command.name()));
    }
    let asked: BTreeSet<_> = cases()
        .iter()
        .map(|case| (case.ask)(crate::tests::fixtures::at(0)).name())
        .collect();
    assert_eq!(asked.len(), 31, "a new command needs a case, and its rows above");
}

#[test]
fn what_belongs_to_another_login_attempt_is_refused_everywhere() {
    let mut asked = 0;
    for situation in situations() {
        // The situations know attempt 1; here it is attempt 9 that the account has last heard of.
        let mut state: Account = fold(situation.history.iter().cloned());
        let Some(login) = &mut state.login else { continue };
        login.attempt = attempt(9);
        for case in cases() {
            let command = (case.ask)(situation.now);
            if command.attempt().is_some() {
                asked += 1;
                assert_eq!(
                    state.decide(command),
                    Err(AccountError::LoginAttemptOver),
                    "{} in {}",
                    case.name,
                    situation.name
                );
            }
        }
    }
    assert!(asked > 200, "only {asked}");
}

#[test]
#[should_panic(
    expected = "1 cells differ:\nDelete in online: expected `✗ wrong_status`, got `AccountDeleted → deleted`"
)]
fn a_planted_deviation_is_found() {
    let expected = expected(EXPECTED, "✗ wrong_status", &situations(), &cases());
    let mut planted = actual(&situations(), &cases());
    planted.insert(("Delete", "online"), "AccountDeleted → deleted".to_owned());
    assert_same(&expected, &planted);
}
