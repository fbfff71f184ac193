//! Imports history: events that another log has recorded, appended in one transaction.
//!
//! They get new places at the end of this log, in the order in which they are given, and keep when they were recorded. What
//! the append would have written beside them follows from them: claims, and quota counters of days that are not over. What
//! the log holds already, event by event, is passed over, so that the same history can be imported again.

mod chunk;
mod holdings;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgDatabaseError;
use sqlx::{PgPool, Postgres, Row, Transaction};
use weft_log_reader::LoadError;

use crate::archive::FENCE;
use chunk::Checked;
use holdings::Holdings;

pub use chunk::{Chunk, Chunker, PastEvent};

/// Streams whose ends are remembered, so that a stream that comes again is not looked up again.
const REMEMBERED: usize = 100_000;
/// Everything that ended longer ago than this is of no tenant's today.
const LOCAL_DAYS: TimeDelta = TimeDelta::days(2);

const COPY: &str = "copy events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
    epoch, recorded_at) from stdin (format binary)";

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the log cannot be written: {0}")]
    Database(#[from] sqlx::Error),
    /// The history is not sound, or not one that this log can take.
    #[error("{event}: {what}")]
    Refused {
        /// As it was given with the event.
        line: u64,
        /// `<aggregate type>/<aggregate id>:<sequence>`
        event: String,
        what: String,
    },
}

impl From<LoadError> for ImportError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Database(error) => Self::Database(error),
            other => Self::Database(sqlx::Error::Decode(other.into())),
        }
    }
}

/// What an import has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Events that the log has now and had not before.
    pub events: u64,
    /// Streams that begin with one of them.
    pub streams: u64,
    /// Events that the log had already.
    pub present: u64,
}

/// The end of a stream, and what every event of it has to agree with.
#[derive(Clone, Debug, Default)]
struct Stream {
    version: i64,
    tenant_id: Option<String>,
    partition_key: Option<String>,
}

/// One import. Nothing of it is in the log before `commit`; dropped, it leaves nothing.
#[derive(Debug)]
pub struct Import {
    transaction: Transaction<'static, Postgres>,
    epoch: i16,
    now: DateTime<Utc>,
    streams: HashMap<String, Stream>,
    holdings: Holdings,
    imported: Imported,
    /// Thousands of texts, to be freed while Postgres is busy.
    spent: Option<Chunk>,
}

impl Import {
    /// `pool` as `weft_log`.
    pub async fn begin(pool: &PgPool, now: DateTime<Utc>) -> Result<Self, ImportError> {
        let mut transaction = pool.begin().await?;
        // One chunk's COPY is a statement. Plans that are made while the tables are empty must not read them whole later.
        sqlx::query(
            "select set_config('synchronous_commit', 'on', true), set_config('statement_timeout', '60s', true),
                    set_config('lock_timeout', '10s', true),
                    set_config('idle_in_transaction_session_timeout', '5min', true),
                    set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
                    set_config('enable_mergejoin', 'off', true)",
        )
        .execute(&mut *transaction)
        .await?;
        // From here on the log is not adopted before this ends.
        sqlx::query("lock table only events in row exclusive mode")
            .execute(&mut *transaction)
            .await?;
        let epoch = sqlx::query_scalar("select epoch from log_identity")
            .fetch_one(&mut *transaction)
            .await?;
        Ok(Self {
            transaction,
            epoch,
            now,
            streams: HashMap::new(),
            holdings: Holdings::default(),
            imported: Imported::default(),
            spent: None,
        })
    }

    /// Makes chunks for this import; on whatever thread, while another chunk is added.
    pub fn chunker(&self, max_event_bytes: usize) -> Chunker {
        Chunker::new(self.epoch, self.now - LOCAL_DAYS, max_event_bytes)
    }

    pub const fn imported(&self) -> Imported {
        self.imported
    }

    /// Adds the next events.
    pub async fn add(&mut self, chunk: Chunk) -> Result<(), ImportError> {
        if self.streams.len() > REMEMBERED {
            self.streams.clear();
        }
        self.look_up(&chunk).await?;
        let (mut fresh, mut present) = (Vec::with_capacity(chunk.events.len()), Vec::new());
        for (index, event) in chunk.events.iter().enumerate() {
            let stream = self.streams.entry(event.stream.clone()).or_default();
            if event.sequence <= stream.version {
                present.push(index);
                continue;
            }
            stream.take(event)?;
            self.imported.streams += u64::from(stream.version == 1);
            fresh.push(index);
        }
        if !fresh.is_empty() {
            self.copy(&chunk, &fresh).await?;
        }
        // Afterwards, so that it also meets what this chunk has twice.
        self.compare(&chunk, &present).await?;
        self.imported.events += fresh.len() as u64;
        self.imported.present += present.len() as u64;
        self.spent = Some(chunk);
        Ok(())
    }

    /// Makes it last. Where the answer is lost, importing the same once more tells: what was committed is there already.
    pub async fn commit(mut self) -> Result<Imported, ImportError> {
        self.holdings.settle(&mut self.transaction, self.now).await?;
        self.transaction.commit().await?;
        Ok(self.imported)
    }

    /// Remembers the streams of the chunk that the log has and that were not met yet.
    async fn look_up(&mut self, chunk: &Chunk) -> Result<(), ImportError> {
        let mut unknown: Vec<&Checked> = Vec::new();
        for event in &chunk.events {
            if !self.streams.contains_key(&event.stream) {
                self.streams.insert(event.stream.clone(), Stream::default());
                unknown.push(event);
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(
            "select wanted.ordinal, head.sequence, first.tenant_id, first.partition_key
             from unnest($1::text[], $2::text[]) with ordinality as wanted (kind, id, ordinal)
             cross join lateral (
               select sequence from events where aggregate_type = wanted.kind and aggregate_id = wanted.id
               order by sequence desc limit 1) head
             cross join lateral (
               select tenant_id, metadata ->> 'partition_key' as partition_key
               from events where aggregate_type = wanted.kind and aggregate_id = wanted.id
               order by sequence limit 1) first",
        )
        .bind(unknown.iter().map(|event| event.name().0).collect::<Vec<_>>())
        .bind(unknown.iter().map(|event| event.name().1).collect::<Vec<_>>())
        .fetch_all(&mut *self.transaction)
        .await?;
        for row in rows {
            let event = unknown[row.try_get::<i64, _>("ordinal")? as usize - 1];
            let stream = Stream {
                version: row.try_get("sequence")?,
                tenant_id: row.try_get("tenant_id")?,
                partition_key: row.try_get("partition_key")?,
            };
            self.streams.insert(event.stream.clone(), stream);
        }
        Ok(())
    }

    /// Writes the named events of the chunk, and notes what they hold.
    async fn copy(&mut self, chunk: &Chunk, fresh: &[usize]) -> Result<(), ImportError> {
        let whole = fresh.len() == chunk.events.len();
        let mut copy = self.transaction.copy_in_raw(COPY).await?;
        if whole {
            copy.send(chunk.rows.as_slice()).await?;
        } else {
            copy.send(chunk.only(fresh)).await?;
        }
        // While Postgres works.
        for index in fresh {
            self.holdings.note(&chunk.events[*index]);
        }
        drop(self.spent.take());
        let Err(error) = copy.finish().await else { return Ok(()) };
        let refused = error.as_database_error().and_then(|error| {
            let postgres = error.try_downcast_ref::<PgDatabaseError>()?;
            let refused = |event: &Checked, what: String| Some(event.refused(what));
            // The last line of it: "COPY events, line 17, column payload"
            let (_, place) = postgres.r#where()?.rsplit_once("COPY events, line ")?;
            let number: usize = place.split([',', ':']).next()?.trim().parse().ok()?;
            let event = &chunk.events[*fresh.get(number - 1)?];
            match postgres.code().get(..2)? {
                "23" if error.constraint().is_some_and(|name| name.starts_with(FENCE)) => refused(
                    event,
                    "its month is archived in this log and takes no more events".to_owned(),
                ),
                // Which of many keys it was stands in the detail.
                "23" if error.is_unique_violation() => refused(
                    event,
                    format!(
                        "a stream was appended to meanwhile ({}): import again",
                        postgres.detail().unwrap_or_default()
                    ),
                ),
                "22" | "23" | "54" => refused(event, format!("the log refuses it: {}", postgres.message())),
                _ => None,
            }
        });
        Err(refused.unwrap_or(ImportError::Database(error)))
    }

    /// That the log holds the named events of the chunk just as they are given.
    async fn compare(&mut self, chunk: &Chunk, present: &[usize]) -> Result<(), ImportError> {
        let Some(first) = present.first() else { return Ok(()) };
        let events = || present.iter().map(|index| &chunk.events[*index]);
        let equal: Result<Vec<i64>, sqlx::Error> = sqlx::query_scalar(
            "select sent.ordinal
             from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[]) with ordinality
               as sent (kind, id, sequence, event_type, event_version, payload, metadata, ordinal)
             cross join lateral (
               select from events e
               where e.aggregate_type = sent.kind and e.aggregate_id = sent.id and e.sequence = sent.sequence
                 and e.event_type = sent.event_type and e.event_version = sent.event_version
                 and e.payload = sent.payload::jsonb and e.metadata = sent.metadata::jsonb) stored
             order by 1",
        )
        .bind(events().map(|event| event.name().0).collect::<Vec<_>>())
        .bind(events().map(|event| event.name().1).collect::<Vec<_>>())
        .bind(events().map(|event| event.sequence).collect::<Vec<_>>())
        .bind(events().map(|event| event.event_type.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.event_version.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.payload.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.metadata.as_str()).collect::<Vec<_>>())
        .fetch_all(&mut *self.transaction)
        .await;
        let equal = equal.map_err(|error| match error.as_database_error() {
            Some(refused) if refused.code().is_some_and(|code| code.starts_with("22")) => {
                chunk.events[*first].refused(format!(
                    "it, or an event behind it, is none that a log can hold: {}",
                    refused.message()
                ))
            }
            _ => ImportError::Database(error),
        })?;
        let differs = events()
            .zip(1..)
            .find(|(_, ordinal)| equal.get(*ordinal as usize - 1) != Some(ordinal));
        match differs {
            None => Ok(()),
            Some((event, _)) => Err(event.refused("the log holds another event in its place".to_owned())),
        }
    }
}

impl Stream {
    /// The stream goes on with `event`.
    fn take(&mut self, event: &Checked) -> Result<(), ImportError> {
        let next = self.version + 1;
        if event.sequence != next {
            let sequence = event.sequence;
            return Err(event.refused(format!("a gap: event {sequence} comes where {next} should")));
        }
        if self.version == 0 {
            if event.tenant_id.is_none() {
                return Err(event.refused("names no tenant".to_owned()));
            }
            self.tenant_id.clone_from(&event.tenant_id);
            self.partition_key.clone_from(&event.partition_key);
        }
        // What stock postgres-es appends may name neither: the stream's first event counts.
        if event.tenant_id.is_some() && event.tenant_id != self.tenant_id {
            return Err(event.refused("belongs to another tenant than its stream".to_owned()));
        }
        if event.partition_key.is_some() && event.partition_key != self.partition_key {
            return Err(event.refused("has another partition key than its stream".to_owned()));
        }
        self.version = next;
        Ok(())
    }
}
