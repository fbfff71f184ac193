//! `message_facts` and `message_transitions`: each message's newest state, and each of its events.
//!
//! A batch's earlier states are remembered, or read back, before it is merged into them. A state of version n follows
//! from the stream's first n events alone, so a remembered one is right whoever else writes. Transitions are inserted
//! first, then facts: a fact of version n says that the transitions up to n are there, so events at or below it are
//! dropped. After that the checkpoint moves, together with the list of hours whose statistics changed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use clickhouse::Row;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use uuid::Uuid;
use weft_domain::message::{MessageEvent, MessageStatus};

use super::message_stats_hourly::{self, DirtyHour};
use super::{Facts, answered};
use crate::engine::{Projection, Tables};
use crate::error::ProjectionError;
use crate::event::Event;
use crate::shape::{Shape, Versioned, fold_rows};

/// An id is born within this time of its message's acceptance; where it is not, the lookup is made again without.
const BIRTH_TOLERANCE: TimeDelta = TimeDelta::days(1);

/// Facts remembered, about half a kilobyte each: the messages that are on their way.
const REMEMBERED: usize = 50_000;

#[derive(Clone, Debug)]
pub struct MessageFacts {
    facts: Facts,
    /// As they are in the store.
    remembered: Arc<Cache<Uuid, MessageFact>>,
}

impl MessageFacts {
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            remembered: Arc::new(Cache::new(REMEMBERED)),
        }
    }

    /// The facts of the messages that `events` are about. A message whose first event is among them needs none: where it
    /// is stored already, the same rows are written again.
    async fn load(&self, events: &[Arc<Event>]) -> Result<HashMap<Uuid, MessageFact>, ProjectionError> {
        let mut known = HashMap::new();
        let mut seen = BTreeSet::new();
        let mut unknown = Vec::new();
        for event in events {
            if !seen.insert(event.id) {
                continue;
            }
            if let Some(fact) = self.remembered.get(&event.id) {
                known.insert(event.id, fact);
            } else if event.sequence > 1 {
                unknown.push(event);
            }
        }
        known.extend(self.lookup(&unknown, true).await?);
        unknown.retain(|event| !known.contains_key(&event.id));
        known.extend(self.lookup(&unknown, false).await?);
        Ok(known)
    }

    async fn lookup(
        &self,
        events: &[&Arc<Event>],
        by_birth: bool,
    ) -> Result<HashMap<Uuid, MessageFact>, ProjectionError> {
        let keys = || events.iter().filter_map(|event| Some((*event, event.message()?)));
        let messages: BTreeSet<Uuid> = keys().map(|(event, _)| event.id).collect();
        if messages.is_empty() {
            return Ok(HashMap::new());
        }
        let tenants: BTreeSet<Uuid> = keys().map(|(event, _)| event.tenant_id).collect();
        let accounts: BTreeSet<Uuid> = keys().map(|(_, body)| body.account_id().0).collect();
        let births: Option<Vec<i64>> = messages.iter().map(birth).collect();
        let (from, to) = match births.filter(|_| by_birth) {
            Some(births) => {
                let tolerance = BIRTH_TOLERANCE.num_milliseconds();
                let first = births.iter().min().map_or(0, |birth| birth - tolerance);
                let last = births.iter().max().map_or(0, |birth| birth + tolerance);
                (first.max(0), last)
            }
            None => (
                0,
                DateTime::<Utc>::from_timestamp(10_000_000_000, 0)
                    .unwrap_or_default()
                    .timestamp_millis(),
            ),
        };
        let query = self
            .facts
            .client
            .query(
                "select ?fields from message_facts final
                 where tenant_id in ? and account_id in ?
                   and accepted_at >= fromUnixTimestamp64Milli(?, 'UTC')
                   and accepted_at <= fromUnixTimestamp64Milli(?, 'UTC')
                   and message_id in ?",
            )
            .bind(texts(&tenants))
            .bind(texts(&accounts))
            .bind(from)
            .bind(to)
            .bind(texts(&messages));
        let rows: Vec<MessageFact> = answered(query.fetch_all()).await?;
        Ok(rows.into_iter().map(|row| (row.message_id, row)).collect())
    }
}

fn texts(ids: &BTreeSet<Uuid>) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

/// The millisecond in which a UUIDv7 was made.
fn birth(id: &Uuid) -> Option<i64> {
    let (seconds, nanoseconds) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    Some(seconds.cast_signed() * 1_000 + i64::from(nanoseconds / 1_000_000))
}

impl Projection for MessageFacts {
    type Prepared = BTreeSet<DirtyHour>;

    const NAME: &'static str = "message_facts";
    const HEALTH: &'static str = "projection message_facts";
    const AGGREGATES: &'static [&'static str] = &["message"];
    const SHAPE: Shape = Shape::Row;
    const TABLES: Tables = Tables::Facts(&["message_facts", "message_transitions", "message_stats_hourly"]);
    /// Few large inserts: each makes a part that ClickHouse has to merge, and costs as much as 10,000 rows do.
    const MAX_BATCH: usize = 40_000;
    const FILL_BATCH: usize = 20_000;
    const LINGER: std::time::Duration = std::time::Duration::from_millis(250);

    async fn prepare(&self, events: &[Arc<Event>]) -> Result<BTreeSet<DirtyHour>, ProjectionError> {
        let known = self.load(events).await?;
        let changes = fold(known, events)?;
        self.facts.insert("message_transitions", &changes.transitions).await?;
        self.facts.insert("message_facts", &changes.facts).await?;
        for fact in changes.facts {
            self.remembered.insert(fact.message_id, fact);
        }
        Ok(changes.dirty)
    }

    async fn write(
        &self,
        connection: &mut PgConnection,
        _: &[Arc<Event>],
        dirty: BTreeSet<DirtyHour>,
    ) -> Result<(), ProjectionError> {
        message_stats_hourly::mark(connection, &dirty).await
    }
}

/// A row of `message_facts`.
#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
pub struct MessageFact {
    #[serde(with = "clickhouse::serde::uuid")]
    pub tenant_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub account_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub message_id: Uuid,
    pub conversation_id: String,
    pub message_type: String,
    pub priority: u8,
    #[serde(with = "clickhouse::serde::uuid::option")]
    pub batch_id: Option<Uuid>,
    pub batch_index: Option<u32>,
    pub status: String,
    pub version: u64,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub accepted_at: DateTime<Utc>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub planned_at: DateTime<Utc>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis::option")]
    pub attempted_at: Option<DateTime<Utc>>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis::option")]
    pub sent_at: Option<DateTime<Utc>>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis::option")]
    pub delivered_at: Option<DateTime<Utc>>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis::option")]
    pub read_at: Option<DateTime<Utc>>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis::option")]
    pub failed_at: Option<DateTime<Utc>>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis::option")]
    pub cancelled_at: Option<DateTime<Utc>>,
    pub error_code: Option<String>,
    pub attempts: u32,
    pub retry_count: u32,
    pub response_time_ms: Option<u64>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub updated_at: DateTime<Utc>,
}

/// A row of `message_transitions`.
#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
pub struct MessageTransition {
    #[serde(with = "clickhouse::serde::uuid")]
    pub tenant_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub account_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub message_id: Uuid,
    pub sequence: u64,
    pub event_type: String,
    pub old_status: Option<String>,
    pub new_status: String,
    pub attempt: u32,
    pub error_code: Option<String>,
    pub response_time_ms: Option<u64>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub at: DateTime<Utc>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    pub recorded_at: DateTime<Utc>,
}

impl Versioned for MessageFact {
    fn version(&self) -> i64 {
        self.version.cast_signed()
    }
}

/// What a batch changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub facts: Vec<MessageFact>,
    pub transitions: Vec<MessageTransition>,
    pub dirty: BTreeSet<DirtyHour>,
}

/// The changes of `events`, from the facts as they are. Pure.
fn fold(known: HashMap<Uuid, MessageFact>, events: &[Arc<Event>]) -> Result<Changes, ProjectionError> {
    let mut accepted: HashMap<Uuid, DateTime<Utc>> = known.iter().map(|(id, fact)| (*id, fact.accepted_at)).collect();
    let mut transitions = Vec::new();
    let facts = fold_rows(known, events, |before, event| {
        let old_status = before.as_ref().map(|fact| fact.status.clone());
        let body = event.message();
        let fact = match (before, body) {
            (None, Some(body)) => create(event, body),
            (Some(fact), Some(body)) => Some(apply(fact, event, body)),
            (_, None) => None,
        };
        let (Some(fact), Some(body)) = (fact, body) else {
            return Err(ProjectionError::Unfounded { stream: event.id });
        };
        accepted.insert(event.id, fact.accepted_at);
        transitions.push(transition(old_status, &fact, event, body));
        Ok(fact)
    })?;
    // Also of events that were inserted before: the process may have ended before it stored that list.
    let dirty = events.iter().filter_map(|event| Some((event, event.message()?)));
    let dirty = dirty
        .flat_map(|(event, body)| {
            [accepted.get(&event.id).copied(), Some(body.at())]
                .into_iter()
                .flatten()
                .map(|at| DirtyHour::of(event.tenant_id, body.account_id().0, at))
        })
        .collect();
    Ok(Changes {
        facts,
        transitions,
        dirty,
    })
}

fn create(event: &Event, body: &MessageEvent) -> Option<MessageFact> {
    let MessageEvent::MessageAccepted {
        account_id,
        tenant_id,
        conversation_id,
        message_type,
        priority,
        scheduled_time,
        batch_id,
        batch_index,
        at,
        ..
    } = body
    else {
        return None;
    };
    Some(MessageFact {
        tenant_id: tenant_id.0,
        account_id: account_id.0,
        message_id: event.id,
        conversation_id: conversation_id.as_str().to_owned(),
        message_type: message_type.as_str().to_owned(),
        priority: *priority,
        batch_id: batch_id.map(|id| id.0),
        batch_index: *batch_index,
        status: body
            .status_after()
            .unwrap_or(MessageStatus::Pending)
            .as_str()
            .to_owned(),
        version: event.sequence.cast_unsigned(),
        accepted_at: *at,
        // A time in the past means now.
        planned_at: scheduled_time.map_or(*at, |time| time.max(*at)),
        attempted_at: None,
        sent_at: None,
        delivered_at: None,
        read_at: None,
        failed_at: None,
        cancelled_at: None,
        error_code: None,
        attempts: 0,
        retry_count: 0,
        response_time_ms: None,
        updated_at: *at,
    })
}

fn apply(mut fact: MessageFact, event: &Event, body: &MessageEvent) -> MessageFact {
    let at = body.at();
    fact.version = event.sequence.cast_unsigned();
    fact.updated_at = at;
    if let Some((code, _)) = body.error_after() {
        fact.error_code = code.map(str::to_owned);
    }
    match body {
        MessageEvent::AttemptStarted { attempt, .. } => {
            fact.attempts = *attempt;
            fact.attempted_at.get_or_insert(at);
        }
        MessageEvent::MessageDelivered { .. } => drop(fact.delivered_at.get_or_insert(at)),
        MessageEvent::MessageRead { .. } => drop(fact.read_at.get_or_insert(at)),
        MessageEvent::RetryScheduled { .. } => fact.retry_count += 1,
        MessageEvent::OutcomeResolved { .. } if body.status_after() == Some(MessageStatus::Pending) => {
            fact.retry_count += 1;
        }
        _ => {}
    }
    if let Some(status) = body.status_after() {
        status.as_str().clone_into(&mut fact.status);
        match status {
            MessageStatus::Sent if fact.sent_at.is_none() => {
                fact.sent_at = Some(at);
                let due = fact.accepted_at.max(fact.planned_at);
                fact.response_time_ms = Some((at - due).num_milliseconds().max(0).cast_unsigned());
            }
            MessageStatus::Failed => drop(fact.failed_at.get_or_insert(at)),
            MessageStatus::Cancelled => drop(fact.cancelled_at.get_or_insert(at)),
            _ => {}
        }
    }
    fact
}

fn transition(old_status: Option<String>, fact: &MessageFact, event: &Event, body: &MessageEvent) -> MessageTransition {
    MessageTransition {
        tenant_id: fact.tenant_id,
        account_id: fact.account_id,
        message_id: fact.message_id,
        sequence: event.sequence.cast_unsigned(),
        event_type: body.name().to_owned(),
        old_status,
        new_status: fact.status.clone(),
        attempt: fact.attempts,
        error_code: fact.error_code.clone(),
        response_time_ms: fact
            .response_time_ms
            .filter(|_| body.status_after() == Some(MessageStatus::Sent)),
        at: body.at(),
        recorded_at: event.recorded_at,
    }
}
