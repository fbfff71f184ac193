//! Kafka plumbing: names, partition function, the CloudEvents headers, topics, a consumer that owns its offsets.

mod consumer;
mod partition;
mod record;
mod topics;

pub use consumer::{ConsumeError, EventConsumer, TopicPartition};
pub use partition::{murmur2, partition_for};
pub use record::{EventRecord, InvalidRecord, header};
pub use topics::{TopicError, ensure_topics};

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

    /// The partition count of an aggregate's topic.
    pub fn partition_count(&self, aggregate: &str) -> i32 {
        match aggregate {
            "account" => self.partitions.account,
            "message" => self.partitions.message,
            "conversation" => self.partitions.conversation,
            _ => self.partitions.tenant,
        }
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
}
