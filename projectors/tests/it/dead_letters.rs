//! A stream that cannot go on waits by itself.

use std::collections::BTreeSet;

use uuid::Uuid;
use weft_platform::kafka::EventRecord;
use weft_projectors::accounts::Accounts;
use weft_projectors::conversations::Conversations;
use weft_projectors::messages::Messages;
use weft_projectors::parked::{self, Retried, retry};

use crate::support::history::History;
use crate::support::log::log_of;
use crate::support::stores::Stores;
use crate::support::{keyless, project, rows};

/// Takes a field that the event needs out of its payload.
fn break_payload(record: &mut EventRecord) {
    let mut payload: serde_json::Value = serde_json::from_slice(&record.payload).unwrap();
    payload.as_object_mut().unwrap().remove("at");
    record.payload = serde_json::to_vec(&payload).unwrap();
}

fn without(rows: &[String], id: Uuid) -> Vec<String> {
    let id = id.to_string();
    rows.iter().filter(|row| !row.contains(&id)).cloned().collect()
}

async fn run(stores: &Stores, statement: &str) {
    sqlx::query(statement).execute(&stores.engine.pool).await.unwrap();
}

#[tokio::test]
async fn a_payload_that_does_not_decode_parks_its_stream_and_the_others_go_on() {
    let stores = Stores::views().await;
    let mut twin = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 70, 1_500);
    let records = history.of("account");
    let whole = log_of(&mut twin.engine, &records).await;
    project(&stores.engine, &Accounts, &records, 100).await;
    let expected = rows(&stores.engine, "accounts").await;

    let mut broken = records.clone();
    let at = broken.iter().position(|record| record.sequence == 5).unwrap();
    break_payload(&mut broken[at]);
    let stream: Uuid = broken[at].aggregate_id.parse().unwrap();
    project(&twin.engine, &Accounts, &broken, 64).await;

    assert_eq!(
        without(&rows(&twin.engine, "accounts").await, stream),
        without(&expected, stream)
    );
    let version: i64 = sqlx::query_scalar("select version from accounts where id = $1")
        .bind(stream)
        .fetch_one(&twin.engine.pool)
        .await
        .unwrap();
    assert_eq!(version, 4);
    let letters = parked::list(&twin.engine.pool, "accounts").await.unwrap();
    let last = records.iter().filter(|r| r.aggregate_id == stream.to_string()).count() as i64;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].sequence, letters[0].last_sequence), (5, last));
    assert!(letters[0].error.contains("missing field `at`"), "{}", letters[0].error);

    // The log's payload is whole, as if the program had learnt to read it.
    let retried = retry(&twin.engine, &Accounts, ("account", stream)).await.unwrap();
    assert_eq!(retried, Retried::Applied((last - 4) as usize));
    assert_eq!(rows(&twin.engine, "accounts").await, expected);
    assert_eq!(parked::list(&twin.engine.pool, "accounts").await.unwrap(), []);
    drop(whole);
}

#[tokio::test]
async fn rows_that_postgres_refuses_are_found_among_a_thousand_and_retried() {
    let mut stores = Stores::views().await;
    let mut history = History::of_everything(&stores.config.kafka, 71, 4_000);
    let records = history.of("message");
    let _log = log_of(&mut stores.engine, &history.records).await;
    let twin = stores.twin().await;
    project(&twin.engine, &Messages::new(keyless()), &records, 500).await;
    let expected = rows(&twin.engine, "messages").await;
    // Refused: messages that were delivered.
    run(
        &stores,
        "alter table messages add constraint once check (callback_time is null)",
    )
    .await;
    let refused: BTreeSet<Uuid> = sqlx::query_scalar("select id from messages where callback_time is not null")
        .fetch_all(&twin.engine.pool)
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert!(refused.len() > 3 && refused.len() < expected.len() / 2);
    project(&stores.engine, &Messages::new(keyless()), &records, records.len()).await;
    let letters = parked::list(&stores.engine.pool, "messages").await.unwrap();
    let parked: BTreeSet<Uuid> = letters.iter().map(|letter| letter.aggregate_id).collect();
    assert_eq!(parked, refused);
    let kinds: BTreeSet<&str> = letters.iter().map(|letter| letter.fingerprint.as_str()).collect();
    assert_eq!(kinds.len(), 1, "{letters:?}");
    assert!(
        letters[0].error.contains("SQLSTATE 23514: once of messages"),
        "{}",
        letters[0].error
    );
    // Still refused.
    let projection = Messages::new(keyless());
    let first = letters[0].aggregate_id;
    let retried = retry(&stores.engine, &projection, ("message", first)).await.unwrap();
    assert!(matches!(retried, Retried::Failed(_)));
    run(&stores, "alter table messages drop constraint once").await;
    for id in parked {
        let retried = retry(&stores.engine, &projection, ("message", id)).await.unwrap();
        assert!(matches!(retried, Retried::Applied(_)), "{retried:?}");
    }
    assert_eq!(rows(&stores.engine, "messages").await, expected);
    // A stream that went on takes its next events as any other.
    let before = history.records.len();
    for _ in 0..300 {
        history.change_some_message();
    }
    let more: Vec<EventRecord> = history.records[before..].to_vec();
    project(&stores.engine, &projection, &more, 50).await;
    project(&twin.engine, &projection, &more, 50).await;
    assert_eq!(
        rows(&stores.engine, "messages").await,
        rows(&twin.engine, "messages").await
    );
}

#[tokio::test]
async fn a_session_at_work_notices_that_a_stream_was_let_go_on() {
    let mut stores = Stores::views().await;
    let history = History::of_everything(&stores.config.kafka, 72, 1_500);
    let records = history.of("account");
    let _log = log_of(&mut stores.engine, &records).await;
    let twin = stores.twin().await;
    project(&twin.engine, &Accounts, &records, 100).await;
    let at = records.iter().position(|record| record.sequence == 3).unwrap();
    let stream: Uuid = records[at].aggregate_id.parse().unwrap();
    let mut broken = records.clone();
    break_payload(&mut broken[at]);
    let half = records.len() / 2;
    assert!(at < half);
    let mut session = weft_projectors::engine::Session::open(&stores.engine, &Accounts)
        .await
        .unwrap();
    session.apply(crate::support::read(&broken[..half])).await.unwrap();
    assert!(matches!(
        retry(&stores.engine, &Accounts, ("account", stream)).await.unwrap(),
        Retried::Applied(_)
    ));
    session.apply(crate::support::read(&broken[half..])).await.unwrap();
    assert_eq!(
        rows(&stores.engine, "accounts").await,
        rows(&twin.engine, "accounts").await
    );
}

#[tokio::test]
async fn a_parked_stream_leaves_its_fold_rows_incomplete_and_a_discarded_one_stays_out() {
    let mut stores = Stores::views().await;
    let history = History::of_everything(&stores.config.kafka, 73, 1_500);
    let mut records: Vec<EventRecord> = history
        .records
        .iter()
        .filter(|record| record.aggregate_type != "account")
        .cloned()
        .collect();
    let _log = log_of(&mut stores.engine, &records).await;
    let at = records
        .iter()
        .position(|record| record.event_type == "MessageSent")
        .unwrap();
    break_payload(&mut records[at]);
    let stream: Uuid = records[at].aggregate_id.parse().unwrap();
    project(&stores.engine, &Conversations, &records, 100).await;
    let letters = parked::list(&stores.engine.pool, "conversations").await.unwrap();
    let account = history.messages[&stream].accepted.as_ref().unwrap();
    let row = weft_domain::ConversationId::of(account.account_id, &account.conversation_id).0;
    assert_eq!(letters[0].incomplete_rows, [row]);
    assert!(
        parked::discard(&stores.engine.pool, "conversations", ("message", stream))
            .await
            .unwrap()
    );
    assert!(
        !parked::discard(&stores.engine.pool, "conversations", ("message", stream))
            .await
            .unwrap()
    );
    let before = rows(&stores.engine, "conversations").await;
    let partition = records[at].partition;
    let last = records
        .iter()
        .rfind(|r| r.aggregate_type == "message" && r.partition == partition);
    let mut more = last.unwrap().clone();
    more.offset += 1;
    more.position += 1;
    more.aggregate_id = stream.to_string();
    project(&stores.engine, &Conversations, &[more], 1).await;
    assert_eq!(rows(&stores.engine, "conversations").await, before);
}
