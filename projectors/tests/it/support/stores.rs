//! Databases and topics of one test, dropped at its end.

use std::sync::Arc;

use sqlx::postgres::PgPool;
use sqlx::{Connection, PgConnection};
use url::Url;
use uuid::Uuid;
use weft_platform::clock::Clock;
use weft_platform::config::{Config, TopicPartitions};
use weft_platform::health::Health;
use weft_platform::kafka::ensure_topics;
use weft_platform::testing::{clickhouse_url, kafka_brokers, postgres_url};
use weft_projectors::clickhouse::Facts;
use weft_projectors::engine::Engine;
use weft_projectors::generation::Generation;
use weft_projectors::migrate;
use weft_projectors::world::World;

use super::keyless;

pub(crate) struct Stores {
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    facts: bool,
    topics: bool,
}

/// Where this test's stores will be; nothing is made yet.
pub(crate) fn config() -> Config {
    let name = format!("weft_test_views_{}", Clock::system().new_id().simple());
    let url = |role| postgres_url(role, &name);
    let mut config = Config::default();
    config.views.url = url(Some("weft_query"));
    config.views.projector_url = url(Some("weft_projector"));
    config.views.admin_url = url(None);
    config.views.max_connections = 4;
    config.clickhouse.url = clickhouse_url();
    config.clickhouse.database.clone_from(&name);
    config.kafka.brokers = kafka_brokers();
    config.kafka.topic_prefix = format!("{name}.events.");
    config.kafka.partitions = TopicPartitions {
        account: 3,
        message: 3,
        conversation: 3,
        tenant: 1,
    };
    config
}

/// Of the first generation.
pub(crate) fn engine(config: &Config) -> Engine {
    let world = World::new(Arc::new(config.clone()), keyless(), Health::default()).unwrap();
    world.engine(Generation::FIRST).unwrap()
}

impl Stores {
    /// A migrated views' database.
    pub(crate) async fn views() -> Self {
        let config = config();
        migrate::views(&config).await.unwrap();
        let engine = engine(&config);
        Self {
            config,
            engine,
            facts: false,
            topics: false,
        }
    }

    /// And a migrated ClickHouse database.
    pub(crate) async fn with_facts() -> Self {
        let mut stores = Self::views().await;
        stores.facts = true;
        migrate::clickhouse(&stores.config).await.unwrap();
        stores
    }

    /// And the topics.
    pub(crate) async fn with_topics() -> Self {
        let mut stores = Self::with_facts().await;
        stores.topics = true;
        ensure_topics(&stores.config.kafka).await.unwrap();
        stores
    }

    /// Other databases that read the same topics.
    pub(crate) async fn twin(&self) -> Self {
        let mut config = config();
        config.kafka = self.config.kafka.clone();
        migrate::views(&config).await.unwrap();
        if self.facts {
            migrate::clickhouse(&config).await.unwrap();
        }
        let engine = engine(&config);
        Self {
            config,
            engine,
            facts: self.facts,
            topics: false,
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts::new(&self.config.clickhouse, Generation::FIRST)
    }

    /// A client of the stable names.
    pub(crate) fn clickhouse(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(self.config.clickhouse.url.as_str())
            .with_user(&self.config.clickhouse.user)
            .with_database(&self.config.clickhouse.database)
    }

    /// As the query API connects.
    pub(crate) async fn query_pool(&self) -> PgPool {
        PgPool::connect(self.config.views.url.expose()).await.unwrap()
    }

    /// Of a migration that the test made itself.
    pub(crate) async fn drop_views(config: &Config) {
        Self::drop_all(config, false, false).await;
    }

    async fn drop_all(config: &Config, facts: bool, topics: bool) {
        if let Ok(mut connection) = PgConnection::connect(postgres_url(None, "postgres").expose()).await {
            let name = Url::parse(config.views.admin_url.expose()).unwrap().path()[1..].to_owned();
            let _ = sqlx::query(&format!("drop database if exists {name} with (force)"))
                .execute(&mut connection)
                .await;
        }
        if facts {
            let client = clickhouse::Client::default().with_url(config.clickhouse.url.as_str());
            let stable = &config.clickhouse.database;
            let generations = (1..4).map(|number| Generation::new(number).facts_database(stable));
            for database in generations.chain([stable.clone()]) {
                let _ = client
                    .query(&format!("drop database if exists {database} sync"))
                    .execute()
                    .await;
            }
        }
        if topics {
            use rdkafka::admin::{AdminClient, AdminOptions};
            use rdkafka::client::DefaultClientContext;
            let kafka = &config.kafka;
            let names: Vec<String> = ["account", "message", "conversation", "tenant"]
                .map(|aggregate| kafka.topic(aggregate))
                .into_iter()
                .chain([kafka.samples_topic()])
                .collect();
            let admin: AdminClient<DefaultClientContext> = kafka.client().create().unwrap();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let _ = admin.delete_topics(&names, &AdminOptions::new()).await;
        }
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        let (config, facts, topics) = (&self.config, self.facts, self.topics);
        // On a thread of its own: also while a test panics.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(Self::drop_all(config, facts, topics));
            });
        });
    }
}

/// A tenant's transaction, as the query API begins one.
pub(crate) async fn as_tenant(pool: &PgPool, tenant: Option<Uuid>) -> sqlx::Transaction<'_, sqlx::Postgres> {
    let mut transaction = pool.begin().await.unwrap();
    if let Some(tenant) = tenant {
        sqlx::query("select set_config('weft.tenant', $1, true)")
            .bind(tenant.to_string())
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    transaction
}
