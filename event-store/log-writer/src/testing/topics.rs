//! Topics per test.

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use weft_platform::config::KafkaSection;
use weft_platform::kafka::{AGGREGATES, ensure_topics};

use super::run_blocking;

/// The topics of one `KafkaSection`, deleted with this value, also when its test panics.
#[derive(Debug)]
pub struct TestTopics {
    kafka: KafkaSection,
}

impl TestTopics {
    /// Creates the topics that `kafka` names; its prefix should be a test's own.
    pub async fn create(kafka: &KafkaSection) -> Self {
        if let Err(error) = ensure_topics(kafka).await {
            panic!("no Kafka for tests at {}: {error}; run infra/dev/up", kafka.brokers);
        }
        Self { kafka: kafka.clone() }
    }
}

impl Drop for TestTopics {
    fn drop(&mut self) {
        let mut topics: Vec<String> = AGGREGATES.iter().map(|aggregate| self.kafka.topic(aggregate)).collect();
        topics.push(self.kafka.samples_topic());
        let client = self.kafka.client();
        run_blocking(|| async move {
            let admin: Result<AdminClient<DefaultClientContext>, _> = client.create();
            if let Ok(admin) = admin {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                // What cannot be deleted now expires by itself.
                let _ = admin.delete_topics(&topics, &AdminOptions::new()).await;
            }
        });
    }
}
