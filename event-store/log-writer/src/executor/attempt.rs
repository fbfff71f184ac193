//! Attempts, until one commits: each a new load and a new top-level transaction, because what was decided on an older
//! state may be wrong, and a transaction that waits would hold back every reader of the log's tail.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_domain::LogAggregate;
use weft_log_reader::{LoadError, Loaded, PAGE};

use super::Executor;
use super::plan::{Plan, decide};
use crate::append::{AppendError, Outcome, find};
use crate::error::{CountError, ReadError};
use crate::idempotency::{Lookup, Record, look_up};
use crate::options::{CallOptions, Committed, StoredAnswer};
use crate::{ExecuteError, snapshots};

/// Times a command is decided before it gives up on a stream that changes too fast.
const MAX_ATTEMPTS: u32 = 16;
/// Longest wait between two attempts; the actual one is random.
const MAX_WAIT_MS: u64 = 100;
/// How long the fate of a lost answer is looked for.
const SETTLE_FOR: Duration = Duration::from_secs(5);

pub(crate) mod metric {
    pub(crate) const APPEND_SECONDS: &str = "weft_log_append_seconds";
    pub(crate) const CONFLICTS: &str = "weft_log_conflicts_total";
    pub(crate) const IN_DOUBT: &str = "weft_log_in_doubt_total";
}

/// How a call ended well.
pub(super) enum Done<A: cqrs_es::Aggregate> {
    Fresh {
        committed: Vec<Committed<A>>,
        answer: StoredAnswer,
    },
    Replayed(Record),
}

impl Executor {
    pub(super) async fn run<A>(
        &self,
        commands: &[(String, A::Command)],
        options: &CallOptions,
        answer: &(dyn Fn(&[Committed<A>]) -> StoredAnswer + Send + Sync),
    ) -> Result<Done<A>, ExecuteError<A::Error>>
    where
        A: LogAggregate,
        A::Command: Clone + Send + Sync,
        A::Error: Send,
    {
        let mut in_doubt = InDoubt::default();
        for attempt in 0..MAX_ATTEMPTS {
            if attempt > 0 {
                pause(attempt).await;
            }
            let trust = if attempt == 0 { Trust::Memory } else { Trust::Log };
            // Boxed: callers hold many of these in futures of their own.
            match Box::pin(self.attempt(commands, options, answer, trust, &mut in_doubt)).await {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {}
                // While an outcome is unknown, only the log can tell; it may be back in a moment.
                Err(ExecuteError::Unavailable(_)) if in_doubt.may_wait() => {}
                Err(error) => {
                    // Refused on a state that holds what the first request with this key did meanwhile?
                    if is_refusal(&error)
                        && let Some(record) = self.earlier_record(options).await?
                    {
                        return Ok(Done::Replayed(record));
                    }
                    return Err(in_doubt.explain(error));
                }
            }
        }
        Err(in_doubt.explain(ExecuteError::Contended))
    }

    /// What is stored under the call's key, if it has one and it was used.
    async fn earlier_record<E>(&self, options: &CallOptions) -> Result<Option<Record>, ExecuteError<E>> {
        let Some(key) = &options.idempotency else {
            return Ok(None);
        };
        match self
            .inner
            .probe
            .guard(look_up(self.pool(), key, self.now()))
            .await
            .map_err(LoadError::from)?
        {
            Lookup::Free => Ok(None),
            Lookup::Replay(record) => Ok(Some(record)),
            Lookup::Reused => Err(ExecuteError::KeyReused),
        }
    }

    /// `None`: somebody else was faster, or the answer was lost; try again.
    async fn attempt<A>(
        &self,
        commands: &[(String, A::Command)],
        options: &CallOptions,
        answer: &(dyn Fn(&[Committed<A>]) -> StoredAnswer + Send + Sync),
        trust: Trust,
        in_doubt: &mut InDoubt<A>,
    ) -> Result<Option<Done<A>>, ExecuteError<A::Error>>
    where
        A: LogAggregate,
        A::Command: Clone + Send + Sync,
        A::Error: Send,
    {
        let (streams, presumed) = self.streams(commands, trust).await?;
        // After the load: what it saw of a lost append, this finds. What comes later fails on the sequence it takes.
        if let Some(plan) = in_doubt.settle(self).await.map_err(LoadError::from)? {
            self.remember(&plan);
            return Ok(Some(plan.done()));
        }
        let decided = decide(commands, streams, options, self.inner.max_event_bytes, answer);
        // What no append will check is decided on the log itself.
        let decided = match decided {
            Ok(plan) if plan.writes_all(&presumed) => Ok(plan),
            decided if presumed.is_empty() => decided,
            _ => {
                let (streams, _) = self.streams(commands, Trust::Log).await?;
                decide(commands, streams, options, self.inner.max_event_bytes, answer)
            }
        };
        let mut plan = decided?;
        if plan.command.is_empty() {
            return Ok(Some(plan.done()));
        }
        let counted = match self.quota_uses(&plan.quotas, trust).await {
            // It may take messages again.
            Err(CountError::Closed(_)) => self.quota_uses(&plan.quotas, Trust::Log).await,
            counted => counted,
        };
        plan.count(counted?);
        let started = Instant::now();
        let tenant = options.metadata.tenant_id.to_string();
        let outcome = self.append(&tenant, Arc::clone(&plan.command)).await;
        metrics::histogram!(metric::APPEND_SECONDS).record(started.elapsed().as_secs_f64());
        match outcome {
            Ok(Outcome::Committed(orders)) => {
                plan.place(&orders);
                self.remember(&plan);
                Ok(Some(plan.done()))
            }
            Ok(Outcome::Replay(record)) => Ok(Some(Done::Replayed(record))),
            Ok(Outcome::KeyReused) => Err(ExecuteError::KeyReused),
            Ok(Outcome::ClaimTaken(claim)) => Err(ExecuteError::ClaimTaken(claim)),
            Ok(Outcome::QuotaExceeded(exceeded)) => Err(ExecuteError::QuotaExceeded(
                self.explain_quota(&exceeded, &plan.quotas).await?,
            )),
            Err(AppendError::Conflict) => {
                metrics::counter!(metric::CONFLICTS).increment(1);
                Ok(None)
            }
            Err(AppendError::InDoubt(reason)) => {
                metrics::counter!(metric::IN_DOUBT).increment(1);
                tracing::warn!(%reason, "the answer to an append was lost; looking into the log");
                in_doubt.add(plan);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn remember<A: LogAggregate>(&self, plan: &Plan<A>) {
        for (id, loaded) in plan.left() {
            self.inner.cache.put(id, loaded);
        }
    }

    /// The streams, and which of them are only presumed to be like this.
    async fn streams<A: LogAggregate>(
        &self,
        commands: &[(String, A::Command)],
        trust: Trust,
    ) -> Result<(HashMap<String, Loaded<A>>, HashSet<String>), ReadError> {
        let mut streams = HashMap::with_capacity(commands.len());
        let mut presumed = HashSet::new();
        let mut unknown = Vec::new();
        for (id, command) in commands {
            if streams.contains_key(id) || unknown.contains(&id) {
                continue;
            }
            let presumption = match trust {
                Trust::Log => None,
                Trust::Memory if A::begins_stream(command) => Some(Loaded::default()),
                Trust::Memory => self.inner.cache.get::<A>(id).map(Arc::unwrap_or_clone),
            };
            if let Some(loaded) = presumption {
                streams.insert(id.clone(), loaded);
                presumed.insert(id.clone());
            } else {
                unknown.push(id);
            }
        }
        let loaded = futures::future::try_join_all(unknown.iter().map(|id| self.read::<A>(id))).await?;
        streams.extend(unknown.into_iter().cloned().zip(loaded));
        Ok((streams, presumed))
    }

    /// A stream as it is remembered, for what a guard checks; else as the log has it.
    pub(crate) async fn look<A: LogAggregate>(&self, id: &str, trust: Trust) -> Result<Arc<Loaded<A>>, ReadError> {
        if let Trust::Memory = trust
            && let Some(remembered) = self.inner.cache.get::<A>(id)
        {
            return Ok(remembered);
        }
        self.read(id).await.map(Arc::new)
    }

    /// A stream as the log has it: what is remembered, and what came after.
    pub(crate) async fn read<A: LogAggregate>(&self, id: &str) -> Result<Loaded<A>, ReadError> {
        let remembered = self.inner.cache.get::<A>(id);
        let known = remembered.as_ref().map_or(0, |loaded| loaded.version);
        let mut loaded = remembered.map(Arc::unwrap_or_clone).unwrap_or_default();
        let mut snapshot_at = None;
        loop {
            let rows = self.inner.loader.events(A::TYPE, id, loaded.version).await?;
            loaded.extend(id, &rows)?;
            if rows.len() < PAGE {
                break;
            }
            // A long stream: the rest may be there already folded.
            if snapshot_at.is_none() {
                let found = self.inner.probe.guard(snapshots::find::<A>(self.pool(), id)).await;
                let found = found.map_err(LoadError::from)?;
                snapshot_at = Some(found.as_ref().map_or(0, |snapshot| snapshot.version));
                if let Some(snapshot) = found.filter(|snapshot| snapshot.version > loaded.version) {
                    loaded = snapshot;
                }
            }
        }
        if snapshot_at.is_some_and(|version| loaded.version - version >= PAGE as i64)
            && let Err(error) = self.inner.probe.guard(snapshots::store(self.pool(), id, &loaded)).await
        {
            tracing::warn!(%error, aggregate = A::TYPE, %id, "a snapshot was not stored");
        }
        if loaded.version > known {
            self.inner.cache.put(id, loaded.clone());
        }
        Ok(loaded)
    }
}

/// What a command may be decided on.
#[derive(Clone, Copy)]
pub(crate) enum Trust {
    /// What this process remembers, and that a fresh id has no stream.
    Memory,
    Log,
}

impl<A: cqrs_es::Aggregate> Plan<A> {
    fn done(self) -> Done<A> {
        Done::Fresh {
            committed: self.committed,
            answer: self.answer,
        }
    }
}

/// Appends whose answers were lost.
struct InDoubt<A: cqrs_es::Aggregate> {
    plans: Vec<Plan<A>>,
    since: Option<Instant>,
}

impl<A: cqrs_es::Aggregate> Default for InDoubt<A> {
    fn default() -> Self {
        Self {
            plans: Vec::new(),
            since: None,
        }
    }
}

impl<A: LogAggregate> InDoubt<A> {
    fn add(&mut self, plan: Plan<A>) {
        self.since.get_or_insert_with(Instant::now);
        self.plans.push(plan);
    }

    fn may_wait(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() < SETTLE_FOR)
    }

    /// The lost append that the log has, if it has one.
    async fn settle(&mut self, executor: &Executor) -> Result<Option<Plan<A>>, sqlx::Error> {
        for index in 0..self.plans.len() {
            if let Some(orders) = executor
                .inner
                .probe
                .guard(find(executor.pool(), &self.plans[index].command))
                .await?
            {
                let mut plan = self.plans.swap_remove(index);
                plan.place(&orders);
                executor.inner.appended.notify_one();
                return Ok(Some(plan));
            }
        }
        Ok(None)
    }

    fn explain<E>(&self, error: ExecuteError<E>) -> ExecuteError<E> {
        match error {
            ExecuteError::Unavailable(reason) if !self.plans.is_empty() => {
                ExecuteError::Unavailable(format!("it is not known whether the command was carried out: {reason}"))
            }
            error => error,
        }
    }
}

/// Decided before the append looked at the key.
fn is_refusal<E>(error: &ExecuteError<E>) -> bool {
    matches!(
        error,
        ExecuteError::Domain(_)
            | ExecuteError::VersionMismatch { .. }
            | ExecuteError::AccountClosed(_)
            | ExecuteError::EventTooLarge
    )
}

async fn pause(attempt: u32) {
    let most = (1_u64 << attempt.min(7)).min(MAX_WAIT_MS);
    tokio::time::sleep(Duration::from_millis(rand::random_range(0..=most))).await;
}
