use std::time::Duration;

use weft_domain::tenant::Tenant;
use weft_log_writer::testing::{TestLog, options};
use weft_log_writer::{CallOptions, ExecuteError, Executor, Idempotency};
use weft_platform::clock::Clock;

use crate::proxy::{Fault, Proxy};
use crate::support::{a_tenant, create_tenant, limit_accounts, new_tenant};

/// In the payload of the append that the fault is for.
const MARKER: &str = "lost-on-the-way";

async fn versions(executor: &Executor) -> Vec<i64> {
    sqlx::query_scalar("select sequence from events order by position")
        .fetch_all(executor.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_commands_are_refused_soon_and_carried_out_again_later() {
    let mut log = TestLog::new().await;
    let mut proxy = Proxy::before(&mut log.config.log.url, None).await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let id = tenant.to_string();
    proxy.stop();
    let asked = tokio::time::Instant::now();
    let refused = executor
        .execute::<Tenant>(&id, limit_accounts(2), &options(tenant))
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecuteError::Unavailable(_)), "{refused}");
    assert!(
        asked.elapsed() < Duration::from_secs(6),
        "it took {:?}",
        asked.elapsed()
    );

    proxy.start().await;
    let committed = executor
        .execute::<Tenant>(&id, limit_accounts(2), &options(tenant))
        .await
        .unwrap();
    assert_eq!(committed.version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_starts_while_postgres_is_away() {
    let mut log = TestLog::new().await;
    let mut proxy = Proxy::before(&mut log.config.log.url, None).await;
    proxy.stop();
    let executor = log.executor().await;
    proxy.start().await;
    a_tenant(&executor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_found_and_not_repeated() {
    let mut log = TestLog::new().await;
    let proxy = Proxy::before(&mut log.config.log.url, Some((Fault::LoseAnswer, MARKER.as_bytes()))).await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let committed = executor
        .execute::<Tenant>(&tenant.to_string(), create_tenant(MARKER), &options(tenant))
        .await
        .unwrap();
    assert!(proxy.has_fired());
    assert_eq!((committed.version, committed.events.len()), (1, 1));
    assert_eq!(versions(&executor).await, [1]);
    let order: (i64, i64) = sqlx::query_as("select transaction_id::text::bigint, position from events")
        .fetch_one(executor.pool())
        .await
        .unwrap();
    assert_eq!(
        committed.order.map(|order| (order.transaction_id, order.position)),
        Some(order)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyed_commit_whose_answer_was_lost_is_answered_once() {
    let mut log = TestLog::new().await;
    let proxy = Proxy::before(&mut log.config.log.url, Some((Fault::LoseAnswer, MARKER.as_bytes()))).await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let idempotency = Some(Idempotency::new(executor.keys(), &["scope"], "key", b"body"));
    let options = CallOptions {
        idempotency,
        ..options(tenant)
    };
    let answer = |_: &[_]| weft_log_writer::StoredAnswer {
        status: 201,
        body: serde_json::json!({}),
        etag: Some(1),
    };
    let commands = || vec![(tenant.to_string(), create_tenant(MARKER))];
    let first = executor.answer::<Tenant>(commands(), &options, answer).await.unwrap();
    assert!(proxy.has_fired());
    let second = executor.answer::<Tenant>(commands(), &options, answer).await.unwrap();
    assert!(second.replayed);
    assert_eq!((first.answer, first.token), (second.answer, second.token));
    assert_eq!(versions(&executor).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_never_arrived_is_sent_again() {
    let mut log = TestLog::new().await;
    let proxy = Proxy::before(&mut log.config.log.url, Some((Fault::LoseStatement, MARKER.as_bytes()))).await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let committed = executor
        .execute::<Tenant>(&tenant.to_string(), create_tenant(MARKER), &options(tenant))
        .await
        .unwrap();
    assert!(proxy.has_fired());
    assert_eq!((committed.version, versions(&executor).await), (1, vec![1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_locked_is_unavailable_after_the_time_out_and_not_later() {
    let mut log = TestLog::new().await;
    log.config.log.statement_timeout_ms = 1_000;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let mut lock = log.log.admin_pool().await.begin().await.unwrap();
    sqlx::query("lock table events in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let asked = tokio::time::Instant::now();
    let refused = executor
        .execute::<Tenant>(&tenant.to_string(), limit_accounts(2), &options(tenant))
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecuteError::Unavailable(_)), "{refused}");
    assert!(
        asked.elapsed() < Duration::from_secs(7),
        "it took {:?}",
        asked.elapsed()
    );
    lock.rollback().await.unwrap();
    executor
        .execute::<Tenant>(&tenant.to_string(), limit_accounts(2), &options(tenant))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_behind_one_that_does_not_end_is_contended() {
    let mut log = TestLog::new().await;
    log.config.log.statement_timeout_ms = 1_000;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let mut other = log.log.admin_pool().await.begin().await.unwrap();
    sqlx::query(
        "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
         values ('tenant', $1, 2, 'TenantSuspended', '1', $2, '{}')",
    )
    .bind(tenant.to_string())
    .bind(serde_json::json!({"type": "TenantSuspended", "reason": "r", "at": Clock::system().now()}))
    .execute(&mut *other)
    .await
    .unwrap();
    let refused = executor
        .execute::<Tenant>(&tenant.to_string(), limit_accounts(2), &options(tenant))
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecuteError::Contended), "{refused}");
    other.commit().await.unwrap();
    let committed = executor
        .execute::<Tenant>(&tenant.to_string(), limit_accounts(2), &options(tenant))
        .await
        .unwrap();
    assert_eq!(committed.version, 3);
}
