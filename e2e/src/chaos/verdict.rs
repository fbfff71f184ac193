//! Whether everything that was promised held.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use weft_platform::testing::kafka_brokers;

use super::Chaos;
use crate::checks::{ledger_differences, received};
use crate::history::{Outcome, Wish, contradictions, read};

impl Chaos {
    /// Waits until nothing is on its way, then compares what clients were told, the log, WeCom's ledger and the views.
    pub async fn check(&mut self) {
        self.settle().await;
        let mut found = self.log_contradictions().await;
        found.extend(self.ledger_differences().await);
        found.extend(self.cluster.world.view_differences(Duration::from_secs(30)).await);
        found.extend(self.tool_finds(&["log", "verify"]));
        found.extend(self.tool_finds(&["projections", "check", "--all"]));
        self.problems.extend(found);
    }

    /// What a tool that ends with 0 where all is well says otherwise.
    pub(super) fn tool_finds(&self, arguments: &[&str]) -> Vec<String> {
        let (code, output) = self.cluster.weft(arguments);
        if code == Some(0) {
            return Vec::new();
        }
        vec![format!("weft {} ended with {code:?}: {output}", arguments.join(" "))]
    }

    pub(super) async fn log_contradictions(&self) -> Vec<String> {
        contradictions(
            &self.operations,
            &read(&self.log).await,
            std::slice::from_ref(&self.limit),
        )
    }

    pub(super) async fn ledger_differences(&self) -> Vec<String> {
        let ledger = self.cluster.world.ledger().await;
        let mut found = doubled(&ledger);
        let texts: Vec<(String, String, String)> = self
            .operations
            .iter()
            .filter_map(|operation| match (&operation.wish, &operation.outcome) {
                (Wish::Send { account, text }, Outcome::Accepted { stream, .. }) => {
                    let guid = self.instances.get(account)?;
                    Some((guid.clone(), stream.clone(), text.clone()))
                }
                _ => None,
            })
            .collect();
        found.extend(ledger_differences(&self.log, &ledger, &texts).await);
        found
    }

    /// Everything that Kafka holds: no event missing, none unknown to the log, and each partition in log order but for
    /// repetitions.
    pub async fn check_topics(&mut self) {
        let found = self.topic_contradictions().await;
        self.problems.extend(found);
    }

    pub(super) async fn topic_contradictions(&self) -> Vec<String> {
        let expected: HashSet<String> =
            sqlx::query_scalar::<_, String>("select aggregate_id || ':' || sequence from events")
                .fetch_all(&self.log)
                .await
                .expect("the log answers")
                .into_iter()
                .collect();
        let topics: Vec<String> = ["account", "message", "conversation", "tenant"]
            .map(|aggregate| format!("{}.events.{aggregate}", self.cluster.world.name()))
            .into();
        let read = tokio::task::spawn_blocking(move || records(&topics)).await;
        let partitions = read.expect("the reader does not panic");
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for ((topic, partition), records) in partitions {
            let mut last: Option<Order> = None;
            for (id, order) in records {
                if !expected.contains(&id) {
                    found.push(format!("{topic}/{partition} has {id}, which the log does not"));
                }
                if seen.insert(id.clone()) {
                    if last.is_some_and(|last| last >= order) {
                        found.push(format!("{topic}/{partition}: {id} comes first after a later event"));
                    }
                    last = Some(order);
                }
            }
        }
        found.extend(expected.difference(&seen).map(|id| format!("Kafka lacks {id}")));
        found
    }
}

/// Sends that reached somebody more than once.
fn doubled(ledger: &[Value]) -> Vec<String> {
    let doubled = received(ledger).into_iter().filter(|(_, times)| *times > 1);
    doubled
        .map(|((_, text), times)| format!("{text} was sent {times} times"))
        .collect()
}

/// Log order as the record's headers give it: epoch, transaction, position.
type Order = (i64, u64, i64);

/// Per partition, event ids and their place in the log, as they stand.
fn records(topics: &[String]) -> BTreeMap<(String, i32), Vec<(String, Order)>> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", kafka_brokers())
        .set("group.id", "weft-chaos-reader")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for topic in topics {
        let metadata = consumer
            .fetch_metadata(Some(topic), PATIENCE)
            .expect("the brokers answer");
        for partition in metadata.topics()[0].partitions() {
            let (low, high) = consumer
                .fetch_watermarks(topic, partition.id(), PATIENCE)
                .expect("the brokers answer");
            assignment
                .add_partition_offset(topic, partition.id(), Offset::Beginning)
                .expect("a partition");
            if high > low {
                ends.insert((topic.clone(), partition.id()), high);
            }
        }
    }
    consumer.assign(&assignment).expect("assigned");
    let mut partitions: BTreeMap<(String, i32), Vec<(String, Order)>> = BTreeMap::new();
    while !ends.is_empty() {
        let record = consumer
            .poll(PATIENCE)
            .expect("records until the end")
            .expect("a record");
        let header = |name: &str| {
            let headers = record.headers()?;
            let header = headers.iter().find(|header| header.key == name)?;
            std::str::from_utf8(header.value?).ok()
        };
        let order = header("ce_logorder").and_then(|order| order.split_once('-'));
        let (transaction, position) = order.expect("ce_logorder is <transaction>-<position>");
        let epoch = header("ce_epoch").and_then(|epoch| epoch.parse().ok());
        let entry = (
            header("ce_id").expect("ce_id").to_owned(),
            (
                epoch.expect("ce_epoch is a number"),
                transaction.parse().expect("a number"),
                position.parse().expect("a number"),
            ),
        );
        let key = (record.topic().to_owned(), record.partition());
        if ends.get(&key).is_some_and(|end| record.offset() + 1 >= *end) {
            ends.remove(&key);
        }
        partitions.entry(key).or_default().push(entry);
    }
    partitions
}
