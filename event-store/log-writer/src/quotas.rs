//! Which counters a command moves, and how far they may go.

use std::convert::Infallible;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use cqrs_es::Aggregate;
use sqlx::PgPool;
use weft_domain::account::Account;
use weft_domain::tenant::Tenant;
use weft_domain::{Quota, QuotaChange};

use crate::append::{Counter, Guard, QuotaUse};
use crate::error::{CountError, QuotaExceeded, ReadError};
use crate::executor::Trust;
use crate::{ExecuteError, Executor};

/// Days whose counters are kept after they ended, to be looked at.
const KEPT_DAYS: u64 = 7;
/// Rows deleted by one statement: none holds the log's tail back for long.
const PURGE_CHUNK: i64 = 1_000;

impl Executor {
    /// The counters' changes, with their limits, and the streams that these were taken from, for the append to check that
    /// they have not moved on: so no account sends more, or from another status, than it may. Nothing is counted for a
    /// tenant that the log does not know, and what an account unknown to it may send has no limit.
    pub(crate) async fn quota_uses(
        &self,
        changes: &[QuotaChange],
        trust: Trust,
    ) -> Result<(Vec<QuotaUse>, Vec<Guard>), CountError> {
        let mut uses: Vec<QuotaUse> = Vec::new();
        let mut guards: Vec<Guard> = Vec::new();
        let mut guard = |aggregate_type, aggregate_id: &str, version| {
            let known = |guard: &Guard| guard.aggregate_type == aggregate_type && guard.aggregate_id == aggregate_id;
            if !guards.iter().any(known) {
                guards.push(Guard {
                    aggregate_type,
                    aggregate_id: aggregate_id.to_owned(),
                    version,
                });
            }
        };
        for change in changes {
            let tenant_id = change.quota.tenant().to_string();
            let tenant = self.look::<Tenant>(&tenant_id, trust).await?;
            guard(Tenant::TYPE, &tenant_id, tenant.version);
            if tenant.version == 0 {
                continue;
            }
            let limits = tenant.state.limits;
            let (scope, limit) = match change.quota {
                Quota::TenantAccounts(_) => (tenant_id, i64::from(limits.max_accounts)),
                Quota::TenantMessages(_) => (tenant_id, i64::from(limits.max_daily_messages)),
                Quota::AccountMessages(_, account_id) => {
                    let account_id = account_id.to_string();
                    let account = self.look::<Account>(&account_id, trust).await?;
                    guard(Account::TYPE, &account_id, account.version);
                    let closed = account.state.status.filter(|status| !status.takes_messages());
                    if let Some(status) = closed.filter(|_| change.by > 0) {
                        return Err(CountError::Closed(status));
                    }
                    let limit = i64::from(account.state.config.daily_limit);
                    (account_id, if account.version == 0 { i64::MAX } else { limit })
                }
            };
            let day = change.on.map(|at| local_day(zone(&tenant.state), at));
            let counter = Counter {
                kind: change.quota.kind(),
                scope,
                period: day.map(|day| day.to_string()).unwrap_or_default(),
            };
            match uses.iter_mut().find(|used| used.counter == counter) {
                Some(used) => used.by += change.by,
                None => uses.push(QuotaUse {
                    counter,
                    by: change.by,
                    limit,
                }),
            }
        }
        uses.retain(|used| used.by != 0);
        Ok((uses, guards))
    }

    /// What to tell about a quota that was exceeded by one of `changes`.
    pub(crate) async fn explain_quota(
        &self,
        exceeded: &QuotaUse,
        changes: &[QuotaChange],
    ) -> Result<QuotaExceeded, ReadError> {
        let kind = exceeded.counter.kind;
        let mut day = None;
        if let Some(change) = changes.iter().find(|change| change.quota.kind() == kind)
            && let Ok(date) = exceeded.counter.period.parse::<NaiveDate>()
        {
            let tenant = self.read::<Tenant>(&change.quota.tenant().to_string()).await?;
            day = Some(bounds(zone(&tenant.state), date));
        }
        Ok(QuotaExceeded {
            kind,
            scope: exceeded.counter.scope.clone(),
            limit: exceeded.limit,
            day,
            period: exceeded.counter.period.clone(),
            asked_at: self.now(),
        })
    }

    /// How much is left, at this moment, of what was exceeded.
    pub async fn quota_room(&self, exceeded: &QuotaExceeded) -> Result<i64, ExecuteError<Infallible>> {
        let used = sqlx::query_scalar("select used from quota_usage where kind = $1 and scope = $2 and period = $3")
            .bind(exceeded.kind.as_str())
            .bind(&exceeded.scope)
            .bind(&exceeded.period)
            .fetch_optional(self.pool());
        let used: Option<i64> = self.guarded(used).await?;
        Ok((exceeded.limit - used.unwrap_or(0)).max(0))
    }
}

/// Deletes the counters of days that ended `KEPT_DAYS` ago or longer; answers how many. No day that a message may still be
/// accepted for is among them.
pub(crate) async fn purge(pool: &PgPool, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let before = now.date_naive() - Days::new(KEPT_DAYS);
    let mut purged = 0;
    loop {
        // A cancel that gives back to such a day makes its counter anew; a lock that it holds is not waited for.
        let deleted = sqlx::query(
            "delete from quota_usage where ctid = any(array(
               select ctid from quota_usage where period <> '' and period < $1 order by period limit $2
               for update skip locked))",
        )
        .bind(before.to_string())
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

/// The tenant's time zone; UTC for a name that is none.
pub(crate) fn zone(tenant: &Tenant) -> Tz {
    tenant.time_zone.parse().unwrap_or(Tz::UTC)
}

pub(crate) fn local_day(zone: Tz, at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

/// The first moment of a local day, and of the next one.
fn bounds(zone: Tz, day: NaiveDate) -> (DateTime<Utc>, DateTime<Utc>) {
    let start = |day: NaiveDate| {
        let mut midnight = day.and_time(NaiveTime::MIN);
        // Where the clock jumps over midnight, the day begins when it lands: no jump is longer than a day.
        for _ in 0..96 {
            if let Some(start) = zone.from_local_datetime(&midnight).earliest() {
                return start.with_timezone(&Utc);
            }
            midnight += TimeDelta::minutes(15);
        }
        midnight.and_utc()
    };
    (start(day), start(day.checked_add_days(Days::new(1)).unwrap_or(day)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_is_the_tenants() {
        let at: DateTime<Utc> = "2026-03-01T16:00:00Z".parse().unwrap();
        assert_eq!(local_day(Tz::Asia__Shanghai, at), day("2026-03-02"));
        assert_eq!(local_day(Tz::UTC, at), day("2026-03-01"));
        let (from, until) = bounds(Tz::Asia__Shanghai, day("2026-03-02"));
        assert_eq!((from, until - from), (at, TimeDelta::days(1)));
    }

    #[test]
    fn a_day_without_midnight_begins_when_the_clock_lands() {
        // Beirut, 2024-03-31: 00:00 became 01:00.
        let (from, until) = bounds(Tz::Asia__Beirut, day("2024-03-31"));
        assert_eq!(from.to_rfc3339(), "2024-03-30T22:00:00+00:00");
        assert_eq!(until - from, TimeDelta::hours(23));
    }
}
