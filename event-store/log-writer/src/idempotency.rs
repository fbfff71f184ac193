//! Idempotency keys: one committed answer per key, kept for a day.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::Uuid;
use weft_platform::keys::KeyStore;

use crate::StoredAnswer;

/// How long an answer can be replayed.
pub(crate) const KEPT_FOR: TimeDelta = TimeDelta::hours(24);

/// Expired records deleted at once: short transactions hold nobody's tail back.
const PURGE_CHUNK: i64 = 1_000;

/// A key as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Of scope and key: random text keys cost 12 % in WAL.
    pub digest: [u8; 16],
    /// Keyed: the body may hold personal data, and a plain hash of it could be guessed.
    pub body_hash: [u8; 32],
}

impl Idempotency {
    /// `scope` names tenant, actor, route and path.
    pub fn new(keys: &KeyStore, scope: &[&str], key: &str, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in scope.iter().chain([&key]) {
            // Lengths, so that no two scopes and keys run together.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self {
            digest,
            body_hash: keys.keyed_hash("idempotency.body", body),
        }
    }

    pub(crate) const fn id(&self) -> Uuid {
        Uuid::from_bytes(self.digest)
    }
}

/// What is stored under a key: the answer, and the streams whose log order its consistency token names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub answer: StoredAnswer,
    /// Aggregate type, aggregate id, version.
    pub streams: Vec<(String, String, i64)>,
}

/// What a look at a key finds.
pub(crate) enum Lookup {
    Free,
    Replay(Record),
    Reused,
}

/// Looks a key up before anything is decided: an earlier answer wins.
pub(crate) async fn look_up(
    pool: &PgPool,
    key: &Idempotency,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Lookup, sqlx::Error> {
    let found: Option<(Vec<u8>, String)> =
        sqlx::query_as("select body_hash, answer::text from idempotency_keys where digest = $1 and expires_at > $2")
            .bind(key.id())
            .bind(now)
            .fetch_optional(pool)
            .await?;
    match found {
        None => Ok(Lookup::Free),
        Some((body_hash, _)) if body_hash != key.body_hash => Ok(Lookup::Reused),
        Some((_, answer)) => record(&answer).map(Lookup::Replay),
    }
}

/// Reads a stored record.
pub(crate) fn record(answer: &str) -> Result<Record, sqlx::Error> {
    serde_json::from_str(answer).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Deletes what expired before `now`; answers how many.
pub(crate) async fn purge(pool: &PgPool, now: chrono::DateTime<chrono::Utc>) -> Result<u64, sqlx::Error> {
    let mut purged = 0;
    loop {
        let deleted = sqlx::query(
            "delete from idempotency_keys where digest in (
               select digest from idempotency_keys where expires_at <= $1 order by expires_at limit $2
               for update skip locked)
             and expires_at <= $1",
        )
        .bind(now)
        .bind(PURGE_CHUNK)
        .execute(pool)
        .await?
        .rows_affected();
        purged += deleted;
        if deleted < PURGE_CHUNK as u64 {
            return Ok(purged);
        }
    }
}
