//! Opens sealed fields, and masks them for callers who may not see personal data.

use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_domain::account::UserInfo;
use weft_platform::keys::{KeyStore, Opened, SealedParts};

use crate::error::ReadError;

/// The keys, and whether the caller sees what they open.
#[derive(Clone)]
pub(crate) struct Vault {
    keys: KeyStore,
    clear: bool,
}

/// Sealed fields of a page of rows, opened together in one round trip.
#[derive(Default)]
pub(crate) struct Batch {
    sealed: Vec<SealedParts>,
}

/// Where an opened field lies in its batch; `None` for a field without a value.
#[derive(Clone, Copy)]
pub(crate) struct Slot(Option<usize>);

/// What a batch held. A field whose key was destroyed, or that nobody here can open, has no value.
pub(crate) struct OpenedBatch {
    opened: Vec<Option<Vec<u8>>>,
    pub(crate) clear: bool,
}

impl Batch {
    /// Adds a sealed field as the views hold it.
    pub(crate) fn add(&mut self, field: Option<&Value>) -> Slot {
        let Some(field) = field.filter(|field| !field.is_null()) else {
            return Slot(None);
        };
        match serde_json::from_value(field.clone()) {
            Ok(parts) => {
                self.sealed.push(parts);
                Slot(Some(self.sealed.len() - 1))
            }
            Err(error) => {
                tracing::error!(%error, "a view holds a sealed field of another shape");
                Slot(None)
            }
        }
    }
}

impl OpenedBatch {
    /// The field's value, decoded from its JSON.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, slot: Slot) -> Option<T> {
        let bytes = self.opened.get_mut(slot.0?)?.take()?;
        serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::error!(%error, "a sealed field holds another type"))
            .ok()
    }

    /// A text, masked by `mask` where the caller may not see it.
    pub(crate) fn text(&mut self, slot: Slot, mask: fn(&str) -> String) -> Option<String> {
        let text: String = self.take(slot)?;
        Some(if self.clear { text } else { mask(&text) })
    }
}

impl Vault {
    pub(crate) const fn new(keys: KeyStore) -> Self {
        Self { keys, clear: false }
    }

    /// The same keys for a caller who sees (or does not see) personal data.
    pub(crate) fn clear(mut self, clear: bool) -> Self {
        self.clear = clear;
        self
    }

    pub(crate) async fn open(&self, batch: Batch) -> Result<OpenedBatch, ReadError> {
        let opened = if batch.sealed.is_empty() {
            Vec::new()
        } else {
            self.keys.open_all(&batch.sealed).await.map_err(|error| {
                tracing::warn!(%error, "sealed fields cannot be opened");
                ReadError::KeysUnavailable
            })?
        };
        let opened = opened
            .into_iter()
            .map(|field| match field {
                Opened::Open(bytes) => Some(bytes),
                Opened::Sealed | Opened::Erased => None,
            })
            .collect();
        Ok(OpenedBatch {
            opened,
            clear: self.clear,
        })
    }
}

/// `138****5678`: the first three and last four of a long number, the last two of a short one.
pub(crate) fn mask_phone(phone: &str) -> String {
    let chars: Vec<char> = phone.chars().collect();
    let (head, tail) = if chars.len() >= 11 {
        (3, 4)
    } else {
        (0, 2.min(chars.len()))
    };
    let start: String = chars[..head].iter().collect();
    let end: String = chars[chars.len() - tail..].iter().collect();
    format!("{start}****{end}")
}

/// `z***@example.com`.
pub(crate) fn mask_email(email: &str) -> String {
    match email.split_once('@') {
        Some((name, domain)) => format!("{}***@{domain}", name.chars().take(1).collect::<String>()),
        None => "***".to_owned(),
    }
}

/// `张**`: the first character, whatever the length.
pub(crate) fn mask_name(name: &str) -> String {
    format!("{}**", name.chars().take(1).collect::<String>())
}

/// Nothing of a text but that there is one.
pub(crate) fn mask_text(_: &str) -> String {
    "***".to_owned()
}

/// Who is logged in, without what tells the person: names and picture.
pub(crate) fn mask_user_info(info: UserInfo) -> UserInfo {
    UserInfo {
        name: info.name.as_deref().map(mask_name),
        real_name: info.real_name.as_deref().map(mask_name),
        avatar: None,
        ..info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_enough_to_recognise_and_too_little_to_use() {
        assert_eq!(mask_phone("13812345678"), "138****5678");
        assert_eq!(mask_phone("12345"), "****45");
        assert_eq!(mask_phone("1"), "****1");
        assert_eq!(mask_email("zhangsan@example.com"), "z***@example.com");
        assert_eq!(mask_email("@"), "***@");
        assert_eq!(mask_name("张三丰"), "张**");
        assert_eq!(mask_name(""), "**");
    }
}
