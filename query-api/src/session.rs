//! One read transaction per request, shared by everything that the request loads: all of it sees the same state, of
//! one tenant.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Postgres, Transaction};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use uuid::Uuid;
use weft_platform::http::{CallContext, Permission};

use crate::consistency::Observed;
use crate::error::ReadError;
use crate::personal::Vault;

/// Begun by the first read, rolled back when the last clone is dropped (it wrote nothing).
#[derive(Clone)]
pub(crate) struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    tenant_id: Uuid,
    vault: Vault,
    now: DateTime<Utc>,
    observed: Observed,
    transaction: Mutex<Option<Transaction<'static, Postgres>>>,
}

impl Session {
    pub(crate) fn new(pool: PgPool, call: &CallContext, vault: Vault, now: DateTime<Utc>) -> Self {
        Self {
            inner: Arc::new(Inner {
                pool,
                tenant_id: call.tenant_id,
                vault: vault.clear(call.holds(Permission::PersonalDataRead)),
                now,
                observed: Observed::default(),
                transaction: Mutex::new(None),
            }),
        }
    }

    pub(crate) fn tenant_id(&self) -> Uuid {
        self.inner.tenant_id
    }

    /// When the request came.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.inner.now
    }

    /// The versions that this request's rows have shown.
    pub(crate) fn observed(&self) -> &Observed {
        &self.inner.observed
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// Gives the connection back, before something else is waited for. A later read would see another state.
    pub(crate) async fn release(&self) {
        *self.inner.transaction.lock().await = None;
    }

    /// The transaction's connection, for one statement at a time.
    pub(crate) async fn connection(&self) -> Result<MappedMutexGuard<'_, PgConnection>, ReadError> {
        let mut guard = self.inner.transaction.lock().await;
        if guard.is_none() {
            *guard = Some(begin(&self.inner.pool, self.inner.tenant_id).await?);
        }
        MutexGuard::try_map(guard, Option::as_deref_mut).map_err(|_| ReadError::Internal)
    }
}

/// A snapshot in which row-level security shows the rows of `tenant_id` alone. One round trip: the tenant is a typed
/// UUID, so that it can stand in the text.
pub(crate) async fn begin(pool: &PgPool, tenant_id: Uuid) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin_with(format!(
        "begin isolation level repeatable read read only; select set_config('weft.tenant', '{tenant_id}', true)"
    ))
    .await
}
