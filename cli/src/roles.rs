//! What runs in a process: one role, or all of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chrono::TimeDelta;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::SwaggerUi;
use weft_command_api::CommandState;
use weft_log_writer::Logs;
use weft_platform::clock::Clock;
use weft_platform::config::{Config, Profile};
use weft_platform::health::Health;
use weft_platform::http::{Authenticator, EnvelopeConfig, envelope};
use weft_platform::keys::KeyStore;
use weft_platform::shutdown;
use weft_query_api::QueryState;
use weft_workers::WorkerWake;

use crate::admin::Ready;
use crate::{Failure, admin, migrate, server, tenant};

/// The API's address answers; part of readiness, as the admin port answers earlier.
const HTTP: &str = "http";

/// What the parts of one process share.
struct Process {
    config: Arc<Config>,
    clock: Clock,
    health: Health,
    shutdown: CancellationToken,
    tasks: JoinSet<Result<(), Failure>>,
}

impl Process {
    fn start(config: Config) -> Result<Self, Failure> {
        let shutdown = shutdown::on_signal().map_err(Failure::new)?;
        let process = Self {
            clock: Clock::shifted(TimeDelta::seconds(config.clock_offset_seconds.into())),
            config: Arc::new(config),
            health: Health::default(),
            shutdown,
            tasks: JoinSet::new(),
        };
        Ok(process)
    }

    /// Development brings its own databases and topics up to date; production has `weft migrate` and `weft topics`.
    async fn prepare(&self) -> Result<(), Failure> {
        if self.config.profile == Profile::Development {
            migrate::run(&self.config).await?;
            migrate::topics(&self.config).await?;
        }
        Ok(())
    }

    async fn logs(&self) -> Result<Logs, Failure> {
        Logs::connect(Arc::clone(&self.config), self.clock.clone())
            .await
            .map_err(Failure::new)
    }

    fn authenticator(&self) -> Authenticator {
        Authenticator::new(&self.config.auth.r#static)
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        self.tasks
            .spawn(async move { task.await.map_err(|failure| Failure::new(format!("{name}: {failure}"))) });
    }

    async fn serve_admin(&mut self, ready: Ready) -> Result<(), Failure> {
        let metrics = admin::install_metrics()?;
        let listener = server::bind(self.config.admin.listen, "admin.listen").await?;
        let router = admin::router(self.health.clone(), ready, metrics);
        let shutdown = self.shutdown.clone();
        self.spawn("admin", async move { server::serve(listener, router, shutdown).await });
        Ok(())
    }

    async fn serve_api(&mut self, address: std::net::SocketAddr, key: &str, router: Router) -> Result<(), Failure> {
        let listener = server::bind(address, key).await?;
        let router = envelope(
            router.merge(admin::probes(self.health.clone(), Health::can_serve)),
            EnvelopeConfig {
                clock: self.clock.clone(),
                http: self.config.http.clone(),
            },
        );
        let shutdown = self.shutdown.clone();
        tracing::info!(%address, "serving");
        self.health.ready(HTTP);
        self.spawn(HTTP, async move { server::serve(listener, router, shutdown).await });
        Ok(())
    }

    /// One per log.
    fn spawn_relays(&mut self, logs: &Logs) {
        for (config, executor) in self.config.by_log().into_iter().zip(logs.all()) {
            let task = weft_log_writer::relay::run(
                Arc::new(config),
                self.clock.clone(),
                self.health.clone(),
                executor.appended(),
                self.shutdown.clone(),
            );
            self.spawn("relay", async move { task.await.map_err(Failure::new) });
        }
    }

    fn spawn_projectors(&mut self, keys: KeyStore) {
        let task = weft_projectors::run(
            Arc::clone(&self.config),
            keys,
            self.health.clone(),
            self.shutdown.clone(),
        );
        self.spawn("projectors", async move { task.await.map_err(Failure::new) });
    }

    /// Of every log, with queues of its own; they share the way to WeCom. Answers what wakes them, by log.
    fn spawn_workers(&mut self, logs: &Logs) -> Result<Vec<WorkerWake>, Failure> {
        let gateway = weft_workers::gateway(&self.config).map_err(Failure::new)?;
        let mut wakes = Vec::new();
        for (config, executor) in self.config.by_log().into_iter().zip(logs.all()) {
            let wake = WorkerWake::default();
            wakes.push(wake.clone());
            let task = weft_workers::run(
                Arc::new(config),
                executor.clone(),
                Arc::clone(&gateway),
                self.clock.clone(),
                self.health.clone(),
                wake,
                self.shutdown.clone(),
            );
            self.spawn("workers", async move { task.await.map_err(Failure::new) });
        }
        Ok(wakes)
    }

    async fn query_state(&self, keys: KeyStore) -> Result<QueryState, Failure> {
        QueryState::connect(
            &self.config,
            keys,
            self.authenticator(),
            self.health.clone(),
            self.clock.clone(),
            self.shutdown.clone(),
        )
        .await
        .map_err(Failure::new)
    }

    /// Waits for the first part to end; all others are then stopped, with ten seconds to do so.
    async fn run(mut self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        if let Some(first) = self.tasks.join_next().await {
            outcome = first.map_err(Failure::new).flatten();
        }
        self.shutdown.cancel();
        let drained = tokio::time::timeout(Duration::from_secs(10), async {
            while let Some(ended) = self.tasks.join_next().await {
                let ended = ended.map_err(Failure::new).flatten();
                outcome = std::mem::replace(&mut outcome, Ok(())).and(ended);
            }
        });
        if drained.await.is_err() {
            tracing::warn!("some parts did not stop within ten seconds");
        }
        outcome
    }
}

pub(crate) async fn all(config: Config) -> Result<(), Failure> {
    let mut process = Process::start(config)?;
    process.health.expect(HTTP);
    process.prepare().await?;
    let logs = process.logs().await?;
    if process.config.profile == Profile::Development {
        tenant::ensure_development_tenants(&logs, &process.clock).await?;
    }
    process.serve_admin(Health::can_serve).await?;
    let keys = logs.keys().clone();
    process.spawn_relays(&logs);
    process.spawn_projectors(keys.clone());
    let wakes = process.spawn_workers(&logs)?;
    let commands = command_state(&process, logs, wakes);
    let queries = process.query_state(keys).await?;
    let router = weft_command_api::router(commands)
        .0
        .merge(weft_query_api::router(queries).0)
        .merge(documents(openapi()));
    process
        .serve_api(process.config.http.listen, "http.listen", router)
        .await?;
    process.run().await
}

fn command_state(process: &Process, logs: Logs, wakes: Vec<WorkerWake>) -> CommandState {
    CommandState::new(
        logs,
        Arc::clone(&process.config),
        process.clock.clone(),
        process.authenticator(),
        process.health.clone(),
        wakes.into_iter().map(|wake| wake.callbacks).collect(),
    )
}

pub(crate) async fn command_api(config: Config) -> Result<(), Failure> {
    let mut process = Process::start(config)?;
    process.health.expect(HTTP);
    let logs = process.logs().await?;
    process.serve_admin(Health::can_serve).await?;
    let state = command_state(&process, logs, Vec::new());
    let (router, openapi) = weft_command_api::router(state);
    process
        .serve_api(
            process.config.http.command_listen,
            "http.command_listen",
            router.merge(documents(openapi)),
        )
        .await?;
    process.run().await
}

pub(crate) async fn query_api(config: Config) -> Result<(), Failure> {
    let mut process = Process::start(config)?;
    process.health.expect(HTTP);
    process.serve_admin(Health::can_serve).await?;
    let keys = KeyStore::new(&process.config.keys).map_err(Failure::new)?;
    let (router, openapi) = weft_query_api::router(process.query_state(keys).await?);
    process
        .serve_api(
            process.config.http.query_listen,
            "http.query_listen",
            router.merge(documents(openapi)),
        )
        .await?;
    process.run().await
}

pub(crate) async fn relay(config: Config) -> Result<(), Failure> {
    let mut process = Process::start(config)?;
    let logs = process.logs().await?;
    process.serve_admin(Health::is_ready).await?;
    process.spawn_relays(&logs);
    process.run().await
}

pub(crate) async fn projectors(config: Config) -> Result<(), Failure> {
    let mut process = Process::start(config)?;
    process.serve_admin(Health::is_ready).await?;
    let keys = KeyStore::new(&process.config.keys).map_err(Failure::new)?;
    process.spawn_projectors(keys);
    process.run().await
}

pub(crate) async fn workers(config: Config) -> Result<(), Failure> {
    let mut process = Process::start(config)?;
    let logs = process.logs().await?;
    process.serve_admin(Health::is_ready).await?;
    process.spawn_workers(&logs)?;
    process.run().await
}

/// Both APIs' contract as one document.
pub(crate) fn openapi() -> OpenApi {
    let mut document = weft_command_api::openapi();
    document.merge(weft_query_api::openapi());
    document
}

/// `/openapi.json` and the rendered `/docs` page, which needs no other server.
fn documents(openapi: OpenApi) -> Router {
    SwaggerUi::new("/docs").url("/openapi.json", openapi).into()
}
