//! One read transaction per request, shared by everything that the request loads: all of it sees the same state, of
//! one tenant.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Postgres, Transaction};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use uuid::Uuid;
use weft_platform::http::{CallContext, Permission};

use crate::consistency::{Awaited, Standing};
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

    pub(crate) fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// Gives the connection back, before something else is waited for. A later read would see another state.
    pub(crate) async fn release(&self) {
        *self.inner.transaction.lock().await = None;
    }

    /// Whether this session's transaction shows what is awaited.
    pub(crate) async fn shows(&self, awaited: &[Awaited]) -> Result<Standing, ReadError> {
        let (behind, never): (bool, bool) = sqlx::query_as(
            "select coalesce(bool_or(c.projection is null
                      or (c.epoch, c.transaction_id, c.position) < (a.epoch, a.transaction_id, a.position)), false),
                    coalesce(bool_or(c.log_id <> a.log_id or exists (
                      select from views.dead_letters d
                      where d.projection = a.projection and d.aggregate_type = a.aggregate_type
                        and d.aggregate_id = a.aggregate_id)), false)
             from unnest($1::text[], $2::text[], $3::integer[], $4::uuid[], $5::smallint[], $6::bigint[], $7::bigint[],
                         $8::text[], $9::uuid[])
                  as a (projection, topic, partition, log_id, epoch, transaction_id, position, aggregate_type,
                        aggregate_id)
             left join views.checkpoints c using (projection, topic, partition)",
        )
        .bind(column(awaited, |awaited| awaited.projection))
        .bind(column(awaited, |awaited| awaited.topic.clone()))
        .bind(column(awaited, |awaited| awaited.partition))
        .bind(column(awaited, |awaited| awaited.log_id))
        .bind(column(awaited, |awaited| awaited.order.epoch))
        .bind(column(awaited, |awaited| awaited.order.transaction_id))
        .bind(column(awaited, |awaited| awaited.order.position))
        .bind(column(awaited, |awaited| awaited.aggregate_type))
        .bind(column(awaited, |awaited| awaited.aggregate_id))
        .fetch_one(&mut *self.connection().await?)
        .await?;
        Ok(match (behind, never) {
            (_, true) => Standing::Never,
            (true, false) => Standing::Behind,
            (false, false) => Standing::Met,
        })
    }

    /// Whether the hourly statistics hold what the facts of this session's transaction do: no hour of the tenant is to be
    /// computed, or a computation has ended that began after the facts were `seen` first.
    pub(crate) async fn shows_statistics(&self, seen: &mut Option<i64>) -> Result<bool, ReadError> {
        let (is_dirty, began, ended): (bool, i64, i64) =
            sqlx::query_as("select exists (select from views.dirty_hours), began, ended from views.statistics_passes")
                .fetch_one(&mut *self.connection().await?)
                .await?;
        Ok(!is_dirty || ended > *seen.get_or_insert(began))
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

fn column<T>(awaited: &[Awaited], field: impl Fn(&Awaited) -> T) -> Vec<T> {
    awaited.iter().map(field).collect()
}
