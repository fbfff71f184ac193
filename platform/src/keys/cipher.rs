//! The cryptography: AES-256-GCM under keys that HKDF-SHA256 derives, each for one purpose.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand::Rng;
use sha2::Sha256;

use super::{KeysError, SealedParts};

/// 256 bits of key. Never shown.
pub(super) type RawKey = [u8; 32];

const NONCE_BYTES: usize = 12;

/// The master key, split by purpose so that no key serves two.
pub(super) struct Master {
    wrapping: Aes256Gcm,
    hashing: RawKey,
}

impl Master {
    pub(super) fn new(master_key: &RawKey) -> Self {
        Self {
            wrapping: cipher(&derive(&[master_key], b"weft.wrap.v1")),
            hashing: derive(&[master_key], b"weft.keyed-hash.v1"),
        }
    }

    /// HMAC-SHA256 under a key of its own for each `context`.
    pub(super) fn keyed_hash(&self, context: &str, data: &[u8]) -> [u8; 32] {
        let key = derive(&[&self.hashing], context.as_bytes());
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
        mac.update(data);
        mac.finalize().into_bytes().into()
    }

    /// Nonce and ciphertext of `key`, bound to its name.
    pub(super) fn wrap(&self, name: &str, key: &RawKey) -> Result<Vec<u8>, KeysError> {
        let nonce = random::<NONCE_BYTES>();
        let mut wrapped = nonce.to_vec();
        wrapped.extend(encrypt(&self.wrapping, nonce, name.as_bytes(), key)?);
        Ok(wrapped)
    }

    /// `None` when another master key wrapped it, or it belongs to another name.
    pub(super) fn unwrap(&self, name: &str, wrapped: &[u8]) -> Option<RawKey> {
        let (nonce, ciphertext) = wrapped.split_at_checked(NONCE_BYTES)?;
        decrypt(&self.wrapping, nonce, name.as_bytes(), ciphertext)?
            .try_into()
            .ok()
    }
}

/// `N` bytes nobody can guess.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// Seals `plaintext` for `subject` under the subject's key and, where there is one, the month's.
pub(super) fn seal(
    subject: &str,
    key: &str,
    subject_key: &RawKey,
    month_key: Option<&RawKey>,
    plaintext: &[u8],
) -> Result<SealedParts, KeysError> {
    let nonce = random::<NONCE_BYTES>();
    let bound = bound_to(subject, key);
    let ciphertext = encrypt(&field_cipher(&bound, subject_key, month_key), nonce, &bound, plaintext)?;
    Ok(SealedParts {
        subject: subject.to_owned(),
        key: key.to_owned(),
        nonce: URL_SAFE_NO_PAD.encode(nonce),
        ciphertext: URL_SAFE_NO_PAD.encode(ciphertext),
    })
}

/// `None` when the value was not sealed under these keys, or was changed since.
pub(super) fn open(sealed: &SealedParts, subject_key: &RawKey, month_key: Option<&RawKey>) -> Option<Vec<u8>> {
    let nonce = URL_SAFE_NO_PAD.decode(&sealed.nonce).ok()?;
    let ciphertext = URL_SAFE_NO_PAD.decode(&sealed.ciphertext).ok()?;
    let bound = bound_to(&sealed.subject, &sealed.key);
    decrypt(
        &field_cipher(&bound, subject_key, month_key),
        &nonce,
        &bound,
        &ciphertext,
    )
}

/// What a ciphertext is authenticated with: moving it to another subject or key breaks it.
fn bound_to(subject: &str, key: &str) -> Vec<u8> {
    [b"weft.sealed.v1", subject.as_bytes(), key.as_bytes()].join(&0)
}

fn field_cipher(bound: &[u8], subject_key: &RawKey, month_key: Option<&RawKey>) -> Aes256Gcm {
    let key = match month_key {
        Some(month_key) => derive(&[subject_key, month_key], bound),
        None => derive(&[subject_key], bound),
    };
    cipher(&key)
}

fn derive(parts: &[&RawKey], info: &[u8]) -> RawKey {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_slice()).collect();
    let mut derived = [0; 32];
    Hkdf::<Sha256>::new(None, &parts.concat())
        .expand(info, &mut derived)
        .expect("HKDF gives 32 bytes");
    derived
}

fn cipher(key: &RawKey) -> Aes256Gcm {
    Aes256Gcm::new(key.into())
}

fn encrypt(cipher: &Aes256Gcm, nonce: [u8; NONCE_BYTES], aad: &[u8], msg: &[u8]) -> Result<Vec<u8>, KeysError> {
    cipher
        .encrypt(&Nonce::from(nonce), Payload { msg, aad })
        .map_err(|_| KeysError::Cipher)
}

fn decrypt(cipher: &Aes256Gcm, nonce: &[u8], aad: &[u8], msg: &[u8]) -> Option<Vec<u8>> {
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
    cipher.decrypt(&Nonce::from(nonce), Payload { msg, aad }).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens_with_the_same_keys_and_no_others(
            plaintext in any::<Vec<u8>>(), subject_key in any::<RawKey>(), month_key in any::<Option<RawKey>>(),
            other in any::<RawKey>(),
        ) {
            let sealed = seal("account:1", "subject", &subject_key, month_key.as_ref(), &plaintext).unwrap();
            prop_assert_eq!(open(&sealed, &subject_key, month_key.as_ref()), Some(plaintext));
            prop_assert_eq!(open(&sealed, &other, month_key.as_ref()), None);
            prop_assert_eq!(open(&sealed, &subject_key, Some(&other)), None);
        }
    }

    #[test]
    fn a_sealed_value_moved_to_another_subject_does_not_open() {
        let key = [1; 32];
        let sealed = seal("account:1", "subject", &key, None, b"+86 138").unwrap();
        let moved = SealedParts {
            subject: "account:2".to_owned(),
            ..sealed
        };
        assert_eq!(open(&moved, &key, None), None);
    }

    #[test]
    fn a_key_unwraps_under_its_master_key_and_name_only() {
        let master = Master::new(&[7; 32]);
        let wrapped = master.wrap("account:1", &[9; 32]).unwrap();
        assert_eq!(master.unwrap("account:1", &wrapped), Some([9; 32]));
        assert_eq!(master.unwrap("account:2", &wrapped), None);
        assert_eq!(Master::new(&[8; 32]).unwrap("account:1", &wrapped), None);
    }

    #[test]
    fn keyed_hashes_differ_by_context_and_master_key() {
        let master = Master::new(&[7; 32]);
        assert_eq!(master.keyed_hash("a", b"x"), master.keyed_hash("a", b"x"));
        assert_ne!(master.keyed_hash("a", b"x"), master.keyed_hash("b", b"x"));
        assert_ne!(
            master.keyed_hash("a", b"x"),
            Master::new(&[8; 32]).keyed_hash("a", b"x")
        );
    }
}
