use std::collections::HashMap;

use clickhouse::Row;
use weft_platform::kafka::EventRecord;
use weft_projectors::clickhouse::account_facts::{AccountFact, AccountFacts, AccountTransition};
use weft_projectors::clickhouse::message_facts::{MessageFact, MessageFacts, MessageTransition};
use weft_projectors::clickhouse::message_stats_hourly::compute;
use weft_projectors::engine::{Projection, Session};

use crate::support::history::History;
use crate::support::log::log_of;
use crate::support::stores::Stores;
use crate::support::{decode, project, read, rewind};

#[derive(Debug, Clone, PartialEq, Row, serde::Deserialize)]
struct Line {
    line: String,
}

/// Every row that the stable name shows, as text.
async fn lines(stores: &Stores, table: &str) -> Vec<String> {
    let query = format!("select formatRow('JSONEachRow', *) as line from {table} order by line");
    let lines: Vec<Line> = stores.clickhouse().query(&query).fetch_all().await.unwrap();
    lines.into_iter().map(|line| line.line).collect()
}

async fn all<R: clickhouse::RowOwned + clickhouse::RowRead>(stores: &Stores, table: &str) -> Vec<R> {
    stores
        .clickhouse()
        .query(&format!("select ?fields from {table}"))
        .fetch_all()
        .await
        .unwrap()
}

async fn compute_all(stores: &Stores) {
    while compute(&stores.engine.pool, &stores.facts()).await.unwrap() > 0 {}
}

const MESSAGE_TABLES: [&str; 3] = ["message_facts", "message_transitions", "message_stats_hourly"];

async fn message_lines(stores: &Stores) -> Vec<Vec<String>> {
    compute_all(stores).await;
    let mut tables = Vec::new();
    for table in MESSAGE_TABLES {
        tables.push(lines(stores, table).await);
    }
    tables
}

#[tokio::test]
async fn facts_and_statistics_are_the_same_under_any_batches_and_any_suffix_replayed() {
    let stores = Stores::with_facts().await;
    let history = History::of_everything(&stores.config.kafka, 40, 4_000);
    let records = history.of("message");
    let projection = MessageFacts::new(stores.facts());
    for batch in records.chunks(97) {
        project(&stores.engine, &projection, batch, 97).await;
        compute_all(&stores).await;
    }
    let expected = message_lines(&stores).await;
    assert_eq!(expected[1].len(), records.len());

    // Replays onto what is there.
    for size in [1_000, 33] {
        rewind::<MessageFacts>(&stores.engine).await;
        project(&stores.engine, &projection, &records, size).await;
        assert_eq!(message_lines(&stores).await, expected, "replayed in batches of {size}");
    }
    // Only the second half of each partition, as after a checkpoint that was lost in part.
    let mut ends: HashMap<i32, i64> = HashMap::new();
    for record in &records {
        ends.insert(record.partition, record.offset + 1);
    }
    let suffix: Vec<EventRecord> = records
        .iter()
        .filter(|record| record.offset >= ends[&record.partition] / 2)
        .cloned()
        .collect();
    rewind::<MessageFacts>(&stores.engine).await;
    for (partition, end) in &ends {
        sqlx::query("update checkpoints set next_offset = $2 where projection = 'message_facts' and partition = $1")
            .bind(partition)
            .bind(end / 2)
            .execute(&stores.engine.pool)
            .await
            .unwrap();
    }
    project(&stores.engine, &projection, &suffix, 211).await;
    assert_eq!(message_lines(&stores).await, expected, "a suffix replayed");
    // From nothing, in one batch.
    let fresh = stores.twin().await;
    project(
        &fresh.engine,
        &MessageFacts::new(fresh.facts()),
        &records,
        records.len(),
    )
    .await;
    assert_eq!(message_lines(&fresh).await, expected, "in one batch");
}

#[tokio::test]
async fn message_facts_agree_with_the_aggregates_and_statistics_with_a_recount() {
    let stores = Stores::with_facts().await;
    let history = History::of_everything(&stores.config.kafka, 41, 3_000);
    project(
        &stores.engine,
        &MessageFacts::new(stores.facts()),
        &history.of("message"),
        500,
    )
    .await;
    compute_all(&stores).await;
    let facts: Vec<MessageFact> = all(&stores, "message_facts").await;
    assert_eq!(facts.len(), history.messages.len());
    for fact in &facts {
        let message = &history.messages[&fact.message_id];
        let accepted = message.accepted.as_ref().unwrap();
        assert_eq!(fact.status, message.status.unwrap().as_str());
        assert_eq!(fact.tenant_id, accepted.tenant_id.0);
        assert_eq!(fact.account_id, accepted.account_id.0);
        assert_eq!((fact.accepted_at, fact.sent_at), (accepted.at, message.sent_at));
        assert_eq!(
            (fact.delivered_at, fact.read_at),
            (message.delivered_at, message.read_at)
        );
        assert_eq!(
            (fact.attempts, fact.retry_count),
            (message.attempt, message.retry_count)
        );
        assert_eq!(fact.error_code, message.error_code);
    }
    let count = |test: fn(&MessageFact) -> bool| facts.iter().filter(|fact| test(fact)).count() as u64;
    let transitions: Vec<MessageTransition> = all(&stores, "message_transitions").await;
    let became = |status: &str| {
        transitions
            .iter()
            .filter(|t| t.new_status == status && t.old_status.as_deref() != Some(status))
            .count() as u64
    };
    let sums: Vec<u64> = stores
        .clickhouse()
        .query(
            "select [sum(total), sum(sent), sum(delivered), sum(read), sum(failed), sum(cancelled), sum(success),
               sum(hour_sent), sum(hour_delivered), sum(hour_failed), sum(hour_cancelled),
               sum(response_time_ms_sum), sum(hour_response_time_ms_sum)] from message_stats_hourly",
        )
        .fetch_one()
        .await
        .unwrap();
    let response_times: u64 = facts.iter().filter_map(|fact| fact.response_time_ms).sum();
    let expected = [
        facts.len() as u64,
        count(|fact| fact.sent_at.is_some()),
        count(|fact| fact.delivered_at.is_some()),
        count(|fact| fact.read_at.is_some()),
        count(|fact| fact.status == "failed"),
        count(|fact| fact.status == "cancelled"),
        count(|fact| fact.status == "sent" || fact.status == "delivered"),
        became("sent"),
        became("delivered"),
        became("failed"),
        became("cancelled"),
        response_times,
        response_times,
    ];
    assert_eq!(sums, expected);
    assert!(expected.iter().all(|figure| *figure > 0), "{expected:?}");
    // Every hour by itself, too.
    let mut hours: HashMap<(uuid::Uuid, i64), u64> = HashMap::new();
    for fact in &facts {
        *hours
            .entry((fact.account_id, fact.accepted_at.timestamp() / 3_600))
            .or_default() += 1;
    }
    let rows: Vec<(String, u32, u64)> = stores
        .clickhouse()
        .query("select toString(account_id), toUnixTimestamp(hour), total from message_stats_hourly where total > 0")
        .fetch_all()
        .await
        .unwrap();
    assert_eq!(rows.len(), hours.len());
    for (account, hour, total) in rows {
        assert_eq!(hours[&(account.parse().unwrap(), i64::from(hour) / 3_600)], total);
    }
}

#[tokio::test]
async fn a_kill_between_the_insert_and_the_checkpoint_counts_nothing_twice_and_forgets_no_hour() {
    let stores = Stores::with_facts().await;
    let undisturbed = stores.twin().await;
    let records = History::of_everything(&stores.config.kafka, 42, 2_000).of("message");
    project(
        &undisturbed.engine,
        &MessageFacts::new(undisturbed.facts()),
        &records,
        100,
    )
    .await;
    let expected = message_lines(&undisturbed).await;

    let projection = MessageFacts::new(stores.facts());
    for (n, batch) in records.chunks(150).enumerate() {
        if n % 3 == 0 {
            // Inserted, and the process is gone before the checkpoint: the session's transaction never began.
            let events: Vec<_> = batch.iter().map(decode).collect();
            drop(projection.prepare(&events).await.unwrap());
            // What comes back is the same records, batched otherwise.
            project(&stores.engine, &projection, batch, 40).await;
        } else {
            project(&stores.engine, &projection, batch, 150).await;
        }
        compute_all(&stores).await;
    }
    assert_eq!(message_lines(&stores).await, expected);
}

#[tokio::test]
async fn account_facts_are_the_same_under_any_batches_and_agree_with_the_aggregates() {
    let stores = Stores::with_facts().await;
    let fresh = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 43, 3_000);
    let records = history.of("account");
    let projection = AccountFacts::new(stores.facts());
    project(&stores.engine, &projection, &records, 50).await;
    rewind::<AccountFacts>(&stores.engine).await;
    project(&stores.engine, &projection, &records, 400).await;
    project(
        &fresh.engine,
        &AccountFacts::new(fresh.facts()),
        &records,
        records.len(),
    )
    .await;
    for table in ["account_status_facts", "account_transitions"] {
        assert_eq!(lines(&stores, table).await, lines(&fresh, table).await, "{table}");
    }
    let facts: Vec<AccountFact> = all(&stores, "account_status_facts").await;
    assert_eq!(facts.len(), history.accounts.len());
    for fact in facts {
        let account = &history.accounts[&fact.account_id];
        assert_eq!(fact.status, account.status.unwrap().as_str());
        assert_eq!(fact.online_since, account.online_since);
    }
    let transitions: Vec<AccountTransition> = all(&stores, "account_transitions").await;
    assert!(
        transitions
            .iter()
            .all(|change| change.old_status.as_deref() != Some(change.new_status.as_str()))
    );
    // What a person typed does not reach ClickHouse.
    let text = lines(&stores, "account_transitions").await.join("\n");
    assert!(text.contains("disabled") && !text.contains("张三"));
}

#[tokio::test]
async fn the_stable_names_show_one_row_per_key_with_and_without_final() {
    let stores = Stores::with_facts().await;
    let history = History::of_everything(&stores.config.kafka, 44, 1_000);
    project(
        &stores.engine,
        &MessageFacts::new(stores.facts()),
        &history.of("message"),
        20,
    )
    .await;
    for suffix in ["", " final"] {
        let (rows, keys): (u64, u64) = stores
            .clickhouse()
            .query(&format!(
                "select count(), uniqExact(message_id) from message_facts{suffix}"
            ))
            .fetch_one()
            .await
            .unwrap();
        assert_eq!(
            (rows, keys),
            (history.messages.len() as u64, history.messages.len() as u64)
        );
    }
}

#[tokio::test]
async fn a_gap_that_the_log_has_too_is_named_before_anything_is_inserted() {
    let mut stores = Stores::with_facts().await;
    let history = History::of_everything(&stores.config.kafka, 45, 500);
    let mut records = history.of("message");
    let lost = records
        .iter()
        .position(|record| {
            let goes_on = records
                .iter()
                .any(|r| r.aggregate_id == record.aggregate_id && r.sequence == 3);
            record.sequence == 2 && goes_on
        })
        .unwrap();
    let partition = records.remove(lost).partition;
    for (offset, record) in records
        .iter_mut()
        .filter(|record| record.partition == partition)
        .enumerate()
    {
        record.offset = offset as i64;
    }
    let _log = log_of(&mut stores.engine, &records).await;
    let projection = MessageFacts::new(stores.facts());
    let mut session = Session::open(&stores.engine, &projection).await.unwrap();
    let error = session.apply(read(&records)).await.unwrap_err();
    assert!(error.to_string().starts_with("the log holds no event 2"), "{error}");
    assert!(lines(&stores, "message_facts").await.is_empty());
}
