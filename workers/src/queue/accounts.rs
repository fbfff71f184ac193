//! What the workers keep of an account: rows of `workers.account_lanes`, without the lane itself.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;
use weft_domain::account::{AccountEvent, AccountStatus};

/// An account as far as its events are known here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AccountRow {
    pub(crate) account_id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) version: i64,
    pub(crate) status: AccountStatus,
    pub(crate) gateway: String,
    pub(crate) guid: Option<String>,
    pub(crate) send_interval_ms: i32,
    pub(crate) restricted_until: Option<DateTime<Utc>>,
    /// It has just come online.
    pub(crate) came_online: bool,
    /// Of the last event that changed it; empty in a row that was read.
    pub(crate) correlation_id: String,
    pub(crate) traceparent: String,
}

impl AccountRow {
    pub(crate) fn new(account_id: Uuid, tenant_id: Uuid) -> Self {
        Self {
            account_id,
            tenant_id,
            version: 0,
            status: AccountStatus::Created,
            gateway: "instance".to_owned(),
            guid: None,
            send_interval_ms: 0,
            restricted_until: None,
            came_online: false,
            correlation_id: String::new(),
            traceparent: String::new(),
        }
    }

    pub(crate) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let status: &str = row.try_get("status")?;
        Ok(Self {
            account_id: row.try_get("account_id")?,
            tenant_id: row.try_get("tenant_id")?,
            version: row.try_get("version")?,
            status: AccountStatus::parse(status)
                .ok_or_else(|| sqlx::Error::Decode(format!("account status {status}").into()))?,
            gateway: row.try_get("gateway")?,
            guid: row.try_get("guid")?,
            send_interval_ms: row.try_get("send_interval_ms")?,
            restricted_until: row.try_get("restricted_until")?,
            came_online: false,
            correlation_id: String::new(),
            traceparent: String::new(),
        })
    }

    /// Messages may be sent, now or after a cool-down, or have to be cancelled.
    pub(crate) const fn has_work(&self) -> bool {
        matches!(
            self.status,
            AccountStatus::Online | AccountStatus::RateLimited | AccountStatus::Deleted
        )
    }

    /// Its session is or may come alive, so that it is worth asking.
    pub(crate) const fn wants_heartbeat(&self) -> bool {
        self.guid.is_some()
            && matches!(
                self.status,
                AccountStatus::Online
                    | AccountStatus::RateLimited
                    | AccountStatus::Error
                    | AccountStatus::NetworkError
                    | AccountStatus::AuthError
                    | AccountStatus::Recovering
                    | AccountStatus::Offline
            )
    }

    pub(crate) fn apply(&mut self, event: &AccountEvent, sequence: i64) {
        if let Some(status) = event.status_after(Some(self.status)) {
            self.status = status;
            self.came_online = status == AccountStatus::Online;
            self.restricted_until = None;
        }
        match event {
            AccountEvent::AccountCreated { gateway, config, .. } => {
                gateway.as_str().clone_into(&mut self.gateway);
                self.send_interval_ms = i32::try_from(config.send_interval_ms).unwrap_or(i32::MAX);
            }
            AccountEvent::AccountUpdated {
                config: Some(config), ..
            } => {
                self.send_interval_ms = i32::try_from(config.send_interval_ms).unwrap_or(i32::MAX);
            }
            AccountEvent::InstanceCreated { guid, .. } => self.guid = Some(guid.clone()),
            AccountEvent::InstanceRemoved { .. } => self.guid = None,
            AccountEvent::AccountRestricted { until, .. } => self.restricted_until = Some(*until),
            // A deleted account's instance is still to be removed.
            _ => {}
        }
        self.version = sequence;
    }
}

/// The rows of these accounts that exist.
pub(super) async fn load(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, AccountRow>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "select account_id, tenant_id, version, status, gateway, guid, send_interval_ms, restricted_until
         from workers.account_lanes where account_id = any($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| AccountRow::read(row).map(|row| (row.account_id, row)))
        .collect()
}

/// The rows of these accounts that exist.
pub(crate) async fn load_accounts(pool: &PgPool, ids: &[Uuid]) -> Result<HashMap<Uuid, AccountRow>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    load(&mut connection, ids).await
}

/// Writes rows over older ones, and wakes the lanes of accounts whose messages can move.
pub(super) async fn save(
    connection: &mut PgConnection,
    rows: &[AccountRow],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    fn column<T>(rows: &[AccountRow], value: impl Fn(&AccountRow) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    let wake_at = column(rows, |row| match row.status {
        AccountStatus::RateLimited => Some(row.restricted_until.unwrap_or(now)),
        _ => row.has_work().then_some(now),
    });
    sqlx::query(
        "insert into workers.account_lanes as lane
           (account_id, tenant_id, version, status, gateway, guid, send_interval_ms, restricted_until, wake_at, changes)
         select account_id, tenant_id, version, status, gateway, guid, send_interval_ms, restricted_until, wake_at, 1
         from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::integer[],
                     $8::timestamptz[], $9::timestamptz[])
           as v (account_id, tenant_id, version, status, gateway, guid, send_interval_ms, restricted_until, wake_at)
         order by account_id
         on conflict (account_id) do update set
           tenant_id = excluded.tenant_id, version = excluded.version, status = excluded.status,
           gateway = excluded.gateway, guid = excluded.guid, send_interval_ms = excluded.send_interval_ms,
           restricted_until = excluded.restricted_until, wake_at = excluded.wake_at, changes = lane.changes + 1
         where lane.version < excluded.version",
    )
    .bind(column(rows, |row| row.account_id))
    .bind(column(rows, |row| row.tenant_id))
    .bind(column(rows, |row| row.version))
    .bind(column(rows, |row| row.status.as_str()))
    .bind(column(rows, |row| row.gateway.clone()))
    .bind(column(rows, |row| row.guid.clone()))
    .bind(column(rows, |row| row.send_interval_ms))
    .bind(column(rows, |row| row.restricted_until))
    .bind(wake_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Tells lanes that a message of theirs can move at a time. An account that is not known yet gets its row.
pub(super) async fn wake(
    connection: &mut PgConnection,
    wakes: &[(Uuid, Uuid, DateTime<Utc>)],
) -> Result<(), sqlx::Error> {
    if wakes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into workers.account_lanes as lane (account_id, tenant_id, wake_at, changes)
         select account_id, tenant_id, wake_at, 1
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as v (account_id, tenant_id, wake_at)
         order by account_id
         on conflict (account_id) do update set
           changes = lane.changes + 1,
           wake_at = case
             when lane.status in ('online', 'deleted') then least(lane.wake_at, excluded.wake_at)
             when lane.status = 'rate_limited'
               then least(lane.wake_at, greatest(excluded.wake_at, lane.restricted_until))
             else lane.wake_at end",
    )
    .bind(wakes.iter().map(|(account, _, _)| *account).collect::<Vec<_>>())
    .bind(wakes.iter().map(|(_, tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(wakes.iter().map(|(_, _, at)| *at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
