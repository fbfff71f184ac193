//! What imported events hold: claims, and uses of quotas of days that are not over.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::postgres::PgConnection;
use weft_domain::account::Account;
use weft_domain::message::Message;
use weft_domain::tenant::Tenant;
use weft_domain::{Claim, ClaimChange, LogAggregate, Quota, QuotaChange, TenantId};
use weft_log_reader::{load_many, typed};

use super::ImportError;
use super::chunk::{Checked, Effect, refused};
use crate::append::Counter;
use crate::quotas::{local_day, zone};

/// Streams folded at once.
const STREAMS: usize = 200;
/// Seconds: no time zone's day begins inside a quarter of an hour.
const QUARTER: i64 = 900;

/// Sequences with the lines that they were given in, rising.
type Lines = Vec<(i64, u64)>;

/// A claim's last change.
#[derive(Debug)]
struct Held {
    claim: Claim,
    take: bool,
    stream: String,
    sequence: i64,
    line: u64,
}

#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// Streams to be folded, with the imported events that may do something.
    streams: BTreeMap<String, Lines>,
    /// By the quarter of an hour, counted from 1970; `None` for what is not counted by day.
    counts: HashMap<(Quota, Option<i64>), i64>,
    claims: Vec<Held>,
}

impl Holdings {
    pub(super) fn note(&mut self, event: &Checked) {
        match &event.effect {
            Effect::None => {}
            Effect::OfStream => {
                let events = self.streams.entry(event.stream.clone()).or_default();
                events.push((event.sequence, event.line));
            }
            Effect::Counts(changes) => self.count(changes),
        }
    }

    fn count(&mut self, changes: &[QuotaChange]) {
        for change in changes {
            let quarter = change.on.map(|on| on.timestamp().div_euclid(QUARTER));
            *self.counts.entry((change.quota, quarter)).or_default() += change.by;
        }
    }

    /// Writes what the imported events hold, now that all of them are there.
    pub(super) async fn settle(&mut self, log: &mut PgConnection, now: DateTime<Utc>) -> Result<(), ImportError> {
        let streams: Vec<_> = std::mem::take(&mut self.streams).into_iter().collect();
        for page in streams.chunks(STREAMS) {
            self.fold::<Account>(log, page).await?;
            self.fold::<Tenant>(log, page).await?;
            self.fold::<Message>(log, page).await?;
        }
        self.write_claims(log).await?;
        self.write_counts(log, now).await
    }

    /// What the imported events of the page's streams of this aggregate do, each decided on what came before it.
    async fn fold<A: LogAggregate>(
        &mut self,
        log: &mut PgConnection,
        page: &[(String, Lines)],
    ) -> Result<(), ImportError> {
        let id = |name: &'_ str| {
            let (kind, id) = name.split_once('/')?;
            (kind == A::TYPE).then(|| id.to_owned())
        };
        let streams = page.iter().filter_map(|(name, lines)| Some((id(name)?, name, lines)));
        let streams: Vec<(String, &String, &Lines)> = streams.collect();
        if streams.is_empty() {
            return Ok(());
        }
        let mut rows = sqlx::query_as::<_, (i64, i64, String, String, String)>(
            "select wanted.ordinal, sequence, event_type, event_version, payload::text
             from unnest($2::text[]) with ordinality as wanted (id, ordinal)
             cross join lateral (
               select * from events where aggregate_type = $1 and aggregate_id = wanted.id) stream
             order by ordinal, sequence",
        )
        .bind(A::TYPE)
        .bind(streams.iter().map(|(id, ..)| id.as_str()).collect::<Vec<_>>())
        .fetch(&mut *log);
        let (mut state, mut folded) = (A::default(), 0);
        let mut held: BTreeMap<Claim, Held> = BTreeMap::new();
        while let Some((ordinal, sequence, event_type, version, payload)) = rows.try_next().await? {
            if ordinal != folded {
                (state, folded) = (A::default(), ordinal);
                self.claims.extend(std::mem::take(&mut held).into_values());
            }
            let event = typed::decode::<A>(&event_type, &version, payload.as_bytes())
                .map_err(|error| sqlx::Error::Decode(error.into()))?;
            let (_, stream, imported) = &streams[ordinal as usize - 1];
            // In the order of the sequences.
            if let Ok(place) = imported.binary_search_by_key(&sequence, |(sequence, _)| *sequence) {
                for change in state.claims(std::slice::from_ref(&event)) {
                    let (claim, take) = match change {
                        ClaimChange::Take(claim) => (claim, true),
                        ClaimChange::Release(claim) => (claim, false),
                    };
                    let change = Held {
                        claim: claim.clone(),
                        take,
                        stream: (*stream).clone(),
                        sequence,
                        line: imported[place].1,
                    };
                    held.insert(claim, change);
                }
                self.count(&state.quotas(std::slice::from_ref(&event)));
            }
            state.apply(event);
        }
        self.claims.extend(held.into_values());
        Ok(())
    }

    /// Gives back what was released, then takes what is held in the end.
    async fn write_claims(&mut self, log: &mut PgConnection) -> Result<(), ImportError> {
        self.claims.sort_by(|a, b| a.claim.cmp(&b.claim));
        let (taken, released): (Vec<&Held>, Vec<&Held>) = self.claims.iter().partition(|held| held.take);
        let owner = |held: &&Held| held.stream.split_once('/').map_or("", |(kind, _)| kind).to_owned();
        let id = |held: &&Held| held.stream.split_once('/').map_or("", |(_, id)| id).to_owned();
        if !released.is_empty() {
            sqlx::query(
                "delete from claims held
                 using unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
                   as c (kind, scope, value, aggregate_type, aggregate_id)
                 where held.kind = c.kind and held.scope = c.scope and held.value = c.value
                   and held.aggregate_type = c.aggregate_type and held.aggregate_id = c.aggregate_id",
            )
            .bind(released.iter().map(|held| held.claim.kind.as_str()).collect::<Vec<_>>())
            .bind(
                released
                    .iter()
                    .map(|held| held.claim.scope.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                released
                    .iter()
                    .map(|held| held.claim.value.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(released.iter().map(owner).collect::<Vec<_>>())
            .bind(released.iter().map(id).collect::<Vec<_>>())
            .execute(&mut *log)
            .await?;
        }
        if taken.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into claims (kind, scope, value, aggregate_type, aggregate_id)
             select kind, scope, value, aggregate_type, aggregate_id
             from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) with ordinality
               as c (kind, scope, value, aggregate_type, aggregate_id, ordinal)
             order by kind collate \"C\", scope collate \"C\", value collate \"C\", ordinal
             on conflict (kind, scope, value) do nothing",
        )
        .bind(taken.iter().map(|held| held.claim.kind.as_str()).collect::<Vec<_>>())
        .bind(taken.iter().map(|held| held.claim.scope.as_str()).collect::<Vec<_>>())
        .bind(taken.iter().map(|held| held.claim.value.as_str()).collect::<Vec<_>>())
        .bind(taken.iter().map(owner).collect::<Vec<_>>())
        .bind(taken.iter().map(id).collect::<Vec<_>>())
        .execute(&mut *log)
        .await?;
        let lost = sqlx::query_as::<_, (i64, String)>(
            "select c.ordinal, held.aggregate_type || '/' || held.aggregate_id
             from unnest($1::text[], $2::text[], $3::text[], $4::text[]) with ordinality
               as c (kind, scope, value, stream, ordinal)
             join claims held on held.kind = c.kind and held.scope = c.scope and held.value = c.value
             where held.aggregate_type || '/' || held.aggregate_id <> c.stream
             order by c.ordinal limit 1",
        )
        .bind(taken.iter().map(|held| held.claim.kind.as_str()).collect::<Vec<_>>())
        .bind(taken.iter().map(|held| held.claim.scope.as_str()).collect::<Vec<_>>())
        .bind(taken.iter().map(|held| held.claim.value.as_str()).collect::<Vec<_>>())
        .bind(taken.iter().map(|held| held.stream.as_str()).collect::<Vec<_>>())
        .fetch_optional(&mut *log)
        .await?;
        let Some((ordinal, holder)) = lost else { return Ok(()) };
        let held = taken[ordinal as usize - 1];
        let what = format!("its {} is held by {holder}", held.claim.kind.as_str());
        Err(refused(held.line, &held.stream, held.sequence, what))
    }

    /// Counts what is of today or of a day to come; nothing for a tenant that the log does not know, as in an append.
    async fn write_counts(&self, log: &mut PgConnection, now: DateTime<Utc>) -> Result<(), ImportError> {
        let tenants: HashSet<TenantId> = self.counts.keys().map(|(quota, _)| quota.tenant()).collect();
        if tenants.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = tenants.iter().map(ToString::to_string).collect();
        let loaded = load_many::<Tenant>(&mut *log, &ids).await?;
        let loaded: HashMap<TenantId, _> = tenants.into_iter().zip(loaded).collect();
        let mut counters: BTreeMap<Counter, i64> = BTreeMap::new();
        for ((quota, quarter), by) in &self.counts {
            let tenant = &loaded[&quota.tenant()];
            if tenant.version == 0 {
                continue;
            }
            let zone = zone(&tenant.state);
            let day = quarter
                .and_then(|quarter| DateTime::from_timestamp(quarter * QUARTER, 0))
                .map(|on| local_day(zone, on));
            if day.is_some_and(|day| day < local_day(zone, now)) {
                continue;
            }
            let scope = match quota {
                Quota::TenantAccounts(tenant) | Quota::TenantMessages(tenant) => tenant.to_string(),
                Quota::AccountMessages(_, account) => account.to_string(),
            };
            let counter = Counter {
                kind: quota.kind(),
                scope,
                period: day.map(|day| day.to_string()).unwrap_or_default(),
            };
            *counters.entry(counter).or_default() += by;
        }
        // What is given back is no new row: rows first, then what moves them.
        for statement in [
            "insert into quota_usage (kind, scope, period)
             select kind, scope, period from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) with ordinality
               as c (kind, scope, period, by, ordinal)
             order by ordinal on conflict (kind, scope, period) do nothing",
            "update quota_usage u set used = greatest(u.used + c.by, 0)
             from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) as c (kind, scope, period, by)
             where u.kind = c.kind and u.scope = c.scope and u.period = c.period",
        ] {
            sqlx::query(statement)
                .bind(counters.keys().map(|counter| counter.kind.as_str()).collect::<Vec<_>>())
                .bind(
                    counters
                        .keys()
                        .map(|counter| counter.scope.as_str())
                        .collect::<Vec<_>>(),
                )
                .bind(
                    counters
                        .keys()
                        .map(|counter| counter.period.as_str())
                        .collect::<Vec<_>>(),
                )
                .bind(counters.values().copied().collect::<Vec<_>>())
                .execute(&mut *log)
                .await?;
        }
        Ok(())
    }
}
