use sqlx::PgPool;
use weft_domain::account::Account;
use weft_domain::{Claim, TenantId};
use weft_log_writer::testing::{TestLog, options};
use weft_log_writer::{CallOptions, ExecuteError, Executor};

use crate::support::{create_account, new_account, new_tenant, rename_account};

/// Name and owner of every claim, by name.
async fn claims(pool: &PgPool) -> Vec<(String, String)> {
    sqlx::query_as("select value, aggregate_id from claims order by value")
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn events(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from events")
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn created(executor: &Executor, tenant: TenantId, name: &str) -> String {
    let id = new_account().to_string();
    executor
        .execute::<Account>(&id, create_account(tenant, name), &options(tenant))
        .await
        .unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn of_commands_that_race_for_one_claim_exactly_one_wins() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let racers = (0..10).map(|_| {
        let executor = executor.clone();
        tokio::spawn(async move {
            let id = new_account().to_string();
            executor
                .execute::<Account>(&id, create_account(tenant, "小王"), &options(tenant))
                .await
        })
    });
    let ended: Vec<_> = futures::future::join_all(racers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();

    let winners: Vec<_> = ended.iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    let wanted = Claim::account_name(tenant, "小王");
    for loser in ended.iter().filter_map(|ended| ended.as_ref().err()) {
        assert!(
            matches!(loser, ExecuteError::ClaimTaken(claim) if *claim == wanted),
            "{loser}"
        );
    }
    assert_eq!(
        claims(executor.pool()).await,
        [("小王".to_owned(), winners[0].id.clone())]
    );
    assert_eq!(events(executor.pool()).await, 1, "a loser wrote an event");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_name_is_free_in_another_tenant() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    created(&executor, new_tenant(), "a").await;
    created(&executor, new_tenant(), "a").await;
    assert_eq!(claims(executor.pool()).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_takes_the_new_name_and_gives_the_old_one_back() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let first = created(&executor, tenant, "old").await;
    executor
        .execute::<Account>(&first, rename_account("new"), &options(tenant))
        .await
        .unwrap();
    assert_eq!(claims(executor.pool()).await, [("new".to_owned(), first.clone())]);

    let second = created(&executor, tenant, "old").await;
    let refused = executor
        .execute::<Account>(&second, rename_account("new"), &options(tenant))
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecuteError::ClaimTaken(_)));
    assert_eq!(
        claims(executor.pool()).await,
        [("new".to_owned(), first), ("old".to_owned(), second)],
        "a refused rename changed a claim"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_swap_their_names_by_way_of_a_third_or_in_one_transaction() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let (first, second) = (
        created(&executor, tenant, "a").await,
        created(&executor, tenant, "b").await,
    );
    let rename = async |id: &str, name: &str| {
        executor
            .execute::<Account>(id, rename_account(name), &options(tenant))
            .await
            .unwrap();
    };
    rename(&first, "c").await;
    rename(&second, "a").await;
    rename(&first, "b").await;
    assert_eq!(
        claims(executor.pool()).await,
        [("a".to_owned(), second.clone()), ("b".to_owned(), first.clone())]
    );

    let back = vec![
        (first.clone(), rename_account("a")),
        (second.clone(), rename_account("b")),
    ];
    executor.execute_all::<Account>(back, &options(tenant)).await.unwrap();
    assert_eq!(
        claims(executor.pool()).await,
        [("a".to_owned(), first), ("b".to_owned(), second)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_command_of_several_loses_none_of_them_keeps() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let owner = created(&executor, tenant, "taken").await;
    let all = ["free", "taken"]
        .map(|name| (new_account().to_string(), create_account(tenant, name)))
        .to_vec();
    let refused = executor
        .execute_all::<Account>(all, &options(tenant))
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecuteError::ClaimTaken(claim) if claim.value == "taken"));
    assert_eq!(claims(executor.pool()).await, [("taken".to_owned(), owner)]);
    assert_eq!(events(executor.pool()).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_of_one_command_cannot_take_one_name() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let both = [(); 2]
        .map(|()| (new_account().to_string(), create_account(tenant, "same")))
        .to_vec();
    let refused = executor
        .execute_all::<Account>(both, &CallOptions { ..options(tenant) })
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecuteError::ClaimTaken(_)));
    assert!(claims(executor.pool()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_that_cross_each_other_do_not_deadlock() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let tenant = new_tenant();
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(created(&executor, tenant, &format!("name {n}")).await);
    }
    let tasks = ids.iter().enumerate().map(|(n, id)| {
        let (executor, id) = (executor.clone(), id.clone());
        tokio::spawn(async move {
            for round in 0..20 {
                let name = format!("name {}", (n + round) % 7);
                match executor
                    .execute::<Account>(&id, rename_account(&name), &options(tenant))
                    .await
                {
                    Ok(_) | Err(ExecuteError::ClaimTaken(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap();
    }
    // Every account holds exactly the name that its stream says.
    let held = claims(executor.pool()).await;
    assert_eq!(held.len(), ids.len());
    for (name, id) in held {
        assert_eq!(executor.load::<Account>(&id).await.unwrap().state.account_name, name);
    }
}
