//! Seals personal data and opens it again, for those who may: subject keys in a database of their own, wrapped by the
//! master key, that can be destroyed so that what they sealed is forgotten everywhere at once.

mod cipher;
mod store;

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use store::KeyStore;

/// A sealed value as events, Kafka and views carry it: the same JSON as the domain's `Sealed<T>`. `nonce` and
/// `ciphertext` are unpadded base64url.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedParts {
    /// Whose data it is: `account:<id>` or `conversation:<id>`.
    pub subject: String,
    /// `subject`, or `month:<tenant>:<yyyy-mm>` where that key takes part too.
    pub key: String,
    pub nonce: String,
    pub ciphertext: String,
}

/// What opening gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened<T> {
    Open(T),
    /// Closed to us: no access to the keys, another master key, or a key that this database does not know.
    Sealed,
    /// A key it needs was destroyed: nobody can open it any more.
    Erased,
}

impl<T> Opened<T> {
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Opened<U> {
        match self {
            Self::Open(value) => Opened::Open(change(value)),
            Self::Sealed => Opened::Sealed,
            Self::Erased => Opened::Erased,
        }
    }

    pub fn open(self) -> Option<T> {
        match self {
            Self::Open(value) => Some(value),
            Self::Sealed | Self::Erased => None,
        }
    }
}

/// A tenant's key of one month (UTC), which message content needs beside its subject's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonthKey {
    pub tenant_id: Uuid,
    pub at: DateTime<Utc>,
}

impl MonthKey {
    /// `month:<tenant>:<yyyy-mm>`
    pub fn name(&self) -> String {
        format!("month:{}:{:04}-{:02}", self.tenant_id, self.at.year(), self.at.month())
    }
}

/// One value to seal.
#[derive(Clone, Debug)]
pub struct SealRequest {
    pub subject: String,
    pub month: Option<MonthKey>,
    pub plaintext: Vec<u8>,
}

/// The `key` of what its subject's key alone seals.
pub const SUBJECT_KEY: &str = "subject";

/// Why sealing or opening did not happen.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("keys.url: {0}")]
    Url(sqlx::Error),
    #[error("keys.master_key must be 32 bytes in base64")]
    MasterKey,
    #[error("the key database cannot be reached: {0}")]
    Unavailable(String),
    /// Nothing can be sealed for a subject, or in a month, that was forgotten.
    #[error("the key {0} was destroyed")]
    Destroyed(String),
    #[error("the key {0} was wrapped by another master key")]
    WrongMasterKey(String),
    #[error("this process has no access to the keys")]
    NoAccess,
    #[error("a value could not be encrypted")]
    Cipher,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_named_by_tenant_and_utc_month() {
        let at = "2026-03-31T23:59:59Z".parse().unwrap();
        let name = MonthKey {
            tenant_id: Uuid::from_u128(7),
            at,
        }
        .name();
        assert_eq!(name, "month:00000000-0000-0000-0000-000000000007:2026-03");
    }
}
