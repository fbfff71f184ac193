//! The relay and a Kafka that is away, that refuses, or that has lost what it was given.

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use weft_domain::LogOrder;
use weft_log_writer::testing::{TestLog, TestTopics, config_of};
use weft_log_writer::{Executor, adopt, relay};
use weft_platform::clock::Clock;
use weft_platform::config::KafkaSection;
use weft_platform::kafka::{AGGREGATES, ensure_topics};
use weft_platform::testing::until;

use crate::proxy::Proxy;
use crate::relay::{Relay, Topics, assert_is_the_log, count, some_events};

fn admin(kafka: &KafkaSection) -> AdminClient<DefaultClientContext> {
    kafka.client().create().unwrap()
}

/// Sets one configuration of every topic; the others go back to the broker's.
async fn set(kafka: &KafkaSection, key: &str, value: &str) {
    let topics = AGGREGATES.map(|aggregate| kafka.topic(aggregate));
    let changes: Vec<_> = topics
        .iter()
        .map(|topic| AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value))
        .collect();
    let altered = admin(kafka)
        .alter_configs(&changes, &AdminOptions::new())
        .await
        .unwrap();
    assert!(altered.iter().all(Result::is_ok), "{altered:?}");
}

/// Waits for the health to say `words`.
async fn fails_with(relay: &Relay, words: &str) {
    until(&format!("the health says {words:?}"), async || {
        let part = relay.health.parts().remove(relay::PART)?;
        (!part.ready && part.detail.contains(words)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_away_is_reported_and_waited_for() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let mut config = log.config.clone();
    let mut proxy = Proxy::in_front_of(&log.config.kafka.brokers, None).await;
    config.kafka.brokers = proxy.address.to_string();
    proxy.stop();
    let relay = Relay::start(&config, executor.appended());
    some_events(&executor, 5).await;
    fails_with(&relay, "does not answer").await;

    proxy.start().await;
    let mut topics = Topics::read(&log.config);
    let expected = count(&executor).await;
    topics.until_seen(expected).await;
    until("the relay is well", async || relay.health.is_ready().then_some(())).await;
    relay.stop().await;
    assert_is_the_log(&topics.seen, &executor, &log.config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_kafka_refuses_is_not_passed_by_later_ones() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    set(&log.config.kafka, "max.message.bytes", "600").await;
    let relay = Relay::start(&log.config, executor.appended());
    some_events(&executor, 20).await;
    fails_with(&relay, "MessageSizeTooLarge").await;
    set(&log.config.kafka, "max.message.bytes", "1048588").await;
    let mut topics = Topics::read(&log.config);
    let expected = count(&executor).await;
    topics.until_kept(expected).await;
    relay.stop().await;
    assert_is_the_log(&topics.kept, &executor, &log.config).await;
}

/// Deletes the topics and makes them anew.
async fn wipe(kafka: &KafkaSection) {
    let topics = AGGREGATES.map(|aggregate| kafka.topic(aggregate));
    let names = topics.each_ref().map(String::as_str);
    let deleted = admin(kafka).delete_topics(&names, &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    until("the topics are made anew", async || {
        let created = ensure_topics(kafka).await.ok()?;
        (created.len() >= names.len()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_on_a_kafka_that_lost_its_data_until_it_is_published_again() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let prefix = log.config.kafka.topic_prefix.clone();
    let relay = Relay::start(&log.config, executor.appended());
    some_events(&executor, 10).await;
    let expected = count(&executor).await;
    let mut topics = Topics::read(&log.config);
    topics.until_seen(expected).await;
    relay.stop().await;

    wipe(&log.config.kafka).await;
    some_events(&executor, 5).await;
    let relay = Relay::start(&log.config, executor.appended());
    fails_with(&relay, "weft relay --from").await;

    // The running relay goes on by itself from where it was told.
    let rewound = relay::rewind(executor.pool(), &prefix, LogOrder::default())
        .await
        .unwrap();
    assert_eq!(rewound.publication, 2);
    let mut topics = Topics::read(&log.config);
    let expected = count(&executor).await;
    topics.until_seen(expected).await;
    until("everything is behind the checkpoint", async || {
        (relay::lag(executor.pool(), &prefix).await.unwrap().events == 0).then_some(())
    })
    .await;
    assert!(relay.health.is_ready());
    relay.stop().await;
    assert!(topics.seen.iter().all(|record| record.publication == 2));
    assert_is_the_log(&topics.seen, &executor, &log.config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_at_work_is_rewound_and_publishes_again_from_the_event_that_was_named() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let prefix = log.config.kafka.topic_prefix.clone();
    let relay = Relay::start(&log.config, executor.appended());
    some_events(&executor, 10).await;
    let expected = count(&executor).await;
    let mut topics = Topics::read(&log.config);
    topics.until_seen(expected).await;
    let (transaction_id, position): (i64, i64) = sqlx::query_as(
        "select transaction_id::text::bigint, position from events
         order by epoch, transaction_id, position offset $1 limit 1",
    )
    .bind(expected as i64 - 7)
    .fetch_one(executor.pool())
    .await
    .unwrap();
    let from = LogOrder {
        epoch: 1,
        transaction_id,
        position,
    };
    let rewound = relay::rewind(executor.pool(), &prefix, from).await.unwrap();
    topics.until_seen(expected + 7).await;
    until("everything is behind the checkpoint", async || {
        (relay::lag(executor.pool(), &prefix).await.unwrap().checkpoint == rewound.head).then_some(())
    })
    .await;
    relay.stop().await;
    let again = topics.seen.iter().filter(|record| record.publication == 2).count();
    assert_eq!((again, topics.seen.len()), (7, expected + 7));
    assert_is_the_log(&topics.kept, &executor, &log.config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_log_that_is_adopted_goes_on_behind_what_was_lost() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    let relay = Relay::start(&log.config, executor.appended());
    some_events(&executor, 5).await;
    let kept = count(&executor).await;
    let mut topics = Topics::read(&log.config);
    topics.until_seen(kept).await;
    relay.stop().await;
    drop(executor);
    let backup = log.log.copy().await;

    let executor = log.executor().await;
    let relay = Relay::start(&log.config, executor.appended());
    some_events(&executor, 5).await;
    let lost = count(&executor).await - kept;
    topics.until_seen(kept + lost).await;
    relay.stop().await;

    let mut config = config_of(backup.name(), log.keys.name());
    config.kafka = log.config.kafka.clone();
    assert_eq!(adopt(&backup.admin_pool().await).await.unwrap(), 2);
    let executor = Executor::connect(&config, Clock::system()).await.unwrap();
    let relay = Relay::start(&config, executor.appended());
    some_events(&executor, 5).await;
    let new = count(&executor).await - kept;
    // A consumer that saw what was lost meets the new epoch behind it, and so does one that reads the log.
    topics.until_kept(kept + lost + new).await;
    relay.stop().await;
    let epochs: Vec<i16> = topics.kept.iter().map(|record| record.epoch).collect();
    assert_eq!(epochs.iter().filter(|epoch| **epoch == 2).count(), new);
    let of_log: Vec<i16> = sqlx::query_scalar("select epoch from events order by epoch, transaction_id, position")
        .fetch_all(executor.pool())
        .await
        .unwrap();
    assert_eq!(of_log, [vec![1; kept], vec![2; new]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_from_a_copy_with_lower_transaction_ids_before_it_is_adopted() {
    let log = TestLog::new().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let executor = log.executor().await;
    some_events(&executor, 5).await;
    // As a dump of a server that had counted further.
    let admin = log.log.admin_pool().await;
    for statement in [
        "update events set transaction_id = (transaction_id::text::bigint + 9000000000)::text::xid8",
        "insert into relay_checkpoints (relay, owner_epoch, epoch, transaction_id, position)
         select '{prefix}', 1, epoch, transaction_id, position from events order by 3, 4, 5 limit 1",
    ] {
        let statement = statement.replace("{prefix}", &log.config.kafka.topic_prefix);
        sqlx::query(&statement).execute(&admin).await.unwrap();
    }
    let relay = Relay::start(&log.config, executor.appended());
    fails_with(&relay, "weft log adopt").await;
    adopt(&admin).await.unwrap();
    some_events(&executor, 5).await;
    let mut topics = Topics::read(&log.config);
    // The first one was behind the checkpoint.
    topics.until_seen(count(&executor).await - 1).await;
    relay.stop().await;
    assert_eq!(topics.kept.len(), topics.seen.len());
}
