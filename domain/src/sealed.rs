//! Personal data inside events: sealed from the first event on, opened only by those who hold the keys.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

/// A value of type `T` under AES-256-GCM. Only the key database can open it, and only until its subject (a person) or
/// its key (a month of a tenant) is forgotten. The domain moves sealed values and never looks inside.
///
/// Serialised as `{subject, key, nonce, ciphertext}`; the last two in unpadded base64url.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed<T> {
    /// Whose data it is: `account:<id>` or `conversation:<id>`.
    pub subject: String,
    /// Which key of the tenant takes part: `subject` (the subject's alone) or `month:<tenant>:<yyyy-mm>`.
    pub key: String,
    pub nonce: String,
    pub ciphertext: String,
    #[serde(skip)]
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

/// One schema for every `T`: what is inside cannot be seen, so no contract may depend on it.
#[cfg(test)]
impl<T> schemars::JsonSchema for Sealed<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sealed".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A personal value under AES-256-GCM; only the key database can open it.",
            "type": "object",
            "properties": {
                "subject": {
                    "description": "Whose data it is: `account:<id>` or `conversation:<id>`.",
                    "type": "string",
                    "pattern": "^(account|conversation):[0-9a-f-]{36}$"
                },
                "key": {
                    "description": "Which key takes part beside the subject's: none (`subject`) or a month of a tenant.",
                    "type": "string",
                    "pattern": "^(subject|month:[0-9a-f-]{36}:[0-9]{4}-[0-9]{2})$"
                },
                "nonce": {
                    "description": "96 bits in unpadded base64url.",
                    "type": "string",
                    "pattern": "^[A-Za-z0-9_-]{16}$"
                },
                "ciphertext": {
                    "description": "Ciphertext and tag in unpadded base64url.",
                    "type": "string",
                    "pattern": "^[A-Za-z0-9_-]{22,}$"
                }
            },
            "required": ["subject", "key", "nonce", "ciphertext"],
            "additionalProperties": false
        })
    }
}
