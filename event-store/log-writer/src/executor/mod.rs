//! Load, decide, append: how every command is carried out.

mod attempt;
mod plan;

use std::convert::Infallible;
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::{Notify, OnceCell};
use uuid::Uuid;
use weft_domain::{LogAggregate, TenantId};
use weft_log_reader::{LoadError, Loaded, StreamHead, heads};
use weft_platform::clock::Clock;
use weft_platform::config::{Config, KafkaSection};
use weft_platform::http::{ConsistencyToken, StreamMark};
use weft_platform::keys::KeyStore;

use crate::append::{Command, Outcome};
use crate::cache::StreamCache;
use crate::error::{AppendError, ConnectError};
use crate::idempotency::{Lookup, Record};
use crate::loader::Loader;
use crate::options::{Answered, CallOptions, Committed, StoredAnswer};
use crate::pool::{Probe, check, log_pool};
use crate::seal::Sealer;
use crate::writer::{Tools, Writers};
use crate::{ExecuteError, Idempotency, idempotency, quotas};
use attempt::Done;
pub(crate) use attempt::Trust;

/// Carries commands out. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    pool: PgPool,
    probe: Arc<Probe>,
    writers: Writers,
    loader: Loader,
    cache: StreamCache,
    sealer: Sealer,
    clock: Clock,
    kafka: KafkaSection,
    max_event_bytes: usize,
    appended: Arc<Notify>,
    log_id: OnceCell<Uuid>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").finish_non_exhaustive()
    }
}

impl Executor {
    /// Refuses a log that is not fit to be written to. One that cannot be reached is taken: it is connected to when it
    /// is back.
    pub async fn connect(config: &Config, clock: Clock) -> Result<Self, ConnectError> {
        Self::open(config, KeyStore::new(&config.keys)?, clock).await
    }

    /// As `connect`, with keys that other logs' executors use too.
    pub(crate) async fn open(config: &Config, keys: KeyStore, clock: Clock) -> Result<Self, ConnectError> {
        let url = |error| ConnectError::Url {
            log: config.log.name.clone(),
            error,
        };
        let unfit = |problem| ConnectError::Unfit {
            log: config.log.name.clone(),
            problem,
        };
        let pool = log_pool(&config.log, "weft log-writer", config.log.max_connections).map_err(url)?;
        // Of their own, so that no other use of the log keeps an append waiting for a connection.
        let lines = u32::try_from(2 * config.log.writers.max(1)).unwrap_or(u32::MAX);
        let lines = log_pool(&config.log, "weft log-writer", lines).map_err(url)?;
        let lines = Arc::new(Probe::new(lines));
        let appended = Arc::new(Notify::new());
        let cache = StreamCache::new(&config.log);
        let forgotten = cache.clone();
        let tools = Tools {
            probe: Arc::clone(&lines),
            clock: clock.clone(),
            epoch: Arc::default(),
            appended: Arc::clone(&appended),
            forget: Box::new(move || forgotten.clear()),
        };
        let executor = Self {
            inner: Arc::new(Inner {
                name: config.log.name.clone(),
                probe: Arc::new(Probe::new(pool.clone())),
                writers: Writers::start(&config.log, tools),
                loader: Loader::start(&config.log, &lines),
                cache,
                pool,
                sealer: Sealer::new(keys),
                clock,
                kafka: config.kafka.clone(),
                max_event_bytes: config.log.max_event_bytes,
                appended,
                log_id: OnceCell::new(),
            }),
        };
        if check(&config.log).await.map_err(unfit)? {
            let known = executor.log_id().await;
            known.map_err(|error| unfit(format!("{error}; run weft migrate")))?;
        }
        Ok(executor)
    }

    /// What the configuration calls this log.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Connections to the log's database.
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// A connection to the log's database: soon an error when the server is away, else when its turn comes.
    pub async fn connection(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.inner.probe.connection().await
    }

    pub fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    pub fn keys(&self) -> &KeyStore {
        self.inner.sealer.keys()
    }

    /// Told after every append of this process: wakes the relay.
    pub fn appended(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.appended)
    }

    /// Whether more waits for the tenant's writer than it can write soon: `execute` would end with `Overloaded`. To be
    /// asked before a command costs anything.
    pub fn is_overloaded(&self, tenant: TenantId) -> bool {
        self.inner.writers.refuses(&tenant.to_string())
    }

    /// One stream's state.
    pub async fn load<A: LogAggregate>(&self, id: &str) -> Result<Loaded<A>, ExecuteError<A::Error>> {
        Ok(self.read(id).await?)
    }

    /// One stream's state as this process remembers it, which may be behind the log; what it does not remember, as the
    /// log has it.
    pub async fn recall<A: LogAggregate>(&self, id: &str) -> Result<Arc<Loaded<A>>, ExecuteError<A::Error>> {
        Ok(self.look(id, Trust::Memory).await?)
    }

    /// Carries one command out. On a conflict it is decided again on the new state, unless `if_match` forbids it.
    pub async fn execute<A>(
        &self,
        id: &str,
        command: A::Command,
        options: &CallOptions,
    ) -> Result<Committed<A>, ExecuteError<A::Error>>
    where
        A: LogAggregate,
        A::Command: Clone + Send + Sync,
        A::Error: Send,
    {
        let mut all = self.execute_all(vec![(id.to_owned(), command)], options).await?;
        all.pop()
            .ok_or_else(|| ExecuteError::Corrupt("a command gave no result".to_owned()))
    }

    /// Carries several commands out in one transaction, all or nothing; later ones see what earlier ones did.
    ///
    /// With an idempotency key that was used before, nothing is carried out and the streams are as they are now.
    pub async fn execute_all<A>(
        &self,
        commands: Vec<(String, A::Command)>,
        options: &CallOptions,
    ) -> Result<Vec<Committed<A>>, ExecuteError<A::Error>>
    where
        A: LogAggregate,
        A::Command: Clone + Send + Sync,
        A::Error: Send,
    {
        let no_answer = |_: &[Committed<A>]| StoredAnswer {
            status: 204,
            body: serde_json::Value::Null,
            etag: None,
        };
        match self.run(&commands, options, &no_answer).await? {
            Done::Fresh { committed, .. } => Ok(committed),
            Done::Replayed(_) => {
                let ids: Vec<String> = commands.into_iter().map(|(id, _)| id).collect();
                let loaded = futures::future::try_join_all(ids.iter().map(|id| self.read::<A>(id))).await?;
                let streams = ids.iter().cloned().zip(loaded);
                Ok(streams.map(|(id, loaded)| unchanged(id, loaded)).collect())
            }
        }
    }

    /// As `execute_all`, for a caller that wants an answer: `answer` is computed from what is about to be committed
    /// (possibly more than once, after conflicts) and stored in the same transaction under the idempotency key. An
    /// earlier call's answer with the same key wins before anything is decided. A refusal is not stored.
    pub async fn answer<A>(
        &self,
        commands: Vec<(String, A::Command)>,
        options: &CallOptions,
        answer: impl Fn(&[Committed<A>]) -> StoredAnswer + Send + Sync,
    ) -> Result<Answered, ExecuteError<A::Error>>
    where
        A: LogAggregate,
        A::Command: Clone + Send + Sync,
        A::Error: Send,
    {
        // Before the append: nothing may fail after it.
        let log_id = self.log_id().await?;
        match self.run(&commands, options, &answer).await? {
            Done::Fresh { committed, answer } => {
                let heads = committed.iter().filter_map(head).collect::<Vec<_>>();
                Ok(Answered {
                    answer,
                    token: self.token_of(log_id, &heads),
                    replayed: false,
                })
            }
            Done::Replayed(record) => Ok(self.replay(log_id, record).await?),
        }
    }

    /// The answer that an idempotency key has already, for a caller that must refuse a request before any command of it
    /// is decided: the earlier answer wins over that refusal too.
    pub async fn earlier_answer(&self, key: &Idempotency) -> Result<Option<Answered>, ExecuteError<Infallible>> {
        let found = self
            .inner
            .probe
            .guard(idempotency::look_up(self.pool(), key, self.now()))
            .await;
        match found.map_err(LoadError::from)? {
            Lookup::Free => Ok(None),
            Lookup::Replay(record) => Ok(Some(self.replay(self.log_id().await?, record).await?)),
            Lookup::Reused => Err(ExecuteError::KeyReused),
        }
    }

    async fn replay(&self, log_id: Uuid, record: Record) -> Result<Answered, LoadError> {
        let heads = self.inner.probe.guard(heads(self.pool(), &record.streams)).await?;
        Ok(Answered {
            answer: record.answer,
            token: self.token_of(log_id, &heads),
            replayed: true,
        })
    }

    /// A consistency token for what these commands left behind.
    pub async fn token<A: LogAggregate>(
        &self,
        committed: &[Committed<A>],
    ) -> Result<ConsistencyToken, ExecuteError<A::Error>> {
        let heads = committed.iter().filter_map(head).collect::<Vec<_>>();
        Ok(self.token_of(self.log_id().await?, &heads))
    }

    /// Deletes expired idempotency keys; the relay does it every minute.
    pub async fn purge_idempotency_keys(&self) -> Result<u64, LoadError> {
        Ok(idempotency::purge(self.pool(), self.inner.clock.now()).await?)
    }

    /// Deletes the counters of days long gone; the relay does it every minute.
    pub async fn purge_quota_usage(&self) -> Result<u64, LoadError> {
        Ok(quotas::purge(self.pool(), self.inner.clock.now()).await?)
    }

    /// A read of the log that fails soon when its server is away.
    pub(crate) async fn guarded<T>(&self, read: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, LoadError> {
        Ok(self.inner.probe.guard(read).await?)
    }

    pub(crate) async fn append(&self, tenant: &str, command: Arc<Command>) -> Result<Outcome, AppendError> {
        self.inner.writers.append(tenant, command).await
    }

    pub(crate) fn max_event_bytes(&self) -> usize {
        self.inner.max_event_bytes
    }

    pub(crate) fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.inner.clock.now()
    }

    /// Which log this is.
    pub async fn log_id(&self) -> Result<Uuid, LoadError> {
        let read = || {
            let read = sqlx::query_scalar("select log_id from log_identity").fetch_one(self.pool());
            self.inner.probe.guard(read)
        };
        Ok(*self.inner.log_id.get_or_try_init(read).await?)
    }

    /// The tenants that were created on this log.
    pub async fn tenants(&self) -> Result<Vec<Uuid>, LoadError> {
        let statement = "select aggregate_id from events where aggregate_type = 'tenant' and sequence = 1 order by 1";
        let read = sqlx::query_scalar::<_, String>(statement).fetch_all(self.pool());
        let ids = self.inner.probe.guard(read).await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// A mark per partition: the newest of its streams.
    fn token_of(&self, log_id: Uuid, heads: &[StreamHead]) -> ConsistencyToken {
        let epoch = heads.iter().map(|head| head.order.epoch).max().unwrap_or(1);
        let mut marks: Vec<StreamMark> = Vec::new();
        for head in heads {
            let topic = self.inner.kafka.topic(&head.aggregate_type);
            let partition = self.inner.kafka.partition_of(&head.aggregate_type, &head.partition_key);
            // What an older epoch wrote is below everything of this one.
            let current = head.order.epoch == epoch;
            let order = if current {
                (head.order.transaction_id, head.order.position)
            } else {
                (0, 0)
            };
            let mark = StreamMark {
                topic,
                partition,
                order,
                aggregate_id: head.aggregate_id.clone(),
                version: head.version,
            };
            match marks
                .iter_mut()
                .find(|other| other.topic == mark.topic && other.partition == mark.partition)
            {
                Some(other) if other.order < mark.order => *other = mark,
                Some(_) => {}
                None => marks.push(mark),
            }
        }
        ConsistencyToken { log_id, epoch, marks }
    }
}

fn head<A: LogAggregate>(committed: &Committed<A>) -> Option<StreamHead> {
    Some(StreamHead {
        aggregate_type: A::TYPE.to_owned(),
        aggregate_id: committed.id.clone(),
        version: committed.version,
        order: committed.order?,
        partition_key: committed.partition_key.clone(),
    })
}

fn unchanged<A: LogAggregate>(id: String, loaded: Loaded<A>) -> Committed<A> {
    Committed {
        state: loaded.state,
        version: loaded.version,
        events: Vec::new(),
        order: loaded.head,
        partition_key: loaded.partition_key.unwrap_or_else(|| id.clone()),
        id,
    }
}
