//! Projections: Kafka consumers that write read models in Postgres and facts in ClickHouse. One file per projection.

pub mod account_status_history;
pub mod accounts;
pub mod checkpoint;
pub mod clickhouse;
pub mod conversations;
pub mod engine;
pub mod error;
pub mod event;
pub mod generation;
pub mod heartbeats;
pub mod messages;
mod metric;
pub mod migrate;
mod partitions;
mod row;
pub mod shape;
mod store;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_platform::keys::KeyStore;

use crate::clickhouse::Facts;
use crate::clickhouse::account_facts::AccountFacts;
use crate::clickhouse::message_facts::MessageFacts;
use crate::clickhouse::message_stats_hourly;
use crate::engine::Engine;
use crate::generation::Generation;

/// Why the projections ended before they were asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("views.projector_url: {0}")]
    Url(sqlx::Error),
    #[error("a projection panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// What the live projections work with. Connects when first used.
pub fn engine(config: &Config, health: Health) -> Result<Engine, RunError> {
    let generation = Generation::LIVE;
    let views = &config.views;
    let pool = store::pool(views.projector_url.expose(), generation, views.max_connections).map_err(RunError::Url)?;
    Ok(Engine {
        kafka: config.kafka.clone(),
        pool,
        generation,
        health,
    })
}

/// Runs every projection, each on its own, so that one store's outage stops no other's. Returns on `shutdown`.
pub async fn run(
    config: Arc<Config>,
    keys: KeyStore,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let engine = engine(&config, health)?;
    let facts = Facts::new(&config.clickhouse, engine.generation);
    let mut tasks = JoinSet::new();
    macro_rules! spawn {
        ($($projection:expr),+ $(,)?) => {
            $({
                let (engine, shutdown) = (engine.clone(), shutdown.clone());
                let projection = $projection;
                tasks.spawn(async move { engine.run(projection, shutdown).await });
            })+
        };
    }
    spawn!(
        accounts::Accounts,
        account_status_history::AccountStatusHistory,
        messages::Messages::new(keys),
        conversations::Conversations,
        AccountFacts::new(facts.clone()),
        MessageFacts::new(facts.clone()),
    );
    let (heartbeats, stats, upkeep) = (engine.clone(), engine.clone(), engine);
    let token = shutdown.clone();
    tasks.spawn(async move { heartbeats::run(&heartbeats, token).await });
    let token = shutdown.clone();
    tasks.spawn(async move { message_stats_hourly::run(&stats, &facts, token).await });
    tasks.spawn(async move { partitions::run(&upkeep.pool, Clock::system(), shutdown).await });
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}
