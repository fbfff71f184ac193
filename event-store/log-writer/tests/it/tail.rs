use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::watch;
use weft_domain::LogOrder;
use weft_log_reader::{StoredEvent, Tail};
use weft_log_writer::append::{Appended, Command, NewEvent, Outcome, Terms, append};
use weft_log_writer::testing::TestLog;
use weft_platform::clock::Clock;
use weft_platform::testing::until;

const WRITERS: usize = 32;
const COMMANDS: i64 = 60;

fn event(stream: usize, sequence: i64) -> NewEvent {
    NewEvent {
        aggregate_type: "tenant",
        aggregate_id: format!("stream-{stream:02}"),
        sequence,
        event_type: "TenantReactivated".to_owned(),
        event_version: "1".to_owned(),
        payload: r#"{"type":"TenantReactivated","at":"2026-01-01T00:00:00Z"}"#.to_owned(),
        metadata: r#"{"tenant_id":"t"}"#.to_owned(),
    }
}

/// What a reader saw: stream and sequence, in the order it saw them.
type Seen = Vec<(String, i64)>;

/// Every event once, each stream in order. The checker that both readers face.
fn check(seen: &Seen, streams: usize, per_stream: i64) -> Result<(), String> {
    let distinct: BTreeSet<_> = seen.iter().collect();
    if distinct.len() != seen.len() {
        return Err(format!("{} events were seen twice", seen.len() - distinct.len()));
    }
    let expected = streams * per_stream as usize;
    if seen.len() != expected {
        return Err(format!("{} of {expected} events were lost", expected - seen.len()));
    }
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for (stream, sequence) in seen {
        let previous = last.insert(stream, *sequence).unwrap_or_default();
        if *sequence != previous + 1 {
            return Err(format!("{stream}: {sequence} was seen after {previous}"));
        }
    }
    Ok(())
}

/// 32 writers, each its own stream, two events a command. The first one's first command is not committed before the naive
/// reader, whose place is in `passed`, has read on behind it.
async fn write(pool: PgPool, done: Arc<AtomicBool>, passed: watch::Receiver<i64>) {
    let writers = (0..WRITERS).map(|writer| {
        let (pool, mut passed) = (pool.clone(), passed.clone());
        tokio::spawn(async move {
            for n in 0..COMMANDS {
                let command = Command {
                    events: vec![event(writer, 2 * n + 1), event(writer, 2 * n + 2)],
                    ..Command::default()
                };
                let mut transaction = pool.begin().await.unwrap();
                let now = Clock::system().now();
                let appended = append(&mut transaction, now, &[command], Terms::default())
                    .await
                    .unwrap();
                if (writer, n) == (0, 0) {
                    let Appended::Done(_, outcomes) = appended else {
                        panic!("{appended:?}");
                    };
                    let Outcome::Committed(orders) = &outcomes[0] else {
                        panic!("{outcomes:?}");
                    };
                    passed.wait_for(|passed| *passed > orders[1].position).await.unwrap();
                }
                transaction.commit().await.unwrap();
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    done.store(true, Ordering::SeqCst);
}

fn name(event: &StoredEvent) -> (String, i64) {
    (event.aggregate_id.clone(), event.sequence)
}

/// Reads until the writers are done and a page comes back empty after that.
async fn follow(pool: PgPool, done: Arc<AtomicBool>) -> (Seen, Vec<LogOrder>) {
    let mut tail = Tail::new(pool, LogOrder::default());
    let (mut seen, mut orders) = (Vec::new(), Vec::new());
    loop {
        let over = done.load(Ordering::SeqCst);
        let page = tail.next_page(50).await.unwrap();
        // Other transactions of the cluster may hold the last events back for a moment.
        if page.is_empty() && over && seen.len() == WRITERS * 2 * COMMANDS as usize {
            return (seen, orders);
        }
        seen.extend(page.iter().map(name));
        orders.extend(page.iter().map(|event| event.order));
    }
}

/// As so many do it: the largest position seen so far.
async fn follow_naively(pool: PgPool, done: Arc<AtomicBool>, passed: watch::Sender<i64>) -> Seen {
    let mut seen = Vec::new();
    let mut last = 0_i64;
    loop {
        let over = done.load(Ordering::SeqCst);
        let page: Vec<(String, i64, i64)> = sqlx::query_as(
            "select aggregate_id, sequence, position from events where position > $1 order by position limit 50",
        )
        .bind(last)
        .fetch_all(&pool)
        .await
        .unwrap();
        if page.is_empty() && over {
            return seen;
        }
        last = page.last().map_or(last, |(_, _, position)| *position);
        passed.send_replace(last);
        seen.extend(page.into_iter().map(|(stream, sequence, _)| (stream, sequence)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_32_writers_the_tail_sees_every_event_once_and_the_naive_tail_loses_some() {
    let mut log = TestLog::new().await;
    log.config.log.max_connections = 40;
    let executor = log.executor().await;
    let readers = log.log.pool("weft_log").await;
    let done = Arc::new(AtomicBool::new(false));
    let (passed, naive_place) = watch::channel(0);
    let writers = tokio::spawn(write(executor.pool().clone(), Arc::clone(&done), naive_place));
    let tail = tokio::spawn(follow(readers.clone(), Arc::clone(&done)));
    let naive = tokio::spawn(follow_naively(readers, Arc::clone(&done), passed));
    writers.await.unwrap();

    let (seen, orders) = tail.await.unwrap();
    check(&seen, WRITERS, 2 * COMMANDS).unwrap();
    assert!(orders.is_sorted(), "the tail left log order");
    let reason = check(&naive.await.unwrap(), WRITERS, 2 * COMMANDS).unwrap_err();
    assert!(reason.ends_with("were lost"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_commits_late_is_waited_for_where_the_naive_tail_passes_it() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let insert =
        "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
                  values ('tenant', $1, 1, 'TenantReactivated', '1', '{}', '{}')";
    let mut slow = pool.begin().await.unwrap();
    sqlx::query(insert).bind("slow").execute(&mut *slow).await.unwrap();
    sqlx::query(insert).bind("fast").execute(&pool).await.unwrap();

    let naive = async |after: i64| -> Vec<(String, i64)> {
        sqlx::query_as("select aggregate_id, position from events where position > $1 order by position")
            .bind(after)
            .fetch_all(&pool)
            .await
            .unwrap()
    };
    let mut tail = Tail::new(pool.clone(), LogOrder::default());
    let before = naive(0).await;
    assert_eq!(before.len(), 1);
    assert!(
        tail.next_page(10).await.unwrap().is_empty(),
        "the tail passed an event that is not settled"
    );

    slow.commit().await.unwrap();
    assert!(
        naive(before[0].1).await.is_empty(),
        "the naive tail was expected to lose the slow event"
    );
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(tail.next_page(10).await.unwrap().iter().map(name));
    }
    assert_eq!(seen, [("slow".to_owned(), 1), ("fast".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_epoch_comes_before_the_current_one_whatever_its_transaction_ids() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let write = async |stream: usize| {
        let command = Command {
            events: vec![event(stream, 1)],
            ..Command::default()
        };
        append(
            &mut pool.acquire().await.unwrap(),
            Clock::system().now(),
            &[command],
            Terms::default(),
        )
        .await
        .unwrap();
    };
    write(1).await;
    let admin = log.log.admin_pool().await;
    // As after a restore of a log that had run ahead: the old epoch's transaction ids lie in the future.
    sqlx::query("update events set transaction_id = '9000000000000'")
        .execute(&admin)
        .await
        .unwrap();
    sqlx::query("update log_identity set epoch = 2")
        .execute(&admin)
        .await
        .unwrap();
    write(2).await;
    let mut tail = Tail::new(pool.clone(), LogOrder::default());
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(tail.next_page(10).await.unwrap().iter().map(name));
    }
    assert_eq!(seen, [("stream-01".to_owned(), 1), ("stream-02".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_tail_reads_no_more_than_its_own_events() {
    const EVENTS: i64 = 20_000;
    const PAGE: i64 = 100;
    let log = TestLog::new().await;
    let admin = log.log.admin_pool().await;
    sqlx::query(
        r#"insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
         select 'tenant', n::text, 1, 'E', '1', '{}', '{"tenant_id": "t", "partition_key": "k"}'
         from generate_series(1, $1) n"#,
    )
    .bind(EVENTS)
    .execute(&admin)
    .await
    .unwrap();
    sqlx::query("analyze events").execute(&admin).await.unwrap();
    // One connection, which tells its own reads before it is asked for them.
    let one = PgPoolOptions::new()
        .max_connections(1)
        .connect(&log.log.admin_url())
        .await
        .unwrap();
    let reads = async || -> i64 {
        sqlx::query("select pg_stat_force_next_flush()")
            .execute(&one)
            .await
            .unwrap();
        sqlx::query_scalar("select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'events'")
            .fetch_one(&one)
            .await
            .unwrap()
    };
    let mut tail = Tail::new(one.clone(), LogOrder::default());
    until("the events are settled", async || {
        (tail.next_raw_page(PAGE).await.unwrap().len() == PAGE as usize).then_some(())
    })
    .await;
    let before = reads().await;
    for _ in 0..5 {
        assert_eq!(tail.next_raw_page(PAGE).await.unwrap().len(), PAGE as usize);
    }
    let read = reads().await - before;
    assert!(
        (5 * PAGE..6 * PAGE).contains(&read),
        "{read} rows were read for {} events",
        5 * PAGE
    );
}
