//! What every test needs: stores of its own, and histories to project.

pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod running;
pub(crate) mod stores;

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use weft_platform::config::KeysSection;
use weft_platform::kafka::{EventRecord, InvalidRecord};
use weft_platform::keys::KeyStore;
use weft_projectors::engine::{Engine, Projection, Session};
use weft_projectors::event::{Decoded, Event};

pub(crate) fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Opens nothing.
pub(crate) fn keyless() -> KeyStore {
    KeyStore::without_access(&KeysSection::default()).unwrap()
}

pub(crate) fn decode(record: &EventRecord) -> Arc<Event> {
    match Event::decode(record).unwrap() {
        Decoded::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn read(records: &[EventRecord]) -> Vec<Result<EventRecord, InvalidRecord>> {
    records.iter().cloned().map(Ok).collect()
}

/// Projects `records` from the stored checkpoints on, in batches of `size`.
pub(crate) async fn project<P: Projection>(engine: &Engine, projection: &P, records: &[EventRecord], size: usize) {
    let mut session = Session::open(engine, projection).await.unwrap();
    for batch in records.chunks(size) {
        let stopped = session.apply(read(batch)).await.unwrap();
        assert!(stopped.is_empty(), "{stopped:?}");
    }
}

/// Forgets how far a projection has come, so that everything is applied again onto the rows as they are.
pub(crate) async fn rewind<P: Projection>(engine: &Engine) {
    sqlx::query(
        "update checkpoints set next_offset = 0, epoch = 0, transaction_id = 0, position = 0 where projection = $1",
    )
    .bind(P::NAME)
    .execute(&engine.pool)
    .await
    .unwrap();
}

/// Every row of a table as text, in order.
pub(crate) async fn rows(engine: &Engine, table: &str) -> Vec<String> {
    sqlx::query_scalar(&format!("select to_jsonb(t)::text from {table} t order by 1"))
        .fetch_all(&engine.pool)
        .await
        .unwrap()
}

/// Whatever the batches are, also applied a second time, the rows are the same.
pub(crate) async fn same_rows_in_any_batches<P: Projection>(
    engine: &Engine,
    fresh: &Engine,
    projection: &P,
    table: &str,
    records: &[EventRecord],
) -> Vec<String> {
    project(engine, projection, records, 7).await;
    let expected = rows(engine, table).await;
    assert!(!expected.is_empty());
    for size in [1_000, 3] {
        rewind::<P>(engine).await;
        project(engine, projection, records, size).await;
        assert_eq!(rows(engine, table).await, expected, "replayed in batches of {size}");
    }
    project(fresh, projection, records, records.len()).await;
    assert_eq!(rows(fresh, table).await, expected, "in one batch");
    expected
}
