use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_domain::account::Account;
use weft_domain::tenant::Tenant;
use weft_domain::{LogOrder, TenantId};
use weft_log_writer::testing::{TestLog, TestTopics, options};
use weft_log_writer::{Executor, relay};
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_platform::kafka::{AGGREGATES, EventConsumer, EventRecord, partition_for};
use weft_platform::testing::until;

use crate::proxy::Proxy;
use crate::support::{a_tenant, create_account, limit_accounts, new_account, rename_account};

/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Relay {
    task: JoinHandle<Result<(), relay::RelayError>>,
    shutdown: CancellationToken,
    pub(crate) health: Health,
}

impl Relay {
    pub(crate) fn start(config: &Config, wake: Arc<Notify>) -> Self {
        let (health, shutdown) = (Health::default(), CancellationToken::new());
        let run = relay::run(
            Arc::new(config.clone()),
            Clock::system(),
            health.clone(),
            wake,
            shutdown.clone(),
        );
        Self {
            task: tokio::spawn(run),
            shutdown,
            health,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As a process that is killed: nothing is said, nothing is saved.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Everything that is published, in the order of each partition.
pub(crate) struct Topics {
    consumer: EventConsumer,
    pub(crate) seen: Vec<EventRecord>,
    /// What a projection keeps: nothing at or below a partition's high-water.
    pub(crate) kept: Vec<EventRecord>,
    high_water: BTreeMap<(String, i32), LogOrder>,
}

impl Topics {
    pub(crate) fn read(config: &Config) -> Self {
        let kafka = &config.kafka;
        let partitions = kafka.topic_partitions(&AGGREGATES);
        let consumer = EventConsumer::assign(kafka, "test", &partitions, &HashMap::new()).unwrap();
        Self {
            consumer,
            seen: Vec::new(),
            kept: Vec::new(),
            high_water: BTreeMap::new(),
        }
    }

    /// Reads until this many records came.
    pub(crate) async fn until_seen(&mut self, count: usize) {
        self.until(|topics| topics.seen.len() >= count).await;
    }

    /// Reads until this many records were kept.
    pub(crate) async fn until_kept(&mut self, count: usize) {
        self.until(|topics| topics.kept.len() >= count).await;
    }

    async fn until(&mut self, enough: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !enough(self) {
            let (seen, kept) = (self.seen.len(), self.kept.len());
            let left = PATIENCE.saturating_sub(started.elapsed());
            let batch = self.consumer.next_batch(500, Duration::from_millis(5));
            let batch = tokio::time::timeout(left, batch).await;
            let batch = batch.unwrap_or_else(|_| panic!("only {seen} records came, {kept} of them new"));
            for record in batch.unwrap() {
                let mark = self.high_water.entry((record.topic.clone(), record.partition));
                let mark = mark.or_default();
                if order(&record) > *mark {
                    *mark = order(&record);
                    self.kept.push(record.clone());
                }
                self.seen.push(record);
            }
        }
    }
}

pub(crate) fn order(record: &EventRecord) -> LogOrder {
    LogOrder {
        epoch: record.epoch,
        transaction_id: record.transaction_id,
        position: record.position,
    }
}

pub(crate) async fn count(executor: &Executor) -> usize {
    let events: i64 = sqlx::query_scalar("select count(*) from events")
        .fetch_one(executor.pool())
        .await
        .unwrap();
    events as usize
}

/// Three tenants and many accounts: created and renamed, some in one transaction.
pub(crate) async fn some_events(executor: &Executor, accounts: usize) {
    let tenants: Vec<TenantId> = futures::future::join_all((0..3).map(|_| a_tenant(executor)))
        .await
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let work = (0..accounts).map(|n| {
        let (executor, tenant) = (executor.clone(), tenants[n % 3]);
        async move {
            let ids = [(); 2].map(|()| new_account().to_string());
            let commands = ids.iter().map(|id| (id.clone(), create_account(tenant, id))).collect();
            executor
                .execute_all::<Account>(commands, &options(tenant))
                .await
                .unwrap();
            let rename = rename_account(&format!("{n} renamed"));
            executor
                .execute::<Account>(&ids[0], rename, &options(tenant))
                .await
                .unwrap();
        }
    });
    futures::stream::iter(work)
        .buffer_unordered(16)
        .collect::<Vec<()>>()
        .await;
}

/// The log itself, by plain SQL: id, partition key, order.
async fn the_log(executor: &Executor) -> Vec<(String, String, String, String, serde_json::Value)> {
    sqlx::query_as(
        "select aggregate_type, aggregate_id || ':' || sequence, metadata ->> 'partition_key',
                transaction_id || '-' || position, payload
         from events order by epoch, transaction_id, position",
    )
    .fetch_all(executor.pool())
    .await
    .unwrap()
}

/// What was kept is the log: all of it, each partition in log order, every record as it must be.
pub(crate) async fn assert_is_the_log(kept: &[EventRecord], executor: &Executor, config: &Config) {
    let log = the_log(executor).await;
    assert_eq!(kept.len(), log.len());
    let by_id: HashMap<String, &EventRecord> = kept
        .iter()
        .map(|record| (format!("{} {}", record.aggregate_type, record.id()), record))
        .collect();
    for (kind, id, partition_key, order, payload) in &log {
        let record = by_id[&format!("{kind} {id}")];
        assert_eq!(record.topic, config.kafka.topic(kind));
        assert_eq!(
            record.partition,
            partition_for(partition_key, config.kafka.partition_count(kind))
        );
        assert_eq!(&format!("{}-{}", record.transaction_id, record.position), order);
        assert_eq!(
            &serde_json::from_slice::<serde_json::Value>(&record.payload).unwrap(),
            payload
        );
    }
    let mut last: HashMap<(&str, i32), LogOrder> = HashMap::new();
    for record in kept {
        let previous = last.insert((&record.topic, record.partition), order(record));
        assert!(
            previous.is_none_or(|previous| previous < order(record)),
            "a partition left log order"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_published_once_in_log_order_with_its_envelope() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let relay = Relay::start(&log.config, executor.appended());
    some_events(&executor, 60).await;
    let expected = count(&executor).await;
    let mut topics = Topics::read(&log.config);
    topics.until_seen(expected).await;
    assert!(relay.health.is_ready());
    relay.stop().await;
    assert_eq!(topics.seen.len(), expected, "something was published twice");
    assert_is_the_log(&topics.seen, &executor, &log.config).await;
    let log_id = executor.log_id().await.unwrap();
    for record in &topics.seen {
        assert_eq!(
            (record.log_id, record.event_version.as_str(), record.actor.as_str()),
            (log_id, "1", "test")
        );
        assert_eq!(record.actor_type, "user");
        assert!(!record.correlation_id.is_empty() && !record.traceparent.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_stopped_goes_on_from_its_checkpoint() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let mut topics = Topics::read(&log.config);
    for round in 1..=3 {
        some_events(&executor, 5).await;
        let expected = count(&executor).await;
        let relay = Relay::start(&log.config, executor.appended());
        topics.until_seen(expected).await;
        relay.stop().await;
        assert_eq!(
            topics.seen.len(),
            expected,
            "round {round}: something was published again"
        );
    }
    assert_is_the_log(&topics.seen, &executor, &log.config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_are_killed_in_the_middle_lose_nothing() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let writer = {
        let executor = executor.clone();
        tokio::spawn(async move { some_events(&executor, 2_000).await })
    };
    let mut topics = Topics::read(&log.config);
    for _ in 0..3 {
        let relay = Relay::start(&log.config, executor.appended());
        let before = topics.seen.len();
        topics.until_seen(before + 50).await;
        relay.kill().await;
    }
    writer.await.unwrap();
    let relay = Relay::start(&log.config, executor.appended());
    let expected = count(&executor).await;
    topics.until_kept(expected).await;
    relay.stop().await;
    assert_is_the_log(&topics.kept, &executor, &log.config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_waits_and_takes_over_when_the_first_is_gone() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let first = Relay::start(&log.config, executor.appended());
    some_events(&executor, 5).await;
    let expected = count(&executor).await;
    let mut topics = Topics::read(&log.config);
    topics.until_seen(expected).await;

    // Woken by nobody: it is another process.
    let second = Relay::start(&log.config, Arc::default());
    until("the second relay stands by", async || {
        second.health.is_ready().then_some(())
    })
    .await;
    let owners = "select owner_epoch from relay_checkpoints";
    let epoch: i64 = sqlx::query_scalar(owners).fetch_one(executor.pool()).await.unwrap();
    assert_eq!(epoch, 1, "the second relay did not wait");

    first.kill().await;
    some_events(&executor, 5).await;
    let expected = count(&executor).await;
    topics.until_kept(expected).await;
    let epoch: i64 = sqlx::query_scalar(owners).fetch_one(executor.pool()).await.unwrap();
    assert_eq!(epoch, 2);
    second.stop().await;
    assert_is_the_log(&topics.kept, &executor, &log.config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_outlives_an_outage_of_postgres() {
    let mut log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let mut proxy = Proxy::before(&mut log.config.log.url, None).await;
    let relay = Relay::start(&log.config, executor.appended());
    some_events(&executor, 5).await;
    let mut topics = Topics::read(&log.config);
    let expected = count(&executor).await;
    topics.until_seen(expected).await;

    proxy.stop();
    some_events(&executor, 5).await;
    until("the outage is reported", async || {
        (!relay.health.is_ready()).then_some(())
    })
    .await;
    proxy.start().await;
    let expected = count(&executor).await;
    topics.until_kept(expected).await;
    assert!(relay.health.is_ready());
    relay.stop().await;
    assert_is_the_log(&topics.kept, &executor, &log.config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_before_there_were_topics_is_published_when_there_are() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let relay = Relay::start(&log.config, executor.appended());
    some_events(&executor, 5).await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let mut topics = Topics::read(&log.config);
    let expected = count(&executor).await;
    topics.until_kept(expected).await;
    relay.stop().await;
    assert_is_the_log(&topics.kept, &executor, &log.config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_on_kafka_soon_after_it_was_appended() {
    let mut log = TestLog::new().await;
    // Nobody polls: only the wake can have brought it.
    log.config.log.relay_poll_ms = 3_600_000;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let relay = Relay::start(&log.config, executor.appended());
    let mut topics = Topics::read(&log.config);
    let (tenant, _) = a_tenant(&executor).await;
    topics.until_seen(1).await;
    for n in 2..20_u32 {
        executor
            .execute::<Tenant>(&tenant.to_string(), limit_accounts(n), &options(tenant))
            .await
            .unwrap();
        topics.until_seen(n as usize).await;
    }
    relay.stop().await;
}
