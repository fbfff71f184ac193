//! Many callers at once: what they append is written together, and each hears of its own.

use std::time::Duration;

use weft_domain::account::{Account, AccountCommand};
use weft_domain::tenant::{Tenant, TenantCommand};
use weft_log_writer::testing::{TestLog, options};
use weft_log_writer::{CallOptions, ExecuteError, Executor, Idempotency};
use weft_platform::clock::Clock;
use weft_platform::testing::until;

use crate::support::{a_tenant, create_account, create_tenant, limit_accounts, new_account, new_tenant};

/// One writer, so that what waits together is one batch.
async fn one_writer(log: &mut TestLog) -> Executor {
    log.config.log.writers = 1;
    log.executor().await
}

/// Keeps the writer busy until it is dropped: an append that waits behind this transaction.
async fn hold_up(log: &TestLog, executor: &Executor) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let (tenant, _) = a_tenant(executor).await;
    let mut other = log.log.admin_pool().await.begin().await.unwrap();
    sqlx::query(
        "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
         values ('tenant', $1, 2, 'TenantReactivated', '1', $2, '{}')",
    )
    .bind(tenant.to_string())
    .bind(serde_json::json!({"type": "TenantReactivated", "at": Clock::system().now()}))
    .execute(&mut *other)
    .await
    .unwrap();
    let waits = executor.clone();
    tokio::spawn(async move {
        waits
            .execute::<Tenant>(&tenant.to_string(), limit_accounts(7), &options(tenant))
            .await
    });
    until("the append waits", async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock' and query like '%append_commands%'",
        )
        .fetch_one(executor.pool())
        .await
        .unwrap();
        (waiting == 1).then_some(())
    })
    .await;
    other
}

async fn count(executor: &Executor, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(executor.pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_while_a_batch_is_written_is_the_next_batch() {
    let mut log = TestLog::new().await;
    let executor = one_writer(&mut log).await;
    let (tenant, _) = a_tenant(&executor).await;
    let held_up = hold_up(&log, &executor).await;
    let callers: Vec<_> = (0..300)
        .map(|n| {
            let executor = executor.clone();
            tokio::spawn(async move {
                let id = new_account().to_string();
                executor
                    .execute::<Account>(&id, create_account(tenant, &format!("{n}")), &options(tenant))
                    .await
                    .unwrap()
            })
        })
        .collect();
    // Every caller is in the queue once its tenant's limits are known; the first batch may be smaller.
    held_up.rollback().await.unwrap();
    for caller in callers {
        caller.await.unwrap();
    }
    let sizes: Vec<i64> = sqlx::query_scalar(
        "select count(*) from events where aggregate_type = 'account' group by transaction_id order by 1 desc",
    )
    .fetch_all(executor.pool())
    .await
    .unwrap();
    assert_eq!(sizes.iter().sum::<i64>(), 300);
    assert!(sizes.len() < 100, "300 commands in {} transactions", sizes.len());
    assert!(sizes.iter().all(|size| *size <= 256), "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisonous_command_fails_alone() {
    let mut log = TestLog::new().await;
    let executor = one_writer(&mut log).await;
    let held_up = hold_up(&log, &executor).await;
    let tenants: Vec<_> = (0..40).map(|_| new_tenant()).collect();
    let callers: Vec<_> = tenants
        .iter()
        .enumerate()
        .map(|(n, tenant)| {
            let (executor, tenant) = (executor.clone(), *tenant);
            tokio::spawn(async move {
                // Postgres takes no NUL in a text.
                let command = match create_tenant(&tenant.to_string()) {
                    TenantCommand::Create {
                        tenant_code,
                        limits,
                        time_zone,
                        now,
                        ..
                    } => TenantCommand::Create {
                        tenant_name: if n == 17 { "a\0b" } else { "name" }.to_owned(),
                        tenant_code,
                        limits,
                        time_zone,
                        now,
                    },
                    other => other,
                };
                let id = tenant.to_string();
                executor.execute::<Tenant>(&id, command, &options(tenant)).await
            })
        })
        .collect();
    held_up.rollback().await.unwrap();
    for (n, caller) in callers.into_iter().enumerate() {
        let ended = caller.await.unwrap();
        if n == 17 {
            assert!(matches!(ended, Err(ExecuteError::Corrupt(_))), "{ended:?}");
        } else {
            assert_eq!(ended.unwrap().version, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_decided_on_what_another_process_has_overtaken_are_decided_again_and_harm_nobody() {
    let log = TestLog::new().await;
    let (ours, others) = (log.executor().await, log.executor().await);
    let mut tenants = Vec::new();
    for _ in 0..30 {
        tenants.push(a_tenant(&ours).await.0);
    }
    // Ours remembers every one of them at version 1.
    for tenant in tenants.iter().step_by(3) {
        others
            .execute::<Tenant>(&tenant.to_string(), limit_accounts(5), &options(*tenant))
            .await
            .unwrap();
    }
    let callers = tenants.iter().map(|tenant| {
        let (ours, tenant) = (ours.clone(), *tenant);
        tokio::spawn(async move {
            ours.execute::<Tenant>(&tenant.to_string(), limit_accounts(6), &options(tenant))
                .await
                .unwrap()
                .version
        })
    });
    let versions: Vec<i64> = futures::future::join_all(callers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let expected: Vec<i64> = (0..30).map(|n| if n % 3 == 0 { 3 } else { 2 }).collect();
    assert_eq!(versions, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_decided_on_the_log_and_not_on_what_is_remembered() {
    let log = TestLog::new().await;
    let (ours, others) = (log.executor().await, log.executor().await);
    let (tenant, _) = a_tenant(&ours).await;
    let id = new_account().to_string();
    let options = options(tenant);
    ours.execute::<Account>(&id, create_account(tenant, "a"), &options)
        .await
        .unwrap();
    let now = Clock::system().now();
    let disable = || AccountCommand::Disable {
        reason: "r".to_owned(),
        now,
    };
    let disabled = others.execute::<Account>(&id, disable(), &options).await.unwrap();
    // Remembered as created, where enabling changes nothing; in the log it is disabled.
    let enabled = ours
        .execute::<Account>(&id, AccountCommand::Enable { now }, &options)
        .await
        .unwrap();
    assert_eq!((disabled.version, enabled.version), (2, 3));
    // And what is read is what the other process wrote.
    others.execute::<Account>(&id, disable(), &options).await.unwrap();
    assert_eq!(ours.load::<Account>(&id).await.unwrap().version, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_what_waits_too_long_is_withdrawn() {
    let mut log = TestLog::new().await;
    log.config.log.queue_commands = 8;
    log.config.log.append_deadline_ms = 700;
    log.config.log.statement_timeout_ms = 5_000;
    let executor = one_writer(&mut log).await;
    let (tenant, _) = a_tenant(&executor).await;
    let held_up = hold_up(&log, &executor).await;
    let create = |name: String| {
        let executor = executor.clone();
        async move {
            let asked = tokio::time::Instant::now();
            let id = new_tenant();
            let ended = executor
                .execute::<Tenant>(&id.to_string(), create_tenant(&name), &options(tenant))
                .await;
            (ended, asked.elapsed())
        }
    };
    let callers = (0..20).map(|n| tokio::spawn(create(format!("waiting-{n}"))));
    let mut at_once = 0;
    for caller in futures::future::join_all(callers).await {
        let (ended, elapsed) = caller.unwrap();
        assert!(matches!(ended, Err(ExecuteError::Overloaded)), "{ended:?}");
        assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
        at_once += i32::from(elapsed < Duration::from_millis(350));
    }
    assert_eq!(at_once, 12, "eight waited for their deadline");
    held_up.rollback().await.unwrap();
    // None of them comes later.
    let (ended, _) = create("after".to_owned()).await;
    ended.unwrap();
    let stored = "select count(*) from events where payload ->> 'tenant_code' ~ 'waiting'";
    assert_eq!(count(&executor, stored).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_takes_nothing_from_the_others() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let callers: Vec<_> = (0..200)
        .map(|n| {
            let executor = executor.clone();
            tokio::spawn(async move {
                let id = new_account().to_string();
                let key = Idempotency::new(executor.keys(), &["scope"], &n.to_string(), b"body");
                let options = CallOptions {
                    idempotency: Some(key),
                    ..options(tenant)
                };
                let ended = executor
                    .execute::<Account>(&id, create_account(tenant, &format!("{n}")), &options)
                    .await;
                (id, ended.unwrap().version)
            })
        })
        .collect();
    let mut answered = Vec::new();
    for (n, caller) in callers.into_iter().enumerate() {
        if n % 2 == 0 {
            caller.abort();
        }
        match caller.await {
            Ok(ended) => answered.push(ended),
            Err(error) => assert!(error.is_cancelled() && n % 2 == 0, "{error}"),
        }
    }
    assert!(answered.len() >= 100);
    for (id, version) in answered {
        assert_eq!(executor.load::<Account>(&id).await.unwrap().version, version);
    }
    // Whole commands only: a key, a name and a place in the quota for every account, and for nothing else.
    let accounts = count(
        &executor,
        "select count(*) from events where aggregate_type = 'account'",
    )
    .await;
    for table in [
        "select count(*) from idempotency_keys",
        "select count(*) from claims where kind = 'account_name'",
        "select used from quota_usage where kind = 'tenant_accounts'",
    ] {
        assert_eq!(count(&executor, table).await, accounts, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_another_epoch_is_read_again_before_anything_is_appended() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let id = tenant.to_string();
    for n in 1..=3 {
        executor
            .execute::<Tenant>(&id, limit_accounts(n), &options(tenant))
            .await
            .unwrap();
    }
    // An older copy of the log was restored, and adopted.
    let admin = log.log.admin_pool().await;
    sqlx::query("delete from events where sequence > 2")
        .execute(&admin)
        .await
        .unwrap();
    sqlx::query("update log_identity set epoch = 2")
        .execute(&admin)
        .await
        .unwrap();
    let committed = executor
        .execute::<Tenant>(&id, limit_accounts(9), &options(tenant))
        .await
        .unwrap();
    assert_eq!(committed.version, 3);
    assert_eq!(committed.order.map(|order| order.epoch), Some(2));
}
