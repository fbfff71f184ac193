//! Several logs: which there are, which share of every topic's partitions each has, and which tenants are on which.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Config, ConfigError, Secret};
use crate::kafka::partition_for;

/// A log beside the one that `[log]` describes; what it does not say for itself is as there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherLog {
    pub url: Secret,
    pub admin_url: Secret,
    /// Which share of every topic's partitions is its own, from 1 without a gap (`[log]` has share 0). Never changes.
    pub share: usize,
    /// Tenants that are on this log whatever their ids say.
    #[serde(default)]
    pub tenants: Vec<Uuid>,
    /// It takes its part of the tenants that are born from then on; without it, `tenants` alone.
    #[serde(default)]
    pub tenants_since: Option<DateTime<Utc>>,
    /// It takes none that is born from then on, but for `tenants`.
    #[serde(default)]
    pub tenants_until: Option<DateTime<Utc>>,
}

impl Config {
    /// Adds a log.
    #[must_use]
    pub fn with_log(mut self, name: &str, log: FurtherLog) -> Self {
        self.logs.insert(name.to_owned(), log);
        self.count_shares();
        self
    }

    pub(super) fn count_shares(&mut self) {
        self.kafka.share.count = self.logs.len() + 1;
    }

    /// The configuration as the parts of each log see it, by share: `log` is that log, and `kafka.share` its share.
    pub fn by_log(&self) -> Vec<Self> {
        let mut further: Vec<_> = self.logs.iter().collect();
        further.sort_by_key(|(_, log)| log.share);
        let further = further.into_iter().map(|(name, log)| {
            let mut config = self.clone();
            config.log.name.clone_from(name);
            config.log.url = log.url.clone();
            config.log.admin_url = log.admin_url.clone();
            config.kafka.share.index = log.share;
            config
        });
        std::iter::once(self.clone()).chain(further).collect()
    }

    /// The share of the log that `tenant` is on: where it is placed by name, else by a hash among the logs that took new
    /// tenants when it was born, as its id (UUIDv7) tells. So a log that is added later moves nobody.
    pub fn log_of(&self, tenant: Uuid) -> usize {
        if self.logs.is_empty() {
            return 0;
        }
        if let Some(log) = self.logs.values().find(|log| log.tenants.contains(&tenant)) {
            return log.share;
        }
        let takers = self.takers(birth(tenant));
        let count = i32::try_from(takers.len()).unwrap_or(i32::MAX);
        let index = partition_for(&tenant.to_string(), count).unsigned_abs() as usize;
        takers.get(index).copied().unwrap_or_default()
    }

    /// The shares of the logs that take tenants born at a time.
    fn takers(&self, born: DateTime<Utc>) -> Vec<usize> {
        let open = |until: Option<DateTime<Utc>>| until.is_none_or(|until| born < until);
        let first = open(self.log.tenants_until).then_some(0);
        let further = self.logs.values().filter(|log| {
            let begun = log.tenants_since.is_some_and(|since| since <= born);
            begun && open(log.tenants_until)
        });
        let mut takers: Vec<usize> = first.into_iter().chain(further.map(|log| log.share)).collect();
        takers.sort_unstable();
        takers
    }

    pub(super) fn check_logs(&self) -> Result<(), ConfigError> {
        let invalid = |problem: String| Err(ConfigError::Invalid { key: "logs", problem });
        let shares: BTreeSet<usize> = self.logs.values().map(|log| log.share).collect();
        if !shares.into_iter().eq(1..=self.logs.len()) {
            return invalid("the shares of the further logs must be 1, 2, … without a gap, each once".to_owned());
        }
        if self.logs.contains_key(&self.log.name) {
            return invalid(format!(
                "{} is the name of the first log: choose another",
                self.log.name
            ));
        }
        let mut placed = BTreeSet::new();
        if let Some(twice) = self
            .logs
            .values()
            .flat_map(|log| &log.tenants)
            .find(|id| !placed.insert(**id))
        {
            return invalid(format!("the tenant {twice} is placed twice"));
        }
        let times = self
            .logs
            .values()
            .flat_map(|log| [log.tenants_since, log.tenants_until]);
        let times = times.chain([self.log.tenants_until]).flatten();
        for time in times.chain([DateTime::UNIX_EPOCH]) {
            if self.takers(time).is_empty() {
                return invalid(format!(
                    "no log takes the tenants that are born at {time}: mend tenants_since and tenants_until"
                ));
            }
        }
        Ok(())
    }
}

/// When a tenant was created; one whose id does not tell counts as older than all others.
fn birth(tenant: Uuid) -> DateTime<Utc> {
    let told = tenant.get_timestamp().filter(|_| tenant.get_version_num() == 7);
    let born = told.and_then(|at| {
        let (seconds, nanoseconds) = at.to_unix();
        DateTime::from_timestamp(seconds.cast_signed(), nanoseconds)
    });
    born.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn born(at: DateTime<Utc>, random: u64) -> Uuid {
        let milliseconds = at.timestamp_millis().cast_unsigned();
        let mut bytes = [0; 10];
        bytes[2..].copy_from_slice(&random.to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(milliseconds, &bytes).into_uuid()
    }

    fn further(share: usize) -> FurtherLog {
        FurtherLog {
            url: Secret(String::new()),
            admin_url: Secret(String::new()),
            share,
            tenants: Vec::new(),
            tenants_since: None,
            tenants_until: None,
        }
    }

    #[test]
    fn a_log_that_is_added_takes_its_part_of_new_tenants_and_moves_nobody() {
        let (before, since) = (at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
        let one = Config::default();
        let log = FurtherLog {
            tenants_since: Some(since),
            ..further(1)
        };
        let two = one.clone().with_log("b", log);
        two.check().unwrap();
        for n in 0..100 {
            assert_eq!(two.log_of(born(before, n)), 0);
            assert_eq!(one.log_of(born(since, n)), 0);
        }
        let taken = (0..100).filter(|n| two.log_of(born(since, *n)) == 1).count();
        assert!((30..70).contains(&taken), "{taken} of 100");
        assert_eq!(
            two.log_of(Uuid::from_u128(7)),
            0,
            "an id that tells no birth is of before"
        );
    }

    #[test]
    fn a_tenant_is_placed_by_name_and_a_full_log_takes_none() {
        let (big, since) = (Uuid::from_u128(7), at("2026-04-01T00:00:00Z"));
        let own = FurtherLog {
            tenants: vec![big],
            ..further(1)
        };
        let next = FurtherLog {
            tenants_since: Some(since),
            ..further(2)
        };
        let mut config = Config::default().with_log("big", own).with_log("next", next);
        config.log.tenants_until = Some(since);
        config.check().unwrap();
        assert_eq!(config.log_of(big), 1);
        assert!((0..100).all(|n| config.log_of(born(since, n)) == 2));
        let logs = config.by_log();
        let named: Vec<_> = logs
            .iter()
            .map(|one| (one.log.name.as_str(), one.kafka.share.index))
            .collect();
        assert_eq!(named, [("main", 0), ("big", 1), ("next", 2)]);
        assert!(logs.iter().all(|one| one.kafka.share.count == 3));
    }

    #[test]
    fn logs_that_contradict_each_other_are_refused() {
        let refused = |config: Config, why: &str| {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(Config::default().with_log("b", further(2)), "without a gap");
        refused(Config::default().with_log("main", further(1)), "choose another");
        let own = FurtherLog {
            tenants: vec![Uuid::from_u128(7); 2],
            ..further(1)
        };
        refused(Config::default().with_log("b", own), "placed twice");
        let mut full = Config::default().with_log("b", further(1));
        full.log.tenants_until = Some(at("2026-04-01T00:00:00Z"));
        refused(full, "no log takes the tenants that are born at 2026-04-01");
    }
}
