//! Relays as processes of their own, which are killed and paused in the middle of their work.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use weft_domain::LogOrder;
use weft_log_writer::testing::{TestLog, TestTopics, config_of};
use weft_log_writer::{Executor, relay};
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_platform::testing::until;

use crate::relay::{Topics, assert_is_the_log, count, order};

const ARGUMENTS: &str = "WEFT_RELAY_PROCESS";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "no test: what the processes of the others do"]
async fn process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let [log, keys, prefix] = arguments.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{ARGUMENTS} is {arguments:?}");
    };
    let mut config = config_of(log, keys);
    config.kafka.topic_prefix = prefix.to_owned();
    config.log.relay_lease_ms = Config::default().log.relay_lease_ms;
    relay::run(
        Arc::new(config),
        Clock::system(),
        Health::default(),
        Arc::default(),
        CancellationToken::new(),
    )
    .await
    .unwrap();
}

/// A relay with the product's own lease; killed with this value.
fn start(log: &TestLog) -> Child {
    let arguments = [log.log.name(), log.keys.name(), &log.config.kafka.topic_prefix].join(" ");
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "relay_processes::process", "--ignored"])
        .env(ARGUMENTS, arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// `STOP` or `CONT`.
async fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id().unwrap());
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
}

/// Appends 4,000 events a second to streams of every kind until it is told to stop.
struct Load {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(pool: PgPool) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut timer = interval(Duration::from_millis(50));
            for round in 0.. {
                timer.tick().await;
                append(&pool, round).await;
                if stopped.is_cancelled() {
                    return;
                }
            }
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// 200 events: 5 of each of 40 new streams.
async fn append(pool: &PgPool, round: i32) {
    sqlx::query(
        "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
         select (array['account', 'message', 'conversation', 'tenant'])[1 + stream % 4], format('%s-%s', $1, stream),
                sequence, 'Happened', '1', jsonb_build_object('note', repeat('x', 300)),
                jsonb_build_object('partition_key', format('%s-%s', $1, stream))
         from generate_series(1, 40) stream, generate_series(1, 5) sequence",
    )
    .bind(round)
    .execute(pool)
    .await
    .unwrap();
}

/// Who holds the lease, as a number that rises with every owner, and the checkpoint.
async fn owner(executor: &Executor) -> (i64, LogOrder) {
    let row: Option<(i64, i16, i64, i64)> =
        sqlx::query_as("select owner_epoch, epoch, transaction_id::text::bigint, position from relay_checkpoints")
            .fetch_optional(executor.pool())
            .await
            .unwrap();
    row.map_or_else(Default::default, |(owner, epoch, transaction_id, position)| {
        let checkpoint = LogOrder {
            epoch,
            transaction_id,
            position,
        };
        (owner, checkpoint)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_takes_over_within_five_seconds_after_kill_9() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let load = Load::start(executor.pool().clone());
    let mut topics = Topics::read(&log.config);
    let mut first = start(&log);
    topics.until_seen(2_000).await;
    let second = start(&log);
    until("the first relay goes on", async || {
        (owner(&executor).await.1 > order(topics.seen.last()?)).then_some(())
    })
    .await;

    first.kill().await.unwrap();
    let killed = Instant::now();
    let (owner_before, checkpoint) = owner(&executor).await;
    assert_eq!(owner_before, 1, "the second relay did not wait");
    until("the second relay has the lease", async || {
        (owner(&executor).await.0 == 2).then_some(())
    })
    .await;
    let head = count(&executor).await;
    topics.until_kept(head + 1).await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(5), "the take-over took {took:?}");

    load.stop().await;
    let expected = count(&executor).await;
    topics.until_kept(expected).await;
    drop(second);
    assert_is_the_log(&topics.kept, &executor, &log.config).await;
    // What was seen twice is what the first relay had not put behind its checkpoint: at most 200 ms and four pages.
    let repeated = topics.seen.len() - topics.kept.len();
    assert!(repeated <= 4 * 5_000 + 20_000, "{repeated} records twice");
    assert!(repeated_records(&topics).all(|order| order > checkpoint));
}

/// The records that a high-water drops.
fn repeated_records(topics: &Topics) -> impl Iterator<Item = LogOrder> {
    let mut high_water = std::collections::HashMap::new();
    topics.seen.iter().filter_map(move |record| {
        let mark = high_water
            .entry((record.topic.as_str(), record.partition))
            .or_insert(LogOrder::default());
        let order = order(record);
        let repeated = order <= *mark;
        *mark = order.max(*mark);
        repeated.then_some(order)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_relay_that_wakes_up_after_its_lease_harms_nothing() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let load = Load::start(executor.pool().clone());
    let mut topics = Topics::read(&log.config);
    let first = start(&log);
    topics.until_seen(2_000).await;
    let relays = [first, start(&log)];
    for owned in 1..=3 {
        // In the middle of its work, with records on their way.
        let holder = &relays[(owned - 1) % 2];
        signal(holder, "STOP").await;
        until("the other relay has the lease", async || {
            (owner(&executor).await.0 == owned as i64 + 1).then_some(())
        })
        .await;
        let before = topics.kept.len();
        topics.until_kept(before + 1_000).await;
        let (_, checkpoint) = owner(&executor).await;
        signal(holder, "CONT").await;
        // It goes on under the same owner: the one that woke up neither took the lease nor moved the checkpoint.
        until("the checkpoint moves on", async || {
            let (owner, now) = owner(&executor).await;
            assert!(owner == owned as i64 + 1 && now >= checkpoint);
            (now > checkpoint).then_some(())
        })
        .await;
    }
    load.stop().await;
    let expected = count(&executor).await;
    topics.until_kept(expected).await;
    drop(relays);
    assert_is_the_log(&topics.kept, &executor, &log.config).await;
}
