//! For tests, of this room and of others: databases and topics of their own, on the servers of the development stack.

mod database;
mod topics;

use weft_domain::{ActorType, Metadata, TenantId};
use weft_platform::clock::Clock;
use weft_platform::config::{Config, KafkaSection, TopicPartitions};
use weft_platform::testing::{kafka_brokers, postgres_url};

pub use database::TestDatabase;
pub use topics::TestTopics;

use crate::{CallOptions, Executor, migrate};

/// A log and a key database, dropped at the end.
#[derive(Debug)]
pub struct TestLog {
    pub config: Config,
    pub log: TestDatabase,
    pub keys: TestDatabase,
}

impl TestLog {
    /// Cloned from migrated templates.
    pub async fn new() -> Self {
        let (log_fingerprint, keys_fingerprint) = migrate::fingerprints();
        let log = TestDatabase::clone_of("log", &log_fingerprint, |name| async move {
            migrate::log(&config_of(&name, &name)).await.map_err(Into::into)
        });
        let keys = TestDatabase::clone_of("keys", &keys_fingerprint, |name| async move {
            migrate::keys(&config_of(&name, &name)).await.map_err(Into::into)
        });
        let (log, keys) = tokio::join!(log, keys);
        Self {
            config: config_of(log.name(), keys.name()),
            log,
            keys,
        }
    }

    pub async fn executor(&self) -> Executor {
        self.executor_at(Clock::system()).await
    }

    pub async fn executor_at(&self, clock: Clock) -> Executor {
        Executor::connect(&self.config, clock)
            .await
            .expect("the test's log is fit")
    }
}

/// The development configuration on these two databases, with a topic prefix of its own.
pub fn config_of(log: &str, keys: &str) -> Config {
    let mut config = Config::default();
    config.log.url = postgres_url(Some("weft_log"), log);
    config.log.admin_url = postgres_url(None, log);
    config.log.max_connections = 12;
    config.log.relay_lease_ms = 1_000;
    config.log.relay_poll_ms = 20;
    config.keys.url = postgres_url(Some("weft_keys"), keys);
    config.keys.admin_url = postgres_url(None, keys);
    config.keys.max_connections = 4;
    config.kafka = kafka();
    config
}

/// The test's brokers, few partitions, and a prefix nobody else uses. `TestTopics` creates the topics.
pub fn kafka() -> KafkaSection {
    KafkaSection {
        brokers: kafka_brokers(),
        topic_prefix: format!("weft.test.{}.events.", unique()),
        partitions: TopicPartitions {
            account: 3,
            message: 3,
            conversation: 2,
            tenant: 1,
        },
        ..KafkaSection::default()
    }
}

/// An envelope for `tenant`, as a person's request would have it.
pub fn metadata(tenant: TenantId, clock: &Clock) -> Metadata {
    let request_id = clock.new_id().to_string();
    Metadata {
        tenant_id: tenant,
        actor: "test".to_owned(),
        actor_type: ActorType::User,
        correlation_id: request_id.clone(),
        request_id,
        causation_id: None,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        occurred_at: clock.now(),
    }
}

/// Options without a condition, for a tenant.
pub fn options(tenant: TenantId) -> CallOptions {
    CallOptions::new(metadata(tenant, &Clock::system()))
}

/// A word nobody else has.
pub(crate) fn unique() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Runs `work` to its end on a thread of its own: in `drop`, also while a test panics.
pub(crate) fn run_blocking<F: Future<Output = ()> + Send>(work: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(work());
            }
        });
        // Cleaning up is best effort; what is left is dropped by a later run.
        let _ = thread.join();
    });
}
