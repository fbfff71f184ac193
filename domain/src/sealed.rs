//! Personal data inside events: sealed from the first event on, opened only by those who hold the keys.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

/// A value of type `T` under AES-256-GCM. Only the key database can open it, and only until its subject (a person) or
/// its key (a month of a tenant) is forgotten. The domain moves sealed values and never looks inside.
///
/// Serialised as `{subject, key, nonce, ciphertext}`; the last two in unpadded base64url.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Sealed<T> {
    /// Whose data it is: `account:<id>` or `conversation:<id>`.
    pub subject: String,
    /// Which key of the tenant takes part: `subject` (the subject's alone) or `month:<tenant>:<yyyy-mm>`.
    pub key: String,
    pub nonce: String,
    pub ciphertext: String,
    #[serde(skip)]
    #[cfg_attr(test, schemars(skip))]
    plain: PhantomData<fn() -> T>,
}

impl<T> Sealed<T> {
    pub fn new(subject: String, key: String, nonce: String, ciphertext: String) -> Self {
        Self {
            subject,
            key,
            nonce,
            ciphertext,
            plain: PhantomData,
        }
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self::new(
            self.subject.clone(),
            self.key.clone(),
            self.nonce.clone(),
            self.ciphertext.clone(),
        )
    }
}

impl<T> PartialEq for Sealed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.subject == other.subject
            && self.key == other.key
            && self.nonce == other.nonce
            && self.ciphertext == other.ciphertext
    }
}

impl<T> Eq for Sealed<T> {}

impl<T> std::fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({})", self.subject)
    }
}
