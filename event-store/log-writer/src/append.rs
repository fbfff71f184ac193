//! The append: a batch of commands in one statement and one transaction.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row};
use weft_domain::{Claim, ClaimChange, LogOrder};

pub use crate::error::AppendError;
use crate::idempotency::{Idempotency, KEPT_FOR, Record, record};

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

/// One command: all of it is appended, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Command {
    pub key: Option<(Idempotency, Record)>,
    pub claims: Vec<NewClaim>,
    pub events: Vec<NewEvent>,
}

impl Command {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.key.is_none() && self.claims.is_empty() && self.events.is_empty()
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
}

/// Appends `commands` in one transaction. A batch holds each stream and each idempotency key at most once.
///
/// Fails as a whole, with nothing written, when one stream was appended to meanwhile.
pub async fn append(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
    commands: &[Command],
) -> Result<Vec<Outcome>, AppendError> {
    let columns = Columns::of(commands)?;
    let row = columns.query(commands.len(), now).fetch_one(connection).await;
    let row = row.map_err(|error| AppendError::of_statement(&error))?;
    // Committed from here on: what cannot be read now can be found in the log.
    columns
        .outcomes(commands, &row)
        .map_err(|error| AppendError::InDoubt(error.to_string()))
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

/// The arrays of the statement, borrowed from the commands.
#[derive(Default)]
struct Columns<'c> {
    key_commands: Vec<i32>,
    key_digests: Vec<uuid::Uuid>,
    key_body_hashes: Vec<&'c [u8]>,
    key_answers: Vec<String>,
    claim_commands: Vec<i32>,
    claims: Vec<&'c NewClaim>,
    /// Command and index inside it, sorted by stream and sequence.
    events: Vec<(usize, usize, &'c NewEvent)>,
}

impl<'c> Columns<'c> {
    fn of(commands: &'c [Command]) -> Result<Self, AppendError> {
        let mut columns = Self::default();
        for (index, command) in commands.iter().enumerate() {
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
            columns.events.extend(
                command
                    .events
                    .iter()
                    .enumerate()
                    .map(|(place, event)| (index, place, event)),
            );
        }
        // The order of collation "C": bytes.
        columns.events.sort_by(|(_, _, a), (_, _, b)| {
            (a.aggregate_type, &a.aggregate_id, a.sequence).cmp(&(b.aggregate_type, &b.aggregate_id, b.sequence))
        });
        Ok(columns)
    }

    fn query(
        &self,
        commands: usize,
        now: DateTime<Utc>,
    ) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
        let claims = |field: fn(&Claim) -> &str| -> Vec<&str> {
            self.claims
                .iter()
                .map(|claim| match &claim.change {
                    ClaimChange::Take(claim) | ClaimChange::Release(claim) => field(claim),
                })
                .collect()
        };
        let events = |field: fn(&NewEvent) -> &str| -> Vec<&str> {
            self.events.iter().map(|(_, _, event)| field(event)).collect()
        };
        sqlx::query(
            "select log_epoch, log_transaction, outcomes, replays::text[] as replays, lost_claims, positions
             from append_commands($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                                  $19, $20, $21, $22)",
        )
        .bind(commands as i32)
        .bind(now)
        .bind(&self.key_commands)
        .bind(&self.key_digests)
        .bind(&self.key_body_hashes)
        .bind(&self.key_answers)
        .bind(now + KEPT_FOR)
        .bind(&self.claim_commands)
        .bind(
            self.claims
                .iter()
                .map(|claim| matches!(claim.change, ClaimChange::Take(_)))
                .collect::<Vec<_>>(),
        )
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

    fn outcomes(&self, commands: &[Command], row: &sqlx::postgres::PgRow) -> Result<Vec<Outcome>, sqlx::Error> {
        let epoch: i16 = row.try_get("log_epoch")?;
        let transaction_id = row.try_get::<Option<i64>, _>("log_transaction")?.unwrap_or_default();
        let codes: Vec<i32> = row.try_get("outcomes")?;
        let replays: Vec<Option<String>> = row.try_get("replays")?;
        let lost: Vec<Option<i32>> = row.try_get("lost_claims")?;
        let positions: Vec<i64> = row.try_get("positions")?;
        let unexpected = || sqlx::Error::Decode("append_commands answered in another shape".into());

        let mut orders: Vec<Vec<LogOrder>> = commands
            .iter()
            .map(|command| vec![LogOrder::default(); command.events.len()])
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
                    let ordinal = lost.get(index).copied().flatten().ok_or_else(unexpected)?;
                    let claim = self.claims.get(ordinal as usize - 1).ok_or_else(unexpected)?;
                    match &claim.change {
                        ClaimChange::Take(claim) | ClaimChange::Release(claim) => Outcome::ClaimTaken(claim.clone()),
                    }
                }
                _ => return Err(unexpected()),
            });
        }
        Ok(outcomes)
    }
}
