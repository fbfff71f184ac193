//! Kafka plumbing: names, partition function, the CloudEvents headers, topics, a consumer that owns its offsets.

mod consumer;
mod partition;
mod record;
mod topics;

pub use consumer::{ConsumeError, EventConsumer, TopicPartition};
pub use partition::{murmur2, partition_for};
pub use record::{EventRecord, InvalidRecord, header};
pub use topics::{TopicError, ensure_topics};

use std::ops::Range;

use rdkafka::ClientConfig;

use crate::config::KafkaSection;

/// The aggregates that have a topic, as `aggregate_type` and the topic's last word have them.
pub const AGGREGATES: [&str; 4] = ["account", "message", "conversation", "tenant"];

/// The word under which heartbeat samples travel: a topic of its own, not events.
pub const HEARTBEAT_SAMPLES: &str = "heartbeat_samples";

impl KafkaSection {
    /// The topic of an aggregate's events.
    pub fn topic(&self, aggregate: &str) -> String {
        format!("{}{aggregate}", self.topic_prefix)
    }

    /// The topic of heartbeat samples: `<prefix without "events.">samples.heartbeat`.
    pub fn samples_topic(&self) -> String {
        let base = self.topic_prefix.strip_suffix("events.").unwrap_or(&self.topic_prefix);
        format!("{base}samples.heartbeat")
    }

    /// The aggregate whose events `topic` carries.
    pub fn aggregate_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&self.topic_prefix)
    }

    /// The partition count of an aggregate's topic: every log's share together.
    pub fn partition_count(&self, aggregate: &str) -> i32 {
        self.share_size(aggregate) * self.share.count as i32
    }

    /// Every partition of the topics of some aggregates.
    pub fn topic_partitions(&self, aggregates: &[&str]) -> Vec<TopicPartition> {
        self.partitions(aggregates, |aggregate| 0..self.partition_count(aggregate))
    }

    /// The partitions of those topics that are this log's own.
    pub fn own_partitions(&self, aggregates: &[&str]) -> Vec<TopicPartition> {
        self.partitions(aggregates, |aggregate| self.own_share(aggregate))
    }

    /// This log's own partitions of an aggregate's topic.
    pub fn own_share(&self, aggregate: &str) -> Range<i32> {
        let size = self.share_size(aggregate);
        let first = size * self.share.index as i32;
        first..first + size
    }

    /// The partition that this log writes `key` to. It depends on the log's own share alone, so that a topic may grow by
    /// the share of another log.
    pub fn partition_of(&self, aggregate: &str, key: &str) -> i32 {
        self.own_share(aggregate).start + partition_for(key, self.share_size(aggregate))
    }

    /// The share that a partition belongs to; 0 for one of another topic.
    pub fn share_of(&self, partition: &TopicPartition) -> usize {
        let own = self.aggregate_of(&partition.topic);
        own.map_or(0, |aggregate| {
            (partition.partition / self.share_size(aggregate)).unsigned_abs() as usize
        })
    }

    /// As another log sees it.
    #[must_use]
    pub fn seen_from(&self, index: usize) -> Self {
        let mut seen = self.clone();
        seen.share.index = index;
        seen
    }

    fn partitions(&self, aggregates: &[&str], of: impl Fn(&str) -> Range<i32>) -> Vec<TopicPartition> {
        let all = aggregates.iter().flat_map(|aggregate| {
            let topic = self.topic(aggregate);
            of(aggregate).map(move |partition| TopicPartition {
                topic: topic.clone(),
                partition,
            })
        });
        all.collect()
    }

    /// Partitions of an aggregate's topic that each log has.
    fn share_size(&self, aggregate: &str) -> i32 {
        let size = match aggregate {
            "account" => self.partitions.account,
            "message" => self.partitions.message,
            "conversation" => self.partitions.conversation,
            _ => self.partitions.tenant,
        };
        size.max(1)
    }

    /// What every client starts from.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        if self.tls {
            config.set("security.protocol", "ssl");
            if let Some(ca_file) = &self.ca_file {
                config.set("ssl.ca.location", ca_file.to_string_lossy());
            }
        }
        config.set("reconnect.backoff.ms", "50");
        config.set("reconnect.backoff.max.ms", "2000");
        config.set("topic.metadata.refresh.interval.ms", "30000");
        config
    }

    /// An idempotent producer that never gives a record up by itself: a timed-out record would leave a hole that later
    /// ones pass.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("compression.type", "lz4")
            .set("linger.ms", "2")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "131072");
        config
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::FutureProducer;

    use super::*;

    #[test]
    fn brokers_that_speak_tls_are_spoken_to_where_the_build_can() {
        let kafka = KafkaSection {
            tls: true,
            ..KafkaSection::default()
        };
        assert_eq!(kafka.client().get("security.protocol"), Some("ssl"));
        let made: Result<FutureProducer, _> = kafka.producer().create();
        assert_eq!(made.is_ok(), cfg!(feature = "tls"), "{:?}", made.err());
    }

    #[test]
    fn every_log_has_its_own_share_of_every_topic_which_another_log_does_not_move() {
        let mut kafka = KafkaSection::default();
        let alone = kafka.partition_of("account", "key");
        assert_eq!(
            (kafka.partition_count("account"), kafka.own_share("account")),
            (6, 0..6)
        );
        kafka.share.count = 2;
        assert_eq!(
            (kafka.partition_count("account"), kafka.own_share("account")),
            (12, 0..6)
        );
        assert_eq!(kafka.partition_of("account", "key"), alone);
        let second = kafka.seen_from(1);
        assert_eq!(second.own_share("account"), 6..12);
        assert_eq!(second.partition_of("account", "key"), alone + 6);
        let shares: Vec<usize> = kafka
            .topic_partitions(&["tenant", "account"])
            .iter()
            .map(|one| kafka.share_of(one))
            .collect();
        assert_eq!(shares, [0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    }
}
