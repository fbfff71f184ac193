//! What Kafka does not bring, the log has.

use uuid::Uuid;
use weft_platform::kafka::EventRecord;
use weft_projectors::accounts::Accounts;
use weft_projectors::clickhouse::message_facts::MessageFacts;
use weft_projectors::conversations::Conversations;
use weft_projectors::engine::Session;
use weft_projectors::error::ProjectionError;
use weft_projectors::messages::Messages;

use crate::support::history::History;
use crate::support::log::log_of;
use crate::support::stores::Stores;
use crate::support::{keyless, project, read, rows};

/// As if the missing ones had never been published: the offsets are without a gap.
fn renumbered(records: &[EventRecord]) -> Vec<EventRecord> {
    let mut next = std::collections::HashMap::new();
    let mut records = records.to_vec();
    for record in &mut records {
        let offset = next.entry((record.topic.clone(), record.partition)).or_insert(0);
        record.offset = *offset;
        *offset += 1;
    }
    records
}

#[tokio::test]
async fn events_that_were_never_published_are_read_from_the_log() {
    let stores = Stores::with_facts().await;
    let mut twin = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 60, 2_000);
    let _log = log_of(&mut twin.engine, &history.records).await;
    for aggregate in ["account", "message"] {
        let records = history.of(aggregate);
        // Every third event is missing, but never a stream's last: nothing would tell of it.
        let last = |id: &str| {
            records
                .iter()
                .filter(|r| r.aggregate_id == id)
                .map(|r| r.sequence)
                .max()
        };
        let thinned: Vec<EventRecord> = (0..)
            .zip(&records)
            .filter(|(n, record)| n % 3 != 1 || last(&record.aggregate_id) == Some(record.sequence))
            .map(|(_, record)| record.clone())
            .collect();
        assert!(thinned.len() + 10 < records.len());
        let thinned = renumbered(&thinned);
        if aggregate == "account" {
            project(&stores.engine, &Accounts, &records, 100).await;
            project(&twin.engine, &Accounts, &thinned, 100).await;
            assert_eq!(
                rows(&twin.engine, "accounts").await,
                rows(&stores.engine, "accounts").await
            );
        } else {
            project(&stores.engine, &Messages::new(keyless()), &records, 100).await;
            project(&twin.engine, &Messages::new(keyless()), &thinned, 100).await;
            assert_eq!(
                rows(&twin.engine, "messages").await,
                rows(&stores.engine, "messages").await
            );
            project(&stores.engine, &MessageFacts::new(stores.facts()), &records, 300).await;
            project(&twin.engine, &MessageFacts::new(twin.facts()), &thinned, 300).await;
            let facts = async |stores: &Stores| -> Vec<(String, u64)> {
                stores
                    .clickhouse()
                    .query("select toString(message_id), version from message_facts order by 1")
                    .fetch_all()
                    .await
                    .unwrap()
            };
            assert_eq!(facts(&twin).await, facts(&stores).await);
        }
    }
}

#[tokio::test]
async fn what_kafka_dropped_by_retention_is_read_from_the_log_for_every_shape() {
    let stores = Stores::views().await;
    let mut twin = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 61, 3_000);
    let _log = log_of(&mut twin.engine, &history.records).await;
    let records: Vec<EventRecord> = history
        .records
        .iter()
        .filter(|record| record.aggregate_type != "account")
        .cloned()
        .collect();
    project(&stores.engine, &Conversations, &records, 100).await;
    // Some are projected, then a third is gone before the projection comes back.
    let third = records.len() / 3;
    project(&twin.engine, &Conversations, &records[..third], 100).await;
    project(&twin.engine, &Conversations, &records[2 * third..], 100).await;
    assert_eq!(
        rows(&twin.engine, "conversations").await,
        rows(&stores.engine, "conversations").await
    );
}

#[tokio::test]
async fn a_topic_that_was_made_anew_loses_and_doubles_nothing() {
    let stores = Stores::views().await;
    let mut twin = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 62, 2_000);
    let _log = log_of(&mut twin.engine, &history.records).await;
    let records: Vec<EventRecord> = history
        .records
        .iter()
        .filter(|record| record.aggregate_type != "account")
        .cloned()
        .collect();
    project(&stores.engine, &Conversations, &records, 100).await;
    let half = records.len() / 2;
    project(&twin.engine, &Conversations, &records[..half], 100).await;
    // Published again from a later place on, at offsets from 0.
    project(&twin.engine, &Conversations, &renumbered(&records[half + 200..]), 100).await;
    assert_eq!(
        rows(&twin.engine, "conversations").await,
        rows(&stores.engine, "conversations").await
    );
}

#[tokio::test]
async fn an_event_that_not_even_the_log_has_stops_the_view_by_name() {
    let mut stores = Stores::views().await;
    let history = History::of_everything(&stores.config.kafka, 63, 600);
    let records = history.of("account");
    let gone = records.iter().position(|record| record.sequence == 3).unwrap();
    let id: Uuid = records[gone].aggregate_id.parse().unwrap();
    let mut left = records.clone();
    left.remove(gone);
    let _log = log_of(&mut stores.engine, &left).await;
    let mut session = Session::open(&stores.engine, &Accounts).await.unwrap();
    let error = session.apply(read(&renumbered(&left))).await.unwrap_err();
    assert!(
        error.is_final()
            && matches!(error, ProjectionError::LogIncomplete { stream, missing: 3, found: 4 } if stream == id),
        "{error}"
    );
}
