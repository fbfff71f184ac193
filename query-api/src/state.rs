//! What every request of this API shares.

use std::sync::Arc;

use async_graphql::Request;
use axum::extract::FromRef;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use weft_platform::clock::Clock;
use weft_platform::config::{Config, KafkaSection, Profile};
use weft_platform::database::lazy_pool;
use weft_platform::health::Health;
use weft_platform::http::{Authenticator, CallContext, Problem};
use weft_platform::keys::KeyStore;

use crate::consistency::Consistency;
use crate::facts::Facts;
use crate::graphql::{Reader, WeftSchema, build_schema};
use crate::live::{Hub, run_feed, run_poll};
use crate::personal::Vault;
use crate::session::Session;
use crate::watcher::Watcher;

/// Cheap to clone.
#[derive(Clone)]
pub struct QueryState {
    inner: Arc<Inner>,
}

struct Inner {
    health: Health,
    views: PgPool,
    facts: Facts,
    kafka: KafkaSection,
    vault: Vault,
    authenticator: Authenticator,
    clock: Clock,
    started_at: DateTime<Utc>,
    schema: WeftSchema,
    hub: Arc<Hub>,
    watcher: Watcher,
    max_body_bytes: usize,
    shutdown: CancellationToken,
}

/// Why the query API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("views.url: {0}")]
    ViewsUrl(sqlx::Error),
}

/// One authenticated read.
#[derive(Clone)]
pub(crate) struct Read {
    pub(crate) call: CallContext,
    pub(crate) session: Session,
    pub(crate) consistency: Consistency,
}

impl QueryState {
    /// Opens nothing yet (the stores may be away) and spawns the live feed, which ends at shutdown.
    #[allow(
        clippy::unused_async,
        reason = "spawns: must run inside a runtime, which an async function says"
    )]
    pub async fn connect(
        config: &Config,
        keys: KeyStore,
        authenticator: Authenticator,
        health: Health,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let views = lazy_pool(config.views.url.expose(), "weft-query", config.views.max_connections)
            .map_err(StartError::ViewsUrl)?;
        let hub = Arc::new(Hub::default());
        tokio::spawn(run_feed(
            Arc::clone(&hub),
            config.kafka.clone(),
            health.clone(),
            shutdown.clone(),
        ));
        let watcher = Watcher::default();
        let url = config.views.url.expose().to_owned();
        tokio::spawn(watcher.clone().run(views.clone(), url, shutdown.clone()));
        tokio::spawn(run_poll(
            Arc::clone(&hub),
            views.clone(),
            config.kafka.clone(),
            watcher.clone(),
            shutdown.clone(),
        ));
        Ok(Self {
            inner: Arc::new(Inner {
                views,
                health,
                facts: Facts::new(&config.clickhouse),
                kafka: config.kafka.clone(),
                vault: Vault::new(keys),
                authenticator,
                started_at: clock.now(),
                clock,
                schema: build_schema(config.profile == Profile::Development),
                hub,
                watcher,
                max_body_bytes: config.http.max_body_bytes,
                shutdown,
            }),
        })
    }

    /// What the parts of this process report.
    pub(crate) fn health(&self) -> &Health {
        &self.inner.health
    }

    pub(crate) fn views(&self) -> &PgPool {
        &self.inner.views
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    pub(crate) fn kafka(&self) -> &KafkaSection {
        &self.inner.kafka
    }

    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.inner.authenticator
    }

    pub(crate) fn schema(&self) -> &WeftSchema {
        &self.inner.schema
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.inner.hub
    }

    pub(crate) fn watcher(&self) -> &Watcher {
        &self.inner.watcher
    }

    pub(crate) fn max_body_bytes(&self) -> usize {
        self.inner.max_body_bytes
    }

    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.inner.shutdown
    }

    /// Seconds since this process serves.
    pub(crate) fn uptime_seconds(&self) -> i64 {
        (self.inner.clock.now() - self.inner.started_at).num_seconds()
    }

    /// A transaction of its own for `call`, begun when something is read.
    pub(crate) fn session(&self, call: &CallContext) -> Session {
        let now = self.inner.clock.now();
        Session::new(self.inner.views.clone(), call, self.inner.vault.clone(), now)
    }

    /// Who reads, and what he must have seen.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Result<Read, Problem> {
        let call = self.inner.authenticator.authenticate(headers)?;
        let consistency = Consistency::read(headers)?;
        let session = self.session(&call);
        Ok(Read {
            call,
            session,
            consistency,
        })
    }

    /// A GraphQL request with what its resolvers need.
    pub(crate) fn prepare(&self, request: Request, call: &CallContext) -> Request {
        self.prepare_with(request, call, self.session(call))
    }

    pub(crate) fn prepare_read(&self, request: Request, read: &Read) -> Request {
        self.prepare_with(request, &read.call, read.session.clone())
    }

    fn prepare_with(&self, request: Request, call: &CallContext, session: Session) -> Request {
        request.data(self.clone()).data(call.clone()).data(Reader::new(session))
    }
}

impl FromRef<QueryState> for Authenticator {
    fn from_ref(state: &QueryState) -> Self {
        state.inner.authenticator.clone()
    }
}
