//! How messages are known again in callbacks: receipts of sends, and own-send callbacks that fit none yet.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

/// What WeCom called a message that it took.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Receipt {
    pub(crate) message_id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) account_id: Uuid,
    pub(crate) wework_msg_id: String,
    /// Decoded, as callbacks have it.
    pub(crate) appinfo: Option<String>,
    pub(crate) correlation_id: String,
    pub(crate) sent_at: DateTime<Utc>,
}

/// A message that a callback speaks of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KnownMessage {
    pub(crate) message_id: Uuid,
    pub(crate) correlation_id: String,
}

/// A callback's own-send message that fits no receipt yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OwnSend {
    pub(crate) account_id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) appinfo: String,
    pub(crate) wework_msg_id: String,
    pub(crate) conversation_id: String,
    pub(crate) content_digest: Vec<u8>,
    pub(crate) sent_at: DateTime<Utc>,
    pub(crate) send_failed: bool,
    pub(crate) callback_id: Uuid,
}

pub(super) async fn save(connection: &mut PgConnection, receipts: &[Receipt]) -> Result<(), sqlx::Error> {
    if receipts.is_empty() {
        return Ok(());
    }
    fn column<T>(rows: &[Receipt], value: impl Fn(&Receipt) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    sqlx::query(
        "insert into workers.receipts
           (message_id, tenant_id, account_id, wework_msg_id, appinfo, correlation_id, sent_at)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
         order by 1
         on conflict (message_id) do nothing",
    )
    .bind(column(receipts, |r| r.message_id))
    .bind(column(receipts, |r| r.tenant_id))
    .bind(column(receipts, |r| r.account_id))
    .bind(column(receipts, |r| r.wework_msg_id.clone()))
    .bind(column(receipts, |r| r.appinfo.clone()))
    .bind(column(receipts, |r| r.correlation_id.clone()))
    .bind(column(receipts, |r| r.sent_at))
    .execute(connection)
    .await?;
    Ok(())
}

/// The messages behind `keys` of (account, appinfo, WeCom's id), in their order. The appinfo decides where there is one.
pub(crate) async fn known_messages(
    pool: &PgPool,
    keys: &[(Uuid, String, String)],
) -> Result<Vec<Option<KnownMessage>>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "select receipt.message_id, receipt.correlation_id
         from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as k (account_id, appinfo, msg_id, ordinal)
         left join lateral (
           select r.message_id, r.correlation_id from workers.receipts r
           where k.appinfo <> '' and r.account_id = k.account_id and r.appinfo = k.appinfo
           union all
           select r.message_id, r.correlation_id from workers.receipts r
           where k.appinfo = '' and r.account_id = k.account_id and r.wework_msg_id = k.msg_id
           limit 1) receipt on true
         order by k.ordinal",
    )
    .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.1.clone()).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.2.clone()).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    rows.iter().map(known).collect()
}

fn known(row: &PgRow) -> Result<Option<KnownMessage>, sqlx::Error> {
    let message_id: Option<Uuid> = row.try_get("message_id")?;
    let correlation_id: Option<String> = row.try_get("correlation_id")?;
    Ok(message_id.map(|message_id| KnownMessage {
        message_id,
        correlation_id: correlation_id.unwrap_or_default(),
    }))
}

/// Keeps own-send callbacks until their reply is recorded, or until they settle an unknown attempt.
pub(crate) async fn park(pool: &PgPool, sends: &[OwnSend], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if sends.is_empty() {
        return Ok(());
    }
    fn column<T>(rows: &[OwnSend], value: impl Fn(&OwnSend) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    sqlx::query(
        "insert into workers.parked_syncs
           (account_id, tenant_id, appinfo, wework_msg_id, conversation_id, content_digest, sent_at, send_failed,
            callback_id, parked_at)
         select *, $10 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[],
           $7::timestamptz[], $8::boolean[], $9::uuid[])
           as v (account_id, tenant_id, appinfo, wework_msg_id)
         order by account_id, appinfo, wework_msg_id
         on conflict (account_id, appinfo, wework_msg_id) do nothing",
    )
    .bind(column(sends, |s| s.account_id))
    .bind(column(sends, |s| s.tenant_id))
    .bind(column(sends, |s| s.appinfo.clone()))
    .bind(column(sends, |s| s.wework_msg_id.clone()))
    .bind(column(sends, |s| s.conversation_id.clone()))
    .bind(column(sends, |s| s.content_digest.clone()))
    .bind(column(sends, |s| s.sent_at))
    .bind(column(sends, |s| s.send_failed))
    .bind(column(sends, |s| s.callback_id))
    .bind(now)
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets receipts older than `age`, a bounded number of them; answers how many.
pub(crate) async fn purge_receipts(pool: &PgPool, now: DateTime<Utc>, age: TimeDelta) -> Result<u64, sqlx::Error> {
    let purged = sqlx::query(
        "delete from workers.receipts where message_id in (
           select message_id from workers.receipts where sent_at < $1 order by sent_at limit 1000
           for update skip locked)",
    )
    .bind(now - age)
    .execute(pool)
    .await?;
    Ok(purged.rows_affected())
}

/// Forgets own-send callbacks that fitted nothing: somebody wrote by hand.
pub(crate) async fn purge_parked(pool: &PgPool, now: DateTime<Utc>, age: TimeDelta) -> Result<u64, sqlx::Error> {
    let purged = sqlx::query(
        "delete from workers.parked_syncs where (account_id, appinfo, wework_msg_id) in (
           select account_id, appinfo, wework_msg_id from workers.parked_syncs where parked_at < $1
           for update skip locked)",
    )
    .bind(now - age)
    .execute(pool)
    .await?;
    Ok(purged.rows_affected())
}
