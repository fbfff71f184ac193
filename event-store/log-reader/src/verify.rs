//! Reads a whole log as today's code does, and says what is wrong with it.
//!
//! Streams are read one after the other, in the order of the primary key, so that a log of any size takes the memory of
//! one page.

use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use weft_domain::LogOrder;

use crate::head::newest;
use crate::load::LoadError;
use crate::stored::order;
use crate::tail::Tail;
use crate::typed;

const PAGE: i64 = 5_000;

/// One event that is not what the log promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `<aggregate type>/<aggregate id>:<sequence>`
    pub event: String,
    pub what: String,
}

/// An event to be checked.
#[derive(Debug)]
struct Checked {
    aggregate_type: String,
    aggregate_id: String,
    sequence: i64,
    event_type: String,
    event_version: String,
    payload: String,
    order: LogOrder,
    tenant_id: Option<String>,
    partition_key: Option<String>,
}

/// How far a verification has come.
#[derive(Debug)]
pub struct Verification {
    pool: PgPool,
    head: LogOrder,
    last: Option<Checked>,
    /// Of the first event of the stream at hand.
    tenant_id: Option<String>,
    partition_key: Option<String>,
    pub events: u64,
    pub streams: u64,
    /// Events of an older version.
    pub upcast: u64,
}

impl Verification {
    /// Of what is settled now.
    pub async fn begin(pool: PgPool) -> Result<Self, LoadError> {
        Ok(Self {
            head: newest(&pool).await?,
            pool,
            last: None,
            tenant_id: None,
            partition_key: None,
            events: 0,
            streams: 0,
            upcast: 0,
        })
    }

    /// The newest event that is verified.
    pub const fn head(&self) -> LogOrder {
        self.head
    }

    /// Checks the next page; `None` when there is no more. `fits` checks a payload against its landed schema: aggregate
    /// type, event type, version, payload.
    pub async fn next_page(
        &mut self,
        fits: impl Fn(&str, &str, &str, &str) -> Result<(), String>,
    ) -> Result<Option<Vec<Problem>>, LoadError> {
        let events = self.read().await?;
        if events.is_empty() {
            return Ok(None);
        }
        let mut problems = Vec::new();
        for event in events {
            let name = format!("{}/{}:{}", event.aggregate_type, event.aggregate_id, event.sequence);
            let found = self.check(&event).into_iter().chain(
                fits(
                    &event.aggregate_type,
                    &event.event_type,
                    &event.event_version,
                    &event.payload,
                )
                .err(),
            );
            problems.extend(found.map(|what| Problem {
                event: name.clone(),
                what,
            }));
            self.last = Some(event);
        }
        Ok(Some(problems))
    }

    async fn read(&self) -> Result<Vec<Checked>, LoadError> {
        let after = self.last.as_ref();
        // Behind subqueries for the planner's sake, as the tail's.
        let mut rows = sqlx::query(
            "select aggregate_type, aggregate_id, sequence, event_type, event_version, payload::text as payload,
                    epoch, transaction_id::text::bigint as transaction_id, position, tenant_id,
                    metadata ->> 'partition_key' as partition_key
             from events
             where (aggregate_type, aggregate_id, sequence)
                   > ((select $1::text), (select $2::text), (select $3::bigint))
               and (epoch, transaction_id, position) <= ($4, $5::text::xid8, $6)
             order by aggregate_type, aggregate_id, sequence limit $7",
        )
        .bind(after.map_or("", |last| &last.aggregate_type))
        .bind(after.map_or("", |last| &last.aggregate_id))
        .bind(after.map_or(-1, |last| last.sequence))
        .bind(self.head.epoch)
        .bind(self.head.transaction_id.to_string())
        .bind(self.head.position)
        .bind(PAGE)
        .fetch(&self.pool);
        let (mut events, mut bytes) = (Vec::new(), 0);
        while bytes < Tail::PAGE_BYTES
            && let Some(row) = rows.try_next().await?
        {
            let event = checked(&row)?;
            bytes += event.payload.len();
            events.push(event);
        }
        Ok(events)
    }

    /// What is wrong with the next event of the log.
    fn check(&mut self, event: &Checked) -> Vec<String> {
        let mut problems = Vec::new();
        let previous = self
            .last
            .as_ref()
            .filter(|last| (&last.aggregate_type, &last.aggregate_id) == (&event.aggregate_type, &event.aggregate_id));
        self.events += 1;
        let expected = previous.map_or(1, |last| last.sequence + 1);
        if event.sequence != expected {
            problems.push(format!("a gap: event {} comes where {expected} should", event.sequence));
        }
        if let Some(last) = previous {
            if event.order <= last.order {
                problems.push(format!(
                    "stands at {} in the log, before its predecessor at {}",
                    event.order, last.order
                ));
            }
        } else {
            self.streams += 1;
            self.tenant_id.clone_from(&event.tenant_id);
            self.partition_key.clone_from(&event.partition_key);
            if event.tenant_id.is_none() {
                problems.push("names no tenant".to_owned());
            }
        }
        // What stock postgres-es appends may name neither: the stream's first event counts.
        if event.tenant_id.is_some() && event.tenant_id != self.tenant_id {
            problems.push("belongs to another tenant than its stream".to_owned());
        }
        if event.partition_key.is_some() && event.partition_key != self.partition_key {
            problems.push("has another partition key than its stream".to_owned());
        }
        match typed::check(
            &event.aggregate_type,
            &event.event_type,
            &event.event_version,
            event.payload.as_bytes(),
        ) {
            Ok(is_old) => self.upcast += u64::from(is_old),
            Err(problem) => problems.push(problem),
        }
        problems
    }
}

fn checked(row: &PgRow) -> Result<Checked, sqlx::Error> {
    Ok(Checked {
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        sequence: row.try_get("sequence")?,
        event_type: row.try_get("event_type")?,
        event_version: row.try_get("event_version")?,
        payload: row.try_get("payload")?,
        order: order(row)?,
        tenant_id: row.try_get("tenant_id")?,
        partition_key: row.try_get("partition_key")?,
    })
}
