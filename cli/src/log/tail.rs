//! `weft log tail`.

use std::time::Duration;

use clap::Args;
use sqlx::{PgPool, Row};
use weft_domain::LogOrder;
use weft_log_reader::Tail;

use super::line::{self, Filter};
use super::place::Place;
use super::{Failure, PAGE};

/// Between two looks.
const POLL: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(crate) struct TailArgs {
    /// How many of the newest events that pass the filter
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: u32,
    /// From this event on instead: start or a log order
    #[arg(long, conflicts_with = "lines")]
    from: Option<Place>,
    /// Goes on with the events to come
    #[arg(short, long)]
    follow: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
}

pub(crate) async fn run(args: TailArgs, pool: &PgPool) -> Result<(), Failure> {
    let after = match args.from {
        Some(place) => {
            let from = place.order(pool).await?;
            let from = from.ok_or_else(|| Failure::new("--from takes start or a log order here, no time"))?;
            LogOrder {
                position: from.position - 1,
                ..from
            }
        }
        None => before_the_last(pool, args.lines, &args.filter).await?,
    };
    let mut tail = Tail::new(pool.clone(), after);
    loop {
        let page = tail.next_raw_page(PAGE).await.map_err(Failure::new)?;
        for event in page.iter().filter(|event| args.filter.takes(event)) {
            if args.json {
                outln!("{}", line::json(event)?);
            } else {
                outln!("{}", line::text(event));
            }
        }
        if page.is_empty() {
            if !args.follow {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The place behind which there are `count` events of the filter.
async fn before_the_last(pool: &PgPool, count: u32, filter: &Filter) -> Result<LogOrder, Failure> {
    let (types, tenant) = filter.parts();
    let row = sqlx::query(
        "select epoch, transaction_id::text::bigint as transaction_id, position from events
         where ($2::text[] is null or event_type = any($2) or aggregate_type = any($2))
           and ($3::text is null or metadata ->> 'tenant_id' = $3)
         order by events.epoch desc, events.transaction_id desc, events.position desc offset $1 limit 1",
    )
    .bind(i64::from(count))
    .bind(types)
    .bind(tenant)
    .fetch_optional(pool)
    .await
    .map_err(Failure::new)?;
    let Some(row) = row else {
        return Ok(LogOrder::default());
    };
    Ok(LogOrder {
        epoch: row.try_get("epoch").map_err(Failure::new)?,
        transaction_id: row.try_get("transaction_id").map_err(Failure::new)?,
        position: row.try_get("position").map_err(Failure::new)?,
    })
}
