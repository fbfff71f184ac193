//! Every error code of the instance protocol that we know, and what it means for what comes next: one table.
//!
//! A code that is not listed is a permanent refusal, like every HTTP status 4xx but 429.

use crate::gateway::RejectClass;

/// The runtime of an instance is still starting; try again every 3 s, up to 30 s.
pub const NOT_READY: i64 = 1014;
/// Sends of this account are throttled: 15 min of rest, then 1 h.
pub const THROTTLED: i64 = -4048;
/// No conversation by this id.
pub const BAD_CONVERSATION_ID: i64 = -2003;
/// The account must not write to outside contacts.
pub const NO_EXTERNAL_PERMISSION: i64 = -4017;
/// The verification code typed in for a login is wrong.
pub const WRONG_VERIFICATION_CODE: i64 = -4100;
/// The instance ran out and has to be paid for again.
pub const INSTANCE_EXPIRED: i64 = 9003;
/// The instance is known, but nobody is logged in at it any more.
pub const CLIENT_OFFLINE: i64 = -102;
/// The gateway knows no such instance. No public page gives a number for this; the simulator uses this one.
pub const NO_SUCH_INSTANCE: i64 = 9001;
/// The login code has expired. No public page gives a number for this; the simulator uses this one.
pub const QR_CODE_EXPIRED: i64 = -4101;
/// Not a code of the protocol: stands for an answer with code 0 whose `is_svr_fail` says that the server refused.
pub const SERVER_FAILED: i64 = 4_194_304;

/// What an error code means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeClass {
    Ok,
    NotReady,
    Throttled,
    Rejected(RejectClass),
}

/// The table. Kept sorted by code.
pub const CODES: &[(i64, CodeClass)] = &[
    (QR_CODE_EXPIRED, CodeClass::Rejected(RejectClass::QrCodeExpired)),
    (
        WRONG_VERIFICATION_CODE,
        CodeClass::Rejected(RejectClass::WrongVerificationCode),
    ),
    (THROTTLED, CodeClass::Throttled),
    (NO_EXTERNAL_PERMISSION, CodeClass::Rejected(RejectClass::Permanent)),
    (BAD_CONVERSATION_ID, CodeClass::Rejected(RejectClass::Permanent)),
    (CLIENT_OFFLINE, CodeClass::Rejected(RejectClass::SessionInvalid)),
    (0, CodeClass::Ok),
    (NOT_READY, CodeClass::NotReady),
    (NO_SUCH_INSTANCE, CodeClass::Rejected(RejectClass::InstanceGone)),
    (INSTANCE_EXPIRED, CodeClass::Rejected(RejectClass::InstanceExpired)),
    (SERVER_FAILED, CodeClass::Rejected(RejectClass::Permanent)),
];

/// Looks the code up; one that is not listed is a permanent refusal.
pub fn classify(code: i64) -> CodeClass {
    match CODES.binary_search_by_key(&code, |(code, _)| *code) {
        Ok(index) => CODES[index].1,
        Err(_) => CodeClass::Rejected(RejectClass::Permanent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_no_code_twice() {
        assert!(CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn every_listed_code_is_found() {
        for (code, class) in CODES {
            assert_eq!(classify(*code), *class);
        }
    }

    #[test]
    fn an_unlisted_code_is_a_permanent_refusal() {
        for code in [-1, 1, 40_001, i64::MIN, i64::MAX] {
            assert_eq!(classify(code), CodeClass::Rejected(RejectClass::Permanent));
        }
    }
}
