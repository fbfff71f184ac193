//! Projections as a process runs them, and what feeds and watches them.

use std::sync::Arc;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio_util::sync::CancellationToken;
use weft_platform::health::Health;
use weft_platform::kafka::{EventRecord, header};

use super::keyless;
use super::stores::Stores;

/// Publishes as the relay does.
pub(crate) async fn publish(stores: &Stores, records: &[EventRecord]) {
    let producer: FutureProducer = stores.config.kafka.producer().create().unwrap();
    let mut sent = Vec::new();
    for record in records {
        let values = [
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::SPEC_VERSION, "1.0".to_owned()),
            (header::ID, record.id()),
            (
                header::SOURCE,
                format!("/weft/{}/{}", record.log_id, record.aggregate_type),
            ),
            (
                header::TYPE,
                format!(
                    "weft.{}.{}.v{}",
                    record.aggregate_type, record.event_type, record.event_version
                ),
            ),
            (header::SUBJECT, record.aggregate_id.clone()),
            (header::TIME, record.recorded_at.to_rfc3339()),
            (header::TENANT, record.tenant_id.to_string()),
            (header::SEQUENCE, record.sequence.to_string()),
            (header::EPOCH, record.epoch.to_string()),
            (
                header::LOG_ORDER,
                format!("{}-{}", record.transaction_id, record.position),
            ),
            (header::ACTOR, record.actor.clone()),
            (header::ACTOR_TYPE, record.actor_type.clone()),
        ];
        let headers = values.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        });
        let message = FutureRecord::<str, _>::to(&record.topic)
            .partition(record.partition)
            .payload(&record.payload)
            .headers(headers);
        sent.push(producer.send_result(message).map_err(|(error, _)| error).unwrap());
    }
    for delivery in sent {
        delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
    }
}

pub(crate) struct Running {
    shutdown: CancellationToken,
    pub(crate) health: Health,
    pub(crate) task: tokio::task::JoinHandle<Result<(), weft_projectors::RunError>>,
}

impl Running {
    pub(crate) fn start(config: weft_platform::config::Config) -> Self {
        let (shutdown, health) = (CancellationToken::new(), Health::default());
        let task = tokio::spawn(weft_projectors::run(
            Arc::new(config),
            keyless(),
            health.clone(),
            shutdown.clone(),
        ));
        Self { shutdown, health, task }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) async fn applied(stores: &Stores, projection: &str) -> i64 {
    sqlx::query_scalar("select coalesce(sum(next_offset), 0)::bigint from checkpoints where projection = $1")
        .bind(projection)
        .fetch_one(&stores.engine.pool)
        .await
        .unwrap()
}

pub(crate) async fn count(stores: &Stores, table: &str) -> i64 {
    sqlx::query_scalar(&format!("select count(*) from {table}"))
        .fetch_one(&stores.engine.pool)
        .await
        .unwrap()
}
