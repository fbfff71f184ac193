//! Heartbeat samples: produced to Kafka, not events. One that is lost is followed by the next.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use serde::Serialize;
use weft_domain::{AccountId, TenantId};
use weft_platform::config::KafkaSection;

use crate::error::WorkerError;

#[derive(Clone)]
pub(crate) struct Samples {
    producer: Arc<ThreadedProducer<DefaultProducerContext>>,
    topic: String,
}

/// One look at one account.
#[derive(Debug, Serialize)]
struct Sample<'s> {
    account_id: AccountId,
    tenant_id: TenantId,
    at: &'s str,
    alive: bool,
    response_time_ms: u64,
}

impl Samples {
    pub(crate) fn new(kafka: &KafkaSection) -> Result<Self, WorkerError> {
        let mut config = kafka.producer();
        // A sample is worth nothing later; a full queue drops new ones.
        config
            .set("message.timeout.ms", "30000")
            .set("queue.buffering.max.messages", "20000");
        Ok(Self {
            producer: Arc::new(config.create()?),
            topic: kafka.samples_topic(),
        })
    }

    pub(crate) fn add(&self, account: AccountId, tenant: TenantId, at: DateTime<Utc>, alive: bool, took_ms: u64) {
        let sample = Sample {
            account_id: account,
            tenant_id: tenant,
            at: &at.to_rfc3339_opts(SecondsFormat::Millis, true),
            alive,
            response_time_ms: took_ms,
        };
        let Ok(value) = serde_json::to_vec(&sample) else { return };
        let key = account.to_string();
        let record = BaseRecord::to(&self.topic).key(&key).payload(&value);
        if let Err((error, _)) = self.producer.send(record) {
            tracing::debug!(%error, "a heartbeat sample was dropped");
        }
    }
}
