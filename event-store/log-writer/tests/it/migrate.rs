use sqlx::{Connection, PgConnection};
use weft_log_writer::Executor;
use weft_log_writer::migrate;
use weft_log_writer::testing::{TestLog, config_of};
use weft_platform::clock::Clock;
use weft_platform::config::Secret;

async fn refused(log: &TestLog, statement: &str) -> bool {
    let mut connection = PgConnection::connect(&log.log.url("weft_log")).await.unwrap();
    let error = sqlx::query(statement).execute(&mut connection).await.err();
    error
        .and_then(sqlx::Error::into_database_error)
        .is_some_and(|error| error.code().as_deref() == Some("42501"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_role_may_append_and_never_change_or_delete_an_event() {
    let log = TestLog::new().await;
    for statement in [
        "update events set payload = '{}'",
        "delete from events",
        "truncate events",
        "alter table events add column x int",
        "update log_identity set epoch = 2",
        "create table mine (x int)",
    ] {
        assert!(refused(&log, statement).await, "{statement} was allowed");
    }
    assert!(!refused(&log, "select 1 from events").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_the_log_role_commit_synchronously_and_time_out() {
    let log = TestLog::new().await;
    let setting = "select current_setting('synchronous_commit'), current_setting('statement_timeout')";
    let stock: (String, String) = sqlx::query_as(setting)
        .fetch_one(&log.log.pool("weft_log").await)
        .await
        .unwrap();
    assert_eq!(stock, ("on".to_owned(), "10s".to_owned()));
    let executor = log.executor().await;
    let ours: (String, String) = sqlx::query_as(setting).fetch_one(executor.pool()).await.unwrap();
    assert_eq!(ours, ("on".to_owned(), "10s".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_its_client_forgot_ends_by_itself_whichever_role_it_is_of() {
    let log = TestLog::new().await;
    // The test databases' template may be older than the cluster's roles have to be.
    migrate::log(&log.config).await.unwrap();
    migrate::keys(&log.config).await.unwrap();
    for (database, role) in [(&log.log, "weft_log"), (&log.keys, "weft_keys")] {
        let timeout: String = sqlx::query_scalar("select current_setting('idle_in_transaction_session_timeout')")
            .fetch_one(&database.pool(role).await)
            .await
            .unwrap();
        assert_eq!(timeout, "10s", "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_run_at_once_and_again_agree() {
    let log = TestLog::new().await;
    let (log_name, keys_name) = (format!("{}_two", log.log.name()), format!("{}_two", log.keys.name()));
    let config = config_of(&log_name, &keys_name);
    let run = |_: usize| {
        let config = config.clone();
        tokio::spawn(async move {
            migrate::log(&config).await.unwrap();
            migrate::keys(&config).await.unwrap();
        })
    };
    for ended in futures::future::join_all((0..4).map(run)).await {
        ended.unwrap();
    }
    run(4).await.unwrap();
    let outcome = Executor::connect(&config, Clock::system()).await;
    let admin = log.log.admin_pool().await;
    let strangers: Option<bool> = sqlx::query_scalar("select has_database_privilege('weft_keys', $1, 'connect')")
        .bind(&log_name)
        .fetch_one(&admin)
        .await
        .ok();
    let identities: Option<i64> = match &outcome {
        Ok(executor) => sqlx::query_scalar("select count(*) from log_identity")
            .fetch_one(executor.pool())
            .await
            .ok(),
        Err(_) => None,
    };
    for name in [log_name, keys_name] {
        sqlx::query(&format!("drop database {name} with (force)"))
            .execute(&admin)
            .await
            .unwrap();
    }
    assert_eq!(identities, Some(1));
    assert_eq!(strangers, Some(false), "every role may connect to the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_not_migrated_is_refused_by_name() {
    let log = TestLog::new().await;
    let mut missing = log.config.clone();
    missing.log.url = Secret(log.log.url("weft_log").replace(log.log.name(), "no_such_log"));
    sqlx::query("drop table log_identity")
        .execute(&log.log.admin_pool().await)
        .await
        .unwrap();
    for config in [&log.config, &missing] {
        let error = Executor::connect(config, Clock::system())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("weft migrate"), "{error}");
    }
}
