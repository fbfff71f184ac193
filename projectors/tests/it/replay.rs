//! Rebuilds: a new generation from the log, compared with the live one, that takes over while it is written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use weft_domain::LogOrder;
use weft_log_writer::testing::TestLog;
use weft_platform::health::Health;
use weft_platform::testing::until;
use weft_projectors::clickhouse::account_facts::AccountFacts;
use weft_projectors::clickhouse::message_facts::MessageFacts;
use weft_projectors::clickhouse::message_stats_hourly;
use weft_projectors::conversations::Conversations;
use weft_projectors::engine::Session;
use weft_projectors::error::ProjectionError;
use weft_projectors::generation::Generation;
use weft_projectors::messages::Messages;
use weft_projectors::replay::{Purpose, Replay, TableDiff, prefix_until};
use weft_projectors::world::{AnyProjection, World};
use weft_projectors::{account_status_history::AccountStatusHistory, accounts::Accounts};

use crate::support::history::History;
use crate::support::log::append;
use crate::support::running::{Running, publish};
use crate::support::stores::Stores;
use crate::support::{keyless, project, read};

fn named(names: &[&str]) -> Vec<Box<dyn AnyProjection>> {
    let all = weft_projectors::projections().into_iter();
    all.filter(|projection| names.is_empty() || names.contains(&projection.name()))
        .collect()
}

/// Live views of a history, in the first generation, and the log that they are of.
async fn projected(stores: &mut Stores, history: &History) -> (TestLog, Arc<World>) {
    let log = TestLog::new().await;
    append(&log, &history.records).await;
    stores.config.log.url = log.config.log.url.clone();
    let (accounts, messages) = (history.of("account"), history.of("message"));
    let others: Vec<_> = history
        .records
        .iter()
        .filter(|r| r.aggregate_type != "account")
        .cloned()
        .collect();
    project(&stores.engine, &Accounts, &accounts, 500).await;
    project(&stores.engine, &AccountStatusHistory, &accounts, 500).await;
    project(&stores.engine, &Messages::new(keyless()), &messages, 500).await;
    project(&stores.engine, &Conversations, &others, 500).await;
    project(&stores.engine, &AccountFacts::new(stores.facts()), &accounts, 2_000).await;
    project(&stores.engine, &MessageFacts::new(stores.facts()), &messages, 2_000).await;
    while message_stats_hourly::compute(&stores.engine.pool, &stores.facts())
        .await
        .unwrap()
        > 0
    {}
    let world = World::new(Arc::new(stores.config.clone()), keyless(), Health::default()).unwrap();
    (log, world)
}

fn by_table(diffs: Vec<TableDiff>) -> HashMap<&'static str, TableDiff> {
    diffs.into_iter().map(|diff| (diff.table, diff)).collect()
}

/// Rows under a stable name, as the projector sees them.
async fn shown(stores: &Stores, table: &str) -> Vec<String> {
    sqlx::query_scalar(&format!("select to_jsonb(t)::text from views.{table} t order by 1"))
        .fetch_all(&stores.engine.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_of_everything_is_equal_takes_over_fences_the_old_one_and_goes_back() {
    let mut stores = Stores::with_facts().await;
    let mut history = History::of_everything(&stores.config.kafka, 90, 3_000);
    let (log, world) = projected(&mut stores, &history).await;
    let tables = ["accounts", "account_status_history", "messages", "conversations"];
    let mut before = Vec::new();
    for table in tables {
        before.push(shown(&stores, table).await);
    }
    let mut old = Session::open(&stores.engine, &Accounts).await.unwrap();

    let replay = Replay::begin(Arc::clone(&world), named(&[]), Purpose::HandOver)
        .await
        .unwrap();
    assert_eq!(replay.generation, Generation::new(2));
    let filled = replay.fill(|_| ()).await.unwrap();
    assert!(filled.events as usize >= history.records.len());
    let diffs = replay.diff().await.unwrap();
    assert_eq!(diffs.len(), 9);
    for diff in &diffs {
        assert!(
            diff.is_equal() && diff.rows == diff.live_rows && diff.rows > 0,
            "{diff:?}"
        );
    }
    replay.hand_over().await.unwrap();

    for (table, before) in tables.iter().zip(&before) {
        assert_eq!(shown(&stores, table).await, *before, "{table}");
    }
    let number = history.records.len();
    for _ in 0..300 {
        history.change_some_message();
    }
    let accounts: Vec<_> = history.accounts.keys().copied().collect();
    for id in accounts {
        history.change_account(id);
        history.change_account(id);
    }
    let more = history.records[number..].to_vec();
    append(&log, &more).await;
    let new_accounts: Vec<_> = more.iter().filter(|r| r.aggregate_type == "account").cloned().collect();
    assert!(!new_accounts.is_empty());
    let error = old.apply(read(&new_accounts)).await.unwrap_err();
    assert!(matches!(error, ProjectionError::Fenced), "{error}");
    // The new one goes on at the old one's offsets.
    let live = world.live("accounts").await.unwrap();
    assert_eq!(live.generation, Generation::new(2));
    project(&live, &Accounts, &new_accounts, 7).await;
    let after = shown(&stores, "accounts").await;
    assert_ne!(after, before[0]);

    // Back: the first generation is caught up before it shows.
    let back = Replay::back(Arc::clone(&world), named(&["accounts"]).remove(0))
        .await
        .unwrap();
    assert_eq!(back.generation, Generation::FIRST);
    back.fill(|_| ()).await.unwrap();
    assert!(back.diff().await.unwrap().iter().all(TableDiff::is_equal));
    back.hand_over().await.unwrap();
    assert_eq!(world.live("accounts").await.unwrap().generation, Generation::FIRST);
    assert_eq!(world.live("messages").await.unwrap().generation, Generation::new(2));
    assert_eq!(shown(&stores, "accounts").await, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_names_what_differs_in_both_stores_and_leaves_nothing_behind() {
    let mut stores = Stores::with_facts().await;
    let history = History::of_everything(&stores.config.kafka, 91, 1_500);
    let (_log, world) = projected(&mut stores, &history).await;
    for planted in [
        "update messages set retry_count = retry_count + 1 where id = (select min(id::text)::uuid from messages)",
        "delete from messages where id = (select max(id::text)::uuid from messages)",
        "insert into account_status_history (account_id, sequence, tenant_id, new_status, operator_type, created_at)
         values (gen_random_uuid(), 1, gen_random_uuid(), 'online', 'user', now())",
    ] {
        sqlx::query(planted).execute(&stores.engine.pool).await.unwrap();
    }
    let facts = stores.facts();
    let client = stores
        .clickhouse()
        .with_database(Generation::FIRST.facts_database(&stores.config.clickhouse.database));
    client
        .query("insert into message_facts select * replace ('failed' as status) from message_facts final limit 1")
        .execute()
        .await
        .unwrap();
    drop(facts);

    let replay = Replay::begin(Arc::clone(&world), named(&[]), Purpose::Check)
        .await
        .unwrap();
    replay.fill(|_| ()).await.unwrap();
    let diffs = by_table(replay.diff().await.unwrap());
    replay.abandon().await.unwrap();
    let counts = |table: &str| (diffs[table].only_live, diffs[table].only_here, diffs[table].changed);
    assert_eq!(counts("messages"), (0, 1, 1));
    assert_eq!(counts("account_status_history"), (1, 0, 0));
    assert_eq!(counts("accounts"), (0, 0, 0));
    assert_eq!(counts("message_facts"), (0, 0, 1), "{:?}", diffs["message_facts"]);
    let what: Vec<&str> = diffs["messages"]
        .sample
        .iter()
        .map(|difference| difference.what.as_str())
        .collect();
    assert!(
        what.contains(&"retry_count") && what.contains(&"not in the live one"),
        "{what:?}"
    );
    assert_eq!(diffs["message_facts"].sample[0].what, "status");
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from views.replays) + (select count(*) from pg_namespace where nspname = 'views_g2')",
    )
    .fetch_one(&stores.engine.pool)
    .await
    .unwrap();
    assert_eq!(left, 0);
    assert_eq!(world.live("messages").await.unwrap().generation, Generation::FIRST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_rebuild_goes_on_where_it_was() {
    let mut stores = Stores::with_facts().await;
    let history = History::of_everything(&stores.config.kafka, 92, 60_000);
    let (_log, world) = projected(&mut stores, &history).await;
    let killed = Replay::begin(Arc::clone(&world), named(&[]), Purpose::HandOver)
        .await
        .unwrap();
    let generation = killed.generation;
    let pages = std::sync::atomic::AtomicUsize::new(0);
    let seventh_page = tokio::sync::Notify::new();
    tokio::select! {
        filled = killed.fill(|_| {
            if pages.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 6 {
                seventh_page.notify_one();
            }
        }) => panic!("ended before it was killed: {filled:?}"),
        () = seventh_page.notified() => {}
    }
    drop(killed);
    let replay = Replay::begin(Arc::clone(&world), named(&[]), Purpose::HandOver).await;
    // The dead process's lock goes with its connection.
    let replay = match replay {
        Ok(replay) => replay,
        Err(_) => {
            until("the lock", async || {
                Replay::begin(Arc::clone(&world), named(&[]), Purpose::HandOver)
                    .await
                    .ok()
            })
            .await
        }
    };
    assert!(replay.resumed && replay.generation == generation);
    let filled = replay.fill(|_| ()).await.unwrap();
    assert!((filled.events as usize) < history.records.len(), "{filled:?}");
    for diff in replay.diff().await.unwrap() {
        assert!(diff.is_equal() && diff.rows > 0, "{diff:?}");
    }
    replay.abandon().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_waits_for_events_that_an_older_transaction_holds_back() {
    let mut stores = Stores::with_facts().await;
    let history = History::of_everything(&stores.config.kafka, 97, 500);
    let (log, world) = projected(&mut stores, &history).await;
    // Any transaction with an id, in any database of the cluster; the newest event is of a later one.
    let mut older = stores.engine.pool.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()")
        .execute(&mut *older)
        .await
        .unwrap();
    let pool = log.log.admin_pool().await;
    sqlx::query(
        "with newest as (select * from events order by position desc limit 1)
         update events set transaction_id = pg_current_xact_id() where position = (select position from newest)",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("update views_g1.checkpoints set transaction_id = 9000000000000000 where transaction_id > 0")
        .execute(&stores.engine.pool)
        .await
        .unwrap();
    let replay = Replay::begin(Arc::clone(&world), named(&["messages"]), Purpose::Check)
        .await
        .unwrap();
    let filled = replay.fill(|_| ());
    tokio::pin!(filled);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut filled).await;
    assert!(early.is_err(), "ended without what is held back: {early:?}");
    older.rollback().await.unwrap();
    assert_eq!(filled.await.unwrap().events as usize, history.of("message").len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_a_time_is_the_longest_prefix_recorded_by_then() {
    let mut stores = Stores::with_facts().await;
    let history = History::of_everything(&stores.config.kafka, 93, 1_000);
    let (log, world) = projected(&mut stores, &history).await;
    let middle = &history.records[history.records.len() / 2];
    let pool = log.log.pool("weft_log").await;
    let order = prefix_until(&pool, middle.recorded_at).await.unwrap();
    let prefix: Vec<_> = history
        .records
        .iter()
        .take_while(|r| r.recorded_at <= middle.recorded_at)
        .cloned()
        .collect();
    let last = prefix.last().unwrap();
    assert_eq!(
        order,
        LogOrder {
            epoch: last.epoch,
            transaction_id: last.transaction_id,
            position: last.position
        }
    );
    let before_all = prefix_until(&pool, history.records[0].recorded_at - chrono::TimeDelta::days(1))
        .await
        .unwrap();
    assert_eq!(before_all, LogOrder::default());

    let replay = Replay::begin(Arc::clone(&world), named(&["accounts"]), Purpose::Until(order))
        .await
        .unwrap();
    replay.fill(|_| ()).await.unwrap();
    let schema = replay.generation.schema();
    replay.keep().await.unwrap();
    let twin = stores.twin().await;
    let accounts: Vec<_> = prefix.into_iter().filter(|r| r.aggregate_type == "account").collect();
    project(&twin.engine, &Accounts, &accounts, 100).await;
    let rows: Vec<String> =
        sqlx::query_scalar(&format!("select to_jsonb(t)::text from {schema}.accounts t order by 1"))
            .fetch_all(&stores.engine.pool)
            .await
            .unwrap();
    assert_eq!(rows, crate::support::rows(&twin.engine, "accounts").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_views_are_served_and_catch_up_while_a_rebuild_runs_and_takes_over() {
    let mut stores = Stores::with_topics().await;
    let expected = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 94, 6_000);
    let log = TestLog::new().await;
    append(&log, &history.records).await;
    stores.config.log.url = log.config.log.url.clone();
    project(&expected.engine, &Messages::new(keyless()), &history.of("message"), 500).await;
    let world = World::new(Arc::new(stores.config.clone()), keyless(), Health::default()).unwrap();
    let running = Running::start(stores.config.clone());
    let third = history.records.len() / 3;
    publish(&stores, &history.records[..third]).await;
    let applied = async || -> i64 {
        sqlx::query_scalar(
            "select coalesce(sum(next_offset), 0)::bigint from views.checkpoints where projection = 'messages'",
        )
        .fetch_one(&stores.engine.pool)
        .await
        .unwrap()
    };
    until("the first messages", async || (applied().await > 0).then_some(())).await;
    let feed = async {
        for slice in history.records[third..].chunks(200) {
            publish(&stores, slice).await;
        }
    };
    let rebuild = async {
        for generation in [2, 3] {
            let replay = Replay::begin(Arc::clone(&world), named(&["messages"]), Purpose::HandOver)
                .await
                .unwrap();
            assert_eq!(replay.generation, Generation::new(generation));
            replay.fill(|_| ()).await.unwrap();
            for diff in replay.diff().await.unwrap() {
                assert!(diff.is_equal(), "{diff:?}");
            }
            replay.hand_over().await.unwrap();
        }
    };
    tokio::join!(feed, rebuild);
    let events = history.of("message").len() as i64;
    until("everything", async || (applied().await == events).then_some(())).await;
    assert_eq!(
        shown(&stores, "messages").await,
        crate::support::rows(&expected.engine, "messages").await
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_projection_whose_generation_was_dropped_goes_on_with_the_live_one() {
    let mut stores = Stores::with_topics().await;
    let history = History::of_everything(&stores.config.kafka, 98, 600);
    let log = TestLog::new().await;
    append(&log, &history.records).await;
    stores.config.log.url = log.config.log.url.clone();
    let world = World::new(Arc::new(stores.config.clone()), keyless(), Health::default()).unwrap();
    let running = Running::start(stores.config.clone());
    let rebuild = async || {
        let replay = Replay::begin(Arc::clone(&world), named(&["messages"]), Purpose::HandOver)
            .await
            .unwrap();
        replay.fill(|_| ()).await.unwrap();
        replay.hand_over().await.unwrap();
    };
    let messages = history.of("message");
    let all_of = async |count: usize| {
        until("what is published", async || {
            let applied: i64 = sqlx::query_scalar(
                "select coalesce(sum(next_offset), 0)::bigint from views.checkpoints where projection = 'messages'",
            )
            .fetch_one(&stores.engine.pool)
            .await
            .unwrap();
            (applied == count as i64).then_some(())
        })
        .await;
    };
    let (first, rest) = messages.split_at(messages.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    publish(&stores, first).await;
    all_of(first.len()).await;
    rebuild().await;
    publish(&stores, second).await;
    // Now it works in generation 2, which is gone after two more.
    all_of(first.len() + second.len()).await;
    rebuild().await;
    rebuild().await;
    let gone: bool = sqlx::query_scalar("select to_regclass('views_g2.checkpoints') is null")
        .fetch_one(&stores.engine.pool)
        .await
        .unwrap();
    assert!(gone);
    publish(&stores, third).await;
    all_of(messages.len()).await;
    running.stop().await;
}
