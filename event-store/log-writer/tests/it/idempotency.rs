use chrono::TimeDelta;
use serde_json::json;
use weft_domain::TenantId;
use weft_domain::tenant::Tenant;
use weft_log_writer::testing::{TestLog, metadata};
use weft_log_writer::{Answered, CallOptions, Committed, ExecuteError, Executor, Idempotency, IfMatch, StoredAnswer};
use weft_platform::clock::Clock;

use crate::support::{a_tenant, create_tenant, limit_accounts, new_tenant};

fn keyed(executor: &Executor, tenant: TenantId, key: &str, body: &str) -> CallOptions {
    let idempotency = Idempotency::new(executor.keys(), &["tenant", "actor", "POST /x"], key, body.as_bytes());
    let metadata = metadata(tenant, &Clock::system());
    CallOptions {
        metadata,
        if_match: IfMatch::None,
        idempotency: Some(idempotency),
    }
}

fn answer(committed: &[Committed<Tenant>]) -> StoredAnswer {
    let [one] = committed else { panic!("one stream") };
    StoredAnswer {
        status: 201,
        body: json!({"z": one.id, "a": one.version}),
        etag: Some(one.version),
    }
}

async fn limit(executor: &Executor, tenant: TenantId, limit: u32, options: &CallOptions) -> Result<Answered, String> {
    let commands = vec![(tenant.to_string(), limit_accounts(limit))];
    executor
        .answer::<Tenant>(commands, options, answer)
        .await
        .map_err(|error| format!("{error:?}"))
}

async fn count(executor: &Executor, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(executor.pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_from_twenty_callers_is_carried_out_once_and_answered_alike() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let id = tenant.to_string();
    let callers = (0..20).map(|_| {
        let (executor, id) = (executor.clone(), id.clone());
        tokio::spawn(async move {
            let options = keyed(&executor, tenant, "k", "body");
            executor
                .answer::<Tenant>(vec![(id.clone(), create_tenant("acme"))], &options, answer)
                .await
                .unwrap()
        })
    });
    let answers: Vec<Answered> = futures::future::join_all(callers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(answers.iter().filter(|answered| !answered.replayed).count(), 1);
    for answered in &answers {
        assert_eq!(answered.answer, answers[0].answer);
        assert_eq!(answered.token, answers[0].token, "a replay has another token");
    }
    assert_eq!(answers[0].token.marks.len(), 1);
    assert_eq!(count(&executor, "select count(*) from events").await, 1);
    assert_eq!(count(&executor, "select count(*) from idempotency_keys").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_names_the_events_of_its_own_commit_not_later_ones() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let first = limit(&executor, tenant, 11, &keyed(&executor, tenant, "k", "b"))
        .await
        .unwrap();
    limit(&executor, tenant, 12, &keyed(&executor, tenant, "other", "b"))
        .await
        .unwrap();
    let replay = limit(&executor, tenant, 11, &keyed(&executor, tenant, "k", "b"))
        .await
        .unwrap();
    assert!(replay.replayed);
    assert_eq!((replay.answer, replay.token), (first.answer, first.token));
    assert_eq!(executor.load::<Tenant>(&tenant.to_string()).await.unwrap().version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_body_is_refused() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    limit(&executor, tenant, 11, &keyed(&executor, tenant, "k", "b"))
        .await
        .unwrap();
    let refused = limit(&executor, tenant, 12, &keyed(&executor, tenant, "k", "another")).await;
    assert_eq!(refused.unwrap_err(), "KeyReused");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_callers_with_different_bodies_get_one_commit_and_refusals() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let callers = (0..20).map(|n| {
        let executor = executor.clone();
        tokio::spawn(async move {
            let options = keyed(&executor, tenant, "k", &format!("body {n}"));
            limit(&executor, tenant, 100 + n, &options).await
        })
    });
    let ended: Vec<_> = futures::future::join_all(callers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 1);
    assert!(
        ended
            .iter()
            .filter_map(|ended| ended.as_ref().err())
            .all(|error| error == "KeyReused"),
        "{ended:?}"
    );
    assert_eq!(count(&executor, "select count(*) from events").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_changed_nothing_is_stored_too() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, created) = a_tenant(&executor).await;
    let same = created.state.limits.max_accounts;
    let first = limit(&executor, tenant, same, &keyed(&executor, tenant, "k", "b"))
        .await
        .unwrap();
    assert!(!first.replayed);
    assert_eq!(first.token.marks[0].version, 1, "the token names the stream's head");
    limit(&executor, tenant, 77, &keyed(&executor, tenant, "other", "b"))
        .await
        .unwrap();
    let replay = limit(&executor, tenant, same, &keyed(&executor, tenant, "k", "b"))
        .await
        .unwrap();
    assert!(replay.replayed);
    assert_eq!((replay.answer, replay.token), (first.answer, first.token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_stored_and_may_be_tried_again() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let refused = limit(&executor, tenant, 5, &keyed(&executor, tenant, "k", "b")).await;
    assert_eq!(refused.unwrap_err(), "Domain(NotFound)");
    // Lost on a claim: the key that was taken in the same transaction is given back.
    let (other, created) = a_tenant(&executor).await;
    let options = keyed(&executor, tenant, "k2", "b");
    let taken = vec![(tenant.to_string(), create_tenant(&created.state.tenant_code))];
    let refused = executor.answer::<Tenant>(taken, &options, answer).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::ClaimTaken(_)));
    assert_eq!(count(&executor, "select count(*) from idempotency_keys").await, 0);
    limit(&executor, other, 5, &options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_can_be_used_again_and_is_purged() {
    let log = TestLog::new().await;
    let clock = Clock::fixed("2026-01-01T00:00:00Z".parse().unwrap());
    let executor = log.executor_at(clock.clone()).await;
    let (tenant, _) = a_tenant(&executor).await;
    limit(&executor, tenant, 11, &keyed(&executor, tenant, "k", "b"))
        .await
        .unwrap();

    clock.advance(TimeDelta::hours(24) - TimeDelta::milliseconds(1));
    assert!(
        limit(&executor, tenant, 11, &keyed(&executor, tenant, "k", "b"))
            .await
            .unwrap()
            .replayed
    );
    assert_eq!(executor.purge_idempotency_keys().await.unwrap(), 0);

    clock.advance(TimeDelta::milliseconds(1));
    let again = limit(&executor, tenant, 12, &keyed(&executor, tenant, "k", "another body"))
        .await
        .unwrap();
    assert!(!again.replayed);

    clock.advance(TimeDelta::hours(24));
    assert_eq!(executor.purge_idempotency_keys().await.unwrap(), 1);
    assert_eq!(count(&executor, "select count(*) from idempotency_keys").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_says_in_progress_when_the_first_does_not_end() {
    let mut log = TestLog::new().await;
    log.config.log.statement_timeout_ms = 1_000;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let options = keyed(&executor, tenant, "k", "b");
    let key = options.idempotency.unwrap();
    let mut first = log.log.admin_pool().await.begin().await.unwrap();
    sqlx::query("insert into idempotency_keys values ($1, $2, '{}', now() + interval '1 day')")
        .bind(uuid::Uuid::from_bytes(key.digest))
        .bind(key.body_hash.to_vec())
        .execute(&mut *first)
        .await
        .unwrap();
    assert_eq!(
        limit(&executor, tenant, 11, &options).await.unwrap_err(),
        "KeyInProgress"
    );
    first.rollback().await.unwrap();
    assert!(!limit(&executor, tenant, 11, &options).await.unwrap().replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_repeats_a_keyed_command_finds_the_stream_as_it_is() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let id = tenant.to_string();
    let options = keyed(&executor, tenant, "k", "b");
    let first = executor
        .execute::<Tenant>(&id, limit_accounts(7), &options)
        .await
        .unwrap();
    assert_eq!((first.version, first.events.len()), (2, 1));
    let second = executor
        .execute::<Tenant>(&id, limit_accounts(8), &options)
        .await
        .unwrap();
    assert_eq!(
        (second.version, second.events.len(), second.state.limits.max_accounts),
        (2, 0, 7)
    );
}
