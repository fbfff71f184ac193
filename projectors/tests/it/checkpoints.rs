use std::collections::HashMap;

use uuid::Uuid;
use weft_platform::testing::until;
use weft_projectors::accounts::Accounts;
use weft_projectors::checkpoint::start_over;
use weft_projectors::conversations::Conversations;
use weft_projectors::engine::Session;
use weft_projectors::error::{PartitionError, ProjectionError};

use crate::support::history::History;
use crate::support::log::log_of;
use crate::support::running::{Running, applied, publish};
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
async fn an_event_of_another_epoch_stops_the_projection_and_a_new_view_reads_all_epochs() {
    let mut stores = Stores::views().await;
    let fresh = stores.twin().await;
    let mut records = History::of_everything(&stores.config.kafka, 27, 300).of("account");
    let log = log_of(&mut stores.engine, &records).await;
    project(&stores.engine, &Accounts, &records[..10], 10).await;
    for record in &mut records[10..] {
        record.epoch = 2;
    }
    weft_log_writer::adopt(&log.log.admin_pool().await).await.unwrap();
    let before = rows(&stores.engine, "accounts").await;
    for _ in 0..2 {
        let mut session = Session::open(&stores.engine, &Accounts).await.unwrap();
        let error = session.apply(read(&records[10..])).await.unwrap_err();
        assert!(
            error.is_final() && matches!(error, ProjectionError::LogAdopted { known: 1, found: 2 }),
            "{error}"
        );
    }
    assert_eq!(rows(&stores.engine, "accounts").await, before);
    let mut engine = fresh.engine.clone();
    engine.logs = stores.engine.logs.clone();
    project(&engine, &Accounts, &records, 7).await;
    assert!(rows(&engine, "accounts").await.len() >= before.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_kafka_stops_the_projection_until_it_starts_over() {
    let stores = Stores::with_topics().await;
    let history = History::of_everything(&stores.config.kafka, 28, 300);
    Session::open(&stores.engine, &Accounts).await.unwrap();
    sqlx::query("update checkpoints set cluster_id = 'another' where projection = 'accounts'")
        .execute(&stores.engine.pool)
        .await
        .unwrap();
    publish(&stores, &history.records).await;
    let running = Running::start(stores.config.clone());
    until("the projection stops", async || {
        let parts = running.health.parts();
        let detail = &parts.get("projection accounts")?.detail;
        detail.contains("but the view was read from another").then_some(())
    })
    .await;
    assert_eq!(rows(&stores.engine, "accounts").await, Vec::<String>::new());
    start_over(&stores.engine.pool, &stores.config.kafka.topic_prefix)
        .await
        .unwrap();
    let accounts = history.of("account").len() as i64;
    until("it goes on", async || {
        (applied(&stores, "accounts").await == accounts).then_some(())
    })
    .await;
    running.stop().await;
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
