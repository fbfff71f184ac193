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
pub mod members;
pub mod messages;
mod metric;
pub mod migrate;
pub mod parked;
mod partitions;
pub mod replay;
mod row;
pub mod shape;
pub mod status;
mod store;
mod unopened;
pub mod world;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_platform::keys::KeyStore;

use crate::clickhouse::account_facts::AccountFacts;
use crate::clickhouse::message_facts::MessageFacts;
use crate::clickhouse::message_stats_hourly;
use crate::members::Shares;
use crate::world::{AnyProjection, Kind, World};

/// Why the projections ended before they were asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("views.projector_url: {0}")]
    Url(sqlx::Error),
    #[error("the url of the log {log}: {error}")]
    LogUrl { log: String, error: sqlx::Error },
    #[error("the views' database: {0}")]
    Views(sqlx::Error),
    #[error(transparent)]
    Projection(#[from] error::ProjectionError),
    #[error("a projection panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Every projection of events, made for the generation that it is to write.
pub fn projections() -> Vec<Box<dyn AnyProjection>> {
    vec![
        Box::new(Kind(|_, _| accounts::Accounts)),
        Box::new(Kind(|_, _| account_status_history::AccountStatusHistory)),
        Box::new(Kind(|world, _| messages::Messages::new(world.keys.clone()))),
        Box::new(Kind(|_, _| conversations::Conversations)),
        Box::new(Kind(|world, generation| AccountFacts::new(world.facts(generation)))),
        Box::new(Kind(|world, generation| MessageFacts::new(world.facts(generation)))),
    ]
}

/// Runs this process's share of every projection, each on its own, so that one store's outage stops no other's. Returns
/// on `shutdown`.
pub async fn run(
    config: Arc<Config>,
    keys: KeyStore,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let url = config.views.projector_url.expose().to_owned();
    let world = World::new(config, keys, health)?;
    let shares = Shares::join(Clock::system().new_id(), url, shutdown.clone());
    let mut tasks = JoinSet::new();
    for projection in projections() {
        let (world, shares, shutdown) = (Arc::clone(&world), shares.clone(), shutdown.clone());
        tasks.spawn(async move { projection.run(world, shares, shutdown).await });
    }
    let (world_, shares_, token) = (Arc::clone(&world), shares.clone(), shutdown.clone());
    let engine = world.engine(generation::Generation::FIRST)?;
    tasks.spawn(async move { heartbeats::run(&engine, shares_, token).await });
    let token = shutdown.clone();
    tasks.spawn(async move { message_stats_hourly::run(&world_, shares, token).await });
    tasks.spawn(async move { partitions::run(&world, Clock::system(), shutdown).await });
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}
