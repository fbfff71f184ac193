//! P2: an import, beside a COPY of the same rows.

use std::time::Instant;

use sqlx::PgPool;
use sqlx::postgres::{PgPoolCopyExt, PgPoolOptions};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use weft_log_writer::Executor;
use weft_log_writer::import::{Import, PastEvent};
use weft_platform::clock::Clock;

use crate::copy::{EventRow, encode};
use crate::database::Databases;
use crate::history::{History, TOGETHER};
use crate::report::{Benchmark, Round, Side};
use crate::{Arguments, Failure};

/// Events of a round for each second of its length: about what one connection takes.
const EVENTS_PER_SECOND: usize = 30_000;
/// Accounts that are created among so many messages.
const ACCOUNTS: usize = TOGETHER / 20;
/// Chunks that are ready while one is written, as in `weft log import`.
const AHEAD: usize = 2;

/// Bytes that the peer hands to the connection at once.
const SENT_AT_ONCE: usize = 1 << 20;

/// As the log's own, without what is made beside it.
const PEER_TABLE: &str = "create table peer_events (like events including all)";
const PEER_COPY: &str =
    "copy peer_events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
     from stdin (format binary)";

pub(crate) async fn run(arguments: &Arguments, databases: &Databases) -> Result<Benchmark, Failure> {
    let config = &databases.config;
    let executor = Executor::connect(config, Clock::system()).await?;
    let history = History::prepare(&executor).await?;
    let owner = PgPool::connect(config.log.admin_url.expose()).await?;
    sqlx::query(PEER_TABLE).execute(&owner).await?;
    sqlx::query("grant insert on peer_events to weft_log")
        .execute(&owner)
        .await?;
    owner.close().await;
    // Both sides in turn on this one.
    let connection = PgPoolOptions::new()
        .max_connections(1)
        .connect(config.log.url.expose())
        .await?;
    let limit = config.log.max_event_bytes;
    import(&connection, past(history.tenants()), limit).await?;
    let mut rounds: [Vec<Round>; 2] = Default::default();
    for round in 0..=arguments.rounds {
        let seconds = if round == 0 { 1 } else { arguments.seconds as usize };
        let rows = rows(&history, seconds * EVENTS_PER_SECOND);
        let bytes = encode(&rows);
        let (events, count) = (past(rows), |rows: usize, began: Instant| Round {
            per_second: rows as f64 / began.elapsed().as_secs_f64(),
            latencies: Vec::new(),
        });
        let all = events.len();
        databases.settle().await?;
        let began = Instant::now();
        let imported = import(&connection, events, limit).await?;
        let ours = count(imported as usize, began);
        databases.settle().await?;
        let began = Instant::now();
        copy(&connection, &bytes).await?;
        let peer = count(all, began);
        if round > 0 {
            for (all, one) in rounds.iter_mut().zip([ours, peer]) {
                all.push(one);
            }
        }
    }
    let [ours, peer] = rounds.map(|rounds| Side::of(&rounds));
    Ok(Benchmark {
        id: "P2",
        what: "the import of events in memory: checked, with streams, claims and counters, durable",
        ours,
        peer_what: "binary COPY of the same rows, ready made, into a table with the same indexes, same connection",
        peer,
        goal: 0.8,
        least: None,
        most_p99_ms: None,
        unit: "events/s",
    })
}

/// At least `count` events: lives of messages, and accounts created among them.
fn rows(history: &History, count: usize) -> Vec<EventRow> {
    let mut rows = Vec::new();
    while rows.len() < count {
        rows.extend(history.accounts(ACCOUNTS));
        rows.extend(history.rows(TOGETHER));
    }
    rows
}

/// As another log's.
fn past(rows: Vec<EventRow>) -> Vec<PastEvent> {
    let recorded_at = Clock::system().now();
    let event = |row: EventRow| PastEvent {
        aggregate_type: row.aggregate_type.to_owned(),
        aggregate_id: row.aggregate_id,
        sequence: row.sequence,
        event_type: row.event_type,
        event_version: row.event_version,
        payload: row.payload,
        metadata: row.metadata,
        recorded_at,
    };
    rows.into_iter().map(event).collect()
}

/// Answers how many events were added.
async fn import(pool: &PgPool, events: Vec<PastEvent>, max_event_bytes: usize) -> Result<u64, Failure> {
    let mut import = Import::begin(pool, Clock::system().now()).await?;
    let mut chunker = import.chunker(max_event_bytes);
    let (ready, mut chunks) = mpsc::channel(AHEAD);
    let checked = spawn_blocking(move || {
        for (line, event) in (1..).zip(events) {
            if let Some(chunk) = chunker.push(line, event)? {
                ready.blocking_send(chunk)?;
            }
        }
        if let Some(chunk) = chunker.rest() {
            ready.blocking_send(chunk)?;
        }
        Ok::<_, Failure>(())
    });
    while let Some(chunk) = chunks.recv().await {
        import.add(chunk).await?;
    }
    checked.await??;
    Ok(import.commit().await?.events)
}

/// One COPY, one transaction.
async fn copy(pool: &PgPool, bytes: &[u8]) -> Result<(), Failure> {
    let mut copy = pool.copy_in_raw(PEER_COPY).await?;
    for part in bytes.chunks(SENT_AT_ONCE) {
        copy.send(part).await?;
    }
    copy.finish().await?;
    Ok(())
}
