//! The append: a batch of commands in one statement and one transaction.

use std::borrow::Borrow;
use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row};
use weft_domain::{Claim, ClaimChange, LogOrder, QuotaKind};

use crate::columns::Columns;
pub use crate::error::AppendError;
use crate::idempotency::{Idempotency, Record};

/// One event to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    pub aggregate_type: &'static str,
    pub aggregate_id: String,
    pub sequence: i64,
    pub event_type: String,
    pub event_version: String,
    /// JSON.
    pub payload: String,
    /// JSON.
    pub metadata: String,
}

/// A change of a claim on behalf of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClaim {
    pub aggregate_type: &'static str,
    pub aggregate_id: String,
    pub change: ClaimChange,
}

/// The row that counts one quota.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    pub kind: QuotaKind,
    /// The tenant's or account's id.
    pub scope: String,
    /// The tenant's local day, `2026-11-22`; empty for what is not counted by day.
    pub period: String,
}

/// What a command uses of a quota, all of its events together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    pub counter: Counter,
    /// Positive: used, as long as `limit` is not passed; negative: given back.
    pub by: i64,
    pub limit: i64,
}

/// A stream that a command was decided on without writing to it, as far as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guard {
    pub aggregate_type: &'static str,
    pub aggregate_id: String,
    pub version: i64,
}

/// One command: all of it is appended, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Command {
    pub key: Option<(Idempotency, Record)>,
    pub claims: Vec<NewClaim>,
    /// One per counter.
    pub quotas: Vec<QuotaUse>,
    /// What has moved on meanwhile makes the command a conflict.
    pub guards: Vec<Guard>,
    pub events: Vec<NewEvent>,
}

impl Command {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.key.is_none() && self.claims.is_empty() && self.events.is_empty()
    }

    /// About what it takes on the way to Postgres.
    pub(crate) fn bytes(&self) -> usize {
        const FIXED: usize = 128;
        let events = self.events.iter();
        FIXED
            + events
                .map(|event| FIXED + event.payload.len() + event.metadata.len())
                .sum::<usize>()
    }
}

/// What became of one command of a batch that was appended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Where its events stand, in the order they were given.
    Committed(Vec<LogOrder>),
    Replay(Record),
    KeyReused,
    ClaimTaken(Claim),
    QuotaExceeded(QuotaUse),
}

/// What an append runs under.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// The epoch of the log on which the commands were decided, where that is known.
    pub epoch: Option<i16>,
    /// Longest wait for another transaction, if shorter than the connection's own.
    pub lock_wait_ms: Option<i32>,
}

/// What became of a batch.
#[derive(Debug, PartialEq)]
pub enum Appended {
    /// By command; in a log of this epoch.
    Done(i16, Vec<Outcome>),
    /// The log is of this other epoch, and nothing was written.
    OtherEpoch(i16),
    /// These commands were decided on streams that have moved on, and nothing was written.
    Stale(HashSet<usize>),
}

/// Appends `commands` in one transaction. A batch holds each stream and each idempotency key at most once.
///
/// Fails as a whole, with nothing written, when one stream was appended to meanwhile.
pub async fn append<C: Borrow<Command> + Sync>(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
    commands: &[C],
    terms: Terms,
) -> Result<Appended, AppendError> {
    let columns = Columns::of(commands)?;
    let row = columns.query(commands.len(), now, terms).fetch_one(connection).await;
    let row = row.map_err(|error| AppendError::of_statement(&error))?;
    // Committed from here on: what cannot be read now can be found in the log.
    columns
        .appended(commands, &row)
        .map_err(|error| AppendError::InDoubt(error.to_string()))
}

/// Which of `commands` write a sequence that the log has already.
pub(crate) async fn overtaken<C: Borrow<Command>>(
    connection: &mut PgConnection,
    commands: &[C],
) -> Result<HashSet<usize>, sqlx::Error> {
    let events: Vec<(usize, &NewEvent)> = commands
        .iter()
        .enumerate()
        .flat_map(|(index, command)| command.borrow().events.iter().map(move |event| (index, event)))
        .collect();
    let found: Vec<i32> = sqlx::query_scalar(
        "select distinct sent.command
         from unnest($1::integer[], $2::text[], $3::text[], $4::bigint[])
           as sent (command, aggregate_type, aggregate_id, sequence)
         cross join lateral (
           select from events e
           where e.aggregate_type = sent.aggregate_type and e.aggregate_id = sent.aggregate_id
             and e.sequence = sent.sequence) stored",
    )
    .bind(events.iter().map(|(index, _)| *index as i32).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.aggregate_type).collect::<Vec<_>>())
    .bind(
        events
            .iter()
            .map(|(_, event)| event.aggregate_id.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(events.iter().map(|(_, event)| event.sequence).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|index| index as usize).collect())
}

/// Looks whether the events of `command` are in the log, exactly as they were to be appended: how a commit whose answer
/// was lost is settled. `None`: not committed (yet).
pub async fn find(pool: &PgPool, command: &Command) -> Result<Option<Vec<LogOrder>>, sqlx::Error> {
    let each = |field: fn(&NewEvent) -> &str| command.events.iter().map(field).collect::<Vec<_>>();
    let rows = sqlx::query(
        "select stored.epoch, stored.transaction_id::text::bigint as transaction_id, stored.position
         from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[]) with ordinality
           as sent (aggregate_type, aggregate_id, sequence, payload, metadata, ordinal)
         cross join lateral (
           select * from events e
           where e.aggregate_type = sent.aggregate_type and e.aggregate_id = sent.aggregate_id
             and e.sequence = sent.sequence
             and e.payload = sent.payload::jsonb and e.metadata = sent.metadata::jsonb) stored
         order by sent.ordinal",
    )
    .bind(each(|event| event.aggregate_type))
    .bind(each(|event| &event.aggregate_id))
    .bind(command.events.iter().map(|event| event.sequence).collect::<Vec<_>>())
    .bind(each(|event| &event.payload))
    .bind(each(|event| &event.metadata))
    .fetch_all(pool)
    .await?;
    if rows.is_empty() || rows.len() != command.events.len() {
        return Ok(None);
    }
    let order = |row: &sqlx::postgres::PgRow| {
        Ok(LogOrder {
            epoch: row.try_get("epoch")?,
            transaction_id: row.try_get("transaction_id")?,
            position: row.try_get("position")?,
        })
    };
    rows.iter().map(order).collect::<Result<_, sqlx::Error>>().map(Some)
}
