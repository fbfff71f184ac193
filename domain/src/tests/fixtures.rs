//! Fixed ids, times and sealed values.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{AccountId, BatchId, LoginAttemptId, Sealed, TenantId, WecomConversationId};

const BIRTH: &str = "2026-03-02T01:00:00Z";

/// `seconds` after the tests' morning.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    let birth: DateTime<Utc> = BIRTH.parse().unwrap();
    birth + TimeDelta::seconds(seconds)
}

fn id(kind: u128, number: u128) -> Uuid {
    Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0000 | kind << 32 | number)
}

pub(crate) fn tenant(number: u128) -> TenantId {
    TenantId(id(1, number))
}

pub(crate) fn account(number: u128) -> AccountId {
    AccountId(id(2, number))
}

pub(crate) fn attempt(number: u128) -> LoginAttemptId {
    LoginAttemptId(id(3, number))
}

pub(crate) fn batch(number: u128) -> BatchId {
    BatchId(id(4, number))
}

pub(crate) fn conversation(id: &str) -> WecomConversationId {
    id.parse().unwrap()
}

/// A sealed value of `subject`; two of different `text` differ. `text`: up to 16 characters of base64url.
pub(crate) fn sealed<T>(subject: impl Into<String>, text: &str) -> Sealed<T> {
    Sealed::new(
        subject.into(),
        "subject".to_owned(),
        format!("{text:A<16}"),
        format!("{text:A<44}"),
    )
}

/// As `sealed`, of account 1.
pub(crate) fn sealed_of_account<T>(text: &str) -> Sealed<T> {
    sealed(format!("account:{}", account(1)), text)
}
