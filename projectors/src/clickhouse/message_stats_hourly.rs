//! `message_stats_hourly`: counts per tenant, account and hour.
//!
//! Never counted up, always computed anew from the facts and transitions as they are, for the hours that are listed as
//! dirty: so a replay cannot count anything twice. The list is stored with the checkpoint of the facts.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sqlx::postgres::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::message_facts::MessageFacts;
use super::{Facts, answered};
use crate::RunError;
use crate::checkpoint::MOVED;
use crate::engine::{Backoff, Projection};
use crate::error::ProjectionError;
use crate::members::Shares;
use crate::row::column;
use crate::world::World;

const NAME: &str = "message_stats_hourly";
const HEALTH: &str = "projection message_stats_hourly";
/// How often the list is looked at: an hour at work is computed this often at most.
const PAUSE: Duration = Duration::from_millis(500);
/// Hours of one computation at most.
const MAX_HOURS: i64 = 1_000;

/// One account's hour (UTC) whose messages changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirtyHour {
    pub hour: DateTime<Utc>,
    pub tenant_id: Uuid,
    pub account_id: Uuid,
}

impl DirtyHour {
    pub fn of(tenant_id: Uuid, account_id: Uuid, at: DateTime<Utc>) -> Self {
        let hour = at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at);
        Self {
            hour,
            tenant_id,
            account_id,
        }
    }
}

/// Lists hours as dirty, in the caller's transaction.
pub(super) async fn mark(connection: &mut PgConnection, hours: &BTreeSet<DirtyHour>) -> Result<(), ProjectionError> {
    if hours.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into dirty_hours (tenant_id, account_id, hour)
         select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
         on conflict (tenant_id, account_id, hour) do update set mark = excluded.mark",
    )
    .bind(column!(hours, tenant_id))
    .bind(column!(hours, account_id))
    .bind(column!(hours, hour))
    .execute(connection)
    .await?;
    Ok(())
}

/// Computes dirty hours until `shutdown`.
pub async fn run(world: &World, mut shares: Shares, shutdown: CancellationToken) {
    world.health.expect(HEALTH);
    let mut backoff = Backoff::default();
    loop {
        let error = tokio::select! {
            () = shutdown.cancelled() => return,
            result = compute_all(world, &mut shares) => match result {
                Ok(never) => match never {},
                Err(error) => error,
            },
        };
        world.health.failing(HEALTH, error.to_string());
        tracing::warn!(projection = NAME, %error, "statistics are computed again");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = backoff.wait() => {}
        }
    }
}

async fn compute_all(world: &World, shares: &mut Shares) -> Result<Infallible, RunError> {
    shares.looked().await;
    loop {
        if !shares.holds(NAME)? {
            world.health.ready(HEALTH);
            shares.changed().await;
            continue;
        }
        let engine = world.live(MessageFacts::NAME).await?;
        let computed = pass(&engine.pool, &world.facts(engine.generation)).await?;
        world.health.ready(HEALTH);
        if computed < MAX_HOURS as usize {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A computation whose end is told to those who wait for it. Nothing is written where no hour is dirty: nobody waits then.
async fn pass(pool: &PgPool, facts: &Facts) -> Result<usize, ProjectionError> {
    let began: Option<i64> = sqlx::query_scalar(
        "update statistics_passes set began = began + 1 where exists (select from dirty_hours) returning began",
    )
    .fetch_optional(pool)
    .await?;
    let Some(began) = began else { return Ok(0) };
    let computed = compute(pool, facts).await?;
    if computed < MAX_HOURS as usize {
        // Everything that was dirty when it began: longer lists take several.
        sqlx::query("with ended as (update statistics_passes set ended = $1) select pg_notify($2, $3)")
            .bind(began)
            .bind(MOVED)
            .bind(NAME)
            .execute(pool)
            .await?;
    }
    Ok(computed)
}

/// Computes the hours that are listed, oldest first, at most `MAX_HOURS`; answers how many they were.
pub async fn compute(pool: &PgPool, facts: &Facts) -> Result<usize, ProjectionError> {
    let listed: Vec<(Uuid, Uuid, DateTime<Utc>, i64)> =
        sqlx::query_as("select tenant_id, account_id, hour, mark from dirty_hours order by hour limit $1")
            .bind(MAX_HOURS)
            .fetch_all(pool)
            .await?;
    let (Some(first), Some(last)) = (listed.first(), listed.last()) else {
        return Ok(0);
    };
    let (from, to) = (first.2.timestamp(), last.2.timestamp() + 3_600);
    let texts = |ids: BTreeSet<Uuid>| -> Vec<String> { ids.iter().map(Uuid::to_string).collect() };
    let tenants = texts(listed.iter().map(|hour| hour.0).collect());
    let accounts = texts(listed.iter().map(|hour| hour.1).collect());
    let hours: Vec<(String, String, i64)> = listed
        .iter()
        .map(|(tenant, account, hour, _)| (tenant.to_string(), account.to_string(), hour.timestamp()))
        .collect();
    let mut query = facts.client.query(COMPUTE);
    for _ in 0..2 {
        query = query.bind(&tenants).bind(&accounts).bind(from).bind(to).bind(&hours);
    }
    answered(query.execute()).await?;
    // An hour that became dirty again meanwhile has another mark, and stays.
    sqlx::query(
        "delete from dirty_hours dirty
         using unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[])
               as computed (tenant_id, account_id, hour, mark)
         where dirty.tenant_id = computed.tenant_id and dirty.account_id = computed.account_id
           and dirty.hour = computed.hour and dirty.mark = computed.mark",
    )
    .bind(column!(listed, 0))
    .bind(column!(listed, 1))
    .bind(column!(listed, 2))
    .bind(column!(listed, 3))
    .execute(pool)
    .await?;
    Ok(listed.len())
}

/// `version` grows with every event of the hour's messages: the newest computation wins, and of the same facts two
/// computations are the same row.
const COMPUTE: &str = "
insert into message_stats_hourly (
    tenant_id, account_id, hour, total, sent, delivered, read, failed, cancelled, unknown, success,
    response_time_ms_sum, response_time_count, hour_sent, hour_delivered, hour_read, hour_failed, hour_cancelled,
    hour_response_time_ms_sum, hour_response_time_count, version)
select tenant_id, account_id, bucket, sum(c1), sum(c2), sum(c3), sum(c4), sum(c5), sum(c6), sum(c7), sum(c8),
    sum(c9), sum(c10), sum(h1), sum(h2), sum(h3), sum(h4), sum(h5), sum(h6), sum(h7), sum(v)
from (
    select tenant_id, account_id, toStartOfHour(accepted_at) as bucket,
        count() as c1, countIf(isNotNull(sent_at)) as c2, countIf(isNotNull(delivered_at)) as c3,
        countIf(isNotNull(read_at)) as c4, countIf(status = 'failed') as c5, countIf(status = 'cancelled') as c6,
        countIf(status = 'unknown') as c7, countIf(status in ('sent', 'delivered')) as c8,
        sum(ifNull(response_time_ms, 0)) as c9, countIf(isNotNull(response_time_ms)) as c10,
        0 as h1, 0 as h2, 0 as h3, 0 as h4, 0 as h5, 0 as h6, 0 as h7, sum(version) as v
    from message_facts final
    where tenant_id in ? and account_id in ? and accepted_at >= toDateTime64(?, 3, 'UTC')
        and accepted_at < toDateTime64(?, 3, 'UTC')
        and (toString(tenant_id), toString(account_id), toUnixTimestamp(toStartOfHour(accepted_at))) in ?
    group by tenant_id, account_id, bucket
    union all
    select tenant_id, account_id, toStartOfHour(at) as bucket,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        countIf(new_status = 'sent' and ifNull(old_status, '') <> 'sent') as h1,
        countIf(event_type = 'MessageDelivered') as h2, countIf(event_type = 'MessageRead') as h3,
        countIf(new_status = 'failed' and ifNull(old_status, '') <> 'failed') as h4,
        countIf(new_status = 'cancelled' and ifNull(old_status, '') <> 'cancelled') as h5,
        sum(ifNull(response_time_ms, 0)) as h6, countIf(isNotNull(response_time_ms)) as h7, count() as v
    from message_transitions final
    where tenant_id in ? and account_id in ? and at >= toDateTime64(?, 3, 'UTC') and at < toDateTime64(?, 3, 'UTC')
        and (toString(tenant_id), toString(account_id), toUnixTimestamp(toStartOfHour(at))) in ?
    group by tenant_id, account_id, bucket
)
group by tenant_id, account_id, bucket";
