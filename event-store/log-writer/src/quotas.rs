//! Which counters a command moves, and how far they may go.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use weft_domain::account::Account;
use weft_domain::tenant::Tenant;
use weft_domain::{Quota, QuotaChange, TenantId};

use crate::Executor;
use crate::append::{Counter, QuotaUse};
use crate::error::{QuotaExceeded, ReadError};

impl Executor {
    /// The counters' changes, with the limits as the log has them now. Nothing is counted for a tenant that the log does
    /// not know, and what an account unknown to it may send has no limit.
    pub(crate) async fn quota_uses(&self, changes: &[QuotaChange]) -> Result<Vec<QuotaUse>, ReadError> {
        let mut uses: BTreeMap<Counter, QuotaUse> = BTreeMap::new();
        let mut tenants: Vec<(TenantId, Tenant)> = Vec::new();
        let mut limits: Vec<(Quota, i64)> = Vec::new();
        for change in changes {
            let id = change.quota.tenant();
            let tenant = match tenants.iter().position(|(known, _)| *known == id) {
                Some(known) => &tenants[known].1,
                None => {
                    let loaded = self.read::<Tenant>(&id.to_string()).await?;
                    tenants.push((id, loaded.state));
                    &tenants[tenants.len() - 1].1
                }
            };
            if tenant.status.is_none() {
                continue;
            }
            let limit = match limits.iter().find(|(known, _)| *known == change.quota) {
                Some((_, limit)) => *limit,
                None => {
                    let limit = self.limit(change.quota, tenant).await?;
                    limits.push((change.quota, limit));
                    limit
                }
            };
            let scope = match change.quota {
                Quota::TenantAccounts(tenant) | Quota::TenantMessages(tenant) => tenant.to_string(),
                Quota::AccountMessages(_, account) => account.to_string(),
            };
            let day = change.on.map(|at| local_day(zone(tenant), at));
            let counter = Counter {
                kind: change.quota.kind(),
                scope,
                period: day.map(|day| day.to_string()).unwrap_or_default(),
            };
            uses.entry(counter.clone())
                .or_insert(QuotaUse { counter, by: 0, limit })
                .by += change.by;
        }
        Ok(uses.into_values().filter(|used| used.by != 0).collect())
    }

    async fn limit(&self, quota: Quota, tenant: &Tenant) -> Result<i64, ReadError> {
        Ok(match quota {
            Quota::TenantAccounts(_) => i64::from(tenant.limits.max_accounts),
            Quota::TenantMessages(_) => i64::from(tenant.limits.max_daily_messages),
            Quota::AccountMessages(_, account) => {
                let account = self.read::<Account>(&account.to_string()).await?;
                if account.version == 0 {
                    i64::MAX
                } else {
                    i64::from(account.state.config.daily_limit)
                }
            }
        })
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
