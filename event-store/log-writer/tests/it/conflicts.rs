use weft_domain::account::{Account, AccountCommand, AccountError};
use weft_domain::tenant::{Tenant, TenantError};
use weft_log_writer::testing::{TestLog, options};
use weft_log_writer::{CallOptions, ExecuteError, IfMatch};
use weft_platform::kafka::partition_for;

use crate::support::{a_tenant, create_account, limit_accounts, new_account, new_tenant};

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_race_on_one_stream_are_all_carried_out_one_after_the_other() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let id = tenant.to_string();
    let racers = (0..8_u32).map(|n| {
        let (executor, id) = (executor.clone(), id.clone());
        tokio::spawn(async move {
            executor
                .execute::<Tenant>(&id, limit_accounts(100 + n), &options(tenant))
                .await
        })
    });
    let mut versions: Vec<i64> = futures::future::join_all(racers)
        .await
        .into_iter()
        .map(|ended| ended.unwrap().unwrap().version)
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=9).collect::<Vec<_>>());
    assert_eq!(executor.load::<Tenant>(&id).await.unwrap().version, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn if_match_holds_for_the_version_it_names_only() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let id = tenant.to_string();
    let with = |if_match| CallOptions {
        if_match,
        ..options(tenant)
    };
    let committed = executor
        .execute::<Tenant>(&id, limit_accounts(1), &with(IfMatch::Version(1)))
        .await
        .unwrap();
    assert_eq!(committed.version, 2);
    let stale = executor
        .execute::<Tenant>(&id, limit_accounts(2), &with(IfMatch::Version(1)))
        .await
        .unwrap_err();
    assert!(matches!(stale, ExecuteError::VersionMismatch { current: 2 }));
    // Also for a command whose outcome already holds.
    let stale = executor
        .execute::<Tenant>(&id, limit_accounts(1), &with(IfMatch::Version(1)))
        .await
        .unwrap_err();
    assert!(matches!(stale, ExecuteError::VersionMismatch { current: 2 }));
    executor
        .execute::<Tenant>(&id, limit_accounts(3), &with(IfMatch::Any))
        .await
        .unwrap();
    let nobody = new_tenant().to_string();
    let missing = executor
        .execute::<Tenant>(&nobody, limit_accounts(3), &with(IfMatch::Any))
        .await
        .unwrap_err();
    assert!(matches!(missing, ExecuteError::Domain(TenantError::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_racing_commands_with_the_same_if_match_one_is_refused() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let id = tenant.to_string();
    let options = CallOptions {
        if_match: IfMatch::Version(1),
        ..options(tenant)
    };
    let (one, other) = tokio::join!(
        executor.execute::<Tenant>(&id, limit_accounts(1), &options),
        executor.execute::<Tenant>(&id, limit_accounts(2), &options),
    );
    assert_eq!(
        [one.is_ok(), other.is_ok()].iter().filter(|ok| **ok).count(),
        1,
        "{one:?} {other:?}"
    );
    let loser = one.err().or(other.err()).unwrap();
    assert!(matches!(loser, ExecuteError::VersionMismatch { current: 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_writes_nothing_and_one_that_holds_already_neither() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let id = new_account().to_string();
    let options = options(tenant);
    let disable = || AccountCommand::Disable {
        reason: "test".to_owned(),
        now: options.metadata.occurred_at,
    };
    let refused = executor.execute::<Account>(&id, disable(), &options).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::Domain(AccountError::NotFound)));
    executor
        .execute::<Account>(&id, create_account(tenant, "a"), &options)
        .await
        .unwrap();
    let first = executor.execute::<Account>(&id, disable(), &options).await.unwrap();
    let second = executor.execute::<Account>(&id, disable(), &options).await.unwrap();
    assert_eq!((first.version, first.events.len()), (2, 1));
    assert_eq!((second.version, second.events.len(), second.order), (2, 0, first.order));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_over_the_limit_is_refused() {
    let mut log = TestLog::new().await;
    log.config.log.max_event_bytes = 1_000;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let long = create_account(tenant, &"长".repeat(400));
    let id = new_account().to_string();
    let refused = executor
        .execute::<Account>(&id, long, &options(tenant))
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecuteError::EventTooLarge));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_names_topic_partition_and_order_of_what_was_written() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, created) = a_tenant(&executor).await;
    let token = executor.token(&[created]).await.unwrap();
    let (log_id, epoch): (uuid::Uuid, i16) = sqlx::query_as("select log_id, epoch from log_identity")
        .fetch_one(executor.pool())
        .await
        .unwrap();
    let order: (i64, i64) = sqlx::query_as("select transaction_id::text::bigint, position from events")
        .fetch_one(executor.pool())
        .await
        .unwrap();
    assert_eq!((token.log_id, token.epoch), (log_id, epoch));
    let [mark] = token.marks.as_slice() else {
        panic!("{token:?}")
    };
    let kafka = &log.config.kafka;
    assert_eq!(mark.topic, kafka.topic("tenant"));
    assert_eq!(
        mark.partition,
        partition_for(&tenant.to_string(), kafka.partition_count("tenant"))
    );
    assert_eq!((mark.order, mark.version), (order, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_many_streams_has_one_mark_per_partition_the_newest() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let commands: Vec<_> = (0..20)
        .map(|n| (new_account().to_string(), create_account(tenant, &format!("{n}"))))
        .collect();
    let committed = executor
        .execute_all::<Account>(commands, &options(tenant))
        .await
        .unwrap();
    let token = executor.token(&committed).await.unwrap();
    let partitions = log.config.kafka.partition_count("account");
    for mark in &token.marks {
        let newest = committed
            .iter()
            .filter(|one| partition_for(&one.id, partitions) == mark.partition)
            .filter_map(|one| one.order)
            .max()
            .unwrap();
        assert_eq!(mark.order, (newest.transaction_id, newest.position));
    }
    let distinct: std::collections::BTreeSet<_> = token.marks.iter().map(|mark| mark.partition).collect();
    assert_eq!(distinct.len(), token.marks.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_commands_on_one_stream_in_one_transaction_see_each_other() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let commands = [5, 5, 6].map(|n| (tenant.to_string(), limit_accounts(n))).to_vec();
    let committed = executor
        .execute_all::<Tenant>(commands, &options(tenant))
        .await
        .unwrap();
    let seen: Vec<_> = committed.iter().map(|one| (one.version, one.events.len())).collect();
    assert_eq!(seen, [(2, 1), (2, 0), (3, 1)]);
    assert!(committed.iter().all(|one| one.order.is_some()));
    let transactions: i64 = sqlx::query_scalar("select count(distinct transaction_id) from events where sequence > 1")
        .fetch_one(executor.pool())
        .await
        .unwrap();
    assert_eq!(transactions, 1);
}
