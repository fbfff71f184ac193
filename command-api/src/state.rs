//! What every command needs.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRef;
use moka::future::Cache;
use tokio::sync::Notify;
use weft_domain::account::{Account, AccountConfig, AccountStatus};
use weft_domain::message::Message;
use weft_domain::{AccountId, LogAggregate, MessageId, TenantId};
use weft_log_writer::seal::Sealer;
use weft_log_writer::{CallOptions, Executor, Loaded, Logs};
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_platform::http::{Authenticator, CallContext, Problem};
use weft_platform::keys::KeyStore;

use crate::admission::Admission;
use crate::refusal::{Refusal, account_not_found, message_not_found, problem_of};
use crate::reply::Reply;

/// Accounts whose tenant is remembered; it never changes.
const REMEMBERED_TENANTS: u64 = 100_000;

/// Cheap to clone: every request does.
#[derive(Clone)]
pub struct CommandState(Arc<Parts>);

pub struct Parts {
    pub(crate) logs: Logs,
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) authenticator: Authenticator,
    pub(crate) admission: Admission,
    /// Told after every callback that was stored on a log: wakes the worker that interprets them, where it is in this
    /// process. By the log's share.
    callback_stored: Vec<Arc<Notify>>,
    /// Of the accounts that callbacks came for.
    pub(crate) tenants: Cache<AccountId, TenantId>,
}

impl Deref for CommandState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl FromRef<CommandState> for Authenticator {
    fn from_ref(state: &CommandState) -> Self {
        state.authenticator.clone()
    }
}

impl CommandState {
    /// Reports to `health` from now on whether the logs can be reached. `callback_stored`: one for each. Call it inside a
    /// Tokio runtime.
    pub fn new(
        logs: impl Into<Logs>,
        config: Arc<Config>,
        clock: Clock,
        authenticator: Authenticator,
        health: Health,
        callback_stored: Vec<Arc<Notify>>,
    ) -> Self {
        let logs = logs.into();
        for (log, executor) in config.by_log().iter().zip(logs.all()) {
            crate::readiness::watch(executor.pool().clone(), health.of_log(&log.log));
        }
        Self(Arc::new(Parts {
            logs,
            config,
            clock,
            authenticator,
            admission: Admission::start(),
            callback_stored,
            tenants: Cache::new(REMEMBERED_TENANTS),
        }))
    }

    /// Of the tenant's log.
    pub(crate) fn executor(&self, tenant: TenantId) -> &Executor {
        self.logs.of(tenant)
    }

    /// Seals alike, whatever the log.
    pub(crate) fn sealer(&self) -> &Sealer {
        self.logs.all()[0].sealer()
    }

    pub(crate) fn keys(&self) -> &KeyStore {
        self.logs.keys()
    }

    /// Wakes whoever interprets the callbacks of the tenant's log.
    pub(crate) fn tell_callback(&self, tenant: TenantId) {
        if let Some(stored) = self.callback_stored.get(self.config.log_of(tenant.0)) {
            stored.notify_one();
        }
    }

    /// The settings of an account that sets none.
    pub(crate) fn default_account_config(&self) -> AccountConfig {
        AccountConfig {
            send_interval_ms: self.config.accounts.send_interval_ms,
            daily_limit: self.config.accounts.daily_limit,
            ..AccountConfig::default()
        }
    }

    /// The caller's own account; unknown, foreign and deleted ones are all not found.
    pub(crate) async fn own_account(&self, call: &CallContext, id: AccountId) -> Result<Loaded<Account>, Problem> {
        let tenant_id = TenantId(call.tenant_id);
        let found = self.executor(tenant_id).load(&id.to_string()).await;
        let loaded: Loaded<Account> = found.map_err(problem_of)?;
        let is_own = loaded.state.tenant_id == Some(tenant_id);
        if is_own && loaded.state.status != Some(AccountStatus::Deleted) {
            Ok(loaded)
        } else {
            Err(account_not_found())
        }
    }

    /// The caller's own message.
    pub(crate) async fn own_message(&self, call: &CallContext, id: MessageId) -> Result<Loaded<Message>, Problem> {
        let own = TenantId(call.tenant_id);
        let found = self.executor(own).load(&id.to_string()).await;
        let loaded: Loaded<Message> = found.map_err(problem_of)?;
        let tenant_id = loaded.state.accepted.as_ref().map(|accepted| accepted.tenant_id);
        if tenant_id == Some(own) {
            Ok(loaded)
        } else {
            Err(message_not_found())
        }
    }

    /// Carries commands out; `answer` says what to tell the caller (and to replay).
    pub(crate) async fn answer<A>(
        &self,
        commands: Vec<(String, A::Command)>,
        options: &CallOptions,
        answer: impl Fn(&[weft_log_writer::Committed<A>]) -> weft_log_writer::StoredAnswer + Send + Sync,
    ) -> Result<Reply, Problem>
    where
        A: LogAggregate,
        A::Command: Clone + Send + Sync,
        A::Error: Refusal + Send,
    {
        let answered = self
            .executor(options.metadata.tenant_id)
            .answer(commands, options, answer)
            .await
            .map_err(problem_of)?;
        Ok(Reply::from(answered))
    }

    /// An idempotency key's earlier answer wins over a refusal that was found before the key was looked at (the account
    /// may be gone by now). Costs nothing where there is no refusal.
    pub(crate) async fn unless_answered_before(
        &self,
        outcome: Result<Reply, Problem>,
        options: &CallOptions,
    ) -> Result<Reply, Problem> {
        let (Err(refusal), Some(key)) = (&outcome, &options.idempotency) else {
            return outcome;
        };
        if !refusal.status.is_client_error() {
            return outcome;
        }
        match self.executor(options.metadata.tenant_id).earlier_answer(key).await {
            Ok(Some(earlier)) => Ok(Reply::from(earlier)),
            Ok(None) => outcome,
            Err(error) => Err(problem_of::<std::convert::Infallible>(error)),
        }
    }
}
