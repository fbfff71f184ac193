//! The stock tools of cqrs-es and postgres-es on Weft's table, and the framework on Weft's store.

use std::collections::HashMap;

use cqrs_es::persist::{PersistedEventRepository, PersistedEventStore};
use cqrs_es::{AggregateContext, AggregateError, CqrsFramework, EventEnvelope, EventStore};
use postgres_es::PostgresEventRepository;
use weft_domain::account::{Account, AccountCommand, AccountError, AccountStatus};
use weft_domain::tenant::Tenant;
use weft_domain::{LogOrder, Metadata};
use weft_log_reader::Tail;
use weft_log_writer::testing::{TestLog, metadata, options};
use weft_platform::clock::Clock;

use crate::support::{create_account, create_tenant, limit_accounts, new_account, new_tenant};

fn map(metadata: &Metadata, partition_key: &str) -> HashMap<String, String> {
    metadata.to_map(partition_key)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_repository_reads_what_weft_appended() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let id = new_account().to_string();
    executor
        .execute::<Account>(&id, create_account(tenant, "a"), &options(tenant))
        .await
        .unwrap();
    let now = Clock::system().now();
    let disable = AccountCommand::Disable {
        reason: "r".to_owned(),
        now,
    };
    let committed = executor
        .execute::<Account>(&id, disable, &options(tenant))
        .await
        .unwrap();

    let stock = PostgresEventRepository::new(log.log.pool("weft_log").await);
    let stored = stock.get_events::<Account>(&id).await.unwrap();
    assert_eq!(stored.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
    let mut account = Account::default();
    for event in stored {
        let envelope = EventEnvelope::<Account>::try_from(event).unwrap();
        assert_eq!(envelope.metadata["tenant_id"], tenant.to_string());
        cqrs_es::Aggregate::apply(&mut account, envelope.payload);
    }
    assert_eq!(account, committed.state);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_framework_appends_what_weft_reads() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let id = new_account().to_string();
    let stock = PostgresEventRepository::new(log.log.pool("weft_log").await);
    let framework = CqrsFramework::new(PersistedEventStore::<_, Account>::new_event_store(stock), vec![], ());
    let metadata = metadata(tenant, &Clock::system());
    framework
        .execute_with_metadata(&id, create_account(tenant, "a"), map(&metadata, &id))
        .await
        .unwrap();

    let loaded = executor.load::<Account>(&id).await.unwrap();
    assert_eq!((loaded.version, loaded.state.status), (1, Some(AccountStatus::Created)));
    // And both go on from there, in turn.
    let now = Clock::system().now();
    let disable = AccountCommand::Disable {
        reason: "r".to_owned(),
        now,
    };
    executor
        .execute::<Account>(&id, disable, &options(tenant))
        .await
        .unwrap();
    framework
        .execute_with_metadata(&id, AccountCommand::Enable { now }, map(&metadata, &id))
        .await
        .unwrap();
    let loaded = executor.load::<Account>(&id).await.unwrap();
    assert_eq!((loaded.version, loaded.state.status), (3, Some(AccountStatus::Offline)));

    let mut tail = Tail::new(executor.pool().clone(), LogOrder::default());
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(tail.next_page(10).await.unwrap());
    }
    assert_eq!(seen.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(seen.iter().all(|event| event.tenant_id == Some(tenant.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_stock_code_appended_without_envelope_follows_its_stream() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let id = new_account().to_string();
    executor
        .execute::<Account>(&id, create_account(tenant, "a"), &options(tenant))
        .await
        .unwrap();
    let stock = PostgresEventRepository::new(log.log.pool("weft_log").await);
    let framework = CqrsFramework::new(PersistedEventStore::<_, Account>::new_event_store(stock), vec![], ());
    let now = Clock::system().now();
    framework
        .execute(
            &id,
            AccountCommand::Disable {
                reason: "r".to_owned(),
                now,
            },
        )
        .await
        .unwrap();
    let mut tail = Tail::new(executor.pool().clone(), LogOrder::default());
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(tail.next_raw_page(10).await.unwrap());
    }
    assert!(seen.iter().all(|event| event.partition_key == id));
    assert!(seen.iter().all(|event| event.tenant_id == Some(tenant.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_framework_runs_on_wefts_store_with_claims() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let framework = CqrsFramework::<Account, _>::new(executor.clone(), vec![], ());
    let metadata = metadata(tenant, &Clock::system());
    let [first, second] = [(); 2].map(|()| new_account().to_string());
    let create = async |id: &str| {
        framework
            .execute_with_metadata(id, create_account(tenant, "a"), map(&metadata, ""))
            .await
    };
    create(&first).await.unwrap();
    let refused = create(&first).await.unwrap_err();
    assert!(
        matches!(refused, AggregateError::UserError(AccountError::AlreadyExists)),
        "{refused}"
    );
    let taken = create(&second).await.unwrap_err();
    assert!(matches!(taken, AggregateError::UnexpectedError(_)), "{taken}");
    let loaded = executor.load::<Account>(&first).await.unwrap();
    assert_eq!((loaded.version, loaded.partition_key), (1, Some(first)));
    assert_eq!(executor.load::<Account>(&second).await.unwrap().version, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_framework_is_told_of_a_conflict() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let id = tenant.to_string();
    executor
        .execute::<Tenant>(&id, create_tenant("x"), &options(tenant))
        .await
        .unwrap();
    let mut stale = EventStore::<Tenant>::load_aggregate(&executor, &id).await.unwrap();
    let events = weft_domain::LogAggregate::decide(stale.aggregate(), limit_accounts(3)).unwrap();
    executor
        .execute::<Tenant>(&id, limit_accounts(4), &options(tenant))
        .await
        .unwrap();
    let refused = executor.commit(events, stale, HashMap::new()).await.unwrap_err();
    assert!(matches!(refused, AggregateError::AggregateConflict));
}
