//! Another try with a parked stream.

use std::sync::Arc;

use uuid::Uuid;

use super::{DeadLetter, Fault};
use crate::checkpoint;
use crate::engine::{Engine, Projection};
use crate::error::ProjectionError;
use crate::event::{Decoded, Event};

/// What came of another try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// The stream's events are applied, so many of them, and it goes on.
    Applied(usize),
    /// It stays parked.
    Failed(Fault),
    /// It is not parked.
    NotParked,
}

/// Applies a parked stream's events that were put aside, in one transaction, and lets the stream go on. Works beside a
/// running projection: its checkpoints are locked meanwhile.
pub async fn retry<P: Projection>(
    engine: &Engine,
    projection: &P,
    stream: (&str, Uuid),
) -> Result<Retried, ProjectionError> {
    loop {
        let Some(letter) = find(&engine.pool, P::NAME, stream, "").await? else {
            return Ok(Retried::NotParked);
        };
        let events = match put_aside(engine, &letter).await? {
            Ok(events) => events,
            Err(fault) => return failed(engine, &letter, fault).await,
        };
        let outcome = attempt(engine, projection, &letter, &events).await;
        match outcome {
            Ok(true) => return Ok(Retried::Applied(events.len())),
            // More was put aside meanwhile.
            Ok(false) => {}
            Err(error) if error.is_deterministic() => {
                let place = events.first().map(|event| event.place());
                let fault = place.map(|place| Fault::of(&place, &error)).ok_or(error)?;
                return failed(engine, &letter, fault).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether everything that was put aside is applied; if not, nothing is.
async fn attempt<P: Projection>(
    engine: &Engine,
    projection: &P,
    letter: &DeadLetter,
    events: &[Arc<Event>],
) -> Result<bool, ProjectionError> {
    let prepared = projection.prepare(events).await?;
    let mut transaction = engine.pool.begin().await?;
    checkpoint::lock_all(&mut transaction, P::NAME).await?;
    let stream = (letter.aggregate_type.as_str(), letter.aggregate_id);
    let now = find(&mut *transaction, P::NAME, stream, "for update").await?;
    if now.is_none_or(|now| now.last_sequence != letter.last_sequence) {
        return Ok(false);
    }
    projection.write(&mut transaction, events, prepared).await?;
    sqlx::query("delete from dead_letters where projection = $1 and aggregate_type = $2 and aggregate_id = $3")
        .bind(P::NAME)
        .bind(stream.0)
        .bind(stream.1)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}

/// The events that were put aside; or what is wrong with the first that is.
async fn put_aside(engine: &Engine, letter: &DeadLetter) -> Result<Result<Vec<Arc<Event>>, Fault>, ProjectionError> {
    let raw = weft_log_reader::read_raw_stream(
        engine.log_of(&letter.partition)?,
        &letter.aggregate_type,
        &letter.aggregate_id.to_string(),
        letter.sequence,
        letter.last_sequence,
    )
    .await?;
    if raw.len() as i64 != letter.last_sequence - letter.sequence + 1 {
        return Err(ProjectionError::LogIncomplete {
            stream: letter.aggregate_id,
            missing: letter.sequence,
            found: letter.last_sequence,
        });
    }
    let mut events = Vec::with_capacity(raw.len());
    for event in &raw {
        match Event::of_log(event).map_err(ProjectionError::LogStopped)? {
            Decoded::Event(event) => events.push(event),
            Decoded::Undecodable(place, error) => return Ok(Err(Fault::of_payload(&place, &error))),
            Decoded::Foreign => {}
        }
    }
    Ok(Ok(events))
}

async fn failed(engine: &Engine, letter: &DeadLetter, fault: Fault) -> Result<Retried, ProjectionError> {
    sqlx::query(
        "update dead_letters set attempts = attempts + 1, tried_at = clock_timestamp(), fingerprint = $4, error = $5,
                state = 'parked'
         where projection = $1 and aggregate_type = $2 and aggregate_id = $3",
    )
    .bind(&letter.projection)
    .bind(&letter.aggregate_type)
    .bind(letter.aggregate_id)
    .bind(&fault.fingerprint)
    .bind(&fault.error)
    .execute(&engine.pool)
    .await?;
    Ok(Retried::Failed(fault))
}

async fn find(
    executor: impl sqlx::PgExecutor<'_>,
    projection: &str,
    stream: (&str, Uuid),
    lock: &str,
) -> Result<Option<DeadLetter>, sqlx::Error> {
    let statement = format!(
        "select * from dead_letters where projection = $1 and aggregate_type = $2 and aggregate_id = $3 {lock}"
    );
    sqlx::query_as(&statement)
        .bind(projection)
        .bind(stream.0)
        .bind(stream.1)
        .fetch_optional(executor)
        .await
}
