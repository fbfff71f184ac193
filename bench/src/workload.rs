//! The commands of the append benchmarks: of five, four accept a message and one creates an account.

use std::sync::atomic::{AtomicU64, Ordering};

use weft_domain::account::{Account, AccountCommand, AccountConfig, GatewayKind};
use weft_domain::message::{AcceptMessage, Message, MessageCommand, MessageType};
use weft_domain::tenant::{Tenant, TenantCommand, TenantLimits};
use weft_domain::{AccountId, ActorType, Metadata, Sealed, TenantId};
use weft_log_writer::{CallOptions, Executor, Idempotency};
use weft_platform::clock::Clock;

use crate::Failure;

const TENANTS: usize = 8;
const ACCOUNTS_PER_TENANT: usize = 25;

/// Tenants with limits that are counted and never reached, and accounts to send from.
pub(crate) struct Workload {
    clock: Clock,
    accounts: Vec<(TenantId, AccountId)>,
    next: AtomicU64,
}

/// One command, ready for whoever carries it out.
pub(crate) enum Work {
    Create(String, Box<AccountCommand>),
    Accept(String, MessageCommand),
}

impl Workload {
    pub(crate) async fn prepare(executor: &Executor) -> Result<Self, Failure> {
        let clock = Clock::system();
        let mut accounts = Vec::new();
        for tenant in 0..TENANTS {
            let tenant_id = TenantId(clock.new_id());
            let create = TenantCommand::Create {
                tenant_code: format!("bench-{tenant_id}"),
                tenant_name: format!("bench {tenant}"),
                limits: TenantLimits {
                    max_accounts: u32::MAX,
                    max_daily_messages: u32::MAX,
                },
                time_zone: "Asia/Shanghai".to_owned(),
                now: clock.now(),
            };
            let options = CallOptions::new(metadata(&clock, tenant_id));
            executor
                .execute::<Tenant>(&tenant_id.to_string(), create, &options)
                .await?;
            for _ in 0..ACCOUNTS_PER_TENANT {
                let id = AccountId(clock.new_id());
                executor
                    .execute::<Account>(&id.to_string(), account(&clock, tenant_id), &options)
                    .await?;
                accounts.push((tenant_id, id));
            }
        }
        Ok(Self {
            clock,
            accounts,
            next: AtomicU64::new(0),
        })
    }

    pub(crate) fn tenants(&self) -> impl Iterator<Item = TenantId> {
        let accounts = self.accounts.iter().step_by(ACCOUNTS_PER_TENANT);
        accounts.map(|(tenant_id, _)| *tenant_id)
    }

    /// Whose turn it is: the command's number, and an account with its tenant.
    pub(crate) fn turn(&self) -> (u64, TenantId, AccountId) {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let (tenant_id, account_id) = self.accounts[n as usize % self.accounts.len()];
        (n, tenant_id, account_id)
    }

    /// The next command with its envelope.
    pub(crate) fn next(&self) -> (Work, Metadata) {
        let (n, tenant_id, account_id) = self.turn();
        let id = self.clock.new_id().to_string();
        let work = if n.is_multiple_of(5) {
            Work::Create(id, Box::new(account(&self.clock, tenant_id)))
        } else {
            Work::Accept(id, accept(&self.clock, tenant_id, account_id))
        };
        (work, metadata(&self.clock, tenant_id))
    }

    /// The next command through the Executor, under an idempotency key.
    pub(crate) async fn execute(&self, executor: &Executor) -> Result<(), Failure> {
        let (work, metadata) = self.next();
        let key = metadata.request_id.clone();
        let options = CallOptions {
            idempotency: Some(Idempotency::new(executor.keys(), &["bench"], &key, key.as_bytes())),
            ..CallOptions::new(metadata)
        };
        match work {
            Work::Create(id, command) => executor.execute::<Account>(&id, *command, &options).await.map(|_| ())?,
            Work::Accept(id, command) => executor.execute::<Message>(&id, command, &options).await.map(|_| ())?,
        }
        Ok(())
    }
}

fn metadata(clock: &Clock, tenant_id: TenantId) -> Metadata {
    let request_id = clock.new_id().to_string();
    Metadata {
        tenant_id,
        actor: "bench".to_owned(),
        actor_type: ActorType::System,
        correlation_id: request_id.clone(),
        request_id,
        causation_id: None,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        occurred_at: clock.now(),
    }
}

fn account(clock: &Clock, tenant_id: TenantId) -> AccountCommand {
    AccountCommand::Create {
        tenant_id,
        account_name: clock.new_id().to_string(),
        phone: None,
        email: None,
        user_id: None,
        gateway: GatewayKind::default(),
        config: AccountConfig {
            daily_limit: u32::MAX,
            ..AccountConfig::default()
        },
        now: clock.now(),
    }
}

fn accept(clock: &Clock, tenant_id: TenantId, account_id: AccountId) -> MessageCommand {
    MessageCommand::Accept(Box::new(AcceptMessage {
        account_id,
        tenant_id,
        conversation_id: "S:1688850000000001".parse().expect("a constant"),
        message_type: MessageType::Text,
        content: Sealed::new(
            "conversation:bench".to_owned(),
            "month:bench:2026-11".to_owned(),
            "bm9uY2Vub25jZW5v".to_owned(),
            "c2VhbGVk".repeat(20),
        ),
        priority: 5,
        scheduled_time: None,
        batch_id: None,
        batch_index: None,
        callback_url: None,
        client_reference: None,
        now: clock.now(),
    }))
}
