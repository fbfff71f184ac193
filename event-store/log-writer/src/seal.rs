//! Typed sealing: the domain's `Sealed<T>` over the platform's keys.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_domain::message::{MessageContent, MessageType};
use weft_domain::{AccountId, ConversationId, Sealed, TenantId};
use weft_platform::keys::{KeyStore, KeysError, MonthKey, Opened, SealRequest, SealedParts};

/// Why a value was neither sealed nor opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("a sealed value has another shape: {0}")]
    Shape(#[from] serde_json::Error),
}

/// Whose data an account's person fields are.
pub fn account_subject(account: AccountId) -> String {
    format!("account:{account}")
}

/// Whose data a conversation's name, senders and contents are.
pub fn conversation_subject(conversation: ConversationId) -> String {
    format!("conversation:{conversation}")
}

/// Message content, or the sender of an incoming one, to seal under its conversation and its tenant's month.
#[derive(Clone, Copy, Debug)]
pub struct ContentToSeal<'v, T> {
    pub tenant_id: TenantId,
    pub conversation: ConversationId,
    pub at: DateTime<Utc>,
    pub value: &'v T,
}

/// Seals and opens the domain's values.
#[derive(Clone, Debug)]
pub struct Sealer {
    keys: KeyStore,
}

impl Sealer {
    pub const fn new(keys: KeyStore) -> Self {
        Self { keys }
    }

    pub const fn keys(&self) -> &KeyStore {
        &self.keys
    }

    /// Under the subject's key alone.
    pub async fn seal<T: Serialize>(&self, subject: &str, value: &T) -> Result<Sealed<T>, SealError> {
        let request = SealRequest {
            subject: subject.to_owned(),
            month: None,
            plaintext: serde_json::to_vec(value)?,
        };
        self.seal_one(request).await
    }

    /// Under the conversation's key and the tenant's key of that month.
    pub async fn seal_content<T: Serialize>(
        &self,
        tenant_id: TenantId,
        conversation: ConversationId,
        at: DateTime<Utc>,
        value: &T,
    ) -> Result<Sealed<T>, SealError> {
        self.seal_one(content_request(&ContentToSeal {
            tenant_id,
            conversation,
            at,
            value,
        })?)
        .await
    }

    /// Many at once, in order, with one round trip for all keys that are missing.
    pub async fn seal_contents<T: Serialize>(
        &self,
        contents: &[ContentToSeal<'_, T>],
    ) -> Result<Vec<Sealed<T>>, SealError> {
        let requests = contents.iter().map(content_request).collect::<Result<Vec<_>, _>>()?;
        Ok(self.keys.seal_all(&requests).await?.into_iter().map(sealed).collect())
    }

    pub async fn open<T: DeserializeOwned>(&self, value: &Sealed<T>) -> Result<Opened<T>, SealError> {
        self.open_with(value, |json| serde_json::from_slice(json)).await
    }

    /// Message content, whose form its type decides.
    pub async fn open_content(
        &self,
        kind: MessageType,
        content: &Sealed<MessageContent>,
    ) -> Result<Opened<MessageContent>, SealError> {
        let read = |json: &[u8]| MessageContent::from_value(kind, serde_json::from_slice(json)?);
        self.open_with(content, read).await
    }

    /// As it was serialised.
    pub async fn open_value<T>(&self, value: &Sealed<T>) -> Result<Opened<Value>, SealError> {
        self.open_with(value, |json| serde_json::from_slice(json)).await
    }

    async fn seal_one<T>(&self, request: SealRequest) -> Result<Sealed<T>, SealError> {
        let parts = self.keys.seal_all(&[request]).await?.pop().ok_or(KeysError::Cipher)?;
        Ok(sealed(parts))
    }

    async fn open_with<T, U>(
        &self,
        value: &Sealed<T>,
        read: impl FnOnce(&[u8]) -> Result<U, serde_json::Error>,
    ) -> Result<Opened<U>, SealError> {
        let opened = self
            .keys
            .open_all(&[parts(value)])
            .await?
            .pop()
            .unwrap_or(Opened::Sealed);
        Ok(match opened {
            Opened::Open(json) => Opened::Open(read(&json)?),
            Opened::Sealed => Opened::Sealed,
            Opened::Erased => Opened::Erased,
        })
    }
}

fn content_request<T: Serialize>(content: &ContentToSeal<'_, T>) -> Result<SealRequest, SealError> {
    Ok(SealRequest {
        subject: conversation_subject(content.conversation),
        month: Some(MonthKey {
            tenant_id: content.tenant_id.0,
            at: content.at,
        }),
        plaintext: serde_json::to_vec(content.value)?,
    })
}

fn sealed<T>(parts: SealedParts) -> Sealed<T> {
    Sealed::new(parts.subject, parts.key, parts.nonce, parts.ciphertext)
}

/// The platform's form of a sealed value.
pub fn parts<T>(sealed: &Sealed<T>) -> SealedParts {
    SealedParts {
        subject: sealed.subject.clone(),
        key: sealed.key.clone(),
        nonce: sealed.nonce.clone(),
        ciphertext: sealed.ciphertext.clone(),
    }
}
