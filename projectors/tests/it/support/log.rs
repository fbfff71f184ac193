//! A log that holds a history.

use sqlx::Executor;
use weft_log_writer::testing::TestLog;
use weft_platform::kafka::EventRecord;
use weft_platform::testing::until;
use weft_projectors::engine::Engine;

use super::history::LOG_ID;

/// A log of its own, for the engine to read gaps from.
pub(crate) async fn log_of(engine: &mut Engine, records: &[EventRecord]) -> TestLog {
    let log = TestLog::new().await;
    append(&log, records).await;
    engine.logs = std::sync::Arc::new([log.log.pool("weft_log").await]);
    log
}

/// As they stand in the history: order, times and payloads, also broken ones. Settled: a young cluster's transactions are
/// brought past the history's first.
pub(crate) async fn append(log: &TestLog, records: &[EventRecord]) {
    let pool = log.log.admin_pool().await;
    sqlx::query("update log_identity set log_id = $1")
        .bind(LOG_ID)
        .execute(&pool)
        .await
        .unwrap();
    for page in records.chunks(1_000) {
        let texts = |field: fn(&EventRecord) -> String| page.iter().map(field).collect::<Vec<_>>();
        let numbers = |field: fn(&EventRecord) -> i64| page.iter().map(field).collect::<Vec<_>>();
        sqlx::query(
            "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
               position, transaction_id, recorded_at)
             overriding system value
             select kind, id, sequence, event, version, payload::jsonb, metadata::jsonb, position,
                    transaction_id::text::xid8, recorded_at
             from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::bigint[], $9::bigint[], $10::timestamptz[])
                  as e (kind, id, sequence, event, version, payload, metadata, position, transaction_id, recorded_at)",
        )
        .bind(texts(|record| record.aggregate_type.clone()))
        .bind(texts(|record| record.aggregate_id.clone()))
        .bind(numbers(|record| record.sequence))
        .bind(texts(|record| record.event_type.clone()))
        .bind(texts(|record| record.event_version.clone()))
        .bind(texts(|record| String::from_utf8(record.payload.clone()).unwrap()))
        .bind(texts(|record| {
            let payload: serde_json::Value = serde_json::from_slice(&record.payload).unwrap();
            let key = payload["account_id"].as_str().unwrap_or(&record.aggregate_id);
            serde_json::json!({
                "tenant_id": record.tenant_id, "actor": record.actor, "actor_type": record.actor_type,
                "partition_key": key,
            })
            .to_string()
        }))
        .bind(numbers(|record| record.position))
        .bind(numbers(|record| record.transaction_id))
        .bind(page.iter().map(|record| record.recorded_at).collect::<Vec<_>>())
        .execute(&pool)
        .await
        .unwrap();
    }
    let newest = records.iter().map(|record| record.transaction_id).max().unwrap_or(0);
    let past =
        format!("do $$ begin while pg_current_xact_id()::text::bigint <= {newest} loop commit; end loop; end $$");
    pool.execute(past.as_str()).await.unwrap();
    until("the history is settled", async || {
        let settled: bool = sqlx::query_scalar("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint > $1")
            .bind(newest)
            .fetch_one(&pool)
            .await
            .unwrap();
        settled.then_some(())
    })
    .await;
}
