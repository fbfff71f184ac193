//! Subject and month keys in the key database, unwrapped ones cached.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use sqlx::PgPool;

use super::cipher::{self, Master, RawKey};
use super::{KeysError, MonthKey, Opened, SUBJECT_KEY, SealRequest, SealedParts};
use crate::config::KeysSection;
use crate::database::lazy_pool;

/// How long a key stays in memory: a key destroyed by another process is forgotten here at the latest after this.
const CACHED_FOR: Duration = Duration::from_mins(1);

/// A key as the database has it.
#[derive(Clone)]
enum Key {
    Alive(Arc<RawKey>),
    /// Wrapped by another master key.
    Foreign,
    Destroyed,
}

/// The key database and a cache of unwrapped keys. Cheap to clone.
#[derive(Clone)]
pub struct KeyStore {
    master: Arc<Master>,
    /// `None` for a process that may hash but neither seal nor open.
    pool: Option<PgPool>,
    cache: Cache<String, Key>,
}

impl std::fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyStore")
            .field("access", &self.pool.is_some())
            .finish_non_exhaustive()
    }
}

impl KeyStore {
    /// Connects when first used.
    pub fn new(config: &KeysSection) -> Result<Self, KeysError> {
        let pool = lazy_pool(config.url.expose(), "weft keys", config.max_connections).map_err(KeysError::Url)?;
        Self::with(config, Some(pool))
    }

    /// A store that opens nothing: everything stays sealed.
    pub fn without_access(config: &KeysSection) -> Result<Self, KeysError> {
        Self::with(config, None)
    }

    fn with(config: &KeysSection, pool: Option<PgPool>) -> Result<Self, KeysError> {
        let master_key = config.master_key_bytes().ok_or(KeysError::MasterKey)?;
        let cache = Cache::builder()
            .max_capacity(config.cache_entries)
            .time_to_live(CACHED_FOR)
            .build();
        Ok(Self {
            master: Arc::new(Master::new(&master_key)),
            pool,
            cache,
        })
    }

    /// Seals every item, in order. Creates the subject and month keys that are missing, all in one batch.
    pub async fn seal_all(&self, items: &[SealRequest]) -> Result<Vec<SealedParts>, KeysError> {
        let months: Vec<Option<String>> = items
            .iter()
            .map(|item| item.month.as_ref().map(MonthKey::name))
            .collect();
        let subjects = items.iter().map(|item| item.subject.clone());
        let keys = self
            .keys(subjects.chain(months.iter().flatten().cloned()).collect(), true)
            .await?;
        let alive = |name: &str| match keys.get(name) {
            Some(Key::Alive(key)) => Ok(Arc::clone(key)),
            Some(Key::Foreign) => Err(KeysError::WrongMasterKey(name.to_owned())),
            Some(Key::Destroyed) => Err(KeysError::Destroyed(name.to_owned())),
            None => Err(KeysError::Unavailable(format!("the key {name} was not stored"))),
        };
        let mut sealed = Vec::with_capacity(items.len());
        for (item, month) in items.iter().zip(&months) {
            let subject_key = alive(&item.subject)?;
            let month_key = month.as_deref().map(alive).transpose()?;
            let key = month.as_deref().unwrap_or(SUBJECT_KEY);
            sealed.push(cipher::seal(
                &item.subject,
                key,
                &subject_key,
                month_key.as_deref(),
                &item.plaintext,
            )?);
        }
        Ok(sealed)
    }

    /// Opens what can be opened, in order; one round trip for the keys that are not in the cache.
    pub async fn open_all(&self, sealed: &[SealedParts]) -> Result<Vec<Opened<Vec<u8>>>, KeysError> {
        if self.pool.is_none() {
            return Ok(sealed.iter().map(|_| Opened::Sealed).collect());
        }
        let months = sealed
            .iter()
            .filter(|parts| parts.key != SUBJECT_KEY)
            .map(|parts| parts.key.clone());
        let names = sealed.iter().map(|parts| parts.subject.clone()).chain(months).collect();
        let keys = self.keys(names, false).await?;
        Ok(sealed.iter().map(|parts| open_one(&keys, parts)).collect())
    }

    /// Those of `names` whose keys this database does not know, alive or destroyed, or that another master key wrapped:
    /// what they sealed stays closed.
    pub async fn missing(&self, names: BTreeSet<String>) -> Result<Vec<String>, KeysError> {
        let keys = self.keys(names.clone(), false).await?;
        let known = |name: &String| matches!(keys.get(name), Some(Key::Alive(_) | Key::Destroyed));
        Ok(names.into_iter().filter(|name| !known(name)).collect())
    }

    /// Destroys a subject's key, for ever: what it sealed is erased everywhere, and nothing can be sealed for it again.
    /// Other processes forget their cached copy within a minute.
    pub async fn destroy_subject(&self, subject: &str) -> Result<(), KeysError> {
        self.destroy(subject).await
    }

    /// Destroys a tenant's key of one month: retention.
    pub async fn destroy_month(&self, month: &MonthKey) -> Result<(), KeysError> {
        self.destroy(&month.name()).await
    }

    /// Destroys again what the tombstone list names: after a backup was restored that still had the keys. Answers how
    /// many keys had come back.
    pub async fn reapply_tombstones(&self) -> Result<u64, KeysError> {
        let destroyed = sqlx::query(
            "update keys set wrapped = null, destroyed_at = tombstones.destroyed_at
             from tombstones where keys.name = tombstones.name and keys.wrapped is not null",
        )
        .execute(self.pool()?)
        .await
        .map_err(unavailable)?
        .rows_affected();
        self.cache.invalidate_all();
        Ok(destroyed)
    }

    /// HMAC under a key derived from the master key, one per `context`: blind indexes, the idempotency record's body
    /// hash, content digests.
    pub fn keyed_hash(&self, context: &str, data: &[u8]) -> [u8; 32] {
        self.master.keyed_hash(context, data)
    }

    fn pool(&self) -> Result<&PgPool, KeysError> {
        self.pool.as_ref().ok_or(KeysError::NoAccess)
    }

    async fn destroy(&self, name: &str) -> Result<(), KeysError> {
        // The row stays, without its key: a creator that races with this finds it and creates nothing.
        sqlx::query(
            "with tombstone as (
               insert into tombstones (name) values ($1) on conflict (name) do nothing)
             insert into keys (name, destroyed_at) values ($1, clock_timestamp())
             on conflict (name) do update set wrapped = null, destroyed_at = excluded.destroyed_at
             where keys.wrapped is not null",
        )
        .bind(name)
        .execute(self.pool()?)
        .await
        .map_err(unavailable)?;
        self.cache.insert(name.to_owned(), Key::Destroyed).await;
        Ok(())
    }

    /// The keys of `names`; the missing ones are created if `create`, else left out.
    async fn keys(&self, names: BTreeSet<String>, create: bool) -> Result<HashMap<String, Key>, KeysError> {
        let mut keys = HashMap::with_capacity(names.len());
        let mut missing = Vec::new();
        for name in names {
            match self.cache.get(&name).await {
                Some(key) => drop(keys.insert(name, key)),
                None => missing.push(name),
            }
        }
        if missing.is_empty() {
            return Ok(keys);
        }
        let pool = self.pool()?;
        let mut found = self.read(pool, &missing).await?;
        missing.retain(|name| !found.contains_key(name));
        if create && !missing.is_empty() {
            self.create(pool, &missing).await?;
            // Read again: where another creator was first, its keys are the ones.
            found.extend(self.read(pool, &missing).await?);
        }
        for (name, key) in &found {
            self.cache.insert(name.clone(), key.clone()).await;
        }
        keys.extend(found);
        Ok(keys)
    }

    async fn read(&self, pool: &PgPool, names: &[String]) -> Result<HashMap<String, Key>, KeysError> {
        let rows: Vec<(String, Option<Vec<u8>>)> =
            sqlx::query_as("select name, wrapped from unnest($1::text[]) as wanted (name) join keys using (name)")
                .bind(names)
                .fetch_all(pool)
                .await
                .map_err(unavailable)?;
        let key = |name: &str, wrapped: Option<Vec<u8>>| match wrapped {
            Some(wrapped) => self
                .master
                .unwrap(name, &wrapped)
                .map_or(Key::Foreign, |key| Key::Alive(Arc::new(key))),
            None => Key::Destroyed,
        };
        Ok(rows
            .into_iter()
            .map(|(name, wrapped)| (name.clone(), key(&name, wrapped)))
            .collect())
    }

    /// In the order of the names, so that two creators cannot deadlock.
    async fn create(&self, pool: &PgPool, names: &[String]) -> Result<(), KeysError> {
        let wrapped: Vec<Vec<u8>> = names
            .iter()
            .map(|name| self.master.wrap(name, &cipher::random()))
            .collect::<Result<_, _>>()?;
        sqlx::query(
            r#"insert into keys (name, wrapped)
               select name, wrapped from unnest($1::text[], $2::bytea[]) as fresh (name, wrapped)
               order by name collate "C"
               on conflict (name) do nothing"#,
        )
        .bind(names)
        .bind(wrapped)
        .execute(pool)
        .await
        .map_err(unavailable)?;
        Ok(())
    }
}

fn open_one(keys: &HashMap<String, Key>, parts: &SealedParts) -> Opened<Vec<u8>> {
    let subject = keys.get(&parts.subject);
    let month = (parts.key != SUBJECT_KEY).then(|| keys.get(&parts.key));
    if [subject, month.flatten()]
        .into_iter()
        .flatten()
        .any(|key| matches!(key, Key::Destroyed))
    {
        return Opened::Erased;
    }
    let month_key = match month {
        None => None,
        Some(Some(Key::Alive(key))) => Some(key),
        Some(_) => return Opened::Sealed,
    };
    let Some(Key::Alive(subject_key)) = subject else {
        return Opened::Sealed;
    };
    if let Some(plaintext) = cipher::open(parts, subject_key, month_key.map(AsRef::as_ref)) {
        Opened::Open(plaintext)
    } else {
        tracing::warn!(
            subject = parts.subject,
            key = parts.key,
            "a sealed value does not open with its own keys"
        );
        Opened::Sealed
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn unavailable(error: sqlx::Error) -> KeysError {
    KeysError::Unavailable(error.to_string())
}
