//! The arrays of the append's statement, and what its answer says about each command.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow};
use weft_domain::{Claim, ClaimChange, LogOrder};

use crate::append::{Appended, Command, Counter, Guard, NewClaim, NewEvent, Outcome, QuotaUse, Terms};
use crate::error::AppendError;
use crate::idempotency::{KEPT_FOR, record};

/// Borrowed from the commands.
#[derive(Default)]
pub(crate) struct Columns<'c> {
    key_commands: Vec<i32>,
    key_digests: Vec<uuid::Uuid>,
    key_body_hashes: Vec<&'c [u8]>,
    key_answers: Vec<String>,
    claim_commands: Vec<i32>,
    claims: Vec<&'c NewClaim>,
    /// By key, with the sum of the changes and the lowest limit.
    counters: BTreeMap<&'c Counter, Total>,
    /// With the commands that rely on them.
    guards: BTreeMap<&'c Guard, Vec<usize>>,
    quota_commands: Vec<i32>,
    quotas: Vec<&'c QuotaUse>,
    /// Command and index inside it, sorted by stream and sequence.
    events: Vec<(usize, usize, &'c NewEvent)>,
}

#[derive(Clone, Copy)]
struct Total {
    by: i64,
    limit: i64,
    /// From 1, in the order of the keys.
    number: i32,
}

impl<'c> Columns<'c> {
    pub(crate) fn of<C: Borrow<Command>>(commands: &'c [C]) -> Result<Self, AppendError> {
        let mut columns = Self::default();
        for (index, command) in commands.iter().enumerate() {
            let command: &Command = command.borrow();
            let number = index as i32 + 1;
            if let Some((key, record)) = &command.key {
                let answer = serde_json::to_string(record).map_err(|error| AppendError::Refused(error.to_string()))?;
                columns.key_commands.push(number);
                columns.key_digests.push(key.id());
                columns.key_body_hashes.push(&key.body_hash);
                columns.key_answers.push(answer);
            }
            for claim in &command.claims {
                columns.claim_commands.push(number);
                columns.claims.push(claim);
            }
            for quota in &command.quotas {
                columns.quota_commands.push(number);
                columns.quotas.push(quota);
                let total = columns.counters.entry(&quota.counter).or_insert(Total {
                    by: 0,
                    limit: i64::MAX,
                    number: 0,
                });
                total.by += quota.by;
                total.limit = total.limit.min(quota.limit);
            }
            for guard in &command.guards {
                columns.guards.entry(guard).or_default().push(index);
            }
            let events = command.events.iter().enumerate();
            columns
                .events
                .extend(events.map(|(place, event)| (index, place, event)));
        }
        for (number, total) in (1..).zip(columns.counters.values_mut()) {
            total.number = number;
        }
        // The order of collation "C": bytes.
        columns.events.sort_by(|(_, _, a), (_, _, b)| {
            (a.aggregate_type, &a.aggregate_id, a.sequence).cmp(&(b.aggregate_type, &b.aggregate_id, b.sequence))
        });
        Ok(columns)
    }

    pub(crate) fn query(
        &self,
        commands: usize,
        now: DateTime<Utc>,
        terms: Terms,
    ) -> sqlx::query::Query<'_, sqlx::Postgres, PgArguments> {
        let claims = |field: fn(&Claim) -> &str| -> Vec<&str> {
            let changes = self.claims.iter();
            changes.map(|claim| field(changed(&claim.change))).collect()
        };
        let takes = |claim: &&NewClaim| matches!(claim.change, ClaimChange::Take(_));
        let counters =
            |field: fn(&Counter) -> &str| -> Vec<&str> { self.counters.keys().map(|counter| field(counter)).collect() };
        let events = |field: fn(&NewEvent) -> &str| -> Vec<&str> {
            self.events.iter().map(|(_, _, event)| field(event)).collect()
        };
        sqlx::query(
            "select log_epoch, log_transaction, stale, outcomes, replays::text[] as replays, losses, positions
             from append_commands($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                                  $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34,
                                  $35, $36, $37)",
        )
        .bind(commands as i32)
        .bind(now)
        .bind(terms.epoch)
        .bind(terms.lock_wait_ms)
        .bind(&self.key_commands)
        .bind(&self.key_digests)
        .bind(&self.key_body_hashes)
        .bind(&self.key_answers)
        .bind(now + KEPT_FOR)
        .bind(self.claims_are_plain())
        .bind(&self.claim_commands)
        .bind(self.claims.iter().map(takes).collect::<Vec<_>>())
        .bind(claims(|claim| claim.kind.as_str()))
        .bind(claims(|claim| &claim.scope))
        .bind(claims(|claim| &claim.value))
        .bind(self.claims.iter().map(|claim| claim.aggregate_type).collect::<Vec<_>>())
        .bind(
            self.claims
                .iter()
                .map(|claim| claim.aggregate_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(self.guards.keys().map(|guard| guard.aggregate_type).collect::<Vec<_>>())
        .bind(
            self.guards
                .keys()
                .map(|guard| guard.aggregate_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(self.guards.keys().map(|guard| guard.version).collect::<Vec<_>>())
        .bind(counters(|counter| counter.kind.as_str()))
        .bind(counters(|counter| &counter.scope))
        .bind(counters(|counter| &counter.period))
        .bind(self.counters.values().map(|total| total.by).collect::<Vec<_>>())
        .bind(self.counters.values().map(|total| total.limit).collect::<Vec<_>>())
        .bind(&self.quota_commands)
        .bind(
            self.quotas
                .iter()
                .map(|quota| self.counters[&quota.counter].number)
                .collect::<Vec<_>>(),
        )
        .bind(self.quotas.iter().map(|quota| quota.by).collect::<Vec<_>>())
        .bind(self.quotas.iter().map(|quota| quota.limit).collect::<Vec<_>>())
        .bind(
            self.events
                .iter()
                .map(|(command, _, _)| *command as i32 + 1)
                .collect::<Vec<_>>(),
        )
        .bind(events(|event| event.aggregate_type))
        .bind(events(|event| &event.aggregate_id))
        .bind(
            self.events
                .iter()
                .map(|(_, _, event)| event.sequence)
                .collect::<Vec<_>>(),
        )
        .bind(events(|event| &event.event_type))
        .bind(events(|event| &event.event_version))
        .bind(events(|event| &event.payload))
        .bind(events(|event| &event.metadata))
    }

    /// Nothing is released, and no claim is wanted twice.
    fn claims_are_plain(&self) -> bool {
        let mut wanted = HashSet::with_capacity(self.claims.len());
        self.claims.iter().all(|claim| match &claim.change {
            ClaimChange::Take(claim) => wanted.insert((claim.kind, &claim.scope, &claim.value)),
            ClaimChange::Release(_) => false,
        })
    }

    pub(crate) fn appended<C: Borrow<Command>>(&self, commands: &[C], row: &PgRow) -> Result<Appended, sqlx::Error> {
        let epoch: i16 = row.try_get("log_epoch")?;
        let Some(codes) = row.try_get::<Option<Vec<i32>>, _>("outcomes")? else {
            let stale: Option<Vec<i32>> = row.try_get("stale")?;
            return Ok(match stale {
                None => Appended::OtherEpoch(epoch),
                Some(ordinals) => {
                    let guards: Vec<&Vec<usize>> = self.guards.values().collect();
                    let stale = ordinals.iter().filter_map(|ordinal| guards.get(*ordinal as usize - 1));
                    Appended::Stale(stale.flat_map(|commands| commands.iter().copied()).collect())
                }
            });
        };
        let transaction_id = row.try_get::<Option<i64>, _>("log_transaction")?.unwrap_or_default();
        let replays: Vec<Option<String>> = row.try_get("replays")?;
        let losses: Vec<Option<i32>> = row.try_get("losses")?;
        let positions: Vec<i64> = row.try_get("positions")?;
        let unexpected = || sqlx::Error::Decode("append_commands answered in another shape".into());

        let mut orders: Vec<Vec<LogOrder>> = commands
            .iter()
            .map(|command| vec![LogOrder::default(); command.borrow().events.len()])
            .collect();
        let written = self
            .events
            .iter()
            .filter(|(command, _, _)| codes.get(*command) == Some(&0));
        let mut positions = positions.into_iter();
        for (command, place, _) in written {
            let position = positions.next().ok_or_else(unexpected)?;
            orders[*command][*place] = LogOrder {
                epoch,
                transaction_id,
                position,
            };
        }

        let lost = |index: usize| losses.get(index).copied().flatten().map(|ordinal| ordinal as usize - 1);
        let mut outcomes = Vec::with_capacity(commands.len());
        for (index, orders) in orders.into_iter().enumerate() {
            outcomes.push(match codes.get(index) {
                Some(0) => Outcome::Committed(orders),
                Some(1) => {
                    let answer = replays.get(index).and_then(Option::as_ref).ok_or_else(unexpected)?;
                    Outcome::Replay(record(answer)?)
                }
                Some(2) => Outcome::KeyReused,
                Some(3) => {
                    let claim = lost(index)
                        .and_then(|lost| self.claims.get(lost))
                        .ok_or_else(unexpected)?;
                    Outcome::ClaimTaken(changed(&claim.change).clone())
                }
                Some(4) => {
                    let quota = lost(index)
                        .and_then(|lost| self.quotas.get(lost))
                        .ok_or_else(unexpected)?;
                    Outcome::QuotaExceeded((*quota).clone())
                }
                _ => return Err(unexpected()),
            });
        }
        Ok(Appended::Done(epoch, outcomes))
    }
}

const fn changed(change: &ClaimChange) -> &Claim {
    match change {
        ClaimChange::Take(claim) | ClaimChange::Release(claim) => claim,
    }
}
