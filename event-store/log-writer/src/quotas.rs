//! Which counters a command moves, and how far they may go.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use cqrs_es::Aggregate;
use weft_domain::account::Account;
use weft_domain::tenant::Tenant;
use weft_domain::{Quota, QuotaChange};

use crate::Executor;
use crate::append::{Counter, Guard, QuotaUse};
use crate::error::{QuotaExceeded, ReadError};
use crate::executor::Trust;

impl Executor {
    /// The counters' changes, with their limits, and the streams that these were taken from, for the append to check that
    /// they have not moved on. Nothing is counted for a tenant that the log does not know, and what an account unknown
    /// to it may send has no limit.
    pub(crate) async fn quota_uses(
        &self,
        changes: &[QuotaChange],
        trust: Trust,
    ) -> Result<(Vec<QuotaUse>, Vec<Guard>), ReadError> {
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
            limit: exceeded.limit,
            day,
            asked_at: self.now(),
        })
    }
}

/// The tenant's time zone; UTC for a name that is none.
fn zone(tenant: &Tenant) -> Tz {
    tenant.time_zone.parse().unwrap_or(Tz::UTC)
}

fn local_day(zone: Tz, at: DateTime<Utc>) -> NaiveDate {
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
