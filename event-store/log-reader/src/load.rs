//! Streams folded to their current state.

use cqrs_es::Aggregate;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, PgPool, Row};
use weft_domain::{LogAggregate, LogOrder};

use crate::stored::order;
use crate::typed::{DecodeError, decode};

/// An aggregate as its stream tells it.
#[derive(Clone, Debug)]
pub struct Loaded<A> {
    pub state: A,
    /// Sequence of the last event; 0 when there are none.
    pub version: i64,
    /// As the first event stored it; `None` when there are no events.
    pub partition_key: Option<String>,
    /// Where the last event stands in the log.
    pub head: Option<LogOrder>,
}

impl<A: Aggregate> Default for Loaded<A> {
    fn default() -> Self {
        Self {
            state: A::default(),
            version: 0,
            partition_key: None,
            head: None,
        }
    }
}

/// Why a stream was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the log cannot be read: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The stream is not what the log promises.
    #[error("the log is corrupt: {0}")]
    Corrupt(String),
}

/// Loads one stream; version 0 when it has no events.
pub async fn load<A: LogAggregate>(pool: &PgPool, id: &str) -> Result<Loaded<A>, LoadError> {
    let rows = sqlx::query(
        "select sequence, event_type, event_version, payload::text as payload,
                epoch, transaction_id::text::bigint as transaction_id, position,
                metadata ->> 'partition_key' as partition_key
         from events where aggregate_type = $1 and aggregate_id = $2 order by sequence",
    )
    .bind(A::TYPE)
    .bind(id)
    .fetch_all(pool)
    .await?;
    let mut loaded = Loaded::default();
    for row in &rows {
        fold(&mut loaded, id, row)?;
    }
    Ok(loaded)
}

/// Most events of one stream that `read_streams` answers.
pub const PAGE: usize = 500;

/// A part of a stream to read.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub kind: &'static str,
    pub id: String,
    /// The version that is known already.
    pub after: i64,
}

/// Reads parts of several streams of any kind in one round trip, for `Loaded::extend`: in the order of `wanted`, at most
/// `PAGE` events of each.
pub async fn read_streams(connection: &mut PgConnection, wanted: &[&Wanted]) -> Result<Vec<Vec<PgRow>>, sqlx::Error> {
    // `= any($1)` prepared on an empty table would keep its sequential scan.
    let rows = sqlx::query(
        "select wanted.ordinal, stream.*
         from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality as wanted (kind, id, after, ordinal)
         cross join lateral (
           select sequence, event_type, event_version, payload::text as payload,
                  epoch, transaction_id::text::bigint as transaction_id, position,
                  metadata ->> 'partition_key' as partition_key
           from events
           where aggregate_type = wanted.kind and aggregate_id = wanted.id and sequence > wanted.after
           order by sequence limit $4) stream
         order by wanted.ordinal, stream.sequence",
    )
    .bind(wanted.iter().map(|wanted| wanted.kind).collect::<Vec<_>>())
    .bind(wanted.iter().map(|wanted| wanted.id.as_str()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|wanted| wanted.after).collect::<Vec<_>>())
    .bind(PAGE as i64)
    .fetch_all(connection)
    .await?;
    let mut streams: Vec<Vec<PgRow>> = wanted.iter().map(|_| Vec::new()).collect();
    for row in rows {
        let index = row.try_get::<i64, _>("ordinal")? as usize - 1;
        streams[index].push(row);
    }
    Ok(streams)
}

impl<A: LogAggregate> Loaded<A> {
    /// Folds what `read_streams` answered for the stream `id`; events that are folded already are passed over.
    pub fn extend(&mut self, id: &str, rows: &[PgRow]) -> Result<(), LoadError> {
        for row in rows {
            if row.try_get::<i64, _>("sequence")? > self.version {
                fold(self, id, row)?;
            }
        }
        Ok(())
    }
}

/// Loads several streams in one round trip, in the order of `ids`.
pub async fn load_many<A: LogAggregate>(log: impl PgExecutor<'_>, ids: &[String]) -> Result<Vec<Loaded<A>>, LoadError> {
    // `= any($1)` prepared on an empty table would keep its sequential scan.
    let rows = sqlx::query(
        "select wanted.ordinal, stream.*
         from unnest($2::text[]) with ordinality as wanted (id, ordinal)
         cross join lateral (
           select sequence, event_type, event_version, payload::text as payload,
                  epoch, transaction_id::text::bigint as transaction_id, position,
                  metadata ->> 'partition_key' as partition_key
           from events where aggregate_type = $1 and aggregate_id = wanted.id) stream
         order by wanted.ordinal, stream.sequence",
    )
    .bind(A::TYPE)
    .bind(ids)
    .fetch_all(log)
    .await?;
    let mut loaded: Vec<Loaded<A>> = ids.iter().map(|_| Loaded::default()).collect();
    for row in &rows {
        let index = row.try_get::<i64, _>("ordinal")? as usize - 1;
        fold(&mut loaded[index], &ids[index], row)?;
    }
    Ok(loaded)
}

/// The events of one stream after `version`, decoded, with their sequences.
pub async fn load_events<A: Aggregate>(
    pool: &PgPool,
    id: &str,
    version: i64,
) -> Result<Vec<(i64, A::Event)>, LoadError> {
    let rows = sqlx::query(
        "select sequence, event_type, event_version, payload::text as payload
         from events where aggregate_type = $1 and aggregate_id = $2 and sequence > $3 order by sequence",
    )
    .bind(A::TYPE)
    .bind(id)
    .bind(version)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("sequence")?, event::<A>(row)?)))
        .collect()
}

fn fold<A: LogAggregate>(loaded: &mut Loaded<A>, id: &str, row: &PgRow) -> Result<(), LoadError> {
    let sequence: i64 = row.try_get("sequence")?;
    if sequence != loaded.version + 1 {
        let (kind, version) = (A::TYPE, loaded.version);
        return Err(LoadError::Corrupt(format!(
            "{kind} {id}: event {sequence} follows event {version}"
        )));
    }
    if loaded.version == 0 {
        let stored: Option<String> = row.try_get("partition_key")?;
        loaded.partition_key = Some(stored.unwrap_or_else(|| id.to_owned()));
    }
    loaded.state.apply(event::<A>(row)?);
    loaded.version = sequence;
    loaded.head = Some(order(row)?);
    Ok(())
}

fn event<A: Aggregate>(row: &PgRow) -> Result<A::Event, LoadError> {
    let event_type: &str = row.try_get("event_type")?;
    let version: &str = row.try_get("event_version")?;
    let payload: &str = row.try_get("payload")?;
    Ok(decode::<A>(event_type, version, payload.as_bytes())?)
}
