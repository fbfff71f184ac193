//! `weft log show`.

use clap::Args;
use sqlx::PgPool;
use weft_log_reader::{RawEvent, read_raw_stream};
use weft_platform::config::Config;
use weft_platform::kafka::AGGREGATES;

use super::{Failure, line, pool};

/// Events of a stream read at once.
const STEP: i64 = 500;

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// `<aggregate>/<id>`, such as message/01930000-0000-7000-8000-000000000001; the id alone will do
    stream: String,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: ShowArgs, logs: &[Config]) -> Result<(), Failure> {
    for log in logs {
        let pool = pool(log).await?;
        if let Some((kind, id)) = stream(&args.stream, &pool).await?
            && print(&pool, &kind, &id, args.json).await?
        {
            return Ok(());
        }
    }
    Err(Failure::new(format!(
        "there is no stream {}: say its id, or one of {} before it, as in message/<id>; weft log tail prints streams",
        args.stream,
        AGGREGATES.join(", ")
    )))
}

/// Whether there is anything to print.
async fn print(pool: &PgPool, kind: &str, id: &str, json: bool) -> Result<bool, Failure> {
    let mut first = 0;
    loop {
        let events = read_raw_stream(pool, kind, id, first, first + STEP - 1)
            .await
            .map_err(Failure::new)?;
        let Some(last) = events.last().map(|event| event.sequence) else {
            return Ok(first > 0);
        };
        for event in events {
            let event = current(event)?;
            if json {
                outln!("{}", line::json(&event)?);
            } else {
                outln!("{}", line::text(&event));
            }
        }
        first = last + 1;
    }
}

/// The event in today's version.
fn current(event: RawEvent) -> Result<RawEvent, Failure> {
    let upcast = event.clone().upcast().map_err(Failure::new)?;
    Ok(RawEvent {
        event_version: upcast.event_version,
        payload: upcast.payload.to_string(),
        ..event
    })
}

/// Kind and id of the stream that was named; `None` where only the id was, and this log does not have it.
async fn stream(named: &str, pool: &PgPool) -> Result<Option<(String, String)>, Failure> {
    if let Some((kind, id)) = named.split_once('/') {
        return Ok(Some((kind.to_owned(), id.to_owned())));
    }
    let kind: Option<String> = sqlx::query_scalar(
        "select aggregate_type from unnest($1::text[]) as known (aggregate_type)
         where exists (select from events e where e.aggregate_type = known.aggregate_type and e.aggregate_id = $2)",
    )
    .bind(AGGREGATES)
    .bind(named)
    .fetch_optional(pool)
    .await
    .map_err(Failure::new)?;
    Ok(kind.map(|kind| (kind, named.to_owned())))
}
