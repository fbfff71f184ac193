//! The stores that projections of every generation work with, and the projections themselves.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weft_platform::config::Config;
use weft_platform::database::lazy_pool;
use weft_platform::health::Health;
use weft_platform::keys::KeyStore;

use crate::RunError;
use crate::clickhouse::Facts;
use crate::engine::{Backoff, Ended, Engine, Projection, Tables};
use crate::error::ProjectionError;
use crate::generation::Generation;
use crate::members::Shares;
use crate::parked::{Retried, retry};
use crate::replay::{Fill, ReplayError, fill};
use crate::store;

/// Connections to each log: gaps and dead letters are rare, a rebuild reads one page after the other.
const LOG_CONNECTIONS: u32 = 3;

/// Connects when first used.
#[derive(Debug)]
pub struct World {
    pub config: Arc<Config>,
    pub keys: KeyStore,
    pub health: Health,
    /// By share.
    logs: Arc<[PgPool]>,
    pools: Mutex<HashMap<Generation, PgPool>>,
}

impl World {
    pub fn new(config: Arc<Config>, keys: KeyStore, health: Health) -> Result<Arc<Self>, RunError> {
        let logs = config.by_log().into_iter().map(|Config { log, .. }| {
            let pool = lazy_pool(log.url.expose(), "weft projectors", LOG_CONNECTIONS);
            pool.map_err(|error| RunError::LogUrl { log: log.name, error })
        });
        let logs = logs.collect::<Result<_, _>>()?;
        let world = Self {
            config,
            keys,
            health,
            logs,
            pools: Mutex::default(),
        };
        world.pool(Generation::FIRST)?;
        Ok(Arc::new(world))
    }

    /// Connections whose search path is the generation's schema.
    fn pool(&self, generation: Generation) -> Result<PgPool, RunError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&generation) {
            return Ok(pool.clone());
        }
        let views = &self.config.views;
        let pool =
            store::pool(views.projector_url.expose(), generation, views.max_connections).map_err(RunError::Url)?;
        pools.insert(generation, pool.clone());
        Ok(pool)
    }

    pub fn engine(&self, generation: Generation) -> Result<Engine, RunError> {
        Ok(Engine {
            kafka: self.config.kafka.clone(),
            pool: self.pool(generation)?,
            logs: Arc::clone(&self.logs),
            generation,
            health: self.health.clone(),
        })
    }

    /// The engine of the generation of `projection` that the stable names show.
    pub async fn live(&self, projection: &str) -> Result<Engine, RunError> {
        let first = self.pool(Generation::FIRST)?;
        let generation = Generation::live(&first, projection).await.map_err(RunError::Views)?;
        self.engine(generation)
    }

    pub fn facts(&self, generation: Generation) -> Facts {
        Facts::new(&self.config.clickhouse, generation)
    }
}

type Task<'t, T> = Pin<Box<dyn Future<Output = T> + Send + 't>>;

/// A projection of any type: `Kind` makes one of every `Projection`.
pub trait AnyProjection: Send + Sync {
    fn name(&self) -> &'static str;
    fn tables(&self) -> Tables;
    fn aggregates(&self) -> &'static [&'static str];
    /// Projects until `shutdown`, through every change of the generation.
    fn run(&self, world: Arc<World>, shares: Shares, shutdown: CancellationToken) -> Task<'_, ()>;
    /// Writes what is its own of a part of the log into a generation that is not live.
    fn fill(&self, world: Arc<World>, generation: Generation, part: Fill) -> Task<'static, Result<(), ReplayError>>;
    /// Another try with a parked stream of the live generation.
    fn retry<'t>(&'t self, world: &'t World, stream: (&'t str, Uuid)) -> Task<'t, Result<Retried, RetryError>>;
}

/// Why a dead letter could not be tried again.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    #[error(transparent)]
    Stores(#[from] RunError),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
}

/// How a projection of one type is made for a generation.
pub struct Kind<P>(pub fn(&World, Generation) -> P);

impl<P: Projection> AnyProjection for Kind<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn tables(&self) -> Tables {
        P::TABLES
    }

    fn aggregates(&self) -> &'static [&'static str] {
        P::AGGREGATES
    }

    fn run(&self, world: Arc<World>, shares: Shares, shutdown: CancellationToken) -> Task<'_, ()> {
        Box::pin(async move {
            world.health.expect(P::HEALTH);
            let mut backoff = Backoff::default();
            loop {
                let engine = tokio::select! {
                    () = shutdown.cancelled() => return,
                    engine = world.live(P::NAME) => engine,
                };
                match engine {
                    Ok(engine) => {
                        let projection = (self.0)(&world, engine.generation);
                        if engine.run(&projection, shares.clone(), shutdown.clone()).await == Ended::Shutdown {
                            return;
                        }
                    }
                    Err(error) => {
                        world.health.failing(P::HEALTH, error.to_string());
                        tracing::warn!(projection = P::NAME, %error, "projection starts again");
                        tokio::select! {
                            () = shutdown.cancelled() => return,
                            () = backoff.wait() => {}
                        }
                    }
                }
            }
        })
    }

    fn fill(&self, world: Arc<World>, generation: Generation, part: Fill) -> Task<'static, Result<(), ReplayError>> {
        let make = self.0;
        Box::pin(async move {
            let engine = world.engine(generation)?;
            let projection = make(&world, generation);
            Ok(fill(&engine, &projection, part).await?)
        })
    }

    fn retry<'t>(&'t self, world: &'t World, stream: (&'t str, Uuid)) -> Task<'t, Result<Retried, RetryError>> {
        Box::pin(async move {
            let engine = world.live(P::NAME).await?;
            let projection = (self.0)(world, engine.generation);
            Ok(retry(&engine, &projection, stream).await?)
        })
    }
}
