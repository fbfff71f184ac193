//! The log in log order.
//!
//! A position is drawn before its transaction commits, so a reader that asks for `position > last` passes rows that
//! appear later, below what it has seen (about 6 % under 32 writers). Only rows of transactions older than every
//! running one are settled: nothing can appear before them any more.

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use weft_domain::LogOrder;

use crate::load::LoadError;
use crate::stored::{Envelope, StoredEvent};
use crate::upcast::upcast;

/// An event for those who only pass it on: payload and metadata stay the JSON texts that are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct RawEvent {
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub sequence: i64,
    pub event_type: String,
    pub event_version: String,
    pub payload: String,
    pub metadata: String,
    pub order: LogOrder,
    pub recorded_at: DateTime<Utc>,
    /// Fixed by the stream's first event.
    pub partition_key: String,
    pub tenant_id: Option<String>,
}

/// Reads the log from a place on, page by page; each event once, in log order.
#[derive(Clone, Debug)]
pub struct Tail {
    pool: PgPool,
    after: LogOrder,
    until: Option<LogOrder>,
    aggregate_types: Option<Vec<String>>,
    /// Events that filled the last page to `PAGE_BYTES`: no more are asked for next time.
    fitting: i64,
}

/// What a `RawEvent` is read from, in the order in which `raw_event` takes it. A stream's first event carries its partition key and tenant; an event that stock
/// postgres-es appended without them takes those.
const COLUMNS: &str = "aggregate_type, aggregate_id, sequence, event_type, event_version, payload::text,
    metadata::text, epoch, transaction_id::text::bigint, position, recorded_at,
    coalesce(
      metadata ->> 'partition_key',
      (select first.metadata ->> 'partition_key' from events first
       where first.aggregate_type = events.aggregate_type and first.aggregate_id = events.aggregate_id
       order by first.sequence limit 1),
      aggregate_id),
    coalesce(
      tenant_id,
      (select first.tenant_id from events first
       where first.aggregate_type = events.aggregate_type and first.aggregate_id = events.aggregate_id
       order by first.sequence limit 1))";

impl Tail {
    /// Starts behind `after`; `LogOrder::default()` is before every event.
    pub const fn new(pool: PgPool, after: LogOrder) -> Self {
        Self {
            pool,
            after,
            until: None,
            aggregate_types: None,
            fitting: i64::MAX,
        }
    }

    /// A page ends with the event whose payload passes this.
    pub const PAGE_BYTES: usize = 8 << 20;

    /// Ends with the event at `until`, or the last one before it.
    #[must_use]
    pub const fn until(mut self, until: LogOrder) -> Self {
        self.until = Some(until);
        self
    }

    /// Reads the events of these aggregates alone.
    #[must_use]
    pub fn of(mut self, aggregate_types: &[&str]) -> Self {
        self.aggregate_types = Some(aggregate_types.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    /// Where the last page ended.
    pub const fn after(&self) -> LogOrder {
        self.after
    }

    /// The next settled events, at most `limit` and about `PAGE_BYTES`; empty when there are none yet.
    pub async fn next_page(&mut self, limit: i64) -> Result<Vec<StoredEvent>, LoadError> {
        let raw = self.next_raw_page(limit).await?;
        raw.into_iter().map(RawEvent::upcast).collect()
    }

    /// As `next_page`, without looking into the payloads.
    pub async fn next_raw_page(&mut self, limit: i64) -> Result<Vec<RawEvent>, LoadError> {
        let bound = self.until.map_or(
            "",
            |_| "and (epoch, transaction_id, position) <= ($5, $6::text::xid8, $7)",
        );
        let kinds = match (&self.aggregate_types, self.until) {
            (None, _) => "",
            (Some(_), None) => "and aggregate_type = any($5)",
            (Some(_), Some(_)) => "and aggregate_type = any($8)",
        };
        // Ordered by the table's columns, not by those of the answer, which the index knows nothing of. Behind subqueries,
        // because the planner guesses from the first value alone, here "no later epoch, no rows": of a log with archived
        // months it then reads and sorts all that is left for every page, instead of merging the tables' indexes.
        let statement = format!(
            "select {COLUMNS}
             from events
             where (epoch, transaction_id, position)
                   > ((select $1::smallint), (select $2::text::xid8), (select $3::bigint))
               and (epoch < (select identity.epoch from log_identity identity)
                    or transaction_id < pg_snapshot_xmin(pg_current_snapshot()))
               {bound} {kinds}
             order by events.epoch, events.transaction_id, events.position
             limit $4"
        );
        let mut query = sqlx::query(&statement)
            .bind(self.after.epoch)
            .bind(self.after.transaction_id.to_string())
            .bind(self.after.position)
            .bind(limit.min(self.fitting));
        if let Some(until) = self.until {
            query = query
                .bind(until.epoch)
                .bind(until.transaction_id.to_string())
                .bind(until.position);
        }
        if let Some(kinds) = &self.aggregate_types {
            query = query.bind(kinds);
        }
        let mut rows = query.fetch(&self.pool);
        let (mut events, mut bytes) = (Vec::new(), 0);
        while bytes < Self::PAGE_BYTES
            && let Some(row) = rows.try_next().await?
        {
            let event = raw_event(&row)?;
            bytes += event.payload.len();
            events.push(event);
        }
        drop(rows);
        self.fitting = if bytes < Self::PAGE_BYTES {
            self.fitting.saturating_mul(2)
        } else {
            events.len() as i64
        };
        if let Some(last) = events.last() {
            self.after = last.order;
        }
        Ok(events)
    }

    /// Whether events ahead, up to `until`, are committed but not settled: an older transaction still runs, so an empty
    /// page is not the end.
    pub async fn has_unsettled(&self) -> Result<bool, LoadError> {
        let until = self.until.unwrap_or(LogOrder {
            epoch: i16::MAX,
            transaction_id: i64::MAX,
            position: i64::MAX,
        });
        let unsettled = sqlx::query_scalar(
            "select exists (select from events
                where (epoch, transaction_id, position) > ($1, $2::text::xid8, $3)
                  and (epoch, transaction_id, position) <= ($4, $5::text::xid8, $6)
                  and epoch = (select identity.epoch from log_identity identity)
                  and transaction_id >= pg_snapshot_xmin(pg_current_snapshot()))",
        )
        .bind(self.after.epoch)
        .bind(self.after.transaction_id.to_string())
        .bind(self.after.position)
        .bind(until.epoch)
        .bind(until.transaction_id.to_string())
        .bind(until.position)
        .fetch_one(&self.pool)
        .await?;
        Ok(unsettled)
    }
}

/// The events of one stream from `first` to `last`, both inclusive, in their order.
pub async fn read_raw_stream(
    pool: &PgPool,
    aggregate_type: &str,
    aggregate_id: &str,
    first: i64,
    last: i64,
) -> Result<Vec<RawEvent>, LoadError> {
    let statement = format!(
        "select {COLUMNS} from events
         where aggregate_type = $1 and aggregate_id = $2 and sequence between $3 and $4 order by sequence"
    );
    let rows = sqlx::query(&statement)
        .bind(aggregate_type)
        .bind(aggregate_id)
        .bind(first)
        .bind(last)
        .fetch_all(pool)
        .await?;
    Ok(rows.iter().map(raw_event).collect::<Result<Vec<_>, sqlx::Error>>()?)
}

/// Events of the streams of one aggregate up to the id `end` (exclusive), by stream and sequence, behind an event; at most
/// `limit`.
pub async fn read_raw_range(
    pool: &PgPool,
    aggregate_type: &str,
    (id, sequence): (&str, i64),
    end: &str,
    limit: i64,
) -> Result<Vec<RawEvent>, LoadError> {
    let statement = format!(
        "select {COLUMNS} from events
         where aggregate_type = $1 and (aggregate_id, sequence) > ($2, $3) and aggregate_id < $4
         order by events.aggregate_type, events.aggregate_id, events.sequence limit $5"
    );
    let rows = sqlx::query(&statement)
        .bind(aggregate_type)
        .bind(id)
        .bind(sequence)
        .bind(end)
        .bind(limit)
        .fetch_all(pool)
        .await?;
    Ok(rows.iter().map(raw_event).collect::<Result<Vec<_>, sqlx::Error>>()?)
}

impl RawEvent {
    /// What the metadata say of the call behind the event.
    pub fn envelope(&self) -> Envelope<'_> {
        Envelope::of(&self.metadata)
    }

    /// Brings the payload to its current version.
    pub fn upcast(self) -> Result<StoredEvent, LoadError> {
        let corrupt = |error| {
            let (kind, id, sequence) = (&self.aggregate_type, &self.aggregate_id, self.sequence);
            LoadError::Corrupt(format!("{kind} {id}:{sequence}: {error}"))
        };
        let mut payload = serde_json::from_str(&self.payload).map_err(corrupt)?;
        let metadata = serde_json::from_str(&self.metadata).map_err(corrupt)?;
        let version = upcast(
            &self.aggregate_type,
            &self.event_type,
            &self.event_version,
            &mut payload,
        )
        .into_owned();
        Ok(StoredEvent {
            aggregate_type: self.aggregate_type,
            aggregate_id: self.aggregate_id,
            sequence: self.sequence,
            event_type: self.event_type,
            event_version: version,
            payload,
            metadata,
            order: self.order,
            recorded_at: self.recorded_at,
            tenant_id: self.tenant_id,
        })
    }
}

/// By place: a look-up by name costs more than the value.
fn raw_event(row: &PgRow) -> Result<RawEvent, sqlx::Error> {
    Ok(RawEvent {
        aggregate_type: row.try_get(0)?,
        aggregate_id: row.try_get(1)?,
        sequence: row.try_get(2)?,
        event_type: row.try_get(3)?,
        event_version: row.try_get(4)?,
        payload: row.try_get(5)?,
        metadata: row.try_get(6)?,
        order: LogOrder {
            epoch: row.try_get(7)?,
            transaction_id: row.try_get(8)?,
            position: row.try_get(9)?,
        },
        recorded_at: row.try_get(10)?,
        partition_key: row.try_get(11)?,
        tenant_id: row.try_get(12)?,
    })
}
