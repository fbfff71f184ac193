//! Rebuilds the queues from the log: `weft workers rebuild`, and by itself where Kafka cannot tell everything.
//!
//! Own-send callbacks that are parked stay: they come from callbacks, not from the log. So do the offsets: what the feed
//! reads again it has in the queues already.

use std::fmt;

use sqlx::{Connection, PgConnection, PgPool};
use weft_domain::LogOrder;
use weft_log_reader::typed::DecodeError;
use weft_log_reader::{StoredEvent, Tail};
use weft_log_writer::Executor;
use weft_platform::clock::Clock;
use weft_platform::config::Config;

use crate::error::WorkerError;
use crate::pool::queue_pool;
use crate::queue::{Fact, REBUILD_LOCK, Source, apply, apply_what_fits};

const PAGE: i64 = 2_000;

/// What a rebuild did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    pub events: u64,
    pub accounts: i64,
    pub messages: i64,
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rebuilt the queues from {} events: {} accounts, {} messages that have not ended",
            self.events, self.accounts, self.messages
        )
    }
}

/// Rebuilds the queues. Dispatch and feed pause meanwhile.
pub async fn rebuild(config: &Config, executor: &Executor) -> Result<Rebuilt, WorkerError> {
    let pool = queue_pool(config)?;
    rebuild_queues(&pool, executor, config, &Clock::system()).await
}

pub(crate) async fn rebuild_queues(
    pool: &PgPool,
    executor: &Executor,
    config: &Config,
    clock: &Clock,
) -> Result<Rebuilt, WorkerError> {
    // Its own connection: the lock is the session's, and ends with it.
    let mut lock = PgConnection::connect(config.log.url.expose()).await?;
    sqlx::query("select pg_advisory_lock($1)")
        .bind(REBUILD_LOCK)
        .execute(&mut lock)
        .await?;
    // Leases go with the rows: whoever holds a lane finds it lost. Jobs keep what their workers remember.
    for (table, key) in [
        ("messages", "message_id"),
        ("account_lanes", "account_id"),
        ("receipts", "message_id"),
    ] {
        empty(pool, table, key).await?;
    }
    let mut rebuilt = Rebuilt::default();
    let mut tail = Tail::new(executor.pool().clone(), LogOrder::default());
    loop {
        let page = tail.next_page(PAGE).await?;
        if page.is_empty() {
            break;
        }
        rebuilt.events += page.len() as u64;
        let facts = page
            .iter()
            .filter_map(|event| fact(event).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let now = clock.now();
        let mut transaction = pool.begin().await?;
        match apply(&mut transaction, &facts, Source::Rebuild, now, || now)
            .await
            .map_err(WorkerError::from)
        {
            Ok(_) => {}
            Err(error) if error.is_lasting() => {
                transaction.rollback().await?;
                transaction = pool.begin().await?;
                apply_what_fits(&mut transaction, &facts, Source::Rebuild, now, || now).await?;
            }
            Err(error) => return Err(error),
        }
        transaction.commit().await?;
    }
    // Nobody has these in hand: the next owner of each lane settles them before it sends.
    sqlx::query(
        "with sending as (
           select account_id, array_agg(message_id) as ids from workers.messages
           where state = 'sending' group by account_id),
         locked as (
           select account_id from workers.account_lanes where account_id in (select account_id from sending)
           order by account_id for update)
         update workers.account_lanes lane set in_flight = sending.ids
         from sending join locked using (account_id)
         where lane.account_id = sending.account_id",
    )
    .execute(pool)
    .await?;
    (rebuilt.accounts, rebuilt.messages) =
        sqlx::query_as("select (select count(*) from workers.account_lanes), (select count(*) from workers.messages)")
            .fetch_one(pool)
            .await?;
    lock.close().await?;
    tracing::info!(
        rebuilt.events,
        rebuilt.accounts,
        rebuilt.messages,
        "the queues were rebuilt from the log"
    );
    Ok(rebuilt)
}

/// As the feed does: only an event of a newer program stops.
fn fact(event: &StoredEvent) -> Result<Option<Fact>, DecodeError> {
    match Fact::from_stored(event) {
        Err(error @ DecodeError::Undecodable { .. }) => {
            tracing::error!(event.id = %format!("{}:{}", event.aggregate_id, event.sequence), %error, "the workers leave an event out");
            Ok(None)
        }
        fact => fact,
    }
}

/// In small transactions: a long one would hold back every reader of the log's tail.
async fn empty(pool: &PgPool, table: &'static str, key: &'static str) -> Result<(), sqlx::Error> {
    let sql = format!(
        "delete from workers.{table} where {key} in (
           select {key} from workers.{table} order by {key} limit {PAGE} for update)"
    );
    while sqlx::query(&sql).execute(pool).await?.rows_affected() > 0 {}
    Ok(())
}
