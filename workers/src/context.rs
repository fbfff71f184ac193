//! What all workers of a process share.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weft_domain::{ActorType, LogAggregate, Metadata, TenantId};
use weft_log_writer::{CallOptions, Committed, Executor, IfMatch};
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_wecom::gateway::Gateway;

use crate::WorkerWake;
use crate::dispatch::{ActiveLanes, RecentReceipts};
use crate::error::{Refusal, WorkerError, refusal};
use crate::owner::Owner;
use crate::samples::Samples;

/// Wake-ups inside one process; each worker also looks by itself, for what other processes did.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) dispatch: Notify,
    pub(crate) session: Notify,
    pub(crate) settle: Notify,
}

#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) config: Arc<Config>,
    pub(crate) executor: Executor,
    /// The workers' own tables, in the log's database.
    pub(crate) pool: PgPool,
    pub(crate) gateway: Arc<dyn Gateway>,
    pub(crate) clock: Clock,
    pub(crate) health: Health,
    /// Cancelled when the worker that has this context is to end: at the shutdown, or when another process leads.
    pub(crate) stop: CancellationToken,
    pub(crate) wake: WorkerWake,
    pub(crate) signals: Arc<Signals>,
    pub(crate) owner: Owner,
    pub(crate) lanes: ActiveLanes,
    pub(crate) receipts: RecentReceipts,
    pub(crate) samples: Samples,
}

/// What led to a command: kept in its events' envelope.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cause {
    /// Empty: the chain begins here.
    pub(crate) correlation_id: String,
    /// Id of the event or callback.
    pub(crate) causation_id: Option<String>,
    /// Empty: a trace begins here.
    pub(crate) traceparent: String,
}

impl Cause {
    /// A timer, or something that was found out by looking.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn callback(id: uuid::Uuid) -> Self {
        Self {
            correlation_id: id.to_string(),
            causation_id: Some(id.to_string()),
            traceparent: String::new(),
        }
    }
}

/// Which worker acts, and whether by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor {
    pub(crate) name: &'static str,
    pub(crate) kind: ActorType,
}

impl Actor {
    /// It reacts to something.
    pub(crate) const fn system(name: &'static str) -> Self {
        Self {
            name,
            kind: ActorType::System,
        }
    }

    /// Its timer went off.
    pub(crate) const fn auto(name: &'static str) -> Self {
        Self {
            name,
            kind: ActorType::Auto,
        }
    }
}

impl Context {
    pub(crate) fn options(&self, actor: Actor, tenant_id: TenantId, cause: &Cause) -> CallOptions {
        let request_id = self.clock.new_id().to_string();
        let or_new = |text: &str, new: &dyn Fn() -> String| if text.is_empty() { new() } else { text.to_owned() };
        CallOptions {
            metadata: Metadata {
                tenant_id,
                actor: format!("worker:{}", actor.name),
                actor_type: actor.kind,
                correlation_id: or_new(&cause.correlation_id, &|| request_id.clone()),
                request_id,
                causation_id: cause.causation_id.clone(),
                traceparent: or_new(&cause.traceparent, &|| self.new_trace()),
                occurred_at: self.clock.now(),
            },
            if_match: IfMatch::None,
            idempotency: None,
        }
    }

    /// A W3C trace context of its own.
    fn new_trace(&self) -> String {
        let trace = self.clock.new_id().simple().to_string();
        let span = self.clock.new_id().simple().to_string();
        // A UUIDv7's second half is its random one.
        format!("00-{trace}-{}-01", &span[16..])
    }

    /// Runs a command: carried out, refused for good, or to be tried again.
    pub(crate) async fn execute<A: LogAggregate>(
        &self,
        id: &str,
        command: A::Command,
        options: &CallOptions,
    ) -> Result<Result<Committed<A>, Refusal<A::Error>>, WorkerError>
    where
        A::Command: Clone + Send + Sync,
        A::Error: Send,
    {
        match self.executor.execute::<A>(id, command, options).await {
            Ok(committed) => Ok(Ok(committed)),
            Err(error) => refusal(error).map(Err),
        }
    }

    /// Sleeps, at most until the stop; `false` when it came.
    pub(crate) async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }
}
