//! The secret in the address that WeCom calls back: names an account and one of its login attempts, and can be neither
//! guessed nor made without the master key. Nothing is stored: the token is its own record.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::keys::KeyStore;

/// Where callbacks of client instances come in, below `http.public_url`.
pub const INSTANCE_CALLBACKS: &str = "/api/v1/callbacks/instance";

const CONTEXT: &str = "weft.callback-token.v1";
const NAMES_BYTES: usize = 32;
const MAC_BYTES: usize = 20;

/// Whom a callback is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackAddress {
    pub account_id: Uuid,
    /// The login attempt that set the address.
    pub attempt_id: Uuid,
}

impl CallbackAddress {
    /// The address's token: unpadded base64url of both ids and a keyed hash of them.
    pub fn token(&self, keys: &KeyStore) -> String {
        let names = self.names();
        let mut token = names.to_vec();
        token.extend_from_slice(&mac(keys, &names));
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The path that is called, token included.
    pub fn path(&self, keys: &KeyStore) -> String {
        format!("{INSTANCE_CALLBACKS}/{}", self.token(keys))
    }

    /// Reads a token; `None` unless it is one that these keys made. Compared in constant time.
    pub fn read(token: &str, keys: &KeyStore) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let bytes: [u8; NAMES_BYTES + MAC_BYTES] = bytes.try_into().ok()?;
        let (names, given) = bytes.split_at(NAMES_BYTES);
        if !bool::from(mac(keys, names).ct_eq(given)) {
            return None;
        }
        let (account_id, attempt_id) = names.split_at(NAMES_BYTES / 2);
        Some(Self {
            account_id: Uuid::from_slice(account_id).ok()?,
            attempt_id: Uuid::from_slice(attempt_id).ok()?,
        })
    }

    fn names(&self) -> [u8; NAMES_BYTES] {
        let mut names = [0; NAMES_BYTES];
        names[..16].copy_from_slice(self.account_id.as_bytes());
        names[16..].copy_from_slice(self.attempt_id.as_bytes());
        names
    }
}

fn mac(keys: &KeyStore, names: &[u8]) -> [u8; MAC_BYTES] {
    let hash = keys.keyed_hash(CONTEXT, names);
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&hash[..MAC_BYTES]);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KeysSection, Secret};

    const ADDRESS: CallbackAddress = CallbackAddress {
        account_id: Uuid::from_u128(7),
        attempt_id: Uuid::from_u128(9),
    };

    fn keys() -> KeyStore {
        KeyStore::without_access(&KeysSection::default()).unwrap()
    }

    #[test]
    fn a_token_names_its_account_and_attempt() {
        let token = ADDRESS.token(&keys());
        assert!(
            token.len() >= 64 && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
            "{token}"
        );
        assert_eq!(CallbackAddress::read(&token, &keys()), Some(ADDRESS));
        assert_eq!(ADDRESS.path(&keys()), format!("/api/v1/callbacks/instance/{token}"));
    }

    #[test]
    fn a_token_changed_anywhere_is_none() {
        let keys = keys();
        let bytes = URL_SAFE_NO_PAD.decode(ADDRESS.token(&keys)).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(
                CallbackAddress::read(&URL_SAFE_NO_PAD.encode(changed), &keys),
                None,
                "{at}"
            );
        }
        for rubbish in ["", "x", &"A".repeat(70), "../../accounts"] {
            assert_eq!(CallbackAddress::read(rubbish, &keys), None);
        }
    }

    #[tokio::test]
    async fn another_master_key_makes_other_tokens() {
        let other = KeyStore::without_access(&KeysSection {
            master_key: Secret(base64::engine::general_purpose::STANDARD.encode([1; 32])),
            ..KeysSection::default()
        })
        .unwrap();
        assert_eq!(CallbackAddress::read(&ADDRESS.token(&other), &keys()), None);
    }
}
