use std::collections::HashMap;

use uuid::Uuid;
use weft_projectors::accounts::Accounts;
use weft_projectors::conversations::Conversations;
use weft_projectors::engine::Session;
use weft_projectors::error::{PartitionError, ProjectionError};

use crate::support::history::History;
use crate::support::stores::Stores;
use crate::support::{project, read, rows};

#[tokio::test]
async fn a_paused_old_consumer_is_fenced_and_writes_nothing() {
    let stores = Stores::views().await;
    let records = History::of_everything(&stores.config.kafka, 20, 600).of("account");
    let (first, rest) = records.split_at(20);
    let mut old = Session::open(&stores.engine, &Accounts).await.unwrap();
    old.apply(read(first)).await.unwrap();
    // While it pauses, another takes over.
    project(&stores.engine, &Accounts, &records, 50).await;
    let expected = rows(&stores.engine, "accounts").await;
    let error = old.apply(read(&rest[..10])).await.unwrap_err();
    assert!(matches!(error, ProjectionError::Fenced), "{error}");
    assert_eq!(rows(&stores.engine, "accounts").await, expected);
}

#[tokio::test]
async fn a_newer_generation_fences_too() {
    let stores = Stores::views().await;
    let records = History::of_everything(&stores.config.kafka, 21, 100).of("account");
    let mut old = Session::open(&stores.engine, &Accounts).await.unwrap();
    sqlx::query("update checkpoints set generation = 2")
        .execute(&stores.engine.pool)
        .await
        .unwrap();
    assert!(matches!(
        old.apply(read(&records)).await.unwrap_err(),
        ProjectionError::Fenced
    ));
    let error = Session::open(&stores.engine, &Accounts).await.err().unwrap();
    assert!(
        !error.is_final() && matches!(error, ProjectionError::HandedOver { ours: 1, found: 2 }),
        "{error}"
    );
}

#[tokio::test]
async fn what_the_relay_publishes_again_is_dropped() {
    let stores = Stores::views().await;
    let history = History::of_everything(&stores.config.kafka, 22, 1_500);
    let records: Vec<_> = history
        .records
        .iter()
        .filter(|r| r.aggregate_type != "account")
        .cloned()
        .collect();
    project(&stores.engine, &Conversations, &records, 64).await;
    let expected = rows(&stores.engine, "conversations").await;
    // Half of the events again, at later offsets.
    let mut next = HashMap::new();
    for record in &records {
        next.insert((record.topic.clone(), record.partition), record.offset + 1);
    }
    let mut again = records[records.len() / 2..].to_vec();
    for record in &mut again {
        let offset = next.entry((record.topic.clone(), record.partition)).or_default();
        record.offset = *offset;
        *offset += 1;
    }
    project(&stores.engine, &Conversations, &again, 64).await;
    assert_eq!(rows(&stores.engine, "conversations").await, expected);
}

#[tokio::test]
async fn another_logs_events_stop_the_projection_for_good() {
    let stores = Stores::views().await;
    let mut records = History::of_everything(&stores.config.kafka, 25, 300).of("account");
    project(&stores.engine, &Accounts, &records[..10], 10).await;
    let found = Uuid::from_u128(0xbad);
    for record in &mut records[10..] {
        record.log_id = found;
    }
    let mut session = Session::open(&stores.engine, &Accounts).await.unwrap();
    let error = session.apply(read(&records[10..])).await.unwrap_err();
    assert!(
        error.is_final() && error.to_string().starts_with("log replaced"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unknown_event_stops_its_partition_and_the_others_go_on() {
    let stores = Stores::views().await;
    let mut records = History::of_everything(&stores.config.kafka, 26, 900).of("account");
    let at = records.len() / 2;
    records[at].event_version = "2".to_owned();
    let (partition, offset) = (records[at].partition, records[at].offset);
    let mut session = Session::open(&stores.engine, &Accounts).await.unwrap();
    let mut stopped = Vec::new();
    for batch in records.chunks(40) {
        stopped.extend(session.apply(read(batch)).await.unwrap());
    }
    assert_eq!(stopped.len(), 1);
    assert!(matches!(stopped[0].error, PartitionError::Decode(_)));
    assert!(
        stopped[0].to_string().contains("is not known to this program"),
        "{}",
        stopped[0]
    );
    let next: Vec<(i32, i64)> =
        sqlx::query_as("select partition, next_offset from checkpoints where projection = 'accounts' order by 1")
            .fetch_all(&stores.engine.pool)
            .await
            .unwrap();
    for (other, next) in next {
        let end = records
            .iter()
            .filter(|record| record.partition == other)
            .map(|record| record.offset + 1)
            .max();
        assert_eq!(next, if other == partition { offset } else { end.unwrap_or(0) });
    }
}
