use std::collections::HashMap;

use rand::RngExt;
use sqlx::Row;
use uuid::Uuid;
use weft_domain::conversation::Conversation;
use weft_platform::kafka::EventRecord;
use weft_projectors::conversations::Conversations;

use crate::support::history::History;
use crate::support::stores::Stores;
use crate::support::{decode, project, random, rows, same_rows_in_any_batches};

/// The records of both topics, each partition in its order, between partitions in none.
fn shuffled(records: &[EventRecord], seed: u64) -> Vec<EventRecord> {
    let mut random = random(seed);
    let mut lanes: HashMap<(String, i32), Vec<EventRecord>> = HashMap::new();
    for record in records.iter().rev() {
        lanes
            .entry((record.topic.clone(), record.partition))
            .or_default()
            .push(record.clone());
    }
    let mut lanes: Vec<Vec<EventRecord>> = lanes.into_values().collect();
    let mut shuffled = Vec::with_capacity(records.len());
    while !lanes.is_empty() {
        let lane = random.random_range(0..lanes.len());
        shuffled.extend(lanes[lane].pop());
        lanes.retain(|lane| !lane.is_empty());
    }
    shuffled
}

fn both(history: &History) -> Vec<EventRecord> {
    history
        .records
        .iter()
        .filter(|record| record.aggregate_type != "account")
        .cloned()
        .collect()
}

#[tokio::test]
async fn conversations_are_the_same_rows_in_any_batches_and_agree_with_the_aggregate() {
    let stores = Stores::views().await;
    let fresh = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 6, 4_000);
    let records = both(&history);
    same_rows_in_any_batches(&stores.engine, &fresh.engine, &Conversations, "conversations", &records).await;

    let mut compared = 0;
    for row in sqlx::query("select * from conversations")
        .fetch_all(&stores.engine.pool)
        .await
        .unwrap()
    {
        let Some(conversation): Option<&Conversation> = history
            .conversations
            .get(&row.get::<Uuid, _>("id"))
            .filter(|conversation| conversation.of.is_some())
        else {
            continue;
        };
        compared += 1;
        assert_eq!(
            row.get::<i64, _>("unread_count"),
            conversation.unread_count.cast_signed()
        );
        assert_eq!(row.get::<bool, _>("is_pinned"), conversation.is_pinned);
        assert_eq!(
            row.get::<serde_json::Value, _>("tags"),
            serde_json::json!(conversation.tags)
        );
        let (account, name) = conversation.of.as_ref().unwrap();
        assert_eq!(row.get::<Uuid, _>("account_id"), account.0);
        assert_eq!(row.get::<String, _>("conversation_id"), name.as_str());
    }
    assert!(compared > 5);
}

#[tokio::test]
async fn the_order_between_the_two_topics_does_not_matter() {
    let stores = Stores::views().await;
    let history = History::of_everything(&stores.config.kafka, 7, 2_000);
    let records = both(&history);
    project(&stores.engine, &Conversations, &records, 100).await;
    let expected = rows(&stores.engine, "conversations").await;
    for seed in [1, 2] {
        let other = stores.twin().await;
        project(&other.engine, &Conversations, &shuffled(&records, seed), 13).await;
        assert_eq!(rows(&other.engine, "conversations").await, expected);
    }
}

#[tokio::test]
async fn the_newest_message_is_the_greatest_by_time_of_those_sent_and_received() {
    let stores = Stores::views().await;
    let history = History::of_everything(&stores.config.kafka, 8, 3_000);
    project(&stores.engine, &Conversations, &both(&history), 50).await;
    let rows = sqlx::query("select id, last_msg_time, last_msg_content, last_msg_id from conversations")
        .fetch_all(&stores.engine.pool)
        .await
        .unwrap();
    let mut newest: HashMap<Uuid, chrono::DateTime<chrono::Utc>> = HashMap::new();
    for record in both(&history) {
        let event = decode(&record);
        let payload: serde_json::Value = serde_json::from_slice(&record.payload).unwrap();
        let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
        let at = match record.event_type.as_str() {
            "MessageReceived" => text("sent_at"),
            "MessageSent" => text("at"),
            "OutcomeResolved" if text("outcome") == "sent" => text("at"),
            _ => continue,
        };
        let account = weft_domain::AccountId(text("account_id").parse().unwrap());
        let id = weft_domain::ConversationId::of(account, &text("conversation_id").parse().unwrap()).0;
        assert!(event.message().is_some() || event.id == id);
        let at: chrono::DateTime<chrono::Utc> = at.parse().unwrap();
        newest
            .entry(id)
            .and_modify(|newest| *newest = at.max(*newest))
            .or_insert(at);
    }
    assert!(newest.len() > 5);
    for row in rows {
        let time: Option<chrono::DateTime<chrono::Utc>> = row.get("last_msg_time");
        assert_eq!(time, newest.get(&row.get::<Uuid, _>("id")).copied());
        let incoming = row.get::<Option<serde_json::Value>, _>("last_msg_content").is_some();
        let outgoing = row.get::<Option<Uuid>, _>("last_msg_id").is_some();
        assert_eq!(time.is_some(), incoming != outgoing);
    }
}
