//! An account's instance and login. One job per account, so that everything about an account happens one after the
//! other; the job looks at the account, does what is next, and says when it wants to look again. Whatever it must not
//! forget stands in the account's events or in the job's row, so that a restart goes on where it was.

mod data;
mod instance;
mod login;
mod plan;
mod profile;

use std::time::Duration;

use tokio::task::JoinSet;
use weft_domain::account::{Account, AccountCommand, AccountError, AccountStatus};
use weft_domain::{AccountId, ActorType, TenantId};
use weft_log_writer::Committed;
use weft_wecom::gateway::CallError;

use self::data::SessionData;
pub(crate) use self::instance::report_unclaimed;
use self::plan::{Step, plan};
pub(crate) use self::profile::user_info;
use crate::backoff;
use crate::context::{Actor, Cause, Context};
use crate::error::{Refusal, WorkerError};
use crate::queue::{Job, JobKind, JobResult};

pub(crate) const PART: &str = "worker session";
const ACTOR: Actor = Actor {
    name: "session",
    kind: ActorType::System,
};
/// Accounts worked on at once.
const IN_FLIGHT: usize = 64;
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A step is a few calls with their own time-outs; a dead process's jobs are taken over at once anyway.
const LEASE_SECONDS: f64 = 180.0;
/// Steps an account may take before others get their turn.
const MAX_STEPS: usize = 16;
/// How long steps may go on after the shutdown.
const DRAIN: Duration = Duration::from_secs(6);
/// Longest wait for the feed to tell whose request a login is.
const CAUSE_WAIT: Duration = Duration::from_secs(1);
/// Shortest and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(5));
/// The same while a person waits for the login.
const LOGIN_RETRY: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));

/// Runs until the shutdown.
pub(crate) async fn run(ctx: &Context) {
    tokio::select! {
        () = ctx.owner.alive() => {}
        () = ctx.stop.cancelled() => return,
    }
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut failures = 0;
    while !ctx.stop.is_cancelled() {
        while tasks.try_join_next().is_some() {}
        let wait = match claim(ctx, &mut tasks).await {
            Ok(()) => {
                failures = 0;
                ctx.health.ready(PART);
                LOOK_EVERY
            }
            Err(error) => {
                ctx.health.failing(PART, error.to_string());
                failures += 1;
                backoff::exponential(LOOK_EVERY, Duration::from_secs(5), failures)
            }
        };
        tokio::select! {
            () = ctx.stop.cancelled() => {}
            () = ctx.signals.session.notified(), if failures == 0 => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    // A step in the middle is finished: an instance that was just made must not be forgotten.
    let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("account steps still running are left to the next process");
    }
}

async fn claim(ctx: &Context, tasks: &mut JoinSet<()>) -> Result<(), WorkerError> {
    let free = IN_FLIGHT.saturating_sub(tasks.len());
    if free == 0 {
        return Ok(());
    }
    let (owner, now) = (ctx.owner.key(), ctx.clock.now());
    for job in JobKind::Session
        .claim(&ctx.pool, owner, LEASE_SECONDS, now, free as i64)
        .await?
    {
        let ctx = ctx.clone();
        tasks.spawn(async move { work(&ctx, job).await });
    }
    Ok(())
}

/// What a job wants after its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Wait(Duration),
    /// The next event of the account.
    Idle,
}

async fn work(ctx: &Context, job: Job) {
    let mut session = Session::new(ctx, job);
    let due_at = match session.steps().await {
        Ok(After::Idle) => None,
        Ok(After::Wait(wait)) => Some(ctx.clock.now() + backoff::delta(wait)),
        Err(error) => {
            tracing::warn!(account.id = %session.account_id, %error, "a session step failed");
            session.job.failures += 1;
            let wait = backoff::exponential(RETRY.0, Duration::from_secs(10), session.job.failures.unsigned_abs());
            Some(ctx.clock.now() + backoff::delta(wait))
        }
    };
    session.job.data = session.data.to_value();
    let result = [JobResult {
        job: session.job,
        due_at,
    }];
    let mut failures = 0;
    while let Err(error) = JobKind::Session
        .give_back(&ctx.pool, ctx.owner.key(), &result, ctx.clock.now())
        .await
    {
        ctx.health.failing(PART, error.to_string());
        failures += 1;
        if !ctx
            .pause(backoff::exponential(RETRY.0, Duration::from_secs(5), failures))
            .await
        {
            return;
        }
    }
    ctx.signals.session.notify_one();
}

/// One account in this job's hands.
struct Session<'s> {
    ctx: &'s Context,
    job: Job,
    account_id: AccountId,
    tenant_id: TenantId,
    account: Account,
    version: i64,
    data: SessionData,
}

impl<'s> Session<'s> {
    fn new(ctx: &'s Context, job: Job) -> Self {
        Self {
            ctx,
            account_id: AccountId(job.account_id),
            tenant_id: TenantId(job.tenant_id),
            data: SessionData::read(&job.data),
            job,
            account: Account::default(),
            version: 0,
        }
    }

    async fn steps(&mut self) -> Result<After, WorkerError> {
        self.reload().await?;
        for _ in 0..MAX_STEPS {
            if self.awaits_cause() {
                return Ok(After::Wait(CAUSE_WAIT));
            }
            let now = self.ctx.clock.now();
            self.data.follow(&self.account, now);
            let step = plan(&self.account, &self.data, now, &self.ctx.config.login);
            let after = match step {
                Step::Idle => Some(After::Idle),
                Step::CreateInstance => self.create_instance().await?,
                Step::RemoveInstance(guid) => self.remove_instance(guid.as_deref()).await?,
                Step::LogOut(guid) => self.log_out(&guid).await?,
                Step::Login(step) => self.login_step(step).await?,
                Step::FetchProfile(guid) => self.fetch_profile(&guid).await?,
                Step::OpenConversations(guid) => self.open_conversations(&guid).await?,
            };
            if let Some(after) = after {
                return Ok(after);
            }
            if self.ctx.stop.is_cancelled() {
                break;
            }
        }
        Ok(After::Wait(Duration::ZERO))
    }

    /// A login that the log shows before the feed has told of it: its chain is not known yet. It is waited for, once and
    /// not for long.
    fn awaits_cause(&mut self) -> bool {
        let running = self.account.running_attempt();
        if running.is_none() || self.data.attempt == running {
            return false;
        }
        if self.job.told_version >= self.version || self.data.awaits == running {
            self.data.attempt = running;
            return false;
        }
        self.data.awaits = running;
        true
    }

    async fn reload(&mut self) -> Result<(), WorkerError> {
        let loaded = weft_log_reader::load::<Account>(&self.ctx.pool, &self.account_id.to_string()).await?;
        (self.account, self.version) = (loaded.state, loaded.version);
        Ok(())
    }

    /// Executes a command and goes on with what it led to. A refusal means that the account moved on meanwhile: it is
    /// looked at again.
    async fn execute(&mut self, command: AccountCommand) -> Result<Option<Refusal<AccountError>>, WorkerError> {
        let name = command.name();
        let options = self.ctx.options(ACTOR, self.tenant_id, &self.cause());
        match self
            .ctx
            .execute::<Account>(&self.account_id.to_string(), command, &options)
            .await?
        {
            Ok(Committed { state, version, .. }) => {
                self.failed_not();
                (self.account, self.version) = (state, version);
                Ok(None)
            }
            Err(refusal) => {
                tracing::debug!(account.id = %self.account_id, command = name, %refusal, "refused");
                self.reload().await?;
                Ok(Some(refusal))
            }
        }
    }

    /// The account's last event, and the chain it belongs to.
    fn cause(&self) -> Cause {
        Cause {
            correlation_id: self.job.correlation_id.clone(),
            causation_id: Some(format!("{}:{}", self.account_id, self.version)),
            traceparent: self.job.traceparent.clone(),
        }
    }

    fn failed_not(&mut self) {
        self.job.failures = 0;
    }

    /// Waits longer after every failure in a row.
    fn failed(&mut self, error: &CallError) -> After {
        tracing::debug!(account.id = %self.account_id, %error, "the gateway did not do it");
        let running = self.account.status.is_some_and(AccountStatus::is_login_running);
        let (min, max) = if running { LOGIN_RETRY } else { RETRY };
        let wait = backoff::exponential(min, max, self.job.failures.unsigned_abs());
        self.job.failures = self.job.failures.saturating_add(1);
        After::Wait(wait)
    }
}
